"""The spectrum of the SSM-induced kernel T^T T, where T is the L x L lower-triangular Toeplitz matrix of the impulse response.

Its eigenvalues show which directions of an input of length L a linear readout of the layer can learn fast. As L grows, their distribution
approaches that of |H|^2 over [0, pi] (Szego); individual eigenvalues need not converge.

With one input and one output the columns of T in reverse order form a symmetric matrix (of Hankel type), whose eigenvalues are, up to their
signs, the singular values of T.

Source: arXiv 2509.20789 (Aligning Inductive Bias), section 3; Grenander & Szego, Toeplitz Forms and Their Applications (1958).
"""

import numpy as np

from ssmspec.systems.grid import FloatArray
from ssmspec.systems.system import System

LENGTH = 256


def kernel_spectrum(system: System, length: int = LENGTH) -> FloatArray:
    """Eigenvalues of T^T T in descending order, (K, L min(O, I)) [(output/input)^2]; with several inputs and outputs T is a block matrix.

    Args:
        system: K copies; the kernel is taken without D and without beta weight.
        length: L samples.
    """
    kernel = system.impulse(length)
    place = np.arange(length)
    if system.inputs == system.outputs == 1:
        past = place[:, None] - place[::-1]  # that of T with its columns in reverse order
        matrices = np.where(past >= 0, kernel[:, 0, 0, np.maximum(past, 0)], 0.0)
        return np.stack([np.sort(np.linalg.eigvalsh(matrix) ** 2)[::-1] for matrix in matrices])
    past = place[:, None] - place
    entries = np.where(past >= 0, kernel[..., np.maximum(past, 0)], 0.0)  # (K, O, I, L, L)
    blocks = np.moveaxis(entries, 3, 2).reshape(system.copies, system.outputs * length, system.inputs * length)
    return np.stack([np.linalg.svd(block, compute_uv=False) ** 2 for block in blocks])
