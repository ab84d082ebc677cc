import atexit
import gc
import os
import signal
import sys
from contextlib import suppress

from ssmspec.errors import INTERRUPTED

YOUNG = 200_000  # new objects before a search for cycles: with the usual 700, searches take a tenth of the time to load the package


def main() -> None:
    """The command `ssmspec`. Ctrl-C ends it with one line, even while it is still being loaded."""
    gc.set_threshold(YOUNG)
    atexit.register(gc.freeze)  # the last search for cycles, whose memory the system takes back anyway, takes 0.08 s
    try:
        from ssmspec.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("ssmspec: interrupted\n")
        _leave(INTERRUPTED)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            _leave(INTERRUPTED)
        raise


def _leave(code: int) -> None:
    """End the process with exactly this exit code.

    CPython remembers a Ctrl-C that arrives while it executes a string, as it does to create a dataclass. At its regular end, it then
    kills itself with SIGINT although the exception was caught (Python/pythonrun.c, `unhandled_keyboard_interrupt`).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
