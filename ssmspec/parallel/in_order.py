"""A function applied to many items, here or elsewhere. The results come in the order of the items, whatever finishes first."""

import pickle
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Generic, TypeVar

from ssmspec.parallel.events import WorkerDied
from ssmspec.parallel.pools import Loky, Pool, open_pool
from ssmspec.parallel.worker import packed
from ssmspec.parallel.workplace import Workplace

TARGET = 0.25  # seconds of a task: much longer than it takes to hand it over, and short enough to share out
AHEAD = 2  # tasks per worker that are handed over, so that none waits for the next

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Lost(Generic[Item]):
    """What stands for the result of an item whose worker died every time."""

    item: Item
    times: int


def each_in_order(function: Callable[[Item], Result], items: Sequence[Item], place: Workplace) -> Generator[Result | Lost[Item]]:
    """function(item) of every item in turn.

    Results that wait for that of an earlier item are in a temporary file, so that memory holds a few tasks per worker, whatever the number
    of items. After the death of a process of this machine, the unfinished items are run again one by one.

    Args:
        function: for other processes it and its results must be picklable, and it must be safe to repeat.
    Raises:
        Exception: whatever the function raises; nothing runs any longer by then. SsmspecError: a cluster cannot be used.
    """
    if place.alone or (place.cluster is None and len(items) < 2):
        yield from map(function, items)
        return
    task = packed(function, place.threads)
    with _Waiting() as waiting:
        for number, result in _elsewhere(task, items, place):
            waiting.put(number, result)
            yield from waiting.next_ones()


def _elsewhere(task: bytes, items: Sequence[Any], place: Workplace) -> Iterator[tuple[int, Any]]:
    """Number and result of every item, as they finish."""
    todo = deque(range(len(items)))
    while todo:
        pool = open_pool(place, task)
        running: dict[Any, list[int]] = {}
        unfinished: list[int] = []
        try:
            yield from _until_a_death(pool, items, todo, running, unfinished)
            if pool.deaths > 1:
                yield from _again(pool, items, sorted(unfinished), running)
        except BaseException:
            pool.abort(running.keys())
            raise
        pool.close()
        if pool.deaths == 1:
            yield from _one_by_one(task, items, sorted(unfinished), place.threads)


def _until_a_death(
    pool: Pool, items: Sequence[Any], todo: "deque[int]", running: dict[Any, list[int]], unfinished: list[int]
) -> Iterator[tuple[int, Any]]:
    """Takes from `todo` until it is empty, or the pool is dead; the items whose results were lost are added to `unfinished`.

    Args:
        running: the items of every task whose result has not been taken, by its handle.
    """
    size = 1
    while running or todo:
        while todo and len(running) < AHEAD * pool.slots and (pool.deaths > 1 or not unfinished):
            numbers = [todo.popleft() for _ in range(min(size, max(1, len(todo) // (AHEAD * pool.slots))))]
            running[pool.submit([items[number] for number in numbers])] = numbers
        for handle in pool.finished(running.keys()):
            numbers = running.pop(handle)
            try:
                seconds, results = pool.result(handle)
            except WorkerDied:
                unfinished += numbers
                continue
            size = max(1, min(pool.largest, round(TARGET * len(numbers) / max(seconds, 1e-6))))
            yield from zip(numbers, results, strict=True)
        if unfinished and not running and pool.deaths == 1:
            return


def _again(pool: Pool, items: Sequence[Any], numbers: Sequence[int], running: dict[Any, list[int]]) -> Iterator[tuple[int, Any]]:
    """Results of what a cluster gave up, one at a time: Dask blames all tasks of a worker that died, also those that waited."""
    for number in numbers:
        handle = pool.submit([items[number]])
        running[handle] = [number]
        pool.finished([handle])
        try:
            [result] = pool.result(handle)[1]
        except WorkerDied:
            result = Lost(items[number], 2 * pool.deaths)
        del running[handle]
        yield number, result


def _one_by_one(task: bytes, items: Sequence[Any], numbers: Sequence[int], threads: int) -> Iterator[tuple[int, Any]]:
    """Results of items in a process that has one of them at a time. An item is lost after a second death, which then is its own doing."""
    pool: Loky | None = None
    try:
        for number in numbers:
            deaths = 0
            while deaths < 2:
                pool = pool or Loky(task, 1, threads)
                handle = pool.submit([items[number]])
                pool.finished([handle])
                try:
                    [result] = pool.result(handle)[1]
                except WorkerDied:
                    pool.close()
                    deaths, pool = deaths + 1, None
                    continue
                yield number, result
                break
            else:
                yield number, Lost(items[number], deaths)
    except BaseException:
        if pool is not None:
            pool.abort(())
        raise
    if pool is not None:
        pool.close()


class _Waiting:
    """Results that came before their turn, in a temporary file."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._places: dict[int, tuple[int, int]] = {}
        self._turn = 0
        self._now: list[Any] = []

    def __enter__(self) -> "_Waiting":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def put(self, number: int, result: Any) -> None:
        """Keep the result of an item."""
        if number == self._turn:
            self._now = [result]
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed at the end)
        start = self._file.seek(0, 2)
        self._places[number] = (start, self._file.write(pickle.dumps(result)))

    def next_ones(self) -> Iterator[Any]:
        """The results whose turn has come."""
        while self._now or self._turn in self._places:
            if self._now:
                yield self._now.pop()
            else:
                assert self._file is not None
                start, size = self._places.pop(self._turn)
                self._file.seek(start)
                yield pickle.loads(self._file.read(size))
            self._turn += 1
