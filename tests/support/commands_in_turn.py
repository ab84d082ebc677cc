"""Runs commands of ssmspec one after the other in one process: `commands_in_turn.py COMMANDS CODES [leave]`.

COMMANDS holds one command per line, as bytes, with its arguments separated by NUL, so that the locale decodes the names. Before each of
them MARK goes to standard output; afterwards its exit code goes to the file CODES. With `leave`, standard output is a pipe whose reader is
gone.
"""

import os
import sys
from pathlib import Path

from ssmspec.cli import app
from ssmspec.cli.terminal import run

MARK = "=== ssmspec"


def pipe_without_reader() -> None:
    """Make standard output a pipe without a reader."""
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, 1)
    os.close(write)


def main() -> None:
    """Run the commands in the file."""
    commands, codes, *leave = sys.argv[1:]
    for line in Path(commands).read_bytes().split(b"\n\0\n"):
        sys.stdout.flush()
        if leave:
            pipe_without_reader()
        else:
            os.write(1, f"{MARK}\n".encode())
        sys.argv = ["ssmspec", *map(os.fsdecode, line.split(b"\0"))]
        code = run(app, debug=False)
        with Path(codes).open("a") as file:
            file.write(f"{code}\n")


if __name__ == "__main__":
    main()
