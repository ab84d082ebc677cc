"""Rms residues of a selective layer: the average weight of B and C when no fixed B and C can represent them.

B_t = W_B x_t and C_t = W_C x_t are linear in the input. For white x the mean of C_t B_s vanishes at every lag, so no product of the
weights can serve as a residue. The second moments do not vanish. With B and C drawn independently,

    mean |H(theta)|^2 = sum_mn M_mn phi_m conj(phi_n),   M_mn = (W_C W_C^T)_mn (W_B W_B^T)_mn,   phi_n = Delta/(1 - z_n e^{-i theta})

M is the elementwise product of two positive semidefinite matrices, so it is positive semidefinite itself (Schur), and its rank can be up to
N. With M = V V^T the same number is |H|_F^2 of a system with one input and one output for every column of V. Because the mean response is
zero, D adds only to the power: it gets an output of its own, the first one.

Where the projection has a bias b, B_t = W_B x_t + b_B, the second moments are W W^T + b b^T, and the mean residue is b_C b_B: it shares the
first output with D, and V V^T is what is left of M without it.
"""

import numpy as np

from ssmspec.systems.statespace import FloatArray


def gram(weights: FloatArray) -> FloatArray:
    """Second moments W W^T (groups, N, N) of W x for white x with unit variance; W is (groups, N, m)."""
    result: FloatArray = weights @ weights.transpose(0, 2, 1)
    return result


def sample_moments(samples: FloatArray) -> FloatArray:
    """Second moments (groups, N, N) of recorded values (samples, groups, N)."""
    by_group = samples.transpose(1, 2, 0)
    return gram(by_group) / len(samples)


def norm_gain(moments: FloatArray, weight: FloatArray | None) -> FloatArray:
    """The factors (groups, N) of an RMS norm with weights (N,), for values with these second moments, whose trace is N before the weights.

    The norm divides each sample by its own size, while this function divides by the mean size. The two agree for many states and are
    close for few.
    """
    states = moments.shape[-1]
    trace = np.trace(moments, axis1=1, axis2=2)[:, None]
    gain: FloatArray = np.sqrt(states / np.where(trace > 0, trace, 1)) * (np.ones(states) if weight is None else weight)
    return gain


def factor(moments: FloatArray) -> FloatArray:
    """V (groups, R, N) with V^T V = M for positive semidefinite M (groups, N, N); R is the largest rank among the groups.

    NaN where a moment is not finite.
    """
    if not np.isfinite(moments).all():
        return np.full_like(moments, np.nan)
    values, vectors = np.linalg.eigh(moments)
    small = values[:, -1:] * np.finfo(float).eps * values.shape[1]
    values = np.where(values > small, values, 0)
    rank = max(1, int((values > 0).sum(axis=1).max()))
    result: FloatArray = (np.sqrt(values)[:, None, :] * vectors).transpose(0, 2, 1)[:, -rank:]
    return result


def total(moments: FloatArray) -> FloatArray:
    """sqrt(sum_mn M_mn) of every group: the rms residue if all states of a copy share one pole."""
    return np.sqrt(np.maximum(moments.sum(axis=(1, 2)), 0))
