"""The homogeneous Cauchy sum compiled by Numba, and its vector-Jacobian product: real arithmetic, one division per conjugate pair.

With sigma = s + i t and r = (q + i q')/2 a pair is a fraction with a real denominator,

    (i q y + p x) / (m - 2 i s x y) = [ x (p m - 2 q s y^2) + i y (q m + 2 p s x^2) ] / d,
    m = (t x - y)(t x + y) + s^2 x^2,   d = m^2 + 4 s^2 x^2 y^2,   p = -2 Re(r conj(sigma))

m is computed as a product, so that it stays accurate near a pole, and the residues of a sum are scaled to 1 by a power of two. d is a
fourth power: if it would leave the range of float32, float64 is used; if it would leave the range of float64, `reference` is used.
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
    result = np.empty((K, M, F, 2), kind)
    parts = -(-F // BLOCK)
    kernel, scratch = (SUMS, (3, 2 * M)) if M > 1 else (SINGLE_SUMS, (5,))
    sizes = (*residues.shape, F, len(x))
    arrays = np.ones(1, kind), *_coefficients(residues, poles, kind), np.ascontiguousarray(x, kind), np.ascontiguousarray(y, kind), result

    def run(first: int, last: int) -> None:
        kernel(first, last, sizes, *arrays, *(np.empty(rows * BLOCK, kind) for rows in scratch))

    split(run, K * parts, residues.size * F // max(M, 1) > MANY)
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
    return np.ascontiguousarray(table, kind), np.ascontiguousarray(scale, kind)


LOOPS = "ssmspec.backends.loops"
SINGLE_SUMS, SUMS, ADJOINT_SUMS = Kernel(LOOPS, "single_sums", 7), Kernel(LOOPS, "sums", 8), Kernel(LOOPS, "adjoint_sums", 6)
