"""One benchmark: two ways to compute the same numbers. The results are compared before either is timed."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.benchmarks.pairs import Timing, time_pairs
from ssmspec.benchmarks.sizes import Sizes
from ssmspec.errors import SsmspecError

Arrays = Sequence[npt.NDArray[Any]]
Facts = Mapping[str, float | int | str]


class PeerMissing(Exception):  # noqa: N818  (a skipped benchmark, not an error)
    """The peer or the device is not available on this machine; the message says which."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Both sides of a benchmark, ready to run.

    Args:
        ours, peer: do the work once.
        values: the numbers of both sides, as arrays in the same order; the peer may return only the first rows.
        tolerance: largest allowed difference, relative to the largest magnitude in the peer's array.
        size: dimensions by their letters.
        peer_share: the fraction of the work that `peer` does; its time is divided by it.
        facts: additional facts for the result.
        observe: returns further facts once the timing is known.
    """

    ours: Callable[[], object]
    peer: Callable[[], object]
    values: Callable[[], tuple[Arrays, Arrays]]
    tolerance: float
    size: Mapping[str, int]
    peer_share: float = 1.0
    facts: Facts = field(default_factory=dict)
    observe: Callable[[Timing], Facts] | None = None


@dataclass(frozen=True, slots=True)
class Benchmark:
    """An entry of the catalogue.

    Args:
        name: unique; "A_vs_B".
        measures: what both sides compute.
        peer: what ours is compared with.
        prepare: creates the contest for given sizes, and cleans up afterwards; raises PeerMissing.
        full: whether it is only part of the full run.
    """

    name: str
    measures: str
    peer: str
    prepare: Callable[[Sizes], AbstractContextManager[Contest]]
    full: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one benchmark. ratio is the time of the peer divided by ours; above 1, ours is faster."""

    name: str
    measures: str
    peer: str
    ratio: float
    spread: tuple[float, float]
    ours_seconds: float
    peer_seconds: float
    rounds: int
    size: Mapping[str, int]
    difference: float
    tolerance: float
    facts: Facts


def measure(benchmark: Benchmark, sizes: Sizes, *, rounds: int) -> Result:
    """Compare the values of both sides, then time them in pairs.

    Raises:
        SsmspecError: the values differ by more than the tolerance. PeerMissing: the peer is not available.
    """
    with benchmark.prepare(sizes) as contest:
        difference = require_agreement(benchmark.name, *contest.values(), contest.tolerance)
        timing = time_pairs(contest.ours, contest.peer, rounds=rounds, peer_share=contest.peer_share)
        observed = contest.observe(timing) if contest.observe else {}
    return Result(
        name=benchmark.name,
        measures=benchmark.measures,
        peer=benchmark.peer,
        ratio=timing.ratio,
        spread=timing.spread,
        ours_seconds=timing.ours_seconds,
        peer_seconds=timing.peer_seconds,
        rounds=rounds,
        size=contest.size,
        difference=difference,
        tolerance=contest.tolerance,
        facts={**contest.facts, **observed},
    )


def require_agreement(name: str, ours: Arrays, peer: Arrays, tolerance: float) -> float:
    """The largest difference max|ours - peer|/max|peer| over all arrays.

    Raises:
        SsmspecError: the difference is above the tolerance, or not a number.
    """
    differences = [_difference(mine[: len(other)], other) for mine, other in zip(ours, peer, strict=True)]
    worst = float(np.max(differences))
    if not worst <= tolerance:
        raise SsmspecError(
            f"{name}: the two sides differ by {worst:.3g} of the largest value, but at most {tolerance:.3g} is allowed; nothing was timed"
        )
    return worst


def _difference(ours: npt.NDArray[Any], peer: npt.NDArray[Any]) -> float:
    if ours.shape != peer.shape:
        return np.inf
    with np.errstate(invalid="ignore", over="ignore"):
        return float(np.abs(ours - peer).max() / max(np.abs(peer).max(), np.finfo(float).tiny))
