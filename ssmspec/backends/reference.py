"""The homogeneous Cauchy sum and its vector-Jacobian product in NumPy: the specification that every other engine must match."""

import numpy as np
import numpy.typing as npt

ComplexArray = npt.NDArray[np.complexfloating]
RealArray = npt.NDArray[np.floating]

CHUNK = 1 << 15  # pole-node pairs in memory at once: half a megabyte of complex128 stays in the second-level cache


def cauchy_sum(residues: ComplexArray, poles: ComplexArray, x: RealArray, y: RealArray) -> ComplexArray:
    """S_km = sum_n [ r_kmn/(i y - sigma_kn x) + conj(r_kmn)/(i y - conj(sigma_kn) x) ].

    Args:
        residues: (K, M, N) complex.
        poles: (K, N) complex, sigma.
        x, y: (1, F) or (K, F) real.
    Returns:
        (K, M, F) complex; inf or nan exactly at a pole.
    Source: theory of the package: the discrete and the continuous response are both this sum.
    """
    K, M, N = residues.shape
    F = x.shape[1]
    result = np.empty((K, M, F), dtype=np.result_type(residues, poles))
    width = max(1, min(F, CHUNK // max(N, 1)))
    height = max(1, CHUNK // max(N * width, 1))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for k in range(0, K, height):
            for f in range(0, F, width):
                copies, part = slice(k, k + height), slice(f, f + width)
                result[copies, :, part] = _block(residues[copies], poles[copies], _rows(x, copies)[:, part], _rows(y, copies)[:, part])
    return result


def cauchy_vjp(
    residues: ComplexArray, poles: ComplexArray, x: RealArray, y: RealArray, cotangent: ComplexArray
) -> tuple[ComplexArray, ComplexArray]:
    """Gradients of Re sum(conj(cotangent) S) with respect to residues and poles, where S is the Cauchy sum.

        grad r     = sum_f [ g conj(phi) + conj(g) psi ],   phi = 1/(i y - sigma x),  psi = 1/(i y - conj(sigma) x)
        grad sigma = sum_m conj(r) sum_f x [ g conj(phi)^2 + conj(g) psi^2 ]

    Args:
        residues: (K, M, N) complex.
        poles: (K, N) complex.
        x, y: (1, F) or (K, F) real.
        cotangent: (K, M, F) complex, g.
    Returns:
        (K, M, N) and (K, N) complex: d/d Re + i d/d Im, the convention of torch for real losses.
    Source: derivative of `cauchy_sum`, derived by hand.
    """
    kind = np.result_type(residues, poles)
    gradient, moved = np.empty(residues.shape, kind), np.empty(poles.shape, kind)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for k in range(len(poles)):
            copy = slice(k, k + 1)
            nodes = _rows(x, copy), _rows(y, copy)
            phi, psi = _reciprocal(poles[copy], *nodes).conj(), _reciprocal(poles[copy].conj(), *nodes)
            g = cotangent[copy]
            gradient[copy] = np.einsum("kmf,knf->kmn", g, phi) + np.einsum("kmf,knf->kmn", g.conj(), psi)
            squares = np.einsum("kmf,knf->kmn", g * nodes[0], phi**2) + np.einsum("kmf,knf->kmn", (g * nodes[0]).conj(), psi**2)
            moved[copy] = (residues[copy].conj() * squares).sum(axis=1)
    return gradient, moved


def _rows(nodes: RealArray, copies: slice) -> RealArray:
    """Nodes of some copies; a single row applies to all of them."""
    return nodes if len(nodes) == 1 else nodes[copies]


def _block(residues: ComplexArray, poles: ComplexArray, x: RealArray, y: RealArray) -> ComplexArray:
    # einsum, not matmul: for such thin products the threads of a BLAS would wait for each other
    upper = np.einsum("kmn,knf->kmf", residues, _reciprocal(poles, x, y))
    lower = np.einsum("kmn,knf->kmf", residues.conj(), _reciprocal(poles.conj(), x, y))
    return np.asarray(upper + lower)


def _reciprocal(poles: ComplexArray, x: RealArray, y: RealArray) -> ComplexArray:
    """1/(i y - sigma x), (K, N, F), assembled from real and imaginary parts, which is several times faster than 1j * y - sigma * x."""
    denominator = np.empty((*poles.shape, x.shape[1]), poles.dtype)
    denominator.real = -poles.real[:, :, None] * x[:, None, :]
    denominator.imag = y[:, None, :] - poles.imag[:, :, None] * x[:, None, :]
    return np.asarray(np.reciprocal(denominator, out=denominator))
