"""Hankel singular values: how much of the past each direction of the state carries into the future, and how many directions count.

    P_mn = b_m conj(b_n)/(1 - z_m conj(z_n)),   Q_mn = conj(c_m) c_n/(1 - conj(z_m) z_n)       over the completed set
    singular values of L_P^* L_Q with P = L_P L_P^*, Q = L_Q L_Q^*; factors keep values that the eigenvalues of P Q lose

b and c are those of k[l] = c z^l b, the state as the layer updates it. With z = (1 + sigma)/(1 - sigma) the denominator is
-2 (sigma_m + conj(sigma_n))/((1 - sigma_m)(1 - conj(sigma_n))), which does not cancel near the unit circle.

Source: Zhou, Doyle & Glover, Robust and Optimal Control (1996), section 8.1; Glover 1984.
"""

import numpy as np

from ssmspec.grid import FloatArray
from ssmspec.statespace import ComplexArray, StateSpace, cayley_poles, homogeneous_scale

COUNTED = 0.01  # of the largest Hankel singular value: the directions above it make the effective order
PAIRS_AT_ONCE = 1 << 21


def hankel_singular_values(diagonal: StateSpace) -> FloatArray:
    """(K, 2N) in falling order, dynamic part without beta weight; NaN for copies whose Gramians overflow.

    Args:
        diagonal: a system in modal form. Values below about 1e-8 of the largest are rounding.
    """
    size = max(1, PAIRS_AT_ONCE // (4 * diagonal.modes**2))
    return np.concatenate([_values(diagonal.copy_slice(k, min(k + size, diagonal.copies))) for k in range(0, diagonal.copies, size)])


def _values(diagonal: StateSpace) -> FloatArray:
    sigma = cayley_poles(diagonal)
    gain = homogeneous_scale(diagonal, sigma) * 2 / (1 - sigma)
    # the gain is shared between both sides, so that neither Gramian overflows alone
    scale = np.sqrt(gain) * (1 - sigma) / np.sqrt(2)
    B, C = diagonal.B * scale[:, :, None], diagonal.C * scale[:, None, :]
    sigma, B, C = (
        np.concatenate([sigma, sigma.conj()], axis=1),
        np.concatenate([B, B.conj()], axis=1),
        np.concatenate([C, C.conj()], axis=2),
    )
    reach = -(B @ B.conj().transpose(0, 2, 1)) / (sigma[:, :, None] + sigma.conj()[:, None, :])
    observe = -(C.conj().transpose(0, 2, 1) @ C) / (sigma.conj()[:, :, None] + sigma[:, None, :])
    lost = ~(np.isfinite(reach).all(axis=(1, 2)) & np.isfinite(observe).all(axis=(1, 2)))  # overflow of huge residues
    reach[lost], observe[lost] = 0, 0
    factors = _factor(reach).conj().transpose(0, 2, 1) @ _factor(observe)
    values = np.asarray(np.linalg.svd(factors, compute_uv=False), dtype=np.float64)
    return np.where(lost[:, None], np.nan, values)


def _factor(gramian: ComplexArray) -> ComplexArray:
    """L with L L^* = gramian, a positive semidefinite matrix that rounding may have made slightly indefinite."""
    values, vectors = np.linalg.eigh(gramian)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0))[:, None, :], dtype=np.complex128)


def effective_order(values: FloatArray) -> FloatArray:
    """How many Hankel singular values (K, 2N) exceed 1 % of the largest of their copy, (K,); NaN for a dead copy."""
    largest = values[:, :1]
    return np.where(largest[:, 0] > 0, (values > COUNTED * largest).sum(axis=1), np.nan)
