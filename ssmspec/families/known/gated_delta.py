"""Gated delta nets (Qwen3-Next, Olmo Hybrid, Kimi Linear): their decay gate, and nothing else of them.

    S_t = z_t (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T,   z_t = exp(-exp(A_log) softplus(a_t + dt_bias))

z is one number per head (Kimi: per key channel). Frozen where the selected part a_t is zero, with beta = 0 in the transition and unit
residues, what is left is a real pole z per head or channel: how long the state remembers what the delta rule does not overwrite. Changed
poles are written to dt_bias. A gate with a lower bound ("safe gate" of some Kimi-like models) has another formula and no tensor of its own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.parameterization import inverse_softplus, logarithm_of_decay, softplus
from ssmspec.families.selective.frozen_system import values_of
from ssmspec.families.template import Family, LayerTensors, OperatingPoint, ReadOptions, Slot, Template
from ssmspec.systems.statespace import FloatArray, StateSpace


def _rate(layer: LayerTensors) -> FloatArray:
    """exp(A_log) of every copy: per head, or repeated over the channels of each head."""
    with np.errstate(over="ignore"):
        rate = np.exp(layer.array("A_log").reshape(-1))
    copies = layer.tensors["dt_bias"].shape[0]
    if copies % rate.size:
        raise LayerError(
            f"layer {layer.name}: {layer.tensor_names['dt_bias']} has {copies} values, expected a multiple of {rate.size} heads"
        )
    return np.repeat(rate, copies // rate.size)


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per head or channel, with one real pole."""
    rate, point = _rate(layer), options.operating_point or OperatingPoint()
    delta = softplus(layer.array("dt_bias")) if point.delta is None else values_of(point.delta, rate.shape, "delta", layer)
    words = "bias point, delta = softplus(dt bias)" if point.delta is None else "delta as given"
    words += ", unit residues (B = C = 1)" if point.B is None and point.C is None else ", B and C as given"
    assumptions = [
        "decay gate only: the delta rule's state transition (I - beta k k^T) is not included",
        f"operating point: {words}; without conv1d, keys, queries and output gate",
    ]
    if rate.size != layer.sizes["h"]:
        assumptions.append("gate without a lower bound (safe_gate off): no tensor tells")
    if options.residues == "rms":
        assumptions.append("unit residues, not rms: B and C of this layer are no projections of its input")
    dtype = layer.tensors["A_log"].dtype
    if dtype in ("bfloat16", "float16"):
        assumptions.append(f"A_log is stored in {dtype}: log z is known to {'0.8' if dtype == 'bfloat16' else '0.1'} % at best")
    with np.errstate(over="ignore", invalid="ignore"):
        poles = np.exp(-rate * delta)
    return [
        StateSpace(
            name=layer.name,
            family=layer.family,
            poles=poles.astype(complex)[:, None],
            B=values_of(point.B, rate.shape, "B", layer).astype(complex)[:, None, None],
            C=(values_of(point.C, rate.shape, "C", layer) / 2).astype(complex)[:, None, None],
            D=np.zeros((rate.size, 1, 1)),
            step=np.ones((rate.size, 1)),
            discretization="direct",
            operating_point=f"{words}; delta in {delta.min():.3g}..{delta.max():.3g}",
            assumptions=tuple(assumptions),
        )
    ]


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """dt_bias for the poles, with A_log as it is; at a given delta there is nothing stored to change."""
    (system,) = systems
    stored: dict[str, npt.NDArray[Any]] = {"A_log": layer.array("A_log")}
    if options.operating_point is None or options.operating_point.delta is None:
        stored["dt_bias"] = inverse_softplus(-logarithm_of_decay(system)[:, 0] / _rate(layer))
    return stored


def _kimi(gate: str, projection: str) -> Template:
    return {
        "A_log": Slot(gate + "A_log", "h|1 1 h 1"),
        "dt_bias": Slot(gate + "dt_bias", "c"),
        "gate": Slot(gate + projection, "c r"),
        "beta": Slot("b_proj.weight", "h m"),
    }


_HEADS = {"A_log": Slot("A_log", "h"), "dt_bias": Slot("dt_bias", "h")}

GATED_DELTA = Family(
    name="gated-delta",
    title="Gated delta net: its decay gate only, not a full SSM",
    source="transformers, models/qwen3_next, models/kimi_linear; fla-org/flash-linear-attention, fla/layers/gated_deltanet.py, kda.py",
    templates=(
        _HEADS | {"gate": Slot("in_proj_ba.weight", "2h m")},
        _HEADS | {"gate": Slot("in_proj_a.weight|a_proj.weight", "h m"), "beta": Slot("in_proj_b.weight|b_proj.weight", "h m")},
        _kimi("forget_gate.", "f_b_proj.weight"),
        _kimi("", "f_b_proj.weight|f_proj.1.weight"),
    ),
    read=read,
    write=write,
    selective=True,
)
