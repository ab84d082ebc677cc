"""Threads for compiled code that releases the interpreter lock: a pool with one thread per core, created on first use."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

MOST = 8  # threads that are taken without being asked for

_pool: "ThreadPoolExecutor | None" = None
_limit: int | None = None


@contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """Use at most this many threads within the block; None leaves the number as it is."""
    global _limit
    before = _limit
    _limit = before if threads is None else threads
    try:
        yield
    finally:
        _limit = before


def thread_count() -> int:
    """Number of threads: the limit that was set, or else the cores this process may use, or fewer if OMP_NUM_THREADS is set.

    torchrun sets it for its workers.
    """
    if _limit is not None:
        return _limit
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(cores(), int(wanted)) if wanted.isdigit() and int(wanted) > 0 else cores()


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def split(function: Callable[..., None], tasks: int, worthwhile: bool, *arguments: object) -> None:
    """Calls function(first, last, *arguments) so that the ranges cover 0..tasks; in several threads if that is worthwhile."""
    workers = min(thread_count(), tasks) if worthwhile else 1
    if workers < 2:
        function(0, tasks, *arguments)
        return
    borders = [tasks * i // workers for i in range(workers + 1)]
    pool = _threads()
    others = [pool.submit(function, borders[i], borders[i + 1], *arguments) for i in range(1, workers)]
    function(0, borders[1], *arguments)
    for other in others:
        other.result()


def _threads() -> "ThreadPoolExecutor":
    global _pool
    if _pool is None:
        from concurrent.futures import ThreadPoolExecutor  # here, since one thread needs none

        _pool = ThreadPoolExecutor(thread_count(), thread_name_prefix="ssmspec")
    return _pool


def _forget() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)  # threads do not survive a fork, and a pool without threads would wait forever
