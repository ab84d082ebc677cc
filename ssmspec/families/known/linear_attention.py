"""Linear attention with a forget gate: xLSTM's mLSTM, GLA, HGRN and HGRN2, read where the input-dependent part of the gate is zero.

mLSTM    z = sigmoid(b), b the bias of the forget gate of a head; xLSTM-7B: z = sigmoid(c tanh(b/c))
GLA      log z = log sigmoid(b)/16, per key channel
HGRN     z = beta + (1 - beta) sigmoid(0), input times 1 - z; beta of layer i = sum of softmax(lower_bounds) over layers 1..i
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.assumption import TRUTH, Assumption, Value
from ssmspec.families.configuration import number_of, places
from ssmspec.families.parameterization import softplus
from ssmspec.families.selective.decay_gate import DecayGate
from ssmspec.families.template import LayerTensors, ReadOptions, Slot
from ssmspec.systems.statespace import FloatArray

NONE = "none"
FLA = "fla-org/flash-linear-attention"


def _told(key: str) -> Any:
    """Looks up a number of the configuration, or a null, which means none."""

    def told(layer: LayerTensors, config: Mapping[str, object]) -> tuple[Value, str] | None:
        for prefix, place in places(config):
            if key in place:
                number = number_of(place[key])
                if place[key] is None or number is not None:
                    return (NONE if number is None else number), f"{prefix}{key} of the configuration"
        return None

    return told


def _told_truth(layer: LayerTensors, config: Mapping[str, object]) -> tuple[Value, str] | None:
    for prefix, place in places(config):
        if isinstance(place.get("use_lower_bound"), bool):
            return str(place["use_lower_bound"]).lower(), f"{prefix}use_lower_bound of the configuration"
    return None


def _capped(layer: LayerTensors, options: ReadOptions) -> bool:
    return not layer.tensor_names["bias"].endswith("mlstm_cell.fgate.bias")


SOFT_CAP = Assumption(
    name="gate_soft_cap",
    about="c of the soft cap c tanh(b/c) on the bias of the forget gate",
    values=("15", NONE),
    typical=30.0,
    source="NX-AI/xlstm, xlstm/xlstm_large/model.py, mLSTMLayer; transformers, models/xlstm",
    told_by="gate_soft_cap of the configuration",
    told=_told("gate_soft_cap"),
    keys=("gate_soft_cap",),
    applies=_capped,
)
NORMALIZER = Assumption(
    name="gla_normalizer",
    about="what the logarithm of the gate is divided by",
    values=("16",),
    typical=1.0,
    source=f"{FLA}, fla/layers/gla.py, GatedLinearAttention, gate_logit_normalizer",
    told_by="gate_logit_normalizer of the configuration",
    told=_told("gate_logit_normalizer"),
    keys=("gate_logit_normalizer",),
)
CLAMP = Assumption(
    name="gla_clamp_min",
    about="the smallest log z",
    values=(NONE,),
    typical=-1.0,
    source=f"{FLA}, fla/layers/gla.py, GatedLinearAttention, clamp_min",
    told_by="clamp_min of the configuration",
    told=_told("clamp_min"),
    keys=("clamp_min",),
    quiet=True,
)
LOWER_BOUND = Assumption(
    name="use_lower_bound",
    about="whether the stored lower bounds of the forget gates are used",
    values=TRUTH[::-1],
    source=f"{FLA}, fla/models/hgrn/modeling_hgrn.py, use_lower_bound",
    told_by="use_lower_bound of the configuration",
    told=_told_truth,
    keys=("use_lower_bound",),
)


def _number(value: Value) -> float | None:
    return None if value == NONE else float(value)


def _bias(layer: LayerTensors) -> FloatArray:
    """The bias of the forget gate; the second half of a fused tensor of both gates."""
    bias = layer.array("bias")
    return bias[len(bias) // 2 :] if layer.tensor_names["bias"].endswith("ifgate_preact.bias") else bias


def _of_mlstm(layer: LayerTensors, options: ReadOptions) -> FloatArray:
    bias, cap = _bias(layer), _number(SOFT_CAP.value(layer, options)) if _capped(layer, options) else None
    return -softplus(-(bias if cap is None else cap * np.tanh(bias / cap)))[:, None]


def _stored_mlstm(layer: LayerTensors, log_z: FloatArray, options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    cap = _number(SOFT_CAP.value(layer, options)) if _capped(layer, options) else None
    argument = log_z[:, 0] - np.log(-np.expm1(log_z[:, 0]))  # the logit of z
    if cap is not None and (np.abs(argument) >= cap).any():
        raise LayerError(f"layer {layer.name}: the soft cap {cap:g} keeps poles in {_sigmoid(-cap):.3g}..1 - {_sigmoid(-cap):.3g}")
    found = argument if cap is None else cap * np.arctanh(argument / cap)
    bias = np.where(_of_mlstm(layer, options)[:, 0] == log_z[:, 0], _bias(layer), found)
    whole = layer.array("bias")
    return {"bias": np.concatenate([whole[: len(whole) - len(bias)], bias])}


def _sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def _of_gla(layer: LayerTensors, options: ReadOptions) -> FloatArray:
    normalizer, least = _number(NORMALIZER.value(layer, options)), _number(CLAMP.value(layer, options))
    log_z = -softplus(-layer.array("bias")) / (normalizer or 1.0)
    return (log_z if least is None else np.maximum(log_z, least))[:, None]


def _stored_gla(layer: LayerTensors, log_z: FloatArray, options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    scaled = log_z[:, 0] * (_number(NORMALIZER.value(layer, options)) or 1.0)
    kept = _of_gla(layer, options)[:, 0] == log_z[:, 0]
    return {"bias": np.where(kept, layer.array("bias"), scaled - np.log(-np.expm1(scaled)))}


def _of_hgrn(layer: LayerTensors, options: ReadOptions) -> FloatArray:
    """log z of all channels of all layers; 1 - beta is a sum of positive terms."""
    bounds = layer.array("bias")
    if LOWER_BOUND.value(layer, options) == "false":
        return np.full((bounds.size, 1), -np.log(2))
    share = np.exp(bounds - bounds.max(axis=0))
    share /= share.sum(axis=0)
    later = np.flip(np.cumsum(np.flip(share, axis=0), axis=0), axis=0) - share
    return np.log1p(-(share[0] + later) / 2).reshape(-1, 1)


MLSTM = DecayGate(
    name="mlstm",
    title="xLSTM, mLSTM: forget gate only",
    source="NX-AI/xlstm, xlstm/blocks/mlstm/cell.py, xlstm/xlstm_large/model.py; transformers, models/xlstm; arXiv 2405.04517",
    templates=(
        {"bias": Slot("mlstm_cell.fgate.bias", "h"), "gate": Slot("mlstm_cell.fgate.weight", "h m")},
        {"bias": Slot("mlstm_layer.fgate_preact.bias", "h"), "gate": Slot("mlstm_layer.fgate_preact.weight", "h m")},
        {"bias": Slot("mlstm_layer.ifgate_preact.bias", "2h"), "gate": Slot("mlstm_layer.ifgate_preact.weight", "2h m")},
    ),
    log_z=_of_mlstm,
    words="bias point, forget gate = sigmoid(its bias)",
    left_out=lambda layer: ("only the forget gate is analyzed; the normalizer of the output and the input gate are not included",),
    stored=_stored_mlstm,
    assumptions=(SOFT_CAP,),
)
GLA = DecayGate(
    name="gla",
    title="Gated linear attention: decay gate only",
    source=f"{FLA}, fla/layers/gla.py; arXiv 2312.06635",
    templates=(
        {
            "bias": Slot("gk_proj.1.bias", "k"),
            "gate_out": Slot("gk_proj.1.weight", "k r"),
            "gate_in": Slot("gk_proj.0.weight", "r m"),
        },
    ),
    log_z=_of_gla,
    words="bias point, gate = sigmoid(its bias)",
    left_out=lambda layer: ("only the decay gate is analyzed, per key channel",),
    stored=_stored_gla,
    assumptions=(NORMALIZER, CLAMP),
)


def _hgrn(name: str, number: str, projection: str, source: str) -> DecayGate:
    return DecayGate(
        name=name,
        title=f"{number}: forget gates at their lower bounds",
        source=source,
        templates=(
            {
                "bias": Slot("lower_bounds", "n d"),
                "gate": Slot("layers.0.attn.f_proj.weight", "d m"),
                "other": Slot(f"layers.0.attn.{projection}.weight", "d m"),
            },
        ),
        log_z=_of_hgrn,
        words="gate input 0, z = beta + (1 - beta)/2",
        gain=lambda layer, log_z: -np.expm1(log_z),
        labels=lambda layer: [f":layers.{number}" for number in range(layer.sizes["n"])],
        left_out=lambda layer: ("only the forget gate is analyzed; the input is weighed by 1 - z",),
        fixed="the lower bounds are a softmax over the layers of the model, so the decays of one layer cannot be stored alone",
        assumptions=(LOWER_BOUND,),
    )


HGRN = _hgrn("hgrn", "HGRN", "g_proj", f"{FLA}, fla/layers/hgrn.py, fla/models/hgrn; arXiv 2311.04823")
HGRN2 = _hgrn("hgrn2", "HGRN2", "q_proj", f"{FLA}, fla/layers/hgrn2.py, fla/models/hgrn2; arXiv 2404.07904")
