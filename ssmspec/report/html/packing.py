"""Numbers as a report stores them: curves thinned to what a screen shows, samples of poles, float32 in base64."""

import base64
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ssmspec.statistics import Curve
from ssmspec.systems.grid import FloatArray
from ssmspec.systems.statespace import ComplexArray

MOST_POLES = 16_000  # in one report, over all layers and steps
MOST_POLES_OF_ONE = 1000
FEWEST_POLES_OF_ONE = 32
MOST_LIVES = 500  # half-lives in one figure
MOST_LIVES_OF_ONE = 24
FEWEST_LIVES_OF_ONE = 6
MOST_MODES = 48  # Hankel singular values of a layer
BARS = 40  # of a histogram of decay rates


@dataclass(frozen=True, slots=True)
class Amount:
    """How much of every layer a report stores, so that it stays below 6 MB for 64 layers.

    Args:
        layers: layers to be stored, counted once for every checkpoint.
    """

    layers: int

    @property
    def points(self) -> int:
        """Points of a curve: what a screen shows of one, fewer where there are many."""
        return 256 if self.layers <= 96 else 128 if self.layers <= 192 else 64

    @property
    def poles(self) -> int:
        """Poles of a layer."""
        return int(np.clip(MOST_POLES // max(1, self.layers), FEWEST_POLES_OF_ONE, MOST_POLES_OF_ONE))

    @property
    def lives(self) -> int:
        """Half-lives of a layer."""
        return int(np.clip(MOST_LIVES // max(1, self.layers), FEWEST_LIVES_OF_ONE, MOST_LIVES_OF_ONE))


def packed(values: FloatArray) -> dict[str, Any]:
    """Numbers as little-endian float32 in base64, divided by a power of two, so that none of a usual range overflows or loses digits."""
    finite = np.abs(values[np.isfinite(values)])
    largest = float(finite.max()) if finite.size else 0.0
    exponent = int(np.frexp(largest)[1]) - 1 if largest else 0  # of a number in [1, 2), so that the power of two is finite
    with np.errstate(under="ignore"):
        small = np.ldexp(values, -exponent).astype("<f4")
    return {"exponent": exponent, "data": base64.b64encode(small.tobytes()).decode("ascii")}


def packed_places(places: np.ndarray) -> str:
    """Small whole numbers as little-endian uint16 in base64."""
    return base64.b64encode(places.astype("<u2").tobytes()).decode("ascii")


def bins_of(points: int, most: int) -> np.ndarray:
    """Bins of neighboring grid points, at most `most`: the first point of each, and the number of points."""
    return np.linspace(0, points, min(points, most) + 1).round().astype(int)


def highest(values: FloatArray, bins: np.ndarray) -> np.ndarray:
    """Which points of a curve on the grid are stored: of every bin the one where it is highest, so that no peak is lost."""
    known = np.where(np.isnan(values), -np.inf, values)
    return np.array([start + int(known[start:stop].argmax()) for start, stop in pairwise(bins)])


def packed_curve(curve: Curve, places: np.ndarray) -> dict[str, Any]:
    """A curve at some of its points, with its band if it has one."""
    lines = {"median": curve.median, "p5": curve.p5, "p95": curve.p95}
    return {name: None if values is None else packed(values[places]) for name, values in lines.items()}


def first_modes(count: int) -> np.ndarray:
    """Which of so many Hankel singular values are stored: all, or the first ones and then ever fewer, the last one included."""
    if count <= MOST_MODES:
        return np.arange(count)
    half = MOST_MODES // 2
    return np.unique(np.concatenate([np.arange(half), np.geomspace(half, count - 1, half).round().astype(int)]))


def sampled(poles: ComplexArray, most: int) -> np.ndarray:
    """Indices of at most `most` poles (n,): evenly spaced in the order of their frequency, and the slowest and the fastest decay.

    The order of equal frequencies is that of decay, so that real poles are sampled evenly, too.
    """
    if len(poles) <= most:
        return np.arange(len(poles))
    order = np.lexsort((poles.real, poles.imag))
    even = order[np.linspace(0, len(poles) - 1, max(2, most - 2)).round().astype(int)]
    return np.unique([*even, int(poles.real.argmin()), int(poles.real.argmax())])


def histogram(values: FloatArray, everything: FloatArray) -> dict[str, Any]:
    """Counts of values in bins that span `everything`, even on a logarithmic axis where that is more than a decade above zero."""
    if not everything.size:
        return {"log": False, "edges": [0.0, 1.0], "counts": [0]}
    low, high = float(everything.min()), float(everything.max())
    log = low > 0 and high >= 10 * low
    if low == high:
        edges = low + np.array([-0.5, 0.5]) * (abs(low) or 1.0)
    else:
        edges = np.geomspace(low, high, BARS + 1) if log else np.linspace(low, high, BARS + 1)
        edges[0], edges[-1] = low, high
    return {"log": log, "edges": edges.tolist(), "counts": np.histogram(values, edges)[0].tolist()}
