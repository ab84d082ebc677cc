"""Hankel singular values: how much of the past each direction of the state carries into the future, and how many directions matter.

    P_mn = b_m conj(b_n)/(1 - z_m conj(z_n)),   Q_mn = conj(c_m) c_n/(1 - conj(z_m) z_n)       over the completed set
    singular values of L_P^* L_Q with P = L_P L_P^*, Q = L_Q L_Q^*; the factors retain small values that the eigenvalues of P Q lose

b and c are those of k[l] = c z^l b, for the state as the layer updates it. With z = (1 + sigma)/(1 - sigma) the denominator is
-2 (sigma_m + conj(sigma_n))/((1 - sigma_m)(1 - conj(sigma_n))), which does not cancel near the unit circle.

For a low-rank layer the eigenvectors may be ill-conditioned and are not used. With A of the continuous system and E = 1 - Delta A/2,

    A P + P A^T = -Delta B B^T,   A^T R + R A = -C^T C/Delta,   Q = E^T R E          singular values of L_R^T E L_P

Source: Zhou, Doyle & Glover, Robust and Optimal Control (1996), section 8.1; Glover 1984.
"""

import numpy as np

from ssmspec.systems.grid import FloatArray
from ssmspec.systems.statespace import ComplexArray, StateSpace, cayley_poles, common_step, homogeneous_scale, real_realization

COUNTED = 0.01  # directions above this fraction of the largest Hankel singular value count toward the effective order
PAIRS_AT_ONCE = 1 << 21
MOST_MODES = 1024  # limit for one copy: about twenty seconds, with a cost that grows with the cube


def hankel_singular_values(system: StateSpace) -> FloatArray:
    """Values (K, 2N) in descending order, for the dynamic part without beta weight; NaN if Gramians overflow or there are too many modes.

    Args:
        system: K copies. Values below about 1e-8 of the largest are rounding errors.
    """
    if system.modes > MOST_MODES:
        return np.full((system.copies, 2 * system.modes), np.nan)
    if system.rank:
        return _coupled_values(system)
    size = max(1, PAIRS_AT_ONCE // (4 * system.modes**2))
    return np.concatenate([_values(system.copy_slice(k, min(k + size, system.copies))) for k in range(0, system.copies, size)])


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
            reach = _lyapunov(form, inputs @ inputs.T, "N")
            observe = _lyapunov(form, outputs.T @ outputs, "T")
            E = np.eye(len(form)) - step[copy] / 2 * form
            values[copy] = np.linalg.svd(_factor(observe).T @ E @ _factor(reach), compute_uv=False)
    return values


def _lyapunov(form: FloatArray, right: FloatArray, transposed: str) -> FloatArray:
    """X with T X + X T^T = -right, or with T^T X + X T = -right, for T in real Schur form."""
    from scipy.linalg.lapack import dtrsyl

    solution, scale, _ = dtrsyl(form, form, -right, trana=transposed, tranb="T" if transposed == "N" else "N")
    return np.asarray((solution + solution.T) / 2 * scale)


def _values(diagonal: StateSpace) -> FloatArray:
    sigma = cayley_poles(diagonal)
    gain = homogeneous_scale(diagonal, sigma) * 2 / (1 - sigma)
    # the gain is split between both sides, so that neither Gramian overflows on its own
    scale = np.sqrt(gain) * (1 - sigma) / np.sqrt(2)
    reach = _gramian(diagonal.B * scale[:, :, None], sigma)
    observe = _gramian((diagonal.C * scale[:, None, :]).conj().transpose(0, 2, 1), sigma.conj())
    lost = ~np.asarray(np.isfinite(reach).all(axis=(1, 2)) & np.isfinite(observe).all(axis=(1, 2)))  # overflow of huge residues
    reach[lost], observe[lost] = 0, 0
    factors = _factor(reach).transpose(0, 2, 1) @ _factor(observe)
    values = np.asarray(np.linalg.svd(factors, compute_uv=False), dtype=np.float64)
    return np.where(lost[:, None], np.nan, values)


def _gramian(vectors: ComplexArray, sigma: ComplexArray) -> FloatArray:
    """-v_m v_n^*/(sigma_m + conj(sigma_n)) over the completed set of vectors (K, N, W), in the real coordinates (Re x, Im x) sqrt 2."""
    upper = -(vectors @ vectors.conj().transpose(0, 2, 1)) / (sigma[:, :, None] + sigma.conj()[:, None, :])
    across = -(vectors @ vectors.transpose(0, 2, 1)) / (sigma[:, :, None] + sigma[:, None, :])
    corner = across.imag - upper.imag
    return np.block([[(upper + across).real, corner], [corner.transpose(0, 2, 1), (upper - across).real]])


def _factor(gramian: FloatArray) -> FloatArray:
    """L such that L L^T = gramian, for a positive semidefinite matrix that rounding may have made slightly indefinite."""
    values, vectors = np.linalg.eigh(gramian)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0))[..., None, :])


def effective_order(values: FloatArray) -> FloatArray:
    """Number of Hankel singular values (K, 2N) above 1 % of the largest of their copy, (K,); NaN for a copy without a response."""
    largest = values[:, :1]
    return np.where(largest[:, 0] > 0, (values > COUNTED * largest).sum(axis=1), np.nan)
