"""Filters stored as single modes: one pole and one residue each, no conjugates, and the real part as output.

    y = Re sum_n R_n x_n + D u,   x_n[t] = z_n x_n[t - 1] + u[t]

In canonical form C = R/2 and B = 1. Modes below the real axis are reflected, which does not change the real part. Where there are fewer
filters than channels, several channels share one.
"""

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.families.assumption import Assumption
from ssmspec.families.template import LayerTensors, ReadOptions, as_complex
from ssmspec.systems.statespace import ComplexArray, Discretization, FloatArray, StateSpace

GROUPS = Assumption(
    name="evo_groups",
    about="which channels share a filter where there are fewer filters than channels: neighbors (repeat), or every S-th one (tile)",
    values=("repeat", "tile"),
    source="togethercomputer/stripedhyena, stripedhyena/model.py, ParallelHyenaFilter.parallel_forward (repeat_interleave)",
    applies=lambda layer, options: layer.sizes["S"] != layer.sizes["H"],
)


def in_turn(log_z: ComplexArray) -> ComplexArray:
    """log z with its angle in [-pi, pi]."""
    return as_complex(log_z.real, log_z.imag - 2 * np.pi * np.round(log_z.imag / (2 * np.pi)))


def single_modes(
    layer: LayerTensors,
    *,
    poles: ComplexArray,
    residues: ComplexArray,
    skip: FloatArray,
    discretization: Discretization = "euler",
    assumptions: tuple[str, ...] = (),
    if_growing: str = "",
) -> StateSpace:
    """K channels of one input and one output.

    Args:
        poles: (K, N) log z for euler, z for direct, a per sample for zoh. residues: (K, N), R of the module docstring. skip: (K,), D.
    """
    lower = poles.imag < 0
    with np.errstate(invalid="ignore"):
        outputs = np.asarray(np.where(lower, residues.conj(), residues) / 2, dtype=np.complex128)
    return StateSpace(
        name=layer.name,
        family=layer.family,
        poles=np.where(lower, poles.conj(), poles),
        B=np.ones((*poles.shape, 1), complex),
        C=outputs[:, None, :],
        D=skip.reshape(-1)[:, None, None],
        step=np.ones((len(poles), 1)),
        discretization=discretization,
        unit_step=discretization != "direct",
        assumptions=assumptions,
        if_growing=if_growing,
    )


def stored_modes(system: StateSpace, lower: np.ndarray) -> tuple[ComplexArray, ComplexArray]:
    """Poles and residues (K, N) of such a system with the modes marked by `lower` below the real axis; the inverse of `single_modes`."""
    residues = 2 * system.C[:, 0] * system.B[:, :, 0]
    return np.where(lower, system.poles.conj(), system.poles), np.where(lower, residues.conj(), residues)


def real_modes(system: StateSpace, what: str) -> tuple[FloatArray, FloatArray]:
    """log z and residues (K, N) of a system with real poles between 0 and 1 and real residues only.

    Raises:
        LayerError: other poles or residues; `what` says in words what the layer holds.
    """
    residues = 2 * system.C[:, 0] * system.B[:, :, 0]
    if system.poles.imag.any() or residues.imag.any() or not (system.poles.real < 0).all():
        raise LayerError(f"layer {system.name} ({system.family}): {what} only")
    return system.poles.real * system.step, residues.real


def spread(rows: np.ndarray, layer: LayerTensors, options: ReadOptions) -> np.ndarray:
    """The rows of S filters as those of H channels.

    Raises:
        LayerError: S does not divide H.
    """
    filters, channels = layer.sizes["S"], layer.sizes["H"]
    if channels % filters:
        raise LayerError(f"layer {layer.name}: {filters} filters for {channels} channels; expected a divisor of {channels}")
    if GROUPS.value(layer, options) == "tile":
        return np.tile(rows, (channels // filters,) + (1,) * (rows.ndim - 1))
    return np.repeat(rows, channels // filters, axis=0)


def gathered(rows: np.ndarray, layer: LayerTensors, options: ReadOptions) -> np.ndarray:
    """The rows of S filters from those of H channels; the inverse of `spread`.

    Raises:
        LayerError: channels that share a filter differ.
    """
    filters = layer.sizes["S"]
    found: np.ndarray = rows[:filters] if GROUPS.value(layer, options) == "tile" else rows[:: layer.sizes["H"] // filters]
    if not np.array_equal(spread(found, layer, options), rows, equal_nan=True):
        raise LayerError(f"layer {layer.name}: channels that share one filter were changed differently; they must change together")
    return found
