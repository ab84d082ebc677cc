"""Modal truncation: keep the modes with the largest H-infinity norm, |C_n| |B_n|/(1 - |z_n|) of a complex mode.

Source: LAST, arXiv 2411.02824, section 3 (the norm of the system of one mode as its score). A real pole, of which half of the residue is
stored, counts with all of it.
"""

import numpy as np

from ssmspec.systems.statespace import FloatArray, StateSpace, discrete_residues, log_poles, mode_sizes


def scores(system: StateSpace) -> FloatArray:
    """The norm of every single mode of a diagonal system, (K, N)."""
    below = -np.expm1(log_poles(system).real)
    whole = np.where(log_poles(system).imag == 0, 2.0, 1.0)
    return np.asarray(whole * mode_sizes(system) * np.abs(discrete_residues(system)) / below)


def strongest(values: FloatArray, count: int) -> np.ndarray:
    """The places (K, count) of the largest scores of every copy, rising."""
    return np.sort(np.argsort(-values, axis=1, kind="stable")[:, :count], axis=1)
