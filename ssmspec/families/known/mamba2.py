"""Mamba-2, also inside Zamba2, Bamba, Granite 4, Falcon-H1 and Nemotron-H: one real pole a = -exp(A_log) per head.

The rows of in_proj compute, in this order, z, x, B, C and the input-dependent part of Delta. B and C (groups, N) are shared by the heads of
a group: head h belongs to group h groups/heads. The shapes show only groups x N; the number of groups is in the configuration. With an
MLP of its own (d_ssm < d_inner), the two halves of it come before z.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.assumption import Assumption
from ssmspec.families.configuration import UNUSED, model_types, number_of, places
from ssmspec.families.parameterization import softplus
from ssmspec.families.selective.frozen_system import at_bias_point, freeze, selective_system, stored_bias
from ssmspec.families.selective.projections import misfit, refuse, size_beside, told
from ssmspec.families.selective.residues import gram, total
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.statespace import FloatArray, StateSpace

GROUPS = ("mamba_n_groups", "mamba_ngroups", "n_groups", "ngroups", "mamba_num_groups")  # what configurations call the number of groups
ONE_GROUP = "one group of B and C is assumed; no config gives the number of groups"
LIMITS = ("time_step_limit", "mamba_dt_limit", "dt_limit")
FLOORS = ("time_step_min", "mamba_dt_min")
FLOORED = ("zamba2", "nemotron_h")  # models whose slow path clamps Delta at time_step_min


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per head, with the one pole that all of its states share; their products C_n B_n add up to one residue.

    B and C at an operating point have (groups, states) values, or (states,) for all groups.
    """
    with np.errstate(over="ignore"):
        poles = -np.exp(layer.array("A_log"))[:, None]
    heads, known = len(poles), groups_of(options.config)
    known, (_, both, problem) = (known, _rows(layer)) if _needs_rows(layer, options) else (1, (0, 1, None))
    shapes = state_shapes(layer, known, heads, both)
    frozen = freeze(layer, options, copies=(heads,), states=shapes, limits=step_limits(layer, options))
    notes = (*told(problem), *_both_paths(layer, options))
    if options.residues == "rms":
        if frozen.moments is None:
            refuse(layer, problem)
        B, C = frozen.moments or _moments(layer, options, known or 1)
        residues = np.repeat(total(B * C), heads // len(B))
        if known is None and frozen.moments is None:
            notes += (ONE_GROUP,)
    else:
        residues = group_residues(layer, frozen.B, frozen.C, heads)
    return [selective_system(layer, options, frozen, poles=poles, C=residues[:, None, None], notes=notes)]


def _needs_rows(layer: LayerTensors, options: ReadOptions) -> bool:
    """Whether the rows of in_proj must be known; where it is stored as codes without a shape, only if B or C are asked for."""
    point = options.operating_point
    given = point is not None and (point.B is not None or point.C is not None)
    known = min(layer.tensors["in_proj"].shape) >= 0
    return known or options.residues != "unit" or options.calibration is not None or given


def state_shapes(layer: LayerTensors, known: int | None, heads: int, both: int) -> list[tuple[int, ...]]:
    """Shapes that B and C may have, (groups, N) the first.

    Args:
        known: number of groups, if it is known. both: groups x N.
    Raises:
        LayerError: groups that do not divide heads and states.
    """
    groups = known or 1
    if both % groups or heads % groups:
        raise LayerError(f"layer {layer.name}: {groups} groups (from the config) do not divide {heads} heads and {both} rows of B")
    shapes: list[tuple[int, ...]] = [(groups, both // groups), (both,)]
    if known is None:
        shapes += [(g, both // g) for g in range(2, both + 1) if both % g == 0 and heads % g == 0]
    return shapes


def group_residues(layer: LayerTensors, given_B: FloatArray | None, given_C: FloatArray | None, heads: int) -> FloatArray:
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


def _rows(layer: LayerTensors) -> tuple[int, int, str | None]:
    """First row of B in in_proj, the number of rows that B has (groups x states), and what contradicts that, in words."""
    rows, heads, channels = (layer.shape(role)[0] for role in ("in_proj", "A_log", "conv"))
    inner = rows - channels - heads  # of x, and twice that of an MLP
    width = inner
    norm, out = size_beside(layer, "norm.weight", 0), size_beside(layer, "out_proj.weight", 1)
    if norm is not None and norm < inner and 2 * norm + (inner - norm) == 2 * (out or 0):
        width = norm
    both, odd = divmod(channels - width, 2)
    if width < heads or both < 1 or odd:
        raise LayerError(
            f"layer {layer.name}: {rows} rows of in_proj, {channels} of conv1d and {heads} heads leave no room for z, x, B, C, dt"
        )
    problem = misfit(layer, {"norm.weight": (0, (width,)), "out_proj.weight": (1, (width + (inner - width) // 2,))})
    if problem is None and width % heads:
        problem = f"in_proj and conv1d leave {width} channels, which {heads} heads do not divide"
    return rows - heads - 2 * both, both, problem


def _moments(layer: LayerTensors, options: ReadOptions, groups: int) -> tuple[FloatArray, FloatArray]:
    """Second moments of B and C for white input to in_proj; only their rows are read.

    Falcon-H1 scales the rows of in_proj by ssm_multipliers (z, x, B, C, dt) and its input by ssm_in_multiplier of its configuration.
    """
    first, both, _ = _rows(layer)
    weights = layer.rows("in_proj", first, first + 2 * both)
    B, C = (gram(part.reshape(groups, both // groups, -1)) for part in (weights[:both], weights[both:]))
    for _, place in places(options.config):
        given, common = place.get("ssm_multipliers"), number_of(place.get("ssm_in_multiplier")) or 1.0
        scales = [number_of(value) for value in given] if isinstance(given, list) else []
        if len(scales) == 5 and scales[2] is not None and scales[3] is not None:
            return B * (common * scales[2]) ** 2, C * (common * scales[3]) ** 2
    return B, C


def groups_of(config: Mapping[str, object]) -> int | None:
    """The number of groups of B and C that a configuration has, or None."""
    found = (place.get(key) for _, place in places(config) for key in GROUPS)
    return next((value for value in found if type(value) is int and value > 0), None)


def time_step_limit(config: Mapping[str, object]) -> tuple[float, float]:
    """The limits that a configuration gives for Delta after the softplus, or none."""
    for _, place in places(config):
        for key in LIMITS:
            given = place.get(key)
            numbers = [number_of(value) for value in given] if isinstance(given, list) else []
            if len(numbers) == 2 and numbers[0] is not None and numbers[1] is not None and 0 <= numbers[0] < numbers[1]:
                return numbers[0], numbers[1]
    return 0.0, np.inf


def _floor(config: Mapping[str, object]) -> float | None:
    """The smallest Delta of the slow path of a model, where the code has such a path."""
    if not any(name in FLOORED for name in model_types(config)):
        return None
    found = (number_of(place.get(key)) for _, place in places(config) for key in FLOORS)
    return next((value for value in found if value is not None and 0 <= value < np.inf), None)


def _has_floor(layer: LayerTensors, options: ReadOptions) -> bool:
    return _floor(options.config) is not None


def _paths_differ(layer: LayerTensors, options: ReadOptions) -> bool:
    return bool(_moved_between_paths(layer, options))


def _moved_between_paths(layer: LayerTensors, options: ReadOptions) -> int:
    """How many heads have another Delta on the slow path; none where Delta is not the one of the bias."""
    floor = _floor(options.config)
    if floor is None or not at_bias_point(layer, options):
        return 0
    free = softplus(layer.array("dt_bias"))
    return int((np.clip(free, *time_step_limit(options.config)) != np.clip(free, floor, np.inf)).sum())


CLAMP = Assumption(
    name="delta_clamp",
    about="which path of the model's code clamps Delta: the fused kernels on GPUs, at time_step_limit, or the slow one, at time_step_min",
    values=("fast", "slow"),
    source="nvidia/Nemotron-H and Zyphra/Zamba2, their modeling files (cuda_kernels_forward and torch_forward); transformers 5.24 has the"
    " floor of the slow path in its kernels, too",
    told_by="nothing; model_type (nemotron_h, zamba2) and time_step_min of the configuration say that there are two",
    keys=FLOORS,
    applies=_has_floor,
    matters=_paths_differ,
)


def step_limits(layer: LayerTensors, options: ReadOptions) -> tuple[float, float]:
    """Between which values the code of a model clamps Delta after the softplus, by its configuration and the path that runs."""
    floor = _floor(options.config)
    if floor is not None and CLAMP.value(layer, options) == "slow":
        return floor, np.inf
    return time_step_limit(options.config)


def _both_paths(layer: LayerTensors, options: ReadOptions) -> tuple[str, ...]:
    """What the two paths of a model's code do, where it is not the same."""
    moved, (low, high) = _moved_between_paths(layer, options), time_step_limit(options.config)
    text = f"the fast path of this model (GPU kernels) clamps delta to time_step_limit {low:g}..{high:g}, its slow path floors it at"
    return (f"{text} time_step_min {_floor(options.config):g}: {moved} of {layer.sizes['h']} heads differ",) if moved else ()


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """A_log, the bias of Delta and D; B and C are functions of the input and have no stored value."""
    (system,) = systems
    stored: dict[str, npt.NDArray[Any]] = {"A_log": np.log(-system.poles.real[:, 0]), "D": system.D[:, 0, 0]}
    bias = stored_bias(layer, system, options, step_limits(layer, options))
    if bias is not None:
        stored["dt_bias"] = bias
    return stored


MAMBA2 = Family(
    name="mamba-2",
    title="Mamba-2; also in Zamba2, Bamba, Granite 4, Falcon-H1, Nemotron-H",
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
    absent=("fc_D.weight",),
    assumptions=(CLAMP,),
    unused=UNUSED,
    selective=True,
    initial_steps=(1e-3, 1e-1),
    initial_decays=(1.0, 16.0),
)
