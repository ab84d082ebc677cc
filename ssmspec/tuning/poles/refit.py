"""Refit residues for given poles, so that a diagonal system approximates a response that it cannot reproduce exactly.

With H = U diag(phi) V over the completed set, U = [C, conj C], V = [B; conj B], the output matrix that minimizes the mean of
||T - U' diag(phi) V||^2 over the circle solves U' Gamma = E[T (phi V)^*] with Gamma_nm = E[phi_n conj(phi_m)] (V V^*)_nm. Poles that
lie close together make Gamma nearly singular, and residues explode. A ridge therefore pulls every residue toward its value for a narrow
mode: the old residue times the weight at the mode's own frequency. The smallest ridge is used for which the norm of the residues grows by
no more than a given factor. Means over the circle are computed by the quadrature adapted to the poles.
"""

from dataclasses import dataclass, replace

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.statistics.normalization import largest_exponent, times_power_of_two
from ssmspec.statistics.quadrature import Panels, panels, pole_distances
from ssmspec.systems.grid import theta_nodes
from ssmspec.systems.response import completed_response
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace

RIDGES = np.concatenate([[0.0], np.geomspace(1e-15, 1.0, 31), [np.inf]])  # relative to modes of unit norm; the last one returns the prior
NODES_AT_ONCE = 1 << 21  # complex numbers of phi in memory at once: 32 MB


@dataclass(frozen=True, slots=True)
class Refit:
    """A refitted system, and for every copy, (K,), the relative error of its response (L2 over theta) and the growth of its modes.

    The strength of the modes is the square root of the sum of their individual energies, that is, of residues weighted by mode size.
    """

    system: StateSpace
    error: FloatArray
    growth: FloatArray


def bake(system: StateSpace, *, growth: float = 2.0) -> Refit:
    """A system without beta weight whose plain response approximates the weighted one: same poles and B, but a different C.

    Args:
        system: diagonal, with a Sobolev weight.
        growth: bound on the growth of the norm of the residues of a copy, in units of the largest gain of its weight.
    Raises:
        LayerError: the system has a low-rank part or no weight, or its poles are too close to the unit circle to integrate.
    Source: ours; least squares as in barycentric rational approximation with fixed poles.
    """
    if system.sobolev is None:
        raise LayerError(f"layer {system.name} has no beta weight to bake")
    if system.P is not None and system.P.any():
        raise LayerError(f"layer {system.name} ({system.family}) has a low-rank part; add --diagonalize to bake its weight")
    cut = panels(system)
    if cut is None:
        raise LayerError(f"layer {system.name}: its poles are too close to the unit circle to bake in a weight")
    inputs, outputs = (largest_exponent(array.reshape(system.copies, -1), 1)[:, None, None] for array in (system.B, system.C))
    scaled = replace(system, B=times_power_of_two(system.B, -inputs), C=times_power_of_two(system.C, -outputs))
    parts = [_bake_copies(scaled.copy_slice(k, k + 1), Panels(cut.edges[k : k + 1]), growth) for k in range(system.copies)]
    C, error, growths = (np.concatenate(values) for values in zip(*parts, strict=True))
    return Refit(replace(system, C=times_power_of_two(C, outputs), sobolev=None), error, growths)


def _bake_copies(system: StateSpace, cut: Panels, limit: float) -> tuple[ComplexArray, FloatArray, FloatArray]:
    """C (1, O, N), error (1,) and growth (1,) of one copy."""
    assert system.sobolev is not None
    theta, weights = cut.nodes(), cut.weights()
    W = np.broadcast_to(system.sobolev.weight(theta, system.step), theta.shape)
    plain, cross, square = _gram_matrices(system, theta, (weights, weights * W, weights * np.abs(W) ** 2))
    U = np.concatenate([system.C[0], system.C[0].conj()], axis=1)
    size = np.sqrt(np.maximum(np.diagonal(plain).real, np.finfo(float).tiny))
    values, vectors = np.linalg.eigh(plain / size[:, None] / size)
    narrow = system.sobolev.weight(pole_distances(system)[0], system.step)[0]
    prior = U * np.concatenate([narrow, narrow.conj()])
    coefficients = ((U @ cross - prior @ plain) / size) @ vectors
    norm = float(np.linalg.norm(U * size))
    bound = limit * float(np.abs(W).max())
    for ridge in RIDGES:
        usable = values + ridge > 1e-16
        solved = np.where(usable, coefficients / np.where(usable, values + ridge, 1), 0) @ vectors.conj().T
        fitted = prior + solved / size
        growth = float(np.linalg.norm(fitted * size)) / norm if norm else 1.0
        if growth <= bound:
            break
    wanted = np.einsum("on,nm,om->", U, square, U.conj()).real
    missed = wanted - 2 * np.einsum("on,nm,om->", U, cross, fitted.conj()).real + np.einsum("on,nm,om->", fitted, plain, fitted.conj()).real
    error = np.sqrt(max(missed, 0.0) / wanted) if wanted > 0 else 0.0
    N = system.modes
    half = (fitted[:, :N] + fitted[:, N:].conj()) / 2
    return half[None], np.array([error]), np.array([growth])


def _gram_matrices(system: StateSpace, theta: FloatArray, weights: tuple[np.ndarray, ...]) -> list[ComplexArray]:
    """Sums (2N, 2N) of weight phi_n conj(phi_m) (V V^*)_nm over the whole circle, one for each weight (1, F) given on [0, pi]."""
    N = system.modes
    V = np.concatenate([system.B[0], system.B[0].conj()], axis=0)
    totals = [np.zeros((2 * N, 2 * N), complex) for _ in weights]
    block = max(1, NODES_AT_ONCE // (2 * N))
    for start in range(0, theta.shape[1], block):
        columns = slice(start, start + block)
        phi = completed_response(system, *theta_nodes(theta[:, columns]))[0]
        for total, weight in zip(totals, weights, strict=True):
            total += (phi * weight[0, columns, None]).T @ phi.conj()
    swap = np.r_[N : 2 * N, :N]  # phi(-theta) is conj(phi(theta)) with its halves exchanged
    return [(total + total.conj()[np.ix_(swap, swap)]) / (2 * np.pi) * (V @ V.conj().T) for total in totals]
