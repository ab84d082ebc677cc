"""The homogeneous Cauchy sum in NumPy: the specification that every other engine must equal."""

import numpy as np
import numpy.typing as npt

ComplexArray = npt.NDArray[np.complexfloating]
RealArray = npt.NDArray[np.floating]

CHUNK = 1 << 19  # pole-node pairs held at once: 8 MB of complex128


def cauchy_sum(residues: ComplexArray, poles: ComplexArray, x: RealArray, y: RealArray) -> ComplexArray:
    """S_km = sum_n [ r_kmn/(i y - sigma_kn x) + conj(r_kmn)/(i y - conj(sigma_kn) x) ].

    Args:
        residues: (K, M, N) complex.
        poles: (K, N) complex, sigma.
        x, y: (1, F) or (K, F) real.
    Returns:
        (K, M, F) complex; inf or nan exactly on a pole.
    Source: theory of the package: the discrete and the continuous response are this one sum.
    """
    K, M, N = residues.shape
    F = x.shape[1]
    result = np.empty((K, M, F), dtype=np.result_type(residues, poles))
    block = max(1, CHUNK // max(N, 1))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for k in range(K):
            row_x, row_y = x[min(k, len(x) - 1)], y[min(k, len(y) - 1)]
            for start in range(0, F, block):
                part = slice(start, start + block)
                upper = 1 / (1j * row_y[part] - poles[k, :, None] * row_x[part])
                lower = 1 / (1j * row_y[part] - poles[k, :, None].conj() * row_x[part])
                result[k, :, part] = residues[k] @ upper + residues[k].conj() @ lower
    return result
