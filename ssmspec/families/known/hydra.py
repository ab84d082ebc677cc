"""Hydra: Mamba-2 in two directions over the same poles and steps, each with B, C and Delta of its own from one in_proj.

    y_t = C_{t-1} h_{t-1} + C'_{t+1} h'_{t+1} + (D + fc_D x_t) x_t,   h_t = exp(a Delta_t) h_{t-1} + Delta_t B_t x_t

where h' is the same from the last token on.
Both scans are shifted by one sample, so that neither sees x_t: that is delay 1 here. The rows of in_proj are z, x, then B and C of the
forward and B and C of the backward direction, then the two parts of Delta. The skip depends on the input; D is what it is at zero input,
and it counts with the forward direction.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.configuration import UNUSED
from ssmspec.families.directions import part, together
from ssmspec.families.known.mamba2 import ONE_GROUP, group_residues, groups_of, state_shapes, time_step_limit
from ssmspec.families.selective.frozen_system import freeze, selective_system, stored_bias
from ssmspec.families.selective.projections import misfit, refuse, told
from ssmspec.families.selective.residues import gram, total
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.statespace import FloatArray, StateSpace

SHARED = ("A_log", "dt_bias", "in_proj", "conv")
ROLES = {
    ":forward": {role: role for role in (*SHARED, "D")},
    ":backward": {role: role for role in SHARED},
}
SKIP = "the skip D + fc_D x depends on the input; shown is D, its value at zero input"


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Two directions with one copy per head, and the one pole that all states of a head share, as in Mamba-2."""
    first, both, problem = _rows(layer)
    systems = []
    for number, (label, roles) in enumerate(ROLES.items()):
        direction = part(layer, label, roles)
        with np.errstate(over="ignore"):
            poles = -np.exp(direction.array("A_log"))[:, None]
        known = groups_of(options.config)
        shapes = state_shapes(direction, known, len(poles), both)
        frozen = freeze(direction, options, copies=(len(poles),), states=shapes, limits=time_step_limit(options.config))
        notes = (*told(problem), SKIP) if label == ":forward" else told(problem)
        if options.residues == "rms":
            if frozen.moments is None:
                refuse(direction, problem)
            B, C = frozen.moments or _moments(direction, first + 2 * both * number, both, known or 1)
            residues = np.repeat(total(B * C), len(poles) // len(B))
            if known is None and frozen.moments is None:
                notes += (ONE_GROUP,)
        else:
            residues = group_residues(direction, frozen.B, frozen.C, len(poles))
        system = selective_system(direction, options, frozen, poles=poles, C=residues[:, None, None], notes=notes)
        systems.append(replace(system, delay=1))
    return systems


def _rows(layer: LayerTensors) -> tuple[int, int, str | None]:
    """First row of B in in_proj, the number of rows that every B and C has (groups x states), and what contradicts that."""
    rows, heads, channels = (layer.tensors[role].shape[0] for role in ("in_proj", "A_log", "conv"))
    inner = layer.tensors["fc_D"].shape[1]
    both, rest = divmod(channels - inner, 4)
    if both < 1 or rest:
        raise LayerError(f"layer {layer.name}: {channels} rows of conv1d and {inner} columns of fc_D leave no place for two B and two C")
    problem = misfit(layer, {"norm.weight": (0, (inner,)), "out_proj.weight": (1, (inner,))})
    wanted = 2 * inner + 4 * both + 2 * heads
    if rows != wanted:
        problem = f"in_proj has {rows} rows, expected {wanted} for z, x, two B and two C of {both} rows and two parts of Delta"
    return 2 * inner, both, problem


def _moments(layer: LayerTensors, first: int, both: int, groups: int) -> tuple[FloatArray, FloatArray]:
    """Second moments of B and C of one direction for white input to in_proj."""
    weights = layer.rows("in_proj", first, first + 2 * both)
    B, C = (gram(half.reshape(groups, both // groups, -1)) for half in (weights[:both], weights[both:]))
    return B, C


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """A_log and the bias of Delta, which both directions share, and D; B and C are functions of the input and have no stored value."""
    written = []
    for (label, roles), system in zip(ROLES.items(), systems, strict=True):
        direction = part(layer, label, roles)
        values: dict[str, npt.NDArray[Any]] = {"A_log": np.log(-system.poles.real[:, 0])}
        bias = stored_bias(direction, system, options, time_step_limit(options.config))
        if bias is not None:
            values["dt_bias"] = bias
        if "D" in direction:
            values["D"] = system.D[:, 0, 0]
        written.append((roles, values))
    return together(layer, written)


HYDRA = Family(
    name="hydra",
    title="Hydra (Mamba-2 in two directions)",
    source="goombalab/hydra, hydra/modules/hydra.py; arXiv 2407.09941",
    templates=(
        {
            "A_log": Slot("A_log", "h"),
            "dt_bias": Slot("dt_bias", "h"),
            "in_proj": Slot("in_proj.weight", "rows m"),
            "conv": Slot("conv1d.weight", "ch 1 w"),
            "D": Slot("D", "h"),
            "fc_D": Slot("fc_D.weight", "h inner"),
        },
    ),
    read=read,
    write=write,
    unused=UNUSED,
    selective=True,
    initial_steps=(1e-3, 1e-1),
    initial_decays=(1.0, 16.0),
)
