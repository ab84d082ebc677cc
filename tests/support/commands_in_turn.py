"""Runs commands of ssmspec one after the other in one process: `commands_in_turn.py COMMANDS CODES [ERRORS]`.

COMMANDS holds one command a line, its arguments separated by NUL, in bytes, so that names are what the locale makes of them. Before each of
them MARK goes to standard output; afterwards its exit code goes to the file CODES.

With ERRORS all of them are run twice, with blank pictures. The second time standard output is a pipe
whose reader has gone, standard error is the file ERRORS, and the codes go on in CODES.
"""

import os
import sys
from pathlib import Path

from program import command

from ssmspec.cli.terminal import run
from ssmspec.report.figures import style

MARK = "=== ssmspec"


def pipe_without_reader() -> None:
    """Makes standard output one."""
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, 1)
    os.close(write)


def main() -> None:
    """Run what the file of commands says."""
    commands, codes, *errors = sys.argv[1:]
    lines = Path(commands).read_bytes().split(b"\n\0\n")
    if errors:
        from drawing import Figure, blank

        Figure.savefig = blank  # type: ignore[method-assign]
    for line in lines:
        sys.stdout.flush()
        os.write(1, f"{MARK}\n".encode())
        carry_out(line, codes)
    if errors:
        sys.stdout.flush()
        sys.stderr.flush()
        with Path(errors[0]).open("wb") as file:
            os.dup2(file.fileno(), 2)
        style._lay_out = lambda figure, dpi: None  # the first time, all pictures were laid out
        for line in lines:
            pipe_without_reader()
            carry_out(line, codes)


def carry_out(line: bytes, codes: str) -> None:
    """One of the commands."""
    sys.argv = ["ssmspec", *map(os.fsdecode, line.split(b"\0"))]
    code = run(command(), debug=False)
    with Path(codes).open("a") as file:
        file.write(f"{code}\n")


if __name__ == "__main__":
    main()
