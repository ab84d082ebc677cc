"""What a worker does: it limits its threads, and then applies the function to some items."""

import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ssmspec.backends.threads import limited
from ssmspec.parallel.workplace import thread_environment

ENDED = 143  # what a shell reports for a process that SIGTERM ended

_working = False


def packed(function: Callable[[Any], Any], threads: int) -> bytes:
    """A function for `carry_out`, with the number of its threads and the folder in which relative paths begin."""
    return pickle.dumps((threads, os.getcwd(), pickle.dumps(function)))  # noqa: PTH109


def carry_out(task: bytes, items: Sequence[Any]) -> tuple[float, list[Any]]:
    """The seconds that it took, and function(item) of every item.

    The threads are limited before the function is unpacked, which imports NumPy and the other libraries that have them.
    """
    global _working
    start = time.perf_counter()
    threads, folder, inner = pickle.loads(task)
    _limit(threads)
    with suppress(OSError):  # a node without this folder; addresses and absolute paths work there
        os.chdir(folder)
    _working = True
    try:
        function = pickle.loads(inner)
        with limited(threads):
            found = [function(item) for item in items]
    except KeyboardInterrupt:  # made of SIGTERM by `begin`; what the function had opened is cleaned up by now
        os._exit(ENDED)
    finally:
        _working = False
    return time.perf_counter() - start, found


def _limit(threads: int) -> None:
    wanted = thread_environment(threads)
    if "numba" in sys.modules:  # it refuses another number from then on
        del wanted["NUMBA_NUM_THREADS"]
    os.environ.update(wanted)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def begin() -> None:
    """A new worker: Ctrl-C is for the process that started it, which ends it with SIGTERM, so that a task can remove what it began."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: object) -> None:
    if not _working:
        os._exit(ENDED)
    raise KeyboardInterrupt
