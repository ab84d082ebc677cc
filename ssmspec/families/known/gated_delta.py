"""Gated delta nets (Qwen3-Next, Olmo Hybrid, Kimi Linear and K3, GLM-5-Next, Ling-3): only their decay gate is read.

    S_t = z_t (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T,   z_t = exp(-exp(A_log) softplus(a_t + dt_bias))
    gate with a lower bound b:                                     z_t = exp(b sigmoid(exp(A_log) (a_t + dt_bias)))

z is one number per head (Kimi and the like: per key channel). The layer is frozen where the input-dependent part a_t is zero, with beta = 0
in the transition and unit residues. What remains is a real pole z per head or channel: how long the state remembers what the delta rule
does not overwrite. Changed poles are written to dt_bias. The configuration, and no tensor, says whether a gate per channel has a lower
bound (a "safe gate").

`--operating-point` takes softplus(a + dt_bias) as delta or, for a bounded gate, the sigmoid, between 0 and 1.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.assumption import Assumption, Value
from ssmspec.families.configuration import UNUSED, model_types, number_of, places
from ssmspec.families.parameterization import inverse_softplus, softplus
from ssmspec.families.selective.decay_gate import DecayGate, Decays
from ssmspec.families.selective.frozen_system import values_of
from ssmspec.families.template import LayerTensors, OperatingPoint, ReadOptions, Slot, Template
from ssmspec.systems.statespace import FloatArray

UNBOUNDED = "none"
USUAL_BOUND = -5.0
BOUNDS: Mapping[str, Value] = {
    **dict.fromkeys(("glm5_next", "glm5_next_text", "bailing_hybrid"), USUAL_BOUND),
    **dict.fromkeys(("kimi_linear", "kda"), UNBOUNDED),
}
"""What the code of a model has where the configuration has no key for it, by model_type."""
KEYS = ("linear_lower_bound", "gate_lower_bound", "lower_bound", "safe_gate", "kda_lower_bound", "kda_safe_gate")
BESIDE = {  # role -> what it does to the state
    "decay": "decay scales the key that the delta rule takes out of the state",
    "correction": "D takes a share of that key out of the query",
    "A_log_atk": "A_log_atk, dt_bias_atk and log_atk_scale scale the keys by a second, slower state",
}


def _bound_in(place: Mapping[str, object]) -> tuple[Value, str] | None:
    """The bound that one table of a configuration gives, and the key.

    A switch that is on without a number stands for the usual bound. A null is "no bound", but beside linear_attn_config, whose reader in
    glm5_next puts the usual one in its place.
    """
    inner = place.get("linear_attn_config")
    nested = inner if isinstance(inner, dict) else {}
    for table, prefix, names, switch in (
        (nested, "linear_attn_config.", ("gate_lower_bound", "lower_bound"), "safe_gate"),
        (place, "", ("linear_lower_bound",), ""),
        (place, "", ("kda_lower_bound",), "kda_safe_gate"),
        (place, "", ("lower_bound",), "safe_gate"),
    ):
        given = {name: number_of(table[name]) for name in names if name in table}
        numbers = [(value, prefix + name) for name, value in given.items() if value is not None and np.isfinite(value)]
        state = table.get(switch)
        if state is False and (switch == "kda_safe_gate" or not numbers):
            return UNBOUNDED, prefix + switch
        if numbers:  # the kernels of fla apply a bound that is there, whatever safe_gate says
            return numbers[0]
        if state is True:
            return USUAL_BOUND, prefix + switch
        if given and not nested:
            return UNBOUNDED, next(iter(given))
    return None


def _told_bound(layer: LayerTensors, config: Mapping[str, object]) -> tuple[Value, str] | None:
    for prefix, place in places(config, ("text_config",)):
        found = _bound_in(place)
        if found is not None:
            return found[0], f"{prefix}{found[1]} of the configuration"
    known = next((name for name in model_types(config) if name in BOUNDS), None)
    return None if known is None else (BOUNDS[known], f"the code of model_type {known}")


def _per_channel(layer: LayerTensors, options: ReadOptions) -> bool:
    return "c" in layer.sizes


def _usual_bound(layer: LayerTensors) -> Value | None:
    """Only Ling-3 has one full matrix for the gate, and its code bounds it unless told otherwise."""
    return USUAL_BOUND if layer.tensor_names["gate"].endswith("f_proj.weight") else None


BOUND = Assumption(
    name="gate_lower_bound",
    about="the lower bound of log z of a gate per channel; none: z = exp(-exp(A_log) softplus(dt_bias))",
    values=(UNBOUNDED,),
    typical=USUAL_BOUND,
    source="transformers, models/glm5_next, bailing_hybrid; fla-org/flash-linear-attention, fla/ops/kda/gate.py, naive_kda_lowerbound_gate",
    told_by=f"the configuration: {', '.join(KEYS)}, also in linear_attn_config and text_config; model_type",
    told=_told_bound,
    keys=(*KEYS, "model_type"),
    default_for=_usual_bound,
    applies=_per_channel,
)


def _bound(layer: LayerTensors, options: ReadOptions) -> float | None:
    """The lower bound of log z, or None."""
    value = BOUND.value(layer, options) if _per_channel(layer, options) else UNBOUNDED
    return value if isinstance(value, float) else None


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


def _logarithm(layer: LayerTensors, options: ReadOptions) -> FloatArray:
    return _at(layer, options).log_z


def _at(layer: LayerTensors, options: ReadOptions) -> Decays:
    """log z of every copy, and the delta that it comes from."""
    rate, bound, given = _rate(layer), _bound(layer, options), (options.operating_point or OperatingPoint()).delta
    with np.errstate(over="ignore", invalid="ignore"):
        if given is not None:
            delta, words = values_of(given, rate.shape, "delta", layer), "delta as given"
            if bound is not None and (delta > 1).any():
                raise LayerError(
                    f"layer {layer.name}: operating point delta is the sigmoid of a bounded gate here, expected 0 < delta <= 1"
                )
        elif bound is None:
            delta, words = softplus(layer.array("dt_bias")), "bias point, delta = softplus(dt bias)"
        else:
            delta = np.exp(-softplus(-rate * layer.array("dt_bias")))
            words = "bias point, delta = sigmoid(exp(A_log) dt bias)"
        log_z = ((-rate if bound is None else bound) * delta)[:, None]
    return Decays(log_z, words, f"delta in {delta.min():.3g}..{delta.max():.3g}")


def _left_out(layer: LayerTensors) -> list[str]:
    lines = ["only the decay gate is analyzed; the delta rule's state transition (I - beta k k^T) is not included"]
    return lines + [f"{text}; it is not included ({layer.tensor_names[role]})" for role, text in BESIDE.items() if role in layer]


def _stored(layer: LayerTensors, log_z: FloatArray, options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """dt_bias for the given poles; A_log is unchanged. With a user-given delta, no stored value needs to change.

    Raises:
        LayerError: a pole that a gate with a lower bound cannot have.
    """
    stored: dict[str, npt.NDArray[Any]] = {"A_log": layer.array("A_log")}
    if options.operating_point is not None and options.operating_point.delta is not None:
        return stored
    logarithm, rate, bound = log_z[:, 0], _rate(layer), _bound(layer, options)
    if bound is None:
        return stored | {"dt_bias": inverse_softplus(-logarithm / rate)}
    share = logarithm / bound
    if (share >= 1).any():
        raise LayerError(
            f"layer {layer.name}: a pole of {np.exp(logarithm.min()):.3g} is beyond the lower bound {bound:g} of its gate, "
            f"which keeps poles above {np.exp(bound):.3g}"
        )
    return stored | {"dt_bias": (np.log(share) - np.log1p(-share)) / rate}


def _kimi(gate: str, *projections: str) -> Template:
    return {
        "A_log": Slot(gate + "A_log", "h|1 1 h 1"),
        "dt_bias": Slot(gate + "dt_bias", "c"),
        "gate": Slot("|".join(gate + projection for projection in projections), "c r"),
        "beta": Slot("b_proj.weight", "h m"),
        "A_log_atk": Slot("A_log_atk", "h", optional=True),
    }


_HEADS = {"A_log": Slot("A_log", "h"), "dt_bias": Slot("dt_bias", "h")}
_BESIDE = {"decay": Slot("decay", "k", optional=True), "correction": Slot("D", "k", optional=True)}

GATED_DELTA = DecayGate(
    name="gated-delta",
    title="Gated delta net: decay gate only, not a full SSM",
    source="transformers, models/qwen3_next, kimi_linear, glm5_next, bailing_hybrid; "
    "fla-org/flash-linear-attention, fla/layers/gated_deltanet.py, kda.py, comba.py",
    templates=(
        _HEADS | {"gate": Slot("in_proj_ba.weight", "2h m")},
        _HEADS
        | {"gate": Slot("in_proj_a.weight|a_proj.weight", "h m"), "beta": Slot("in_proj_b.weight|b_proj.weight", "h m")}
        | {"A_log_atk": Slot("A_log_atk", "k", optional=True), **_BESIDE},
        _kimi("forget_gate.", "f_b_proj.weight", "f_proj.weight"),
        _kimi("", "f_b_proj.weight", "f_proj.1.weight", "f_proj.weight"),
    ),
    log_z=_logarithm,
    at=_at,
    bias="A_log",
    left_out=_left_out,
    stored=_stored,
    assumptions=(BOUND,),
    unused=UNUSED
    | dict.fromkeys(("allow_neg_eigval", "linear_allow_neg_eigval"), "it scales beta of the delta rule, which is not included"),
    initial_decays=(0.0, 16.0),
)
