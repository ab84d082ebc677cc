"""Statistics computed in the plainest way: what the fast paths of `ssmspec.statistics` must equal.

Every frequency gets the whole response, every maximum a golden section, every quantile a bisection, every pair of modes its own term.
"""

from collections.abc import Callable

import numpy as np

from ssmspec.statistics.quadrature import panels
from ssmspec.systems.grid import theta_nodes
from ssmspec.systems.response import completed_response
from ssmspec.systems.statespace import StateSpace, cayley_poles, homogeneous_scale

GOLDEN = (np.sqrt(5) - 1) / 2


def matrices(system: StateSpace, theta: np.ndarray) -> np.ndarray:
    """H (F, O, I) of the only copy of a diagonal system, beta weight applied."""
    phi = completed_response(system, *theta_nodes(theta[None]))[0]
    if system.sobolev is not None:
        phi = phi * system.sobolev.weight(theta[None], system.step)[0][:, None]
    U = np.concatenate([system.C[0], system.C[0].conj()], axis=1)
    V = np.concatenate([system.B[0], system.B[0].conj()], axis=0)
    return (U * phi[:, None, :]) @ V


def gains(system: StateSpace, theta: np.ndarray) -> np.ndarray:
    """Largest singular values (F,)."""
    return np.linalg.svd(matrices(system, theta), compute_uv=False)[:, 0]


def peak_gain(system: StateSpace) -> float:
    """Local maxima over fine nodes that come within a fifth of the highest, refined by golden sections."""
    nodes = np.unique(np.concatenate([[0.0], panels(system, 6.0).nodes()[0], [np.pi]]))
    values = gains(system, nodes)
    inner = np.pad(values, 1, constant_values=-np.inf)
    maxima = np.flatnonzero((values >= inner[:-2]) & (values >= inner[2:]) & (values >= 0.8 * values.max()))
    return max(
        golden_maximum(lambda at: float(gains(system, np.array([at]))[0]), nodes[max(i - 1, 0)], nodes[min(i + 1, len(nodes) - 1)])
        for i in maxima
    )


def golden_maximum(function: Callable[[float], float], low: float, high: float) -> float:
    """The highest value of a function with one maximum between low and high."""
    points = [high - GOLDEN * (high - low), low + GOLDEN * (high - low)]
    values = [function(point) for point in points]
    best = max(*values, function(low), function(high))
    for _ in range(40):
        if values[0] < values[1]:
            low, points = points[0], [points[1], points[0] + GOLDEN * (high - points[0])]
            values = [values[1], function(points[1])]
        else:
            high, points = points[1], [points[1] - GOLDEN * (points[1] - low), points[0]]
            values = [function(points[0]), values[0]]
        best = max(best, *values)
    return best


def energy(system: StateSpace, theta: float) -> float:
    """E(theta) of the only copy of a diagonal system without weight: the partial fractions of all pairs of modes, integrated."""
    upper, scale = cayley_poles(system)[0], homogeneous_scale(system, cayley_poles(system))[0]
    sigma, scale = np.concatenate([upper, upper.conj()]), np.concatenate([scale, scale.conj()])
    C = np.concatenate([system.C[0], system.C[0].conj()], axis=1) * scale
    B = np.concatenate([system.B[0], system.B[0].conj()], axis=0)
    x, y = (float(part[0]) for part in theta_nodes(np.array([theta])))
    logarithm = np.log(1j * y - sigma * x) - np.log(-1j * y - sigma * x)
    pairs = (C.conj().T @ C).T * (B @ B.conj().T)
    tau = (-2 * pairs / (sigma[:, None] + sigma.conj())).sum(axis=1)
    return float((tau * logarithm).imag.sum() / np.pi)


def rolloff(system: StateSpace, share: float = 0.95) -> float:
    """The theta with E(theta) = share E(pi), by bisection."""
    target, low, high = share * energy(system, np.pi), 0.0, np.pi
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if energy(system, middle) >= target else (middle, high)
    return (low + high) / 2
