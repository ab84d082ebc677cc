"""Balanced truncation of discrete systems, many at once, in real arithmetic.

In coordinates where both Gramians are diag(s_1, ..., s_n), s the Hankel singular values, every leading block of (A, B, C) is a reduced
system, is stable, and is off by at most 2 (s_{r+1} + ... + s_n) in the H-infinity norm.

    P = L L^T, Q = R R^T, R^T L = U diag(s) V^T:    T = L V diag(s)^{-1/2},  T^{-1} = diag(s)^{-1/2} U^T R^T

With one input and one output, Q is S P S with S = diag(1, -1) in the coordinates (Re x, Im x) of modes scaled to b = c, as in
`ssmspec.statistics.hankel`: one eigenvalue problem L^T S L = V diag(+-s) V^T takes the place of both factors, and no square is formed.

Sources: Moore 1981; Laub, Heath, Paige & Ward 1987 (square-root algorithm); Al-Saggaf & Franklin 1987 (the bound in discrete time);
Fernando & Nicholson 1983 (the symmetric case).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ssmspec.statistics.hankel import LOST, cholesky_factor, factor_of, gramian_of, gramians_of, solved_lyapunov
from ssmspec.systems.statespace import (
    ComplexArray,
    FloatArray,
    StateSpace,
    bilinear_realization,
    cayley_poles,
    common_step,
    discrete_poles,
    homogeneous_scale,
    real_realization,
)
from ssmspec.tuning.reduction.discrete_modes import Modes

KNOWN = 1e-13  # of the largest Hankel singular value: what is smaller is rounding
AT_ONCE = 1 << 20  # numbers of all matrices of some systems, which then stay in the cache
SINGULAR = 1e13  # condition number of eigenvectors that have no digits left
EPS = float(np.finfo(float).eps)


@dataclass(frozen=True, slots=True)
class Balanced:
    """G discrete systems x[t+1] = A x[t] + B u[t], k[l] = C A^l B, in balanced coordinates.

    Args:
        values: (G, n) Hankel singular values, falling. known: (G,) how many of them are not rounding; states behind are zero.
        A: (G, n, n). B: (G, n, I). C: (G, O, n).
    """

    values: FloatArray
    known: FloatArray
    A: FloatArray
    B: FloatArray
    C: FloatArray

    def pick(self, systems: Any) -> "Balanced":
        """Some of the systems, by index or slice."""
        return Balanced(*(getattr(self, name)[systems] for name in ("values", "known", "A", "B", "C")))

    def bound(self, orders: Any) -> FloatArray:
        """2 times the sum of the Hankel singular values behind the first `orders` (G,) of every system, (G,)."""
        dropped = np.arange(self.values.shape[1]) >= np.asarray(orders)[:, None]
        return np.asarray(2 * np.where(dropped, self.values, 0).sum(axis=1))


def balance(system: StateSpace) -> Balanced:
    """Every copy of a system in balanced coordinates, without delay, skip connection and beta weight.

    Raises:
        numpy.linalg.LinAlgError: a Gramian is not finite.
    """
    if system.rank:
        return _balance_coupled(system)
    size = max(1, AT_ONCE // (4 * system.modes**2))
    parts = [_balance_diagonal(system.copy_slice(k, min(k + size, system.copies))) for k in range(0, system.copies, size)]
    return _concatenated(parts)


def _concatenated(parts: list[Balanced]) -> Balanced:
    return Balanced(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("values", "known", "A", "B", "C")))


def _balance_diagonal(system: StateSpace) -> Balanced:
    sigma = cayley_poles(system)
    if system.inputs == system.outputs == 1:
        values, left, right, lost = _symmetric(system, sigma)
    else:
        values, left, right, lost = _general(system, sigma)
    again = np.flatnonzero(~(lost <= LOST))
    if len(again):
        part = _general(system.pick(again), sigma[again], factored=True)
        for whole, piece in zip((values, left, right), part[:3], strict=True):
            whole[again] = piece
    return _balanced(system, sigma, values, left, right)


def _symmetric(system: StateSpace, sigma: ComplexArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Hankel values (G, n), T and T^{-1}^T (G, n, n), and the relative error of the largest value (G,), of one input and output."""
    strength = (system.C[:, 0, :] * system.B[:, :, 0]) * homogeneous_scale(system, sigma) * (1 - sigma)
    strength = np.where(sigma.imag == 0, strength.real, strength)
    vectors = np.sqrt(strength)
    sign = np.repeat([1.0, -1.0], system.modes)
    reach = gramian_of(vectors[:, :, None], sigma)
    L = cholesky_factor(reach)
    usable = np.asarray(np.isfinite(L).all(axis=(1, 2)))
    L = np.where(usable[:, None, None], L, 0)
    found, V = np.linalg.eigh((L * sign[:, None]).transpose(0, 2, 1) @ L)
    size = np.linalg.norm(reach, axis=(1, 2)) ** 2
    found = np.where(size[:, None] > 0, found, 0)
    order = np.argsort(-np.abs(found), axis=1, kind="stable")
    found, V = np.take_along_axis(found, order, axis=1), np.take_along_axis(V, order[:, None, :], axis=2)
    values = np.abs(found)
    root = _inverse_root(values)
    # the modes have b = c here; in those of the system B is b over a factor, and C is c times it
    T = (L @ V) * root[:, None, :]
    inverse = (T * sign[:, None]) * np.where(found < 0, -1.0, 1.0)[:, None, :]
    scale = np.sqrt(homogeneous_scale(system, sigma) * (1 - sigma))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = system.B[:, :, 0] * scale / vectors
    ratio = np.where(np.isfinite(ratio) & (ratio != 0), ratio, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = np.where(usable, np.where(size > 0, (values.shape[1] + 16) * EPS * size / values[:, 0] ** 2, 0), np.inf)
    return values, _times(T, ratio), _times(inverse, 1 / ratio.conj()), lost


def _times(states: FloatArray, factors: ComplexArray) -> FloatArray:
    """States (G, 2N, r) in the coordinates (Re x, Im x), of which every mode is multiplied by a complex factor (G, N)."""
    modes = factors.shape[1]
    product = (states[:, :modes] + 1j * states[:, modes:]) * factors[:, :, None]
    return np.concatenate([product.real, product.imag], axis=1)


def _inverse_root(values: FloatArray) -> FloatArray:
    """1/sqrt of the values that are not rounding, 0 for the others."""
    known = values > KNOWN * values[:, :1]
    return np.where(known, 1 / np.sqrt(np.where(known, values, 1)), 0)


def _general(system: StateSpace, sigma: ComplexArray, *, factored: bool = False) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """As `_symmetric`, for any inputs and outputs; `factored` takes factors from eigenvectors, which always exist."""
    reach, observe = gramians_of(system, sigma)
    if factored:
        L, R = factor_of(reach), factor_of(observe)
        lost = np.zeros(len(sigma))
    else:
        L, R = cholesky_factor(reach), cholesky_factor(observe)
        lost = np.where(np.isfinite(L).all(axis=(1, 2)) & np.isfinite(R).all(axis=(1, 2)), 0.0, np.inf)
        L, R = (np.where((lost == 0)[:, None, None], part, 0) for part in (L, R))
    heard = (reach != 0).any(axis=(1, 2)) & (observe != 0).any(axis=(1, 2))
    values, T, inverse = _square_root(L * heard[:, None, None], R)
    return values, T, inverse, lost


def _square_root(L: FloatArray, R: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Hankel values, T and T^{-1}^T from factors of both Gramians."""
    U, values, V = np.linalg.svd(R.transpose(0, 2, 1) @ L)
    root = _inverse_root(values)[:, None, :]
    return values, (L @ V.transpose(0, 2, 1)) * root, (R @ U) * root


def _balanced(system: StateSpace, sigma: ComplexArray, values: FloatArray, T: FloatArray, inverse: FloatArray) -> Balanced:
    """The balanced system of a diagonal one, of which A is a multiplication of every mode by its z."""
    scale = np.sqrt(homogeneous_scale(system, sigma) * (1 - sigma)) * (np.sqrt(2) / (1 - sigma))  # the branch of the Gramians
    b, c = system.B * scale[:, :, None], system.C * scale[:, None, :]
    A = inverse.transpose(0, 2, 1) @ _times(T, discrete_poles(system))
    B = inverse.transpose(0, 2, 1) @ (np.sqrt(2) * np.concatenate([b.real, b.imag], axis=1))
    C = (np.sqrt(2) * np.concatenate([c.real, -c.imag], axis=2)) @ T
    return Balanced(values, _known(values), A, B, C)


def _known(values: FloatArray) -> FloatArray:
    return np.asarray((values > KNOWN * values[:, :1]).sum(axis=1))


def _balance_coupled(system: StateSpace) -> Balanced:
    """Low-rank systems, from dense Lyapunov equations of the continuous system, whose Gramians the bilinear rule keeps but for the step."""
    from scipy.linalg import schur  # imported here because diagonal systems do not need it

    A, B, C = real_realization(system)
    sampled, driven, _ = bilinear_realization(system)
    step, parts = common_step(system), []
    for k, matrix in enumerate(A):
        form, basis = schur(matrix)
        inputs, outputs = basis.T @ B[k] * np.sqrt(step[k]), C[k] @ basis / np.sqrt(step[k])
        L = basis @ factor_of(solved_lyapunov(form, inputs @ inputs.T, "N"))
        E = np.eye(len(matrix)) - step[k] / 2 * matrix
        R = E.T @ basis @ factor_of(solved_lyapunov(form, outputs.T @ outputs, "T"))
        values, T, inverse = _square_root(L[None], R[None])
        back = inverse.transpose(0, 2, 1)
        parts.append(Balanced(values, _known(values), back @ sampled[k] @ T, back @ driven[k], C[k] @ T))
    return _concatenated(parts)


def truncation(balanced: Balanced, order: int) -> Modes:
    """The modes of the leading blocks of one order; systems with fewer modes than others have some without residue behind theirs."""
    return eigenmodes(balanced.A[:, :order, :order], balanced.B[:, :order], balanced.C[:, :, :order])[0]


def eigenmodes(A: FloatArray, B: FloatArray, C: FloatArray) -> tuple[Modes, np.ndarray]:
    """The modes of real discrete systems (G, n, n), (G, n, I), (G, O, n), and which of them have a basis of eigenvectors, (G,)."""
    values, vectors = (part.astype(complex) for part in np.linalg.eig(A))
    sound = np.linalg.cond(vectors) < SINGULAR
    vectors = np.where(sound[:, None, None], vectors, np.eye(A.shape[1]))
    inputs, outputs = np.linalg.solve(vectors, B.astype(complex)), C.astype(complex) @ vectors
    half = np.where(values.imag > 0, 1.0, np.where(values.imag == 0, 0.5, 0.0))
    places = np.argsort(half == 0, axis=1, kind="stable")[:, : int((half > 0).sum(axis=1).max())]
    half, poles = np.take_along_axis(half, places, axis=1), np.take_along_axis(values, places, axis=1)
    B_modal = np.take_along_axis(inputs, places[:, :, None], axis=1) * half[:, :, None]
    C_modal: ComplexArray = np.take_along_axis(outputs, places[:, None, :], axis=2) * (half > 0)[:, None, :]
    return Modes(np.where(half > 0, poles, poles[:, :1]), B_modal, C_modal), sound
