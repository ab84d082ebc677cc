"""Time two callables in interleaved pairs, so that a slow phase of a shared machine affects both sides of a ratio."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Clock = Callable[[], float]

SHORTEST = 0.02  # seconds that one timing should last; a faster call is repeated
MOST_CALLS = 10_000


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds per call of both sides, pair by pair."""

    ours: tuple[float, ...]
    peer: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Median of peer/ours over the pairs; above 1, ours is faster."""
        return float(np.median(self._ratios()))

    @property
    def spread(self) -> tuple[float, float]:
        """10th and 90th percentile of the paired ratios."""
        low, high = np.percentile(self._ratios(), [10, 90])
        return float(low), float(high)

    @property
    def ours_seconds(self) -> float:
        """Median seconds per call of our side."""
        return float(np.median(self.ours))

    @property
    def peer_seconds(self) -> float:
        """Median seconds per call of the peer; extrapolated to the whole work if the peer did only a part of it."""
        return float(np.median(self.peer))

    def _ratios(self) -> list[float]:
        return [peer / ours for ours, peer in zip(self.ours, self.peer, strict=True)]


def time_pairs(
    ours: Callable[[], object], peer: Callable[[], object], *, rounds: int, peer_share: float = 1.0, clock: Clock = time.perf_counter
) -> Timing:
    """Time `rounds` pairs, ours first. Before that, one call of each side determines how often it must be repeated to last `SHORTEST`.

    Args:
        peer_share: the fraction of the work that the peer does; its seconds are divided by it.
        clock: a monotonic clock in seconds.
    """
    sides = [(side, _calls(side, clock)) for side in (ours, peer)]
    pairs = [[_seconds(side, calls, clock) for side, calls in sides] for _ in range(rounds)]
    return Timing(tuple(pair[0] for pair in pairs), tuple(pair[1] / peer_share for pair in pairs))


def median_seconds(side: Callable[[], object], *, rounds: int, clock: Clock = time.perf_counter) -> float:
    """Median seconds per call over `rounds` timings, after one call that is not counted."""
    calls = _calls(side, clock)
    return float(np.median([_seconds(side, calls, clock) for _ in range(rounds)]))


def _calls(side: Callable[[], object], clock: Clock) -> int:
    return min(MOST_CALLS, max(1, math.ceil(SHORTEST / max(_seconds(side, 1, clock), 1e-9))))


def _seconds(side: Callable[[], object], calls: int, clock: Clock) -> float:
    start = clock()
    for _ in range(calls):
        side()
    return (clock() - start) / calls
