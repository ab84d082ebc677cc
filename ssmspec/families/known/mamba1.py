"""Mamba-1, also in Falcon-Mamba and Jamba, and with several heads in Zamba: N real poles a = -exp(A_log) per channel.

The rows of x_proj compute, in this order, the low-rank part of Delta, then B, then C from the channels. B and C are shared by all channels
(in Zamba, by those of one head). Jamba and Falcon-Mamba apply RMS norms to all three. Where dt_proj takes
the channels themselves (full rank), x_proj computes B and C alone.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.configuration import UNUSED, model_types
from ssmspec.families.selective.frozen_system import Frozen, freeze, selective_system, stored_bias, values_of
from ssmspec.families.selective.projections import misfit, refuse, told
from ssmspec.families.selective.residues import factor, gram, norm_gain
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot, Template
from ssmspec.systems.statespace import FloatArray, StateSpace

NORMS = ("dt_norm", "B_norm", "C_norm")
NORMED = (
    "Delta, B and C pass through RMS norms: the input cannot change the size of the input-dependent part of Delta, so no token is at the"
    " bias point"
)
BIASED = "x_proj has a bias: B and C have a mean, and so have their products"
OTHER_A = re.compile(r"A_\w+_log|A_log_\w+")


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per channel, N real poles each; B and C (N,) or (heads, N) are shared by the channels (of a head)."""
    others = [name for name in layer.beside if OTHER_A.fullmatch(name)]
    if others:
        raise LayerError(f"layer {layer.name}: {', '.join(others)} belong to directions that {layer.family} does not have")
    shape = layer.tensors["A_log"].shape
    heads, states = (shape[0] if len(shape) == 3 else 1), shape[-1]
    with np.errstate(over="ignore"):
        poles = -np.exp(layer.array("A_log")).reshape(-1, states)
    vectors = [(heads, states), (heads * states,)]
    frozen = freeze(layer, options, copies=shape[:-1], states=vectors)
    problem = _contradiction(layer, heads, states)
    channels = len(poles) // heads
    notes = ((NORMED,) if _normed(layer, options) else ()) + told(problem)
    mean = None
    if options.residues == "rms":
        if frozen.moments is None:
            refuse(layer, problem)
            moments, mean = _moments(layer, options, heads, states)
        else:
            moments = frozen.moments[0] * frozen.moments[1]
        outputs = factor(moments if mean is None else moments - mean[:, :, None] * mean[:, None, :])
        if mean is not None:
            mean, notes = np.repeat(mean, channels, axis=0), (*notes, BIASED)
    else:
        outputs = np.multiply(*(_vector(values, heads, states, letter, layer) for letter, values in _letters(frozen)))[:, None, :]
    C = np.broadcast_to(outputs, (channels, *outputs.shape[1:])) if heads == 1 else np.repeat(outputs, channels, axis=0)
    return [selective_system(layer, options, frozen, poles=poles, C=C, mean=mean, notes=notes)]


def _letters(frozen: Frozen) -> tuple[tuple[str, FloatArray | None], ...]:
    return ("B", frozen.B), ("C", frozen.C)


def _vector(values: FloatArray | None, heads: int, states: int, letter: str, layer: LayerTensors) -> FloatArray:
    """The given values as (heads, N); with one head, the first axis may be missing."""
    if heads == 1:
        return values_of(None if values is None else values.reshape(values.shape[-1:]), (states,), letter, layer)[None]
    return values_of(values, (heads, states), letter, layer)


def _contradiction(layer: LayerTensors, heads: int, states: int) -> str | None:
    """In which way the projections do not fit each other, or None, as where they are stored as codes without a shape."""
    rows, rank = layer.tensors["x_proj"].shape[-2], layer.tensors["dt_proj"].shape[-1]
    if min(rows, rank) < 0:
        return None
    channels = layer.tensors["A_log"].shape[-2]
    if rows != rank + 2 * states and not (rows == 2 * states and rank == channels):
        return f"x_proj has {rows} rows and dt_proj {rank} columns, which do not fit B and C of {states} states each"
    inner = heads * channels
    return misfit(layer, {"in_proj.weight": (0, (2 * inner, inner)), "conv1d.weight": (0, (inner,)), "out_proj.weight": (1, (inner,))})


def _moments(layer: LayerTensors, options: ReadOptions, heads: int, states: int) -> tuple[FloatArray, FloatArray | None]:
    """Second moments (heads, N, N) and mean (heads, N) of the residues for white input to x_proj: its last rows are B and C."""
    rows = layer.shape("x_proj")[-2]
    first = rows - 2 * states
    if len(layer.tensors["x_proj"].shape) == 2:
        both = layer.rows("x_proj", first, rows)[None]
    else:
        both = np.concatenate([layer.rows("x_proj", head, head + 1)[:, first:] for head in range(heads)])
    moments = [gram(both[:, :states]), gram(both[:, states:])]
    means = [np.zeros((heads, states))] * 2
    if "x_proj_bias" in layer:
        bias = layer.array("x_proj_bias").reshape(heads, rows)[:, first:]
        means = [bias[:, :states], bias[:, states:]]
        moments = [M + mean[:, :, None] * mean[:, None, :] for M, mean in zip(moments, means, strict=True)]
    if _normed(layer, options):
        gains = [norm_gain(M, layer.array(role) if role in layer else None) for role, M in zip(NORMS[1:], moments, strict=True)]
        moments = [M * gain[:, :, None] * gain[:, None, :] for M, gain in zip(moments, gains, strict=True)]
        means = [mean * gain for mean, gain in zip(means, gains, strict=True)]
    return moments[0] * moments[1], means[0] * means[1] if "x_proj_bias" in layer else None


def _normed(layer: LayerTensors, options: ReadOptions) -> bool:
    """Whether Delta, B and C are normalized. Norms with weights are in the file; those of Falcon-Mamba only in the configuration."""
    return any(role in layer for role in NORMS) or "falcon_mamba" in model_types(options.config)


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """A_log, the bias of Delta and D; B and C are functions of the input and have no stored value."""
    (system,) = systems
    stored: dict[str, npt.NDArray[Any]] = {"A_log": np.log(-system.poles.real).reshape(layer.tensors["A_log"].shape)}
    bias = stored_bias(layer, system, options)
    if bias is not None:
        stored["dt_bias"] = bias
    if "D" in layer:
        stored["D"] = system.D[:, 0, 0].reshape(layer.tensors["D"].shape)
    return stored


def names_of_direction(letter: str) -> dict[str, str]:
    """Role -> the ends of the names that it has in a direction with a letter or number of its own (`ssmspec.families.known.vim`)."""
    return {
        "A_log": f"A_{letter}_log|A_log_{letter}" if letter.isalpha() else f"A_log_{letter}",
        "dt_bias": f"dt_proj_{letter}.bias",
        "x_proj": f"x_proj_{letter}.weight",
        "x_proj_bias": f"x_proj_{letter}.bias",
        "dt_proj": f"dt_proj_{letter}.weight",
        "D": f"D_{letter}",
    }


NORM_SLOTS: Template = {
    "dt_norm": Slot("dt_layernorm.weight", "r", optional=True),
    "B_norm": Slot("b_layernorm.weight|B_layernorm.weight", "N", optional=True),
    "C_norm": Slot("c_layernorm.weight|C_layernorm.weight", "N", optional=True),
}

MAMBA1 = Family(
    name="mamba-1",
    title="Mamba-1, Falcon-Mamba, Jamba",
    source="state-spaces/mamba, mamba_ssm/modules/mamba_simple.py; transformers, models/mamba, falcon_mamba, jamba; arXiv 2312.00752",
    templates=(
        {
            "A_log": Slot("A_log", "d N"),
            "dt_bias": Slot("dt_proj.bias", "d"),
            "x_proj": Slot("x_proj.weight", "rows d"),
            "x_proj_bias": Slot("x_proj.bias", "rows", optional=True),
            "dt_proj": Slot("dt_proj.weight", "d r"),
            "D": Slot("D", "d", optional=True),
            **NORM_SLOTS,
        },
    ),
    read=read,
    write=write,
    absent=tuple(name for letter in "bscd" for names in names_of_direction(letter).values() for name in names.split("|")),
    unused=UNUSED,
    selective=True,
    initial_steps=(1e-3, 1e-1),
    initial_decays=(1.0, 16.0),
)

ZAMBA = Family(
    name="zamba",
    title="Zamba (Mamba-1 with heads)",
    source="transformers, models/zamba/modeling_zamba.py, ZambaMambaMixer; arXiv 2405.16712",
    templates=(
        {
            "A_log": Slot("A_log", "heads hd N"),
            "dt_bias": Slot("dt_proj_bias", "heads hd"),
            "x_proj": Slot("x_proj_weight", "heads rows hd"),
            "dt_proj": Slot("dt_proj_weight", "heads hd r"),
            "D": Slot("D", "heads hd", optional=True),
        },
    ),
    read=read,
    write=write,
    unused=UNUSED,
    selective=True,
    initial_steps=(1e-3, 1e-1),
    initial_decays=(1.0, 16.0),
)
