"""Peak gain, the H-infinity norm on the unit circle, and where it is."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ssmspec.backends import CauchySum
from ssmspec.grid import FloatArray, theta_nodes
from ssmspec.response import discrete_response, squared_magnitude
from ssmspec.statespace import StateSpace

CANDIDATES = 3  # local maxima refined per copy
GOLDEN = (np.sqrt(5) - 1) / 2
REFINEMENTS = 30  # golden sections: the bracket shrinks by 5e-7, the error of a smooth maximum by its square
STRIDE = 4  # of 16 nodes per panel, those on which singular values are searched


@dataclass(frozen=True, slots=True)
class Peak:
    """gain (K,): largest singular value of H over theta, |H| for one input and output; theta (K,) [rad/sample]."""

    gain: FloatArray
    theta: FloatArray


def find_peak(system: StateSpace, nodes: FloatArray, squared: FloatArray, cauchy_sum: CauchySum, *, with_skip: bool) -> Peak:
    """Search nodes that resolve every pole, then refine the highest local maxima.

    Args:
        system: K copies, as analyzed.
        nodes: (K, F) theta of the quadrature panels, increasing [rad/sample].
        squared: (K, F) squared Frobenius norms there.
        cauchy_sum: the engine.
        with_skip: include D.
    """
    ends = np.zeros((len(nodes), 1)), np.full((len(nodes), 1), np.pi)
    borders = [squared_magnitude(system, end, cauchy_sum, with_skip=with_skip) for end in ends]
    theta = np.concatenate([ends[0], nodes, ends[1]], axis=1)
    values = np.concatenate([borders[0], squared, borders[1]], axis=1)
    if min(system.outputs, system.inputs) > 1:
        keep = np.unique(np.concatenate([np.arange(0, theta.shape[1], STRIDE), [theta.shape[1] - 1]]))
        theta, values = theta[:, keep], values[:, keep]
        values = _squared_singular_values(system, theta, values, cauchy_sum, with_skip)

    def squared_gain(at: FloatArray) -> FloatArray:
        frobenius = squared_magnitude(system, at, cauchy_sum, with_skip=with_skip)
        if min(system.outputs, system.inputs) == 1:
            return frobenius
        return _squared_singular_values(system, at, frobenius, cauchy_sum, with_skip)

    low, high, start, start_value = _brackets(theta, values)
    middle = _golden_section(squared_gain, low, high)
    found, value = np.concatenate([start, middle], axis=1), np.concatenate([start_value, squared_gain(middle)], axis=1)
    best = np.argmax(value, axis=1)[:, None]
    gain = np.sqrt(np.take_along_axis(value, best, axis=1)[:, 0])
    return Peak(gain, np.take_along_axis(found, best, axis=1)[:, 0])


def _golden_section(function: Callable[[FloatArray], FloatArray], low: FloatArray, high: FloatArray) -> FloatArray:
    """Where a function has its maximum in each of the brackets (K, C), one evaluation a step."""
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(REFINEMENTS):
        rising = at_left < at_right
        low, high = np.where(rising, left, low), np.where(rising, high, right)
        probe = np.where(rising, low + GOLDEN * (high - low), high - GOLDEN * (high - low))
        at_probe = function(probe)
        left, right, at_left, at_right = (
            np.where(rising, right, probe),
            np.where(rising, probe, left),
            np.where(rising, at_right, at_probe),
            np.where(rising, at_probe, at_left),
        )
    return np.where(at_left < at_right, right, left)


def _brackets(theta: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Neighbors of the highest local maxima, and the maxima themselves, each (K, CANDIDATES)."""
    padded = np.pad(values, ((0, 0), (1, 1)), constant_values=-np.inf)
    is_peak = (values >= padded[:, :-2]) & (values >= padded[:, 2:])
    ranked = np.argsort(np.where(is_peak, -values, np.inf), axis=1, kind="stable")[:, :CANDIDATES]
    take = np.take_along_axis
    last = theta.shape[1] - 1
    return (
        take(theta, np.maximum(ranked - 1, 0), axis=1),
        take(theta, np.minimum(ranked + 1, last), axis=1),
        take(theta, ranked, axis=1),
        take(values, ranked, axis=1),
    )


def _squared_singular_values(
    system: StateSpace, theta: FloatArray, frobenius: FloatArray, cauchy_sum: CauchySum, with_skip: bool
) -> FloatArray:
    """Squared largest singular values (K, F), computed from the highest Frobenius norm down.

    Where the Frobenius norm, an upper bound, is below the best value found, the value cannot be the peak and is left at zero.
    """
    compact = system if with_skip else _compressed(system)
    result = np.zeros_like(frobenius)
    block = max(8, (1 << 18) // max(1, compact.inputs * compact.outputs))
    for k in range(system.copies):
        part = compact.copy_slice(k, k + 1)
        order = np.argsort(-frobenius[k])
        best = 0.0
        for start in range(0, len(order), block):
            chosen = order[start : start + block]
            chosen = chosen[frobenius[k, chosen] >= best]
            if not len(chosen):
                break
            at = theta[k, chosen][None, :]
            H = discrete_response(part, *theta_nodes(at), cauchy_sum)[0]
            if part.sobolev is not None:
                H = H * part.sobolev.weight(at, part.step)
            if with_skip:
                H = H + part.D[0][..., None]
            result[k, chosen] = np.linalg.norm(np.moveaxis(H, -1, 0), ord=2, axis=(1, 2)) ** 2
            best = max(best, float(result[k, chosen].max()) * (1 - 1e-12))
    return result


def _compressed(system: StateSpace) -> StateSpace:
    """The same singular values with at most 2N inputs and outputs: C and B are replaced by their coordinates in the space they span."""
    C, B = system.C, system.B
    if system.outputs > 2 * system.modes:
        basis = np.linalg.qr(np.concatenate([C.real, C.imag], axis=2))[0]
        C = basis.transpose(0, 2, 1) @ C
    if system.inputs > 2 * system.modes:
        basis = np.linalg.qr(np.concatenate([B.real, B.imag], axis=1).transpose(0, 2, 1))[0]
        B = B @ basis
    return replace(system, B=B, C=C, D=np.zeros((system.copies, C.shape[1], B.shape[2])))
