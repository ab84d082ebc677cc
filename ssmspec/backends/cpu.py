"""The homogeneous Cauchy sum compiled by Numba, and its vector-Jacobian product: real arithmetic, one division per conjugate pair.

With sigma = s + i t and r = (q + i q')/2 a pair is a fraction with a real denominator,

    (i q y + p x) / (m - 2 i s x y) = [ x (p m - 2 q s y^2) + i y (q m + 2 p s x^2) ] / d,
    m = (t x - y)(t x + y) + s^2 x^2,   d = m^2 + 4 s^2 x^2 y^2,   p = -2 Re(r conj(sigma))

m is computed as a product, so that it stays accurate near a pole, and the residues of a sum are scaled to 1 by a power of two. d is a
fourth power: if it would leave the range of float32, float64 is used; if it would leave the range of float64, `reference` is used.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from ssmspec.backends import precision, reference
from ssmspec.backends.threads import split

ComplexArray = npt.NDArray[np.complexfloating]
RealArray = npt.NDArray[np.floating]

BLOCK = 512  # frequencies processed at once: a dozen rows of float64 fit in the first-level cache
MANY = 100_000  # pole-node pairs (about 50 microseconds) above which a second thread pays off


def cauchy_sum(residues: ComplexArray, poles: ComplexArray, x: RealArray, y: RealArray) -> ComplexArray:
    """S_km = sum_n [ r_kmn/(i y - sigma_kn x) + conj(r_kmn)/(i y - conj(sigma_kn) x) ], as `reference.cauchy_sum` defines it.

    Args:
        residues: (K, M, N) complex.
        poles: (K, N) complex; complex64 computes in float32.
        x, y: (1, F) or (K, F) real.
    Returns:
        (K, M, F) complex.
    """
    result_type = np.result_type(residues, poles)
    if not (residues.size and x.size):
        return np.zeros((*residues.shape[:2], x.shape[1]), result_type)
    kind = _precision(residues, poles, x, y)
    if kind is None:
        return _in_type(reference.cauchy_sum(*_doubles(residues, poles, x, y)), result_type)
    (K, M, _), F = residues.shape, x.shape[1]
    result = np.empty((K, M, F, 2), kind)
    parts = -(-F // BLOCK)
    run = _sums if M > 1 else _single_sums
    arguments = (*_coefficients(residues, poles, kind), np.ascontiguousarray(x, kind), np.ascontiguousarray(y, kind), kind.type(1), result)
    split(run, K * parts, residues.size * F // max(M, 1) > MANY, *arguments)
    return _in_type(result.view(f"c{2 * kind.itemsize}")[..., 0], result_type)


def cauchy_vjp(
    residues: ComplexArray, poles: ComplexArray, x: RealArray, y: RealArray, cotangent: ComplexArray
) -> tuple[ComplexArray, ComplexArray]:
    """Gradients of Re sum(conj(cotangent) S) with respect to residues and poles, as `reference.cauchy_vjp` defines them.

    Args:
        residues: (K, M, N) complex.
        poles: (K, N) complex.
        x, y: (1, F) or (K, F) real.
        cotangent: (K, M, F) complex.
    Returns:
        (K, M, N) and (K, N) complex, d/d Re + i d/d Im.
    """
    result_type = np.result_type(residues, poles)
    if not (residues.size and x.size):
        return np.zeros(residues.shape, result_type), np.zeros(poles.shape, result_type)
    kind = _precision(residues, poles, x, y)
    if kind is None:
        wide = reference.cauchy_vjp(*_doubles(residues, poles, x, y, cotangent))
        return _in_type(wide[0], result_type), _in_type(wide[1], result_type)
    K, M, N = residues.shape
    seeds = np.empty((2, K, M, x.shape[1]), kind)
    seeds[0], seeds[1] = cotangent.real, cotangent.imag
    sums = np.zeros((K, M, N, 4), kind)
    pairs = np.ascontiguousarray(np.stack([poles.real, poles.imag], -1), kind)
    arguments = (pairs, np.ascontiguousarray(x, kind), np.ascontiguousarray(y, kind), kind.type(1), seeds, sums)
    split(_adjoint_sums, K * M, residues.size * x.shape[1] > MANY // 4, *arguments)
    gradients = sums.view(f"c{2 * kind.itemsize}")
    with np.errstate(over="ignore", invalid="ignore"):
        moved = (residues.conj() * gradients[..., 1]).sum(axis=1)
    return _in_type(gradients[..., 0], result_type), _in_type(moved, result_type)


def _precision(residues: ComplexArray, poles: ComplexArray, x: RealArray, y: RealArray) -> np.dtype[Any] | None:
    """The float type to compute in, at least as wide as that of the arguments; None if float64 is not enough."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        bounds = precision.extremes(poles.astype(complex), x, y)
    return precision.narrowest(bounds, np.result_type(residues, poles) == np.complex64)


def _doubles(*arrays: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    return [array.astype(np.result_type(array, float)) for array in arrays]


def _in_type(values: ComplexArray, kind: np.dtype[Any]) -> ComplexArray:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(values, kind)


@np.errstate(invalid="ignore")  # residues that are inf
def _coefficients(residues: ComplexArray, poles: ComplexArray, kind: np.dtype[Any]) -> tuple[RealArray, RealArray]:
    """(K, N, 3 + 4 M): t, s^2, 4 s^2, then p, q, -2 q s, 2 p s of every sum, and (K, M), the scale of its residues; computed in float64."""
    poles, residues = poles.astype(complex), residues.astype(complex)
    largest = np.maximum(abs(residues.real), abs(residues.imag)).max(axis=2)
    scale = np.exp2(np.frexp(largest)[1] - 1.0)
    residues = (residues / scale[:, :, None]).transpose(0, 2, 1)
    s = poles.real[:, :, None]
    p, q = -2 * (residues * poles.conj()[:, :, None]).real, 2 * residues.real
    own = np.stack([p, q, -2 * q * s, 2 * p * s], axis=-1).reshape(*poles.shape, -1)
    table = np.concatenate([poles.imag[:, :, None], s * s, 4 * s * s, own], axis=2)
    return np.ascontiguousarray(table, kind), scale.astype(kind)


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """The function, compiled on its first call; cached on disk for later processes if possible."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "arcp", "reassoc", "nsz"}}
    try:
        compiled: Callable[..., None] = njit(cache=True, **options)(function)
    except (RuntimeError, OSError):  # numba finds no writable folder (read-only installation and no home folder)
        compiled = njit(**options)(function)

    def call(*arguments: object) -> None:
        nonlocal compiled
        try:
            compiled(*arguments)
        except Exception:  # full disk or damaged cache file, for which unpickling can raise anything; not caused by the arguments
            compiled = njit(**options)(function)
            compiled(*arguments)

    return call


@_compiled
def _single_sums(first, last, coefficients, scale, x, y, one, result):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Blocks first..last of one sum per copy; two poles per pass, so that the running totals are loaded and stored half as often."""
    N, F = coefficients.shape[1], x.shape[1]
    parts = (F + BLOCK - 1) // BLOCK
    xx, yy, both = np.empty(BLOCK, x.dtype), np.empty(BLOCK, x.dtype), np.empty(BLOCK, x.dtype)
    re, im = np.empty(BLOCK, x.dtype), np.empty(BLOCK, x.dtype)
    for task in range(first, last):
        k, start = task // parts, (task % parts) * BLOCK
        size = min(BLOCK, F - start)
        xs = x[min(k, x.shape[0] - 1), start : start + size]
        ys = y[min(k, y.shape[0] - 1), start : start + size]
        for f in range(size):
            xx[f], yy[f] = xs[f] * xs[f], ys[f] * ys[f]
            both[f] = xx[f] * yy[f]
        re[:], im[:] = 0, 0
        for n in range(0, N - 1, 2):
            t, s2, s4, p, q, a, b = coefficients[k, n]
            T, S2, S4, P, Q, A, B = coefficients[k, n + 1]
            for f in range(size):
                m = (t * xs[f] - ys[f]) * (t * xs[f] + ys[f]) + s2 * xx[f]
                M = (T * xs[f] - ys[f]) * (T * xs[f] + ys[f]) + S2 * xx[f]
                v = one / (m * m + s4 * both[f])
                V = one / (M * M + S4 * both[f])
                re[f] += (p * m + a * yy[f]) * v + (P * M + A * yy[f]) * V
                im[f] += (q * m + b * xx[f]) * v + (Q * M + B * xx[f]) * V
        if N % 2:
            t, s2, s4, p, q, a, b = coefficients[k, N - 1]
            for f in range(size):
                m = (t * xs[f] - ys[f]) * (t * xs[f] + ys[f]) + s2 * xx[f]
                v = one / (m * m + s4 * both[f])
                re[f] += (p * m + a * yy[f]) * v
                im[f] += (q * m + b * xx[f]) * v
        factor = scale[k, 0]
        for f in range(size):
            result[k, 0, start + f, 0] = re[f] * xs[f] * factor
            result[k, 0, start + f, 1] = im[f] * ys[f] * factor


@_compiled
def _sums(first, last, coefficients, scale, x, y, one, result):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Blocks first..last of M sums per copy, which share the division."""
    N, M, F = coefficients.shape[1], result.shape[1], x.shape[1]
    parts = (F + BLOCK - 1) // BLOCK
    total = np.empty((M, 2, BLOCK), x.dtype)
    mv, xv, yv = np.empty(BLOCK, x.dtype), np.empty(BLOCK, x.dtype), np.empty(BLOCK, x.dtype)
    for task in range(first, last):
        k, start = task // parts, (task % parts) * BLOCK
        size = min(BLOCK, F - start)
        xs = x[min(k, x.shape[0] - 1), start : start + size]
        ys = y[min(k, y.shape[0] - 1), start : start + size]
        total[:] = 0
        for n in range(N):
            c = coefficients[k, n]
            t, s2, s4 = c[0], c[1], c[2]
            for f in range(size):
                xx, yy = xs[f] * xs[f], ys[f] * ys[f]
                m = (t * xs[f] - ys[f]) * (t * xs[f] + ys[f]) + s2 * xx
                v = one / (m * m + s4 * (xx * yy))
                mv[f], xv[f], yv[f] = m * v, xx * v, yy * v
            for i in range(M):
                p, q, a, b = c[3 + 4 * i], c[4 + 4 * i], c[5 + 4 * i], c[6 + 4 * i]
                re, im = total[i, 0], total[i, 1]
                for f in range(size):
                    re[f] += p * mv[f] + a * yv[f]
                    im[f] += q * mv[f] + b * xv[f]
        for i in range(M):
            factor = scale[k, i]
            for f in range(size):
                result[k, i, start + f, 0] = total[i, 0, f] * xs[f] * factor
                result[k, i, start + f, 1] = total[i, 1, f] * ys[f] * factor


@_compiled
def _adjoint_sums(first, last, poles, x, y, one, seeds, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Rows first..last of (K, M): sum_f [g conj(phi) + conj(g) psi] and sum_f x [g conj(phi)^2 + conj(g) psi^2] for every pole.

    phi = 1/(i y - sigma x) and psi = 1/(i y - conj(sigma) x) share one division, 1/(|.|^2 |.|^2).
    """
    N, M, F = poles.shape[1], seeds.shape[2], x.shape[1]
    for task in range(first, last):
        k, i = task // M, task % M
        for start in range(0, F, BLOCK):
            stop = min(F, start + BLOCK)
            xs = x[min(k, x.shape[0] - 1), start:stop]
            ys = y[min(k, y.shape[0] - 1), start:stop]
            gs, hs = seeds[0, k, i, start:stop], seeds[1, k, i, start:stop]
            for n in range(N):
                s, t = poles[k, n, 0], poles[k, n, 1]
                r0, r1, p0, p1 = one - one, one - one, one - one, one - one
                for f in range(stop - start):
                    g, h = gs[f], hs[f]
                    sx, lower, upper = s * xs[f], t * xs[f] - ys[f], -(t * xs[f] + ys[f])
                    d1, d2 = sx * sx + lower * lower, sx * sx + upper * upper
                    v = one / (d1 * d2)
                    d1, d2 = d1 * v, d2 * v
                    a, b = -sx * d2, lower * d2  # phi = a + i b
                    c, e = -sx * d1, upper * d1  # psi = c + i e
                    r0 += g * (a + c) + h * (b + e)
                    r1 += h * (a - c) + g * (e - b)
                    a2, ab, c2, ce = a * a - b * b, (a + a) * b, c * c - e * e, (c + c) * e  # a literal 2 would widen float32
                    gx, hx = g * xs[f], h * xs[f]
                    p0 += gx * (a2 + c2) + hx * (ab + ce)
                    p1 += hx * (a2 - c2) + gx * (ce - ab)
                sums[k, i, n, 0] += r0
                sums[k, i, n, 1] += r1
                sums[k, i, n, 2] += p0
                sums[k, i, n, 3] += p1
