"""The homogeneous Cauchy sum compiled by Numba, and its vector-Jacobian product: real arithmetic, one division per conjugate pair.

With sigma = s + i t and r = (q + i q')/2 a pair is a fraction with a real denominator,

    (i q y + p x) / (m - 2 i s x y) = [ x (p m - 2 q s y^2) + i y (q m + 2 p s x^2) ] / d,
    m = (t x - y)(t x + y) + s^2 x^2,   d = m^2 + 4 s^2 x^2 y^2,   p = -2 Re(r conj(sigma))

m is computed as a product, so that it stays accurate near a pole, and the residues of a sum are scaled to 1 by a power of two. d is a
fourth power: if it would leave the range of float32, float64 is used; if it would leave the range of float64, `reference` is used.

A single sum in float32 over nodes that all copies share divides by x^4, which leaves z = (y/x)^2 and half of the arithmetic,

    m/x^2 = |sigma|^2 - z,   [ (p |sigma|^2 + (-2 q s - p) z) / x + i (q |sigma|^2 + 2 p s - q z) y/x^2 ] / (d/x^4),

and by y^4 where |y| > STEEP |x|. Near a pole it loses what rounding pole and node once loses, which `precision` allows.
"""

from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.backends import precision, reference
from ssmspec.backends.compiled import BLOCK, Kernel
from ssmspec.backends.threads import split

ComplexArray = npt.NDArray[np.complexfloating]
RealArray = npt.NDArray[np.floating]

STEEP = 2.0**20  # |y/x| from which a node is divided by y
MANY = 100_000  # pole-node pairs (about 50 microseconds) above which a second thread pays off


def obstacle() -> str | None:
    """What is missing to compile the kernels, should they not be there yet."""
    return None if find_spec("numba") else "No module named 'numba'"


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
    if kind == np.float32 and M == len(x) == 1:
        return _in_type(_single_sums(residues[:, 0], poles, x[0], y[0]), result_type)
    result = np.empty((K, M, F, 2), kind)
    parts = -(-F // BLOCK)
    kernel, scratch = {1: (SINGLE_SUMS, (5,)), 2: (DOUBLE_SUMS, (4,))}.get(M, (SUMS, (3, 2 * M)))
    sizes = (*residues.shape, F, len(x))
    arrays = np.ones(1, kind), *_coefficients(residues, poles, kind), np.ascontiguousarray(x, kind), np.ascontiguousarray(y, kind), result

    def run(first: int, last: int) -> None:
        kernel(first, last, sizes, *arrays, *(np.empty(rows * BLOCK, kind) for rows in scratch))

    split(run, K * parts, residues.size * F // max(M, 1) > MANY)
    return _in_type(result.view(f"c{2 * kind.itemsize}")[..., 0], result_type)


def _single_sums(residues: ComplexArray, poles: ComplexArray, x: RealArray, y: RealArray) -> ComplexArray:
    """(K, 1, F) in float32, from residues (K, N), poles (K, N) and shared nodes (F,)."""
    (K, N), F = residues.shape, len(x)
    nodes, order = _ratios(x.astype(float), y.astype(float))
    table, scale = _ratio_coefficients(residues, poles)
    sizes, arrays = (K, table.shape[1], F, F - int(nodes[3].sum())), (np.ones(1, np.float32), table, scale, nodes[:3].astype(np.float32))
    result = np.empty((K, F, 2), np.float32)

    def run(first: int, last: int) -> None:
        RATIO_SUMS(first, last, sizes, *arrays, result, np.empty(2 * BLOCK, np.float32))

    split(run, K * -(-F // BLOCK), K * N * F > MANY)
    if order is not None:
        result[:, order] = result.copy()
    return result.view(np.complex64).reshape(K, 1, F)


def _ratios(x: RealArray, y: RealArray) -> tuple[RealArray, npt.NDArray[np.intp] | None]:
    """(4, F): z, the factors of the real and the imaginary part, and whether the node is steep; steep ones last, and their order."""
    steep, order = np.abs(y) > STEEP * np.abs(x), None
    if (steep[:-1] > steep[1:]).any():
        order = np.argsort(steep, kind="stable")
        steep, x, y = steep[order], x[order], y[order]
    over, under = np.where(steep, y, x), np.where(steep, x, y)
    ratio = under / over
    return np.stack([ratio * ratio, np.where(steep, ratio, 1) / over, np.where(steep, 1, ratio) / over, steep]), order


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
    sizes = (*residues.shape, x.shape[1], len(x))
    arrays = np.ones(1, kind), pairs, np.ascontiguousarray(x, kind), np.ascontiguousarray(y, kind), seeds, sums

    def run(first: int, last: int) -> None:
        ADJOINT_SUMS(first, last, sizes, *arrays)

    split(run, K * M, residues.size * x.shape[1] > MANY // 4)
    gradients = sums.view(f"c{2 * kind.itemsize}")
    with np.errstate(over="ignore", invalid="ignore"):
        moved = (residues.conj() * gradients[..., 1]).sum(axis=1)
    return _in_type(gradients[..., 0], result_type), _in_type(moved, result_type)


def _precision(residues: ComplexArray, poles: ComplexArray, x: RealArray, y: RealArray) -> np.dtype[Any] | None:
    """The float type to compute in, at least as wide as that of the arguments; None if float64 is not enough."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        bounds = precision.extremes(poles.astype(complex), *(part if part.min() >= 0 else abs(part) for part in (x, y)))
    return precision.narrowest(bounds, np.result_type(residues, poles) == np.complex64)


def _doubles(*arrays: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    return [array.astype(np.result_type(array, float)) for array in arrays]


def _in_type(values: ComplexArray, kind: np.dtype[Any]) -> ComplexArray:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(values, kind)


def _scaled(residues: ComplexArray) -> tuple[ComplexArray, RealArray]:
    """Residues (..., N) between -1 and 1 in float64, and their factor (...), a power of two."""
    residues = residues.astype(complex)
    largest = np.maximum(abs(residues.real), abs(residues.imag)).max(axis=-1)
    scale = np.exp2(np.frexp(largest)[1] - 1.0)
    return residues / scale[..., None], scale


@np.errstate(invalid="ignore")  # residues that are inf
def _ratio_coefficients(residues: ComplexArray, poles: ComplexArray) -> tuple[RealArray, RealArray]:
    """(K, N, 7): |sigma|^2, -1, 4 s^2, coefficients of 1 and z of both numerators; a pole of no residue makes N even. (K,): the scale."""
    (K, N), poles = poles.shape, poles.astype(complex)
    residues, scale = _scaled(residues)
    s, t, q = poles.real, poles.imag, 2 * residues.real
    m, p = s * s + t * t, -2 * (residues.real * s + residues.imag * t)
    table = np.zeros((K, N + N % 2, 7), np.float32)
    table[:, N:, :3] = 1, -1, 4
    for place, part in enumerate((m, -1, 4 * s * s, p * m, -2 * q * s - p, q * m + 2 * p * s, -q)):
        table[:, :N, place] = part
    return table, scale.astype(np.float32)


@np.errstate(invalid="ignore")  # as above
def _coefficients(residues: ComplexArray, poles: ComplexArray, kind: np.dtype[Any]) -> tuple[RealArray, RealArray]:
    """(K, N, 3 + 4 M): t, s^2, 4 s^2, then p, q, -2 q s, 2 p s of every sum, and (K, M), the scale of its residues; computed in float64."""
    poles, (residues, scale) = poles.astype(complex), _scaled(residues)
    residues = residues.transpose(0, 2, 1)
    s = poles.real[:, :, None]
    p, q = -2 * (residues * poles.conj()[:, :, None]).real, 2 * residues.real
    own = np.stack([p, q, -2 * q * s, 2 * p * s], axis=-1).reshape(*poles.shape, -1)
    table = np.concatenate([poles.imag[:, :, None], s * s, 4 * s * s, own], axis=2)
    return np.ascontiguousarray(table, kind), np.ascontiguousarray(scale, kind)


LOOPS = "ssmspec.backends.loops"
SINGLE_SUMS, RATIO_SUMS = Kernel(LOOPS, "single_sums", 7), Kernel(LOOPS, "ratio_sums", 6)
DOUBLE_SUMS = Kernel(LOOPS, "double_sums", 7)
SUMS, ADJOINT_SUMS = Kernel(LOOPS, "sums", 8), Kernel(LOOPS, "adjoint_sums", 6)
