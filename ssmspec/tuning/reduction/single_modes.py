"""Modal truncation: keep the modes with the largest H-infinity norm, |C_n| |B_n|/(1 - |z_n|) of a complex mode.

Source: LAST, arXiv 2411.02824, section 3 (the norm of the system of one mode as its score). A real pole, of which half of the residue is
stored, counts with all of it.
"""

import numpy as np

from ssmspec.systems.statespace import FloatArray, StateSpace, discrete_residues, log_poles, mode_sizes


def scores(system: StateSpace) -> FloatArray:
    """The norm of every single mode of a diagonal system, (K, N)."""
    logarithm = log_poles(system)
    strength = mode_sizes(system) * np.abs(discrete_residues(system))
    if system.inputs == system.outputs == 1:  # of a real pole, only the real part of a residue is heard
        residue = system.C[:, 0] * system.B[:, :, 0] * discrete_residues(system)
        strength = np.where(logarithm.imag == 0, np.abs(residue.real), strength)
    return np.asarray(np.where(logarithm.imag == 0, 2.0, 1.0) * strength / -np.expm1(logarithm.real))


def strongest(values: FloatArray, count: int) -> np.ndarray:
    """The places (K, count) of the largest scores of every copy, rising."""
    return np.sort(np.argsort(-values, axis=1, kind="stable")[:, :count], axis=1)
