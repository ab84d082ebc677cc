"""How a command ends: exit codes, one line per error, and output streams that accept any text."""

import codecs
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ssmspec.errors import INTERRUPTED, SsmspecError, missing_package, printable
from ssmspec.report.quiet import quiet

if TYPE_CHECKING:
    from ssmspec.checkpoint.remote.traffic import Opened

BAD_INPUT = 2
CLOSED = 141  # what a shell reports for a program whose reader closed the pipe


def message(text: str) -> None:
    """Write a note to stderr, unless the user wants none."""
    if not quiet():
        complain(text)


def complain(text: str) -> None:
    """Write a line to stderr, if it is open, without passwords of addresses."""
    if "://" in text:
        from ssmspec.checkpoint.remote.path import without_secrets

        text = without_secrets(text)
    with suppress(OSError):
        sys.stderr.write(f"ssmspec: {printable(text)}\n")
        sys.stderr.flush()


def tell_pictures(written: Sequence[Path]) -> None:
    """Report on stderr which pictures were written, or that there are none."""
    if not written:
        message("no picture was written: no layer has values that can be drawn")
    else:
        message(f"wrote {written[0]}" if len(written) == 1 else f"wrote {len(written)} pictures: {written[0]}, ...")


def tell_written(output: Path, assumptions: Iterable[str], notes: Iterable[str] = ()) -> None:
    """Report what was assumed and the notes on the numbers, one line each, and which file was written."""
    for assumption in assumptions:
        message(f"assumed: {assumption}")
    for note in notes:
        message(f"note: {note}")
    message(f"wrote {output}")


def tell_read(opened: "Sequence[Opened]") -> None:
    """Report how much was read of remote checkpoints, for commands whose output has no place for it."""
    if opened:
        from ssmspec.report.tables.parts import read_lines

        for line in read_lines(opened):
            message(line)


def echo(text: str, end: str = "\n") -> None:
    """Write a document to stdout, in the encoding of stdout."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def typed_command() -> str:
    """The command line, without passwords of addresses, for sidecars."""
    from ssmspec.checkpoint.remote.path import without_secrets

    return shlex.join(["ssmspec", *map(without_secrets, sys.argv[1:])])


def run(app: Callable[..., Any], *, debug: bool) -> int:
    """Run a Typer app and return its exit code. Every expected failure is one line on stderr."""
    _prepare_streams()
    try:
        code = _run(app, debug=debug)
        sys.stdout.flush()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return _failed("interrupted", INTERRUPTED)
    except BrokenPipeError:
        code = CLOSED
    except OSError as error:
        if debug:
            raise
        _drop_output()
        where = printable(str(error.filename)) if error.filename else "cannot write the output"
        return _failed(f"{where}: {error.strerror or error}", BAD_INPUT)
    if code == CLOSED:
        _drop_output()
    return code


def _run(app: Callable[..., Any], *, debug: bool) -> int:
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # how Typer reports Ctrl-C
            raise KeyboardInterrupt
    except SsmspecError as error:
        if debug:
            raise
        return _failed(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if debug or (error.name or "").partition(".")[0] != "torch":
            raise
        return _failed(str(missing_package("this command", "torch", "torch")), BAD_INPUT)
    except MemoryError as error:
        if debug:
            raise
        return _failed(f"out of memory ({error}); ask for fewer points, samples or layers" if str(error) else "out of memory", BAD_INPUT)
    except typer.Abort as stop:
        raise KeyboardInterrupt from stop
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # rich and click exit by themselves
            return CLOSED
        raise
    except Exception as error:
        if not hasattr(error, "show") or not hasattr(error, "exit_code"):
            raise
        error.show()  # a wrong command line, which click explains itself
        return int(error.exit_code)
    return code if isinstance(code, int) else 0


def _failed(text: str, code: int) -> int:
    complain(" ".join(text.split()))
    return code


def _prepare_streams() -> None:
    """Let closed streams discard what is written, and let characters that an encoding lacks become JSON escapes."""
    codecs.register_error("ssmspec-escape", _escape)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it prints paragraphs about a home folder that is read-only
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="ssmspec-escape")


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[index : index + 4]}" for index in range(0, len(units), 4)), error.end


def _drop_output() -> None:
    """Discard buffered output, which has no reader or cannot be stored."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
