"""Mamba-2, also inside Zamba2, Bamba, Granite 4, Falcon-H1 and Nemotron-H: one real pole a = -exp(A_log) per head.

in_proj yields z, x, B, C and the part of Delta that depends on the input (its rows, in this order); B and C (groups, N) are shared by the
heads of a group: head h belongs to group h groups/heads. The shapes show groups x N only; groups are in the configuration.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.selective.frozen_system import freeze, selective_system, stored_bias
from ssmspec.families.selective.residues import gram, total
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.statespace import FloatArray, StateSpace

GROUPS = ("mamba_n_groups", "mamba_ngroups", "n_groups", "ngroups", "mamba_num_groups")  # what configurations call the number of groups
FLOORED = ("zamba2", "nemotron_h")  # models whose code clamps Delta at time_step_min


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per head with the one pole that all of its states share; their products C_n B_n add up to one residue.

    B and C at an operating point have (groups, states) values, or (states,) for all groups.
    """
    with np.errstate(over="ignore"):
        poles = -np.exp(layer.array("A_log"))[:, None]
    heads, (known, both) = len(poles), _groups_and_rows(layer, options)
    groups = known or 1
    if both % groups or heads % groups:
        raise LayerError(f"layer {layer.name}: {groups} groups (from the config) do not divide {heads} heads and {both} rows of B")
    shapes = [(groups, both // groups), (both,)]
    if known is None:
        shapes += [(g, both // g) for g in range(2, both + 1) if both % g == 0 and heads % g == 0]
    frozen = freeze(layer, options, copies=(heads,), states=shapes, limits=step_limits(options.config))
    notes: tuple[str, ...] = ()
    if options.residues == "rms":
        B, C = frozen.moments or _moments(layer, options, groups)
        residues = np.repeat(total(B * C), heads // len(B))
        if known is None and frozen.moments is None:
            notes = ("one group of B and C: no config says how many there are",)
    else:
        residues = _group_residues(layer, frozen.B, frozen.C, heads)
    return [selective_system(layer, options, frozen, poles=poles, C=residues[:, None, None], notes=notes)]


def _groups_and_rows(layer: LayerTensors, options: ReadOptions) -> tuple[int | None, int]:
    """Groups as configured, and rows of B; one of each where nothing tells the shape of in_proj and nothing of it is needed."""
    point = options.operating_point
    given = point is not None and (point.B is not None or point.C is not None)
    if min(layer.tensors["in_proj"].shape) < 0 and options.residues == "unit" and options.calibration is None and not given:
        return 1, 1
    return _groups(options.config), _rows(layer)[1]


def _group_residues(layer: LayerTensors, given_B: FloatArray | None, given_C: FloatArray | None, heads: int) -> FloatArray:
    """Residue of every head from B and C at the operating point; 1 where neither is given."""
    B, C = (np.ones(1) if v is None else np.atleast_1d(v) for v in (given_B, given_C))
    if B.ndim > 1 or C.ndim > 1:
        groups = max(len(np.atleast_2d(B)), len(np.atleast_2d(C)))
        products = (np.atleast_2d(B) * np.atleast_2d(C)).sum(axis=1)
        if heads % groups:
            raise LayerError(f"layer {layer.name}: {groups} groups of B and C do not divide {heads} heads")
        return np.repeat(np.broadcast_to(products, (groups,)), heads // groups)
    if B.size > 1 and C.size > 1 and B.size != C.size:
        raise LayerError(f"layer {layer.name}: B has {B.size} values and C {C.size}; expected the same number, or (groups, states) each")
    return np.full(heads, float((B * C).sum()))


def _rows(layer: LayerTensors) -> tuple[int, int]:
    """First row of B in in_proj, and the number of rows that B has (groups x states)."""
    rows, heads, channels = (layer.shape(role)[0] for role in ("in_proj", "A_log", "conv"))
    inner = rows - channels - heads
    both, odd = divmod(channels - inner, 2)
    if inner < heads or both < 1 or odd:
        raise LayerError(
            f"layer {layer.name}: {rows} rows of in_proj, {channels} of conv1d and {heads} heads leave no place for z, x, B, C, dt"
        )
    return 2 * inner, both


def _moments(layer: LayerTensors, options: ReadOptions, groups: int) -> tuple[FloatArray, FloatArray]:
    """Second moments of B and C for white input to in_proj; only their rows are read.

    Falcon-H1 scales the rows of in_proj by ssm_multipliers (z, x, B, C, dt) and its input by ssm_in_multiplier of its configuration.
    """
    first, both = _rows(layer)
    weights = layer.rows("in_proj", first, first + 2 * both)
    B, C = (gram(part.reshape(groups, both // groups, -1)) for part in (weights[:both], weights[both:]))
    scales = options.config.get("ssm_multipliers")
    if isinstance(scales, list) and len(scales) == 5 and all(isinstance(value, int | float) for value in scales):
        outer = options.config.get("ssm_in_multiplier")
        common = float(outer) if isinstance(outer, int | float) else 1.0
        B, C = B * (common * scales[2]) ** 2, C * (common * scales[3]) ** 2
    return B, C


def _groups(config: Mapping[str, object]) -> int | None:
    inner = config.get("ssm_cfg")
    places = [config, *([inner] if isinstance(inner, dict) else [])]
    found = [place[key] for place in places for key in GROUPS if type(place.get(key)) is int]
    return next((value for value in found if isinstance(value, int) and value > 0), None)


def step_limits(config: Mapping[str, object]) -> tuple[float, float]:
    """Between which values the code of a model clamps Delta after the softplus, by its configuration."""
    if config.get("model_type") in FLOORED:
        floor = config.get("time_step_min")
        return (float(floor), np.inf) if isinstance(floor, int | float) else (0.0, np.inf)
    inner = config.get("ssm_cfg")
    limits = config.get("time_step_limit", inner.get("dt_limit") if isinstance(inner, dict) else None)
    numbers = [_number(value) for value in limits] if isinstance(limits, list) else []
    if len(numbers) != 2 or not 0 <= numbers[0] < numbers[1]:
        return 0.0, np.inf
    return numbers[0], numbers[1]


def _number(value: object) -> float:
    """A number of a configuration; transformers writes infinity as {"__float__": "Infinity"}."""
    if isinstance(value, dict):
        value = value.get("__float__")
    try:
        return float(value) if isinstance(value, int | float | str) else np.nan
    except ValueError:
        return np.nan


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """A_log, the bias of Delta and D; B and C are functions of the input and have no stored value."""
    (system,) = systems
    stored: dict[str, npt.NDArray[Any]] = {"A_log": np.log(-system.poles.real[:, 0]), "D": system.D[:, 0, 0]}
    bias = stored_bias(layer, system, options, step_limits(options.config))
    if bias is not None:
        stored["dt_bias"] = bias
    return stored


MAMBA2 = Family(
    name="mamba-2",
    title="Mamba-2; in Zamba2, Bamba, Granite 4, Falcon-H1, Nemotron-H",
    source="state-spaces/mamba, mamba_ssm/modules/mamba2.py; transformers, models/mamba2, bamba; arXiv 2405.21060",
    templates=(
        {
            "A_log": Slot("A_log", "h"),
            "dt_bias": Slot("dt_bias", "h"),
            "in_proj": Slot("in_proj.weight", "rows m"),
            "conv": Slot("conv1d.weight|conv1d_weight", "ch 1 w"),
            "D": Slot("D", "h"),
        },
    ),
    read=read,
    write=write,
    selective=True,
)
