"""The spectrum of the SSM-induced kernel T^T T, where T is the L x L lower-triangular Toeplitz matrix of the impulse response.

Its eigenvalues show which directions of an input of length L a linear readout of the layer can learn fast. As L grows, their distribution
approaches that of |H|^2 over [0, pi] (Szego); individual eigenvalues need not converge.

Source: arXiv 2509.20789 (Aligning Inductive Bias), section 3; Grenander & Szego, Toeplitz Forms and Their Applications (1958).
"""

import numpy as np
from scipy.linalg import toeplitz

from ssmspec.systems.grid import FloatArray
from ssmspec.systems.system import System, impulse

LENGTH = 256


def kernel_spectrum(system: System, length: int = LENGTH) -> FloatArray:
    """Eigenvalues of T^T T in descending order, (K, L min(O, I)) [(output/input)^2]; with several inputs and outputs T is a block matrix.

    Args:
        system: K copies; the kernel is taken without D and without beta weight.
        length: L samples.
    """
    kernel = impulse(system, length)
    return np.stack([np.linalg.svd(_block_toeplitz(copy), compute_uv=False) ** 2 for copy in kernel])


def _block_toeplitz(kernel: FloatArray) -> FloatArray:
    """(O L, I L) matrix that maps an input of length L to the output, from a kernel (O, I, L)."""
    rows = [[toeplitz(entry, np.zeros_like(entry)) for entry in row] for row in kernel]
    return np.block(rows)
