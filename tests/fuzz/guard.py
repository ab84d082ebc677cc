"""Runs commands in this process under the limits that hold for every file: one line, 10 s, 1 GB, and nothing in the file is executed."""

import contextlib
import io
import os
import resource
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import typer.main

from ssmspec.cli import whole_app
from ssmspec.cli.terminal import run

SECONDS = 10.0  # of this process's own time, whatever else the machine does
WAIT = 300.0  # seconds by the clock, for what waits without working; a busy machine needs that many for SECONDS of work
MEMORY = 1 << 30  # bytes
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.kill", "subprocess.Popen", "socket.", "pickle.find_class")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

COMMAND = typer.main.get_command(whole_app())  # what app() builds on every call


class TooLong(BaseException):
    """Not an Exception: no reader may swallow it."""


@dataclass(slots=True)
class _Watch:
    """Records what a guarded block did that data must never cause. `folder` is where it may write."""

    folder: Path | None = None
    seen: list[str] = field(default_factory=list)


_watch = _Watch()


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _watch.folder is None:
        return
    if event.startswith(FORBIDDEN) and not _from_numba():
        _watch.seen.append(f"{event}{arguments}")
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING and isinstance(arguments[0], str | bytes):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if not path.startswith((f"{_watch.folder}/", "/dev/")) and "__pycache__" not in path:  # compiled code
            _watch.seen.append(f"written: {path}")


def _from_numba() -> bool:
    """Whether compiled code is being loaded, which numba stores as its own pickles."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("numba."):
            return True
        frame = frame.f_back
    return False


sys.addaudithook(_audit)


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """A block that may use 10 s and 1 GB more than now, may write into a folder, and may not execute anything.

    Raises:
        AssertionError: it did more. TooLong: it did not end.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooLong(f"more than {SECONDS if number == signal.SIGPROF else WAIT} s")

    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY, before[1]))
    timers = ((signal.SIGPROF, signal.ITIMER_PROF, SECONDS), (signal.SIGALRM, signal.ITIMER_REAL, WAIT))
    handlers = [signal.signal(number, stop) for number, _, _ in timers]
    for _, timer, seconds in timers:
        signal.setitimer(timer, seconds)
    _watch.folder, _watch.seen = folder.resolve(), []
    try:
        yield
    finally:
        for (number, timer, _), handler in zip(timers, handlers, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)
        _watch.folder = None
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert not _watch.seen, _watch.seen


@dataclass(frozen=True, slots=True)
class Outcome:
    """Exit code, stdout and stderr of a command."""

    code: int
    out: str
    err: str


def command(folder: Path, *arguments: object, watched: bool = True) -> Outcome:
    """Runs `ssmspec ...` in this process, guarded; any exception that the command lets through goes on.

    Args:
        watched: False for the first use of a command, which imports modules and loads compiled code.
    """
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = ["ssmspec", *map(str, arguments)]
    try:
        with (
            guarded(folder) if watched else contextlib.nullcontext(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")  # not "error": what a reader swallows as an error would be on the user's screen
            code = run(COMMAND, debug=False)
    finally:
        sys.argv = before
    return Outcome(code, out.getvalue(), err.getvalue() + "".join(f"{warning.message} ({warning.filename})\n" for warning in caught))


def assert_clean(outcome: Outcome, *names: str) -> None:
    """Done; or failed with one line, which has one of the names in it."""
    assert outcome.code in (0, 1, 2, 3), outcome
    assert "Traceback" not in outcome.err
    assert all(line.startswith("ssmspec: ") and line.isprintable() for line in outcome.err.splitlines()), outcome.err
    if outcome.code in (2, 3):
        assert sum(not line.startswith("ssmspec: wrote ") for line in outcome.err.splitlines()) == 1, outcome.err
        assert any(name in outcome.err for name in names), outcome.err
        assert "out of memory" not in outcome.err, outcome.err
