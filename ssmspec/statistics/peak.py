"""Peak gain (the H-infinity norm on the unit circle) and its frequency."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ssmspec.backends import CauchySum
from ssmspec.systems.grid import FloatArray, theta_nodes
from ssmspec.systems.response import completed_response, squared_magnitude
from ssmspec.systems.statespace import ComplexArray, StateSpace

CANDIDATES = 3  # local maxima refined per copy
GOLDEN = (np.sqrt(5) - 1) / 2
REFINEMENTS = 30  # golden-section steps: the bracket shrinks to 5e-7 of its width, the error of a smooth maximum to the square of that
STRIDES = 4, 16  # singular values are searched at every fourth of the 16 nodes per panel, or for large systems at only one
MOST_SEARCHED = 4096
POWER_ITERATIONS = 12
NEAR_BEST = 0.9  # the exact value is computed where the lower bound reaches this fraction of the best squared gain
MOST_EXACT = 48
BLOCK = 1024  # number of frequencies whose mode gains are computed at once


@dataclass(frozen=True, slots=True)
class Peak:
    """gain (K,): largest singular value of H over theta (|H| for one input and output); theta (K,): where it occurs [rad/sample]."""

    gain: FloatArray
    theta: FloatArray


def find_peak(system: StateSpace, nodes: FloatArray, squared: FloatArray, cauchy_sum: CauchySum, *, with_skip: bool) -> Peak:
    """Search the nodes, which resolve every pole, then refine the highest local maxima.

    Args:
        system: K copies; in modal form if there are several inputs or outputs.
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
        stride = int(np.clip(theta.shape[1] // MOST_SEARCHED, *STRIDES))
        keep = np.unique(np.concatenate([np.arange(0, theta.shape[1], stride), [theta.shape[1] - 1]]))
        theta, values = theta[:, keep], values[:, keep]
        values = _squared_singular_values(system, theta, with_skip)

    def squared_gain(at: FloatArray) -> FloatArray:
        if min(system.outputs, system.inputs) == 1:
            return squared_magnitude(system, at, cauchy_sum, with_skip=with_skip)
        return _squared_singular_values(system, at, with_skip)

    low, high, start, start_value = _brackets(theta, values)
    middle = _golden_section(squared_gain, low, high)
    found, value = np.concatenate([start, middle], axis=1), np.concatenate([start_value, squared_gain(middle)], axis=1)
    best = np.argmax(value, axis=1)[:, None]
    gain = np.where(np.isfinite(values).all(axis=1), np.sqrt(np.take_along_axis(value, best, axis=1)[:, 0]), np.nan)
    return Peak(gain, np.take_along_axis(found, best, axis=1)[:, 0])


def _golden_section(function: Callable[[FloatArray], FloatArray], low: FloatArray, high: FloatArray) -> FloatArray:
    """The position of the maximum of a function in each of the brackets (K, C), with one evaluation per step."""
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


def _squared_singular_values(system: StateSpace, theta: FloatArray, with_skip: bool) -> FloatArray:
    """Squared largest singular values (K, F) of diagonal systems, exact where they may be the largest.

    A few power iterations, which never form the matrix, give lower bounds everywhere. Where a bound comes close to the best one, the exact
    singular value is computed; elsewhere the bound is returned.
    """
    compact = system if with_skip else _compressed(system)
    result = np.empty_like(theta)
    for k in range(system.copies):
        part = compact.copy_slice(k, k + 1)
        phi = np.concatenate([_mode_gains(part, theta[k, f : f + BLOCK]) for f in range(0, theta.shape[1], BLOCK)])
        D = part.D[0] if with_skip else None
        result[k] = _power_iterations(part, phi, D)
        near = np.argsort(-result[k])[:MOST_EXACT]
        near = near[result[k, near] >= NEAR_BEST * result[k, near[0]]]
        U, V = _completed(part)
        for index in near:
            H = (U * phi[index]) @ V + (0 if D is None else D)
            result[k, index] = np.linalg.norm(H, ord=2) ** 2 if np.isfinite(H).all() else np.nan
    return result


def _completed(part: StateSpace) -> tuple[ComplexArray, ComplexArray]:
    """Output (O, 2N) and input (2N, I) matrices of the completed set of one copy."""
    return np.concatenate([part.C[0], part.C[0].conj()], axis=1), np.concatenate([part.B[0], part.B[0].conj()], axis=0)


def _mode_gains(part: StateSpace, theta: FloatArray) -> ComplexArray:
    """phi (F, 2N) such that H = U diag(phi) V, including the beta weight."""
    phi = completed_response(part, *theta_nodes(theta[None]))[0]
    return phi if part.sobolev is None else phi * part.sobolev.weight(theta[None], part.step)[0][:, None]


def _power_iterations(part: StateSpace, phi: ComplexArray, D: FloatArray | None) -> FloatArray:
    """Squared lower bounds of the largest singular value of U diag(phi_f) V + D for every f, (F,)."""
    U, V = _completed(part)
    vector = np.tile(V.conj().sum(axis=0) + 1e-3 * np.arange(1, V.shape[1] + 1), (len(phi), 1))
    bound = np.zeros(len(phi))
    for _ in range(POWER_ITERATIONS):
        vector = vector / np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), np.finfo(float).tiny)
        image = ((vector @ V.T) * phi) @ U.T + (0 if D is None else vector @ D.T)
        bound = np.maximum(bound, (image.real**2 + image.imag**2).sum(axis=1))
        vector = ((image @ U.conj()) * phi.conj()) @ V.conj() + (0 if D is None else image @ D)
    return bound


def _compressed(system: StateSpace) -> StateSpace:
    """A system with the same singular values and at most 2N inputs and outputs: C and B in coordinates of the space they span."""
    C, B = system.C, system.B
    if system.outputs > 2 * system.modes:
        basis = np.linalg.qr(np.concatenate([C.real, C.imag], axis=2))[0]
        C = basis.transpose(0, 2, 1) @ C
    if system.inputs > 2 * system.modes:
        basis = np.linalg.qr(np.concatenate([B.real, B.imag], axis=1).transpose(0, 2, 1))[0]
        B = B @ basis
    return replace(system, B=B, C=C, D=np.zeros((system.copies, C.shape[1], B.shape[2])))
