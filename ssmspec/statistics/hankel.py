"""Hankel singular values: how much of the past each direction of the state carries into the future, and how many directions matter.

    P_mn = b_m conj(b_n)/(1 - z_m conj(z_n)),   Q_mn = conj(c_m) c_n/(1 - conj(z_m) z_n)       over the completed set
    square roots of the eigenvalues of L^* Q L with P = L L^*

b and c are those of k[l] = c z^l b, for the state as the layer updates it. With z = (1 + sigma)/(1 - sigma) the denominator is
-2 (sigma_m + conj(sigma_n))/((1 - sigma_m)(1 - conj(sigma_n))), which does not cancel near the unit circle.

With one input and one output the modes can be scaled so that b = c. Then Q = conj(P), which in the real coordinates (Re x, Im x) is S P S
with S = diag(1, -1), and the values are the sizes of the eigenvalues of the symmetric matrix L^T S L: no square is formed, so none of their
digits is lost. L is a Cholesky factor. Its rounding moves an eigenvalue by at most a few eps (|P|/sigma)^2 relative to it. Where that is
more than `LOST`, and where P is not positive definite to working precision, the factors come from eigenvectors of both Gramians, and the
values from a singular value decomposition of L_P^* L_Q.

A low-rank layer does without its eigenvectors, which may be ill-conditioned: with A of the continuous system, E = 1 - Delta A/2,

    A P + P A^T = -Delta B B^T,   A^T R + R A = -C^T C/Delta,   Q = E^T R E          singular values of L_R^T E L_P

Sources: Zhou, Doyle & Glover, Robust and Optimal Control (1996), section 8.1; Glover 1984; Fernando & Nicholson 1983 (the eigenvalues of
the cross-Gramian).
"""

from contextlib import suppress

import numpy as np

from ssmspec.systems.grid import FloatArray
from ssmspec.systems.statespace import ComplexArray, StateSpace, cayley_poles, common_step, homogeneous_scale, real_realization

COUNTED = 0.01  # directions above this fraction of the largest Hankel singular value count toward the effective order
PAIRS_AT_ONCE = 1 << 21
MOST_MODES = 1024  # of one copy: about twenty seconds, and cost grows with the cube
LOST = 1e-10  # relative error of the largest value beyond which a Cholesky factor is not trusted; at 1 % of it there is 1e4 times that
SHIFT = 4 * np.finfo(float).eps  # by which the diagonal is raised, so that a factor of a singular Gramian exists
SMALLEST = 1e-290  # of the diagonal: a state that nothing reaches


def hankel_singular_values(system: StateSpace, *, compiled: bool = False) -> FloatArray:
    """Values (K, 2N) in descending order, for the dynamic part without beta weight; NaN if Gramians overflow or there are too many modes.

    Args:
        system: K copies. Values below about 1e-8 of the largest are rounding errors.
        compiled: whether to form Gramians in the loops of `quick`.
    """
    if system.modes > MOST_MODES:
        return np.full((system.copies, 2 * system.modes), np.nan)
    if system.rank:
        return _coupled_values(system)
    size = max(1, PAIRS_AT_ONCE // (4 * system.modes**2))
    parts = (system.copy_slice(k, min(k + size, system.copies)) for k in range(0, system.copies, size))
    return np.concatenate([_values(part, compiled=compiled) for part in parts])


def _coupled_values(system: StateSpace) -> FloatArray:
    """Values of low-rank systems, from dense Lyapunov equations in real arithmetic; copies with equal matrices share the Schur form."""
    from scipy.linalg import schur  # imported here because analysis of diagonal systems does not need it

    A, B, C = real_realization(system)
    step = common_step(system)
    unique, which = np.unique(A.reshape(len(A), -1), axis=0, return_inverse=True)
    values = np.empty((system.copies, A.shape[1]))
    for number, matrix in enumerate(unique.reshape(-1, *A.shape[1:])):
        form, basis = schur(matrix)
        for copy in np.flatnonzero(which.reshape(-1) == number):
            inputs, outputs = basis.T @ B[copy] * np.sqrt(step[copy]), C[copy] @ basis / np.sqrt(step[copy])
            reach = solved_lyapunov(form, inputs @ inputs.T, "N")
            observe = solved_lyapunov(form, outputs.T @ outputs, "T")
            E = np.eye(len(form)) - step[copy] / 2 * form
            values[copy] = np.linalg.svd(factor_of(observe).T @ E @ factor_of(reach), compute_uv=False)
    return values


def solved_lyapunov(form: FloatArray, right: FloatArray, transposed: str) -> FloatArray:
    """X with T X + X T^T = -right, or with T^T X + X T = -right, for T in real Schur form."""
    from scipy.linalg.lapack import dtrsyl

    solution, scale, _ = dtrsyl(form, form, -right, trana=transposed, tranb="T" if transposed == "N" else "N")
    return np.asarray((solution + solution.T) / 2 * scale)


def _values(diagonal: StateSpace, *, compiled: bool) -> FloatArray:
    sigma = cayley_poles(diagonal)
    with np.errstate(all="ignore"):  # what overflows becomes NaN
        single = diagonal.outputs == diagonal.inputs == 1
        values, lost = _balanced_values(diagonal, sigma, compiled=compiled) if single else _squared_values(diagonal, sigma)
    again = np.flatnonzero(~(lost <= LOST))
    if len(again):
        values[again] = _factored_values(diagonal.pick(again), sigma[again])
    return values


def _balanced_values(diagonal: StateSpace, sigma: ComplexArray, *, compiled: bool) -> tuple[FloatArray, FloatArray]:
    """Values (K, 2N) of copies with one input and one output, and an estimate of the relative error of the largest, (K,).

    A real pole has one real state, so where all poles are real N of the values are zero.
    """
    copies, modes = sigma.shape
    strength = (diagonal.C[:, 0, :] * diagonal.B[:, :, 0]) * homogeneous_scale(diagonal, sigma) * (1 - sigma)
    real = sigma.imag == 0
    if real.all():
        sign = np.where(strength.real < 0, -1.0, 1.0)
        vectors = np.sqrt(np.abs(2 * strength.real))
        gramian = -(vectors[:, :, None] * vectors[:, None, :]) / (sigma.real[:, :, None] + sigma.real[:, None, :])
    else:
        sign = np.repeat([[1.0, -1.0]], modes, axis=1)
        gramian = gramian_of(np.sqrt(np.where(real, strength.real, strength))[:, :, None], sigma, compiled=compiled)
    values = np.zeros((copies, 2 * modes))
    size = np.linalg.norm(gramian, axis=(1, 2))
    if (sign > 0).all():
        product = gramian
    elif real.all():
        factor = cholesky_factor(gramian)
        product = (factor * sign[:, :, None]).transpose(0, 2, 1) @ factor
    else:
        product = _signed_square(cholesky_factor(gramian))
    found = -np.sort(-np.abs(_eigenvalues(product)), axis=1)
    values[:, : len(sign[0])] = np.where(size[:, None] > 0, found, 0)
    return values, _error(size**2, values)


def _signed_square(factor: FloatArray) -> FloatArray:
    """The lower half of L^T S L, S = diag(1, -1), for lower triangular factors L (K, 2N, 2N); the rest is zero where N x N allow it."""
    modes = factor.shape[1] // 2
    first, below, last = factor[:, :modes, :modes], factor[:, modes:, :modes], factor[:, modes:, modes:]
    product = np.empty_like(factor)
    np.matmul(first.transpose(0, 2, 1), first, out=product[:, :modes, :modes])
    product[:, :modes, :modes] -= below.transpose(0, 2, 1) @ below
    np.matmul(-last.transpose(0, 2, 1), factor[:, modes:], out=product[:, modes:])
    product[:, :modes, modes:] = 0
    return product


def _squared_values(diagonal: StateSpace, sigma: ComplexArray) -> tuple[FloatArray, FloatArray]:
    """As `_balanced_values`, for several inputs and outputs: the values come from squares, whose digits end at 1e-8 of the largest."""
    reach, observe = gramians_of(diagonal, sigma)
    factor = cholesky_factor(reach)
    squares = _eigenvalues(factor.transpose(0, 2, 1) @ observe @ factor)
    size = np.linalg.norm(reach, axis=(1, 2)) * np.linalg.norm(observe, axis=(1, 2))
    values = np.where(size[:, None] > 0, np.sqrt(np.maximum(squares[:, ::-1], 0)), 0)
    return values, _error(size, values)


def _error(size: FloatArray, values: FloatArray) -> FloatArray:
    """Relative error of the largest value, (K,), from the product of the norms of both Gramians."""
    return np.where(size > 0, (values.shape[1] + 16) * np.finfo(float).eps * size / values[:, 0] ** 2, 0)


def cholesky_factor(gramian: FloatArray) -> FloatArray:
    """L with L L^T = gramian, (K, n, n); NaN for copies whose Gramian is not positive definite or not finite."""
    diagonal = np.arange(gramian.shape[1])
    raised = gramian.copy()
    raised[:, diagonal, diagonal] = np.maximum(raised[:, diagonal, diagonal] * (1 + SHIFT), SMALLEST)
    try:
        return np.asarray(np.linalg.cholesky(raised), np.float64)
    except np.linalg.LinAlgError:
        pass
    factor = np.full_like(gramian, np.nan)
    for copy, matrix in enumerate(raised):
        with suppress(np.linalg.LinAlgError):
            factor[copy] = np.linalg.cholesky(matrix)
    return factor


def _eigenvalues(symmetric: FloatArray) -> FloatArray:
    """Eigenvalues (K, n) in rising order; NaN for matrices that are not finite."""
    known = np.asarray(np.isfinite(symmetric).all(axis=(1, 2)))
    if known.all():
        return np.asarray(np.linalg.eigvalsh(symmetric), np.float64)
    values = np.linalg.eigvalsh(np.where(known[:, None, None], symmetric, 0))
    return np.where(known[:, None], values, np.nan)


def _factored_values(diagonal: StateSpace, sigma: ComplexArray) -> FloatArray:
    """Values from factors that keep what Cholesky factors lose; NaN where a Gramian overflows."""
    with np.errstate(all="ignore"):
        reach, observe = gramians_of(diagonal, sigma)
    lost = ~np.asarray(np.isfinite(reach).all(axis=(1, 2)) & np.isfinite(observe).all(axis=(1, 2)))
    reach[lost], observe[lost] = 0, 0
    factors = factor_of(reach).transpose(0, 2, 1) @ factor_of(observe)
    values = np.asarray(np.linalg.svd(factors, compute_uv=False), dtype=np.float64)
    return np.where(lost[:, None], np.nan, values)


def gramians_of(diagonal: StateSpace, sigma: ComplexArray) -> tuple[FloatArray, FloatArray]:
    """P and Q, each (K, 2N, 2N); the gain is shared between both sides, so that neither overflows alone."""
    scale = np.sqrt(homogeneous_scale(diagonal, sigma) * (1 - sigma))
    reach = gramian_of(diagonal.B * scale[:, :, None], sigma)
    return reach, gramian_of((diagonal.C * scale[:, None, :]).conj().transpose(0, 2, 1), sigma.conj())


def gramian_of(vectors: ComplexArray, sigma: ComplexArray, *, compiled: bool = False) -> FloatArray:
    """-v_m v_n^*/(sigma_m + conj(sigma_n)) over the completed set of vectors (K, N, W), in the real coordinates (Re x, Im x) sqrt 2.

    Args:
        compiled: whether to do it in the loops of `quick`, for W = 1.
    """
    if compiled:
        from ssmspec.statistics.quick import moderate, pair_form  # here, since it loads LLVM

        if moderate(sigma):
            return pair_form(vectors[:, :, 0], sigma)
    upper = (vectors @ vectors.conj().transpose(0, 2, 1)) * np.reciprocal(sigma[:, :, None] + sigma.conj()[:, None, :])
    across = (vectors @ vectors.transpose(0, 2, 1)) * np.reciprocal(sigma[:, :, None] + sigma[:, None, :])
    return in_real_coordinates(upper, across)


def in_real_coordinates(upper: ComplexArray, across: ComplexArray) -> FloatArray:
    """The real matrices R (K, 2N, 2N) of quadratic forms: with x = Re p and y = -Im p, (x, y)^T R (x, y) is minus the real part of

    sum_mn upper_mn p_m conj(p_n) + across_mn p_m p_n, for Hermitian `upper` and symmetric `across`, each (K, N, N).
    """
    modes = upper.shape[1]
    result = np.empty((len(upper), 2 * modes, 2 * modes))
    np.negative(upper.real + across.real, out=result[:, :modes, :modes])
    np.subtract(across.real, upper.real, out=result[:, modes:, modes:])
    np.subtract(upper.imag, across.imag, out=result[:, :modes, modes:])
    result[:, modes:, :modes] = result[:, :modes, modes:].transpose(0, 2, 1)
    return result


def factor_of(gramian: FloatArray) -> FloatArray:
    """L such that L L^T = gramian, for a positive semidefinite matrix that rounding may have made slightly indefinite."""
    values, vectors = np.linalg.eigh(gramian)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0))[..., None, :])


def effective_order(values: FloatArray) -> FloatArray:
    """Number of Hankel singular values (K, 2N) above 1 % of the largest of their copy, (K,); NaN for a copy without a response."""
    largest = values[:, :1]
    return np.where(largest[:, 0] > 0, (values > COUNTED * largest).sum(axis=1), np.nan)
