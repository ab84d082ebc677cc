"""Peak gain (the H-infinity norm on the unit circle) and its frequency."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.statistics.quadrature import NODES, ORDER, Integral
from ssmspec.statistics.singular_values import Operator
from ssmspec.systems.grid import FloatArray
from ssmspec.systems.statespace import StateSpace

CANDIDATES = 3  # local maxima refined per copy
NEAR_HIGHEST = 0.5  # of the highest: maxima below it are not the highest between the points either
GOLDEN = (np.sqrt(5) - 1) / 2
NEAREST = 1e-6  # of the bracket: where the place of a maximum is known to it, its height is to the square
AGREEMENT = 1e-8  # relative, of squared gains with polynomials through panels
NEWTON_STEPS = 5
FARTHEST = 0.25  # of half a panel: the most that a maximum lies beside the highest node
NOISE = 1e-15  # relative: no place is better by less
MOST_TRIALS = 40  # golden sections alone would need 30
STRIDES = 4, 16  # of 16 nodes per panel, every fourth, or for large systems one, on which singular values are searched
MOST_SEARCHED = 4096
NEAR_BEST = 0.9  # of the squared gain: lower bounds beside which the maximum may be
MARGIN = 1e-9  # relative, of squared gains


DERIVATIVE = np.polynomial.legendre.legder(np.eye(ORDER)).T  # Legendre coefficients -> those of the derivative, one column less
DERIVATIVE = np.pad(DERIVATIVE, ((0, 0), (0, 1)))
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Peak:
    """gain (K,): largest singular value of H over theta (|H| for one input and output); theta (K,): where it occurs [rad/sample]."""

    gain: FloatArray
    theta: FloatArray


def find_peak(squared_gain: Callable[[FloatArray], FloatArray], theta: FloatArray, squared: FloatArray, integral: Integral) -> Peak:
    """Search points that resolve every pole, then refine the highest local maxima; for one input or one output.

    Between the nodes of a panel the squared gain is a polynomial, whose maximum says where to evaluate it; where the value there is not
    that of the polynomial, the maxima are sought anew without it.

    Args:
        squared_gain: squared Frobenius norms at theta (K, C) [rad/sample].
        theta: (K, F) increasing from 0 to pi, with the nodes of the quadrature panels between.
        squared: (K, F) squared Frobenius norms there.
        integral: the polynomials through them.
    """
    known = np.isfinite(squared).all(axis=1)
    places = _highest_maxima(squared)
    at, predicted = _stationary(theta, places, integral)
    value, start = squared_gain(at), np.take_along_axis(squared, places, axis=1)
    with np.errstate(invalid="ignore"):
        right = (np.abs(value - predicted) <= AGREEMENT * value) & (value >= start * (1 - NOISE * len(NODES)))
    if not right[known].all():
        at, value = _climb(squared_gain, *_brackets(theta, squared, places))
    better = value > start * (1 + NOISE)
    at, value = np.where(better, at, np.take_along_axis(theta, places, axis=1)), np.where(better, value, start)
    best = np.argmax(value, axis=1)[:, None]
    gain = np.where(known, np.sqrt(np.take_along_axis(value, best, axis=1)[:, 0]), np.nan)
    return Peak(gain, _folded(np.take_along_axis(at, best, axis=1)[:, 0]))


def _stationary(theta: FloatArray, places: Places, integral: Integral) -> tuple[FloatArray, FloatArray]:
    """Where the polynomials through the panels have their maxima beside some points, and what they are there, each (K, C)."""
    rows = np.arange(len(theta))[:, None]
    widths = np.diff(integral.edges, axis=1)
    last = (widths > 0).sum(axis=1)[:, None] - 1
    panel = np.clip((places - 1) // ORDER, 0, last)
    left, half, series = integral.edges[rows, panel], widths[rows, panel] / 2, integral.coefficients[rows, panel]
    start = (np.take_along_axis(theta, places, axis=1) - left) / half - 1
    local, slopes = start, series @ DERIVATIVE
    curvatures = slopes @ DERIVATIVE
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(NEWTON_STEPS):
            values = np.polynomial.legendre.legvander(local, ORDER - 1)
            step = (slopes * values).sum(axis=-1) / (curvatures * values).sum(axis=-1)
            before, local = local, np.clip(np.where(np.isfinite(step), local - step, start), start - FARTHEST, start + FARTHEST)
            if (local == before).all():
                break
    local = np.clip(local, (0 - left) / half - 1, (np.pi - left) / half - 1)
    values = np.polynomial.legendre.legvander(local, ORDER - 1)
    return np.clip(left + half * (1 + local), 0, np.pi), (series * values).sum(axis=-1)


def find_operator_peak(system: StateSpace, theta: FloatArray, squared: FloatArray, *, with_skip: bool) -> Peak:
    """The same of the largest singular value, for several inputs and outputs.

    Args:
        system: K copies in modal form.
        theta, squared: as in `find_peak`, D included where it counts.
        with_skip: include D.
    """
    parts = [_operator_peak(system, k, theta[k], squared[k], with_skip) for k in range(system.copies)]
    gain, at = np.array(parts).T
    return Peak(gain, at)


def _operator_peak(system: StateSpace, k: int, theta: FloatArray, squared: FloatArray, with_skip: bool) -> tuple[float, float]:
    """Largest singular value of copy k over theta, and where.

    No singular value is above the Frobenius norm, so only places are searched where this reaches a gain that is known. What a search finds
    by iterations is computed again in full at the end; should that be more, the search is done in full, too.
    """
    if not np.isfinite(squared).all():
        return np.nan, np.nan
    operator = Operator.of(system.copy_slice(k, k + 1), with_skip)
    highest = int(np.argmax(squared))
    least = float(operator.exact(theta[[highest]])[0])
    if not least:
        return 0.0, float(theta[highest])
    stride = int(np.clip(len(theta) // MOST_SEARCHED, *STRIDES))
    kept = np.unique(np.concatenate([np.arange(0, len(theta), stride), [highest, len(theta) - 1]]))
    for function in (operator.iterated, operator.exact):
        at, gain = _search(operator, function, theta[kept], squared[kept] >= least * (1 - MARGIN))
        full = float(operator.exact(at)[0])
        if abs(full - gain) <= MARGIN * full and full >= least * (1 - MARGIN):
            break
    return float(np.sqrt(full)), float(_folded(at)[0])


def _search(
    operator: Operator, function: Callable[[FloatArray], FloatArray], theta: FloatArray, possible: npt.NDArray[np.bool_]
) -> tuple[FloatArray, float]:
    """Place (1,) and value of the highest squared singular value over theta, where it is possible that it is there."""
    values = np.full(len(theta), -np.inf)
    values[possible] = operator.lower_bounds(theta[possible]) if function == operator.iterated else function(theta[possible])
    rivals = np.where((values >= np.roll(values, 1)) & (values >= np.roll(values, -1)), values, -np.inf)
    order = [int(np.argmax(values)), *map(int, np.argsort(-rivals)[:CANDIDATES])]
    places = [place for place in dict.fromkeys(order) if values[place] >= NEAR_BEST * values[order[0]]]
    mirrored = np.concatenate([-theta[1:2], theta, 2 * np.pi - theta[-2:-1]])
    found = [_climb(function, *_between(function, mirrored, place + 1)) for place in places]
    at, value = max(found, key=lambda pair: pair[1][0, 0])
    return at[0], float(value[0, 0])


def _between(function: Callable[[FloatArray], FloatArray], theta: FloatArray, place: int) -> tuple[FloatArray, FloatArray]:
    """A local maximum over theta near a place, with its neighbors: theta and values, each (3, 1, 1)."""
    values = function(_folded(theta[place - 1 : place + 2]))
    while (side := int(np.argmax(values)) - 1) and 1 <= place + side <= len(theta) - 2:
        place += side
        more = function(_folded(theta[[place + side]]))
        values = np.concatenate([values[1:], more]) if side > 0 else np.concatenate([more, values[:-1]])
    return theta[place - 1 : place + 2, None, None], values[:, None, None]


def _climb(function: Callable[[FloatArray], FloatArray], points: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Where a function has its maximum in each of the brackets, and its value there, (K, C).

    The vertex of the parabola through the three best points is tried next; where it leaves the bracket or does not come nearer, the longer
    side is cut by the golden section. Source: Brent, Algorithms for Minimization without Derivatives (1973), chapter 5.

    Args:
        function: values at one theta of every bracket, (K, C), in [0, pi]; beyond, the response is its mirror image.
        points, values: (3, K, C) left end, a place inside whose value is not below those of the ends, right end; an end may be that place.
    """
    (low, best, high), (at_low, at_best, at_high) = points, values
    second, at_second = np.where(at_low >= at_high, low, high), np.maximum(at_low, at_high)
    third, at_third = np.where(at_low >= at_high, high, low), np.minimum(at_low, at_high)
    near = NEAREST * (high - low)
    moved = before = high - low
    for _ in range(MOST_TRIALS):
        with np.errstate(divide="ignore", invalid="ignore"):
            p, q = (best - second) * (at_best - at_third), (best - third) * (at_best - at_second)
            step = -((best - second) * p - (best - third) * q) / (2 * (p - q))
        golden = np.where(best - low > high - best, low - best, high - best) * (1 - GOLDEN)
        trusted = (best + step > low) & (best + step < high) & (np.abs(step) <= before / 2)
        step = np.where(trusted, step, golden)
        step = np.where(np.abs(step) < near, np.copysign(near, golden), step)
        trial = np.clip(best + step, low, high)
        before, moved = moved, np.abs(step)
        at_trial = function(_folded(trial))
        better = at_trial > at_best * (1 + NOISE)
        low = np.where(better, np.where(step > 0, best, low), np.where(step < 0, trial, low))
        high = np.where(better, np.where(step > 0, high, best), np.where(step > 0, trial, high))
        second_best = ~better & ((at_trial >= at_second) | (second == best))
        third_best = ~better & ~second_best & ((at_trial >= at_third) | (third == best) | (third == second))
        moves = better | second_best
        third, at_third = _chosen((moves, second, at_second), (third_best, trial, at_trial), (third, at_third))
        second, at_second = _chosen((better, best, at_best), (second_best, trial, at_trial), (second, at_second))
        best, at_best = np.where(better, trial, best), np.where(better, at_trial, at_best)
        if (high - low <= 4 * near).all():
            break
    return best, at_best


def _chosen(first: Any, second: Any, otherwise: Any) -> tuple[FloatArray, FloatArray]:
    """Points and values where the first condition holds, where the second does, and elsewhere."""
    point, value = (np.where(first[0], first[i], np.where(second[0], second[i], otherwise[i - 1])) for i in (1, 2))
    return point, value


def _highest_maxima(values: FloatArray) -> Places:
    """Places (K, at most CANDIDATES) of the highest local maxima; copies that have fewer near the highest repeat that one."""
    peaks = np.ones(values.shape, bool)
    peaks[:, 1:] &= values[:, 1:] >= values[:, :-1]
    peaks[:, :-1] &= values[:, :-1] >= values[:, 1:]
    left = np.where(peaks, values, -np.inf)
    rows, found = np.arange(len(values)), []
    for _ in range(CANDIDATES):
        place = np.argmax(left, axis=1)
        found.append(place)
        left[rows, place] = -np.inf
    places = np.stack(found, axis=1)
    heights = np.take_along_axis(values, places, axis=1)
    usable = np.take_along_axis(peaks, places, axis=1) & (heights >= NEAR_HIGHEST * heights[:, :1])
    return np.where(usable, places, places[:, :1])[:, : max(1, int(usable.sum(axis=1).max()))]


def _brackets(theta: FloatArray, values: FloatArray, places: Places) -> tuple[FloatArray, FloatArray]:
    """Some places between their neighbors: theta and values, each (3, K, C). Beyond [0, pi] the response is its mirror image."""
    last = values.shape[1] - 1
    sides = np.where(places > 0, places - 1, 1), places, np.where(places < last, places + 1, last - 1)
    points = np.stack([np.take_along_axis(theta, side, axis=1) for side in sides])
    points[0] = np.where(places > 0, points[0], -points[0])
    points[2] = np.where(places < last, points[2], 2 * np.pi - points[2])
    return points, np.stack([np.take_along_axis(values, side, axis=1) for side in sides])


def _folded(theta: FloatArray) -> FloatArray:
    """theta in [0, pi] of the same response."""
    return np.where(theta < 0, -theta, np.where(theta > np.pi, 2 * np.pi - theta, theta))
