"""Real state matrices of a system in the convention of signal processing: x[t+1] = A x[t] + B u[t], y[t] = C x[t] + D u[t]."""

from dataclasses import replace
from typing import Any

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.systems.response import MOST_BYTES
from ssmspec.systems.statespace import FloatArray, StateSpace, bilinear_realization, discrete_poles, discrete_residues, real_realization

Matrices = tuple[FloatArray, FloatArray, FloatArray, FloatArray]


def discrete_realization(system: StateSpace) -> Matrices:
    """A (K, n, n), B (K, n, I), C (K, O, n), D (K, O, I) of the sampled system, without a beta weight.

    The state is (Re x, Im x) of the stored modes, so n = 2N; where everything is real it is x, and n = N. Layers of delay 0 see u[t] in
    x[t], so their C is C A and their D has C B added: both conventions give the same kernel k[0] = D, k[l] = C A^(l-1) B.
    """
    if system.rank:
        A, B, C = bilinear_realization(system)
    else:
        scaled = system.B * discrete_residues(system)[:, :, None]
        A, B, C = _real(replace(system, poles=discrete_poles(system), B=scaled, step=np.ones_like(system.step), discretization="direct"))
    if system.delay:
        return A, B, C, system.D
    return A, B, C @ A, system.D + C @ B


def continuous_realization(system: StateSpace) -> Matrices | None:
    """The same of the continuous system x' = A x + B u, y = C x + D u, in model time; None for layers that store discrete poles."""
    return (*_real(system), system.D) if system.continuous_time else None


def exported(system: StateSpace) -> tuple[dict[str, FloatArray], dict[str, Any], list[str]]:
    """The matrices of both by name, with the copies as their first axis, the discretization, and what they do not say.

    Raises:
        LayerError: they take more than MOST_BYTES.
    """
    size = 2 * 8 * system.copies * (2 * system.modes) ** 2
    if size > MOST_BYTES:
        raise LayerError(f"the matrices of {system.copies} copies take {size / 1e9:.1f} GB; choose one with --copy")
    arrays = dict(zip("ABCD", discrete_realization(system), strict=True))
    continuous = continuous_realization(system)
    if continuous is not None:
        arrays |= dict(zip(("A_continuous", "B_continuous", "C_continuous", "D_continuous"), continuous, strict=True))
        arrays["step"] = system.step
    notes = ["the matrices exclude the beta weight, which is not rational"] if system.sobolev is not None else []
    notes += ["the layer stores discrete poles, so there are no continuous matrices"] if continuous is None else []
    return arrays, {"discretization": system.discretization}, notes


def _real(system: StateSpace) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A, B, C with N states where no number has an imaginary part, else with 2N."""
    if system.rank or any(part.imag.any() for part in (system.poles, system.B, system.C)):
        return real_realization(system)
    return np.eye(system.modes) * system.poles.real[:, None, :], system.B.real, 2 * system.C.real
