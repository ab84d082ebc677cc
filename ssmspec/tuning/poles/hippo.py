"""The normal part of HiPPO-LegS in its eigenbasis: the initialization of S4, S4D-LegS and S5."""

import numpy as np

from ssmspec.systems.statespace import ComplexArray, FloatArray


def legs_weights(size: int) -> FloatArray:
    """The HiPPO-LegS input vector B_i = sqrt(2i + 1), (size,)."""
    return np.sqrt(2 * np.arange(size) + 1.0)


def legs_normal_part(modes: int) -> tuple[FloatArray, ComplexArray]:
    """Frequencies (modes,), in descending order, and orthonormal eigenvectors (2 modes, modes) of its upper half.

        A + P P^T = -1/2 + S,   S_ij = -1/2 B_i B_j for i > j and 1/2 B_i B_j for i < j,   P = B/sqrt 2

    The phase of an eigenvector is arbitrary. LAPACK, and therefore the published code, makes the first component real. Here it is also made
    positive, so that a B whose imaginary part is clipped does not depend on the LAPACK build.

    Source: arXiv 2111.00396, theorem 1; state-spaces/s4, src/models/hippo/hippo.py, `nplr`; lindermanlab/S5, s5/ssm_init.py.
    """
    weights = legs_weights(2 * modes)
    product = np.outer(weights, weights) / 2
    frequencies, vectors = np.linalg.eigh(-1j * (np.triu(product, 1) - np.tril(product, -1)))
    upper = vectors[:, : modes - 1 : -1]
    return frequencies[: modes - 1 : -1], upper * np.exp(-1j * np.angle(upper[0]))
