"""Byte ranges: which of them are read in one request, and those that have been read."""

from bisect import bisect_right
from collections.abc import Iterable

Range = tuple[int, int]  # first byte, and the byte after the last

GAP = 4096  # bytes; ranges this close are one request
BUDGET = 1 << 16  # bytes that larger gaps may cost in one plan


def joined(ranges: Iterable[Range], gap: int = GAP, budget: int = BUDGET) -> list[Range]:
    """The requests for some ranges, in order: overlapping and close ones are joined.

    Gaps up to `gap` bytes are always read; larger ones, the smallest first, while all of these together are within `budget` bytes.
    """
    merged: list[Range] = []
    for start, stop in sorted(pair for pair in ranges if pair[0] < pair[1]):
        if merged and start <= merged[-1][1] + gap:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    gaps = sorted((merged[index + 1][0] - merged[index][1], index) for index in range(len(merged) - 1))
    closed: set[int] = set()
    for size, index in gaps:
        if size > budget:
            break
        budget -= size
        closed.add(index)
    result: list[Range] = []
    for index, pair in enumerate(merged):
        if index - 1 in closed:
            result[-1] = (result[-1][0], pair[1])
        else:
            result.append(pair)
    return result


class Held:
    """Bytes of a file that have been read, by their place."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._parts: list[bytes] = []

    def missing(self, start: int, stop: int) -> list[Range]:
        """What is not held of a range."""
        found: list[Range] = []
        at = start
        for index in range(max(0, bisect_right(self._starts, start) - 1), len(self._starts)):
            first, last = self._starts[index], self._starts[index] + len(self._parts[index])
            if first >= stop:
                break
            if first > at:
                found.append((at, first))
            at = max(at, last)
        if at < stop:
            found.append((at, stop))
        return found

    def add(self, start: int, data: bytes) -> None:
        """Keeps bytes, except those that are held already."""
        for first, last in self.missing(start, start + len(data)):
            index = bisect_right(self._starts, first)
            self._starts.insert(index, first)
            self._parts.insert(index, data[first - start : last - start])

    def take(self, start: int, stop: int) -> bytes:
        """The bytes of a range, all of which must be held."""
        parts = []
        for index in range(max(0, bisect_right(self._starts, start) - 1), len(self._starts)):
            first, part = self._starts[index], self._parts[index]
            if first >= stop:
                break
            parts.append(part[max(0, start - first) : stop - first])
        return b"".join(parts)
