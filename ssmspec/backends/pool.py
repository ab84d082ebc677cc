"""A function applied to many items in several processes; the results are those of one process, in the order of the items.

NumPy holds the interpreter lock for much of its time in arrays as small as those of a layer, so threads gain little. A forked process has
the items without a copy. Its engine uses one thread, and BLAS has one in every process, so no more threads run than were asked for.
"""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from ssmspec.backends import threads

Item = TypeVar("Item")
Result = TypeVar("Result")
FORKING = sys.platform == "linux"  # elsewhere a fork is missing, or libraries of the system do not survive it

_inherited: tuple[Callable[[Any], Any], Sequence[Any]] | None = None  # what forked processes find in their memory


def mapped(function: Callable[[Item], Result], items: Sequence[Item], processes: int, together: int = 1) -> Iterator[Result]:
    """function(item) of every item in turn; errors are raised where their turn comes, or earlier by fewer than `together` items.

    Args:
        processes: at most this many; 1 does everything in this one.
        together: so many items go to a process and come back at once, since an exchange takes a millisecond.
    Raises:
        MemoryError: a process was ended from outside, as the system does when memory is too small.
    """
    global _inherited
    processes = min(processes, len(items))
    if processes < 2 or not FORKING:
        yield from map(function, items)
        return
    import multiprocessing  # here, since most commands need no other process
    from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor

    _inherited = (function, items)
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("fork"), initializer=_begin)
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a fork that is not set up yet would report an interrupt
        try:
            results = pool.map(_one, range(len(items)), chunksize=together)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        yield from results
    except BrokenProcessPool as error:
        raise MemoryError("a process was ended by the system") from error
    finally:
        pool.shutdown(cancel_futures=True)
        _inherited = None


def _begin() -> None:
    """A process of the pool: Ctrl-C ends it in silence, because the process that started it reports."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _one(place: int) -> Any:
    assert _inherited is not None
    function, items = _inherited
    with threads.limited(1):
        return function(items[place])
