"""Mamba-1, also in Falcon-Mamba and Jamba, and with several heads in Zamba: N real poles a = -exp(A_log) per channel.

The rows of x_proj compute, in this order, the low-rank part of Delta, then B, then C from the channels. B and C are shared by all channels
(in Zamba, by those of one head). Jamba and Falcon-Mamba apply RMS norms to all three.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.configuration import UNUSED, model_types
from ssmspec.families.selective.frozen_system import Frozen, freeze, selective_system, stored_bias, values_of
from ssmspec.families.selective.residues import after_norm, factor, gram
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot, Template
from ssmspec.systems.statespace import FloatArray, StateSpace

NORMS = ("dt_norm", "B_norm", "C_norm")
NORMED = (
    "Delta, B and C pass through RMS norms: the input cannot change the size of the input-dependent part of Delta, so no token is at the"
    " bias point"
)


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per channel, N real poles each; B and C (N,) or (heads, N) are shared by the channels (of a head)."""
    shape = layer.tensors["A_log"].shape
    heads, states = (shape[0] if len(shape) == 3 else 1), shape[-1]
    with np.errstate(over="ignore"):
        poles = -np.exp(layer.array("A_log")).reshape(-1, states)
    vectors = [(heads, states), (heads * states,)]
    frozen = freeze(layer, options, copies=shape[:-1], states=vectors)
    if options.residues == "rms":
        M = np.multiply(*(frozen.moments or _moments(layer, options, heads, states)))
        outputs = factor(M)
    else:
        outputs = np.multiply(*(_vector(values, heads, states, letter, layer) for letter, values in _letters(frozen)))[:, None, :]
    C = np.repeat(outputs, len(poles) // heads, axis=0)
    notes = (NORMED,) if _normed(layer, options) else ()
    return [selective_system(layer, options, frozen, poles=poles, C=C, notes=notes)]


def _letters(frozen: Frozen) -> tuple[tuple[str, FloatArray | None], ...]:
    return ("B", frozen.B), ("C", frozen.C)


def _vector(values: FloatArray | None, heads: int, states: int, letter: str, layer: LayerTensors) -> FloatArray:
    """The given values as (heads, N); with one head, the first axis may be missing."""
    if heads == 1:
        return values_of(None if values is None else values.reshape(values.shape[-1:]), (states,), letter, layer)[None]
    return values_of(values, (heads, states), letter, layer)


def _moments(layer: LayerTensors, options: ReadOptions, heads: int, states: int) -> tuple[FloatArray, FloatArray]:
    """Second moments of B and C for white input to x_proj, whose rows are dt, B, C."""
    rows = layer.shape("x_proj")[-2]
    low_rank = rows - 2 * states
    if low_rank < 1:
        raise LayerError(f"layer {layer.name}: {rows} rows of x_proj cannot hold dt, B and C of {states} states each")
    if heads == 1 and len(layer.tensors["x_proj"].shape) == 2:
        both = layer.rows("x_proj", low_rank, rows)[None]
    else:
        both = np.concatenate([layer.rows("x_proj", head, head + 1)[:, low_rank:] for head in range(heads)])
    moments = gram(both[:, :states]), gram(both[:, states:])
    if not _normed(layer, options):
        return moments
    B, C = (after_norm(M, layer.array(role) if role in layer else None) for role, M in zip(NORMS[1:], moments, strict=True))
    return B, C


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


_NORM_SLOTS: Template = {
    "dt_norm": Slot("dt_layernorm.weight", "r", optional=True),
    "B_norm": Slot("b_layernorm.weight", "N", optional=True),
    "C_norm": Slot("c_layernorm.weight", "N", optional=True),
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
            "dt_proj": Slot("dt_proj.weight", "d r"),
            "D": Slot("D", "d", optional=True),
            **_NORM_SLOTS,
        },
    ),
    read=read,
    write=write,
    unused=UNUSED,
    selective=True,
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
)
