"""The homogeneous Cauchy sum compiled by Numba: real arithmetic, one reciprocal for a conjugate pair, all cores.

With sigma = s + i t the pair has the denominator

    (i y - sigma x)(i y - conj(sigma) x) = (s x)^2 + (t x - y)(t x + y) - 2 i s x y

whose difference is formed from factors, so that it stays accurate beside a pole, and the numerator 2 Re(r) i y - 2 Re(r conj(sigma)) x.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

BLOCK = 512  # frequencies worked on at once: six rows of float64 stay in the first-level cache


def cauchy_sum(
    residues: npt.NDArray[np.complexfloating],
    poles: npt.NDArray[np.complexfloating],
    x: npt.NDArray[np.floating],
    y: npt.NDArray[np.floating],
) -> npt.NDArray[np.complexfloating]:
    """S_km = sum_n [ r_kmn/(i y - sigma_kn x) + conj(r_kmn)/(i y - conj(sigma_kn) x) ], as `reference.cauchy_sum` defines it.

    Args:
        residues: (K, M, N) complex.
        poles: (K, N) complex; complex64 computes in float32.
        x, y: (1, F) or (K, F) real.
    Returns:
        (K, M, F) complex.
    """
    complex_type = np.result_type(residues, poles)
    real_type = np.dtype(f"f{complex_type.itemsize // 2}")
    conjugate_part = (residues * poles.conj()[:, None, :]).real
    # numerators (K, N, M, 2): factors of x and of i y
    numerators = np.stack([-2 * conjugate_part, 2 * residues.real], axis=-1).transpose(0, 2, 1, 3)
    result = np.empty((residues.shape[0], residues.shape[1], x.shape[1], 2), real_type)
    _sum_pairs(
        np.ascontiguousarray(numerators, real_type),
        np.ascontiguousarray(poles.real, real_type),
        np.ascontiguousarray(poles.imag, real_type),
        np.ascontiguousarray(x, real_type),
        np.ascontiguousarray(y, real_type),
        result,
    )
    view: npt.NDArray[np.complexfloating] = result.view(complex_type)[..., 0]
    return view


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """The function compiled on its first call; kept on disk for later processes where that works."""
    options: dict[str, Any] = {"parallel": True, "error_model": "numpy", "fastmath": {"contract", "arcp", "reassoc", "nsz"}}
    try:
        compiled: Callable[..., None] = njit(cache=True, **options)(function)
    except (RuntimeError, OSError):  # numba finds no writable folder: read-only installation and no home
        compiled = njit(**options)(function)

    def call(*arguments: object) -> None:
        nonlocal compiled
        try:
            compiled(*arguments)
        except Exception:  # a full disk, or a damaged file in the folder, for which unpickling raises anything; arguments are not at fault
            compiled = njit(**options)(function)
            compiled(*arguments)

    return call


@_compiled
def _sum_pairs(numerators, pole_real, pole_imag, x, y, result):  # type: ignore[no-untyped-def]  # pragma: no cover
    K, N, M, _ = numerators.shape
    F = x.shape[1]
    blocks = (F + BLOCK - 1) // BLOCK
    for task in prange(K * blocks):
        k = task // blocks
        start = (task % blocks) * BLOCK
        size = min(BLOCK, F - start)
        xs = x[min(k, x.shape[0] - 1), start : start + size]
        ys = y[min(k, y.shape[0] - 1), start : start + size]
        total = np.zeros((M, 2, size), result.dtype)
        x_re, x_im = np.empty(size, result.dtype), np.empty(size, result.dtype)
        y_re, y_im = np.empty(size, result.dtype), np.empty(size, result.dtype)
        for n in range(N):
            s, t = pole_real[k, n], pole_imag[k, n]
            for f in range(size):
                sx, tx, yf = s * xs[f], t * xs[f], ys[f]
                real = sx * sx + (tx - yf) * (tx + yf)
                imag = -2 * sx * yf
                inverse = 1 / (real * real + imag * imag)
                real *= inverse
                imag *= -inverse
                x_re[f] = real * xs[f]
                x_im[f] = imag * xs[f]
                y_re[f] = real * yf
                y_im[f] = imag * yf
            for m in range(M):
                p, q = numerators[k, n, m, 0], numerators[k, n, m, 1]
                re, im = total[m, 0], total[m, 1]
                for f in range(size):
                    re[f] += p * x_re[f] - q * y_im[f]
                    im[f] += p * x_im[f] + q * y_re[f]
        for m in range(M):
            for f in range(size):
                result[k, m, start + f, 0] = total[m, 0, f]
                result[k, m, start + f, 1] = total[m, 1, f]
