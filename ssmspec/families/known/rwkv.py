"""RWKV-4 to RWKV-7: the decays of time mixing, in the names of BlinkDL's files, of transformers and of flash-linear-attention.

RWKV-4   wkv_t = (e^(u + k_t) v_t + a_t)/(e^(u + k_t) + b_t), a and b forget by z = exp(-exp(w)). At constant keys, where b has settled,
         it is linear in v: skip e^u/S, and k[l] = z^(l-1)/S for l >= 1, with S = e^u + 1/(1 - z)
RWKV-5   o_t = r_t (diag(u) k_t v_t + S_t), S_{t+1} = diag(z) S_t + k_t v_t: at r = k = 1, skip sum u and delay 1
RWKV-6   the same, with w = time_decay plus a low-rank function of the input, which is zero here
RWKV-7   log z = -exp(-1/2) sigmoid(w0 + low rank), the delta rule left out; o_t sees v_t
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.parameterization import softplus
from ssmspec.families.selective.decay_gate import DecayGate
from ssmspec.families.template import LayerTensors, ReadOptions, Slot
from ssmspec.systems.statespace import FloatArray

LARGEST = -np.exp(-0.5)  # log z of the fastest decay of RWKV-7
TOKEN_SHIFT = "without token shift, receptance, gate and norm"


def _exponential(layer: LayerTensors, options: ReadOptions) -> FloatArray:
    """-exp(w), with the rows of one head each where the bonus tells the heads; else one channel each."""
    with np.errstate(over="ignore"):
        log_z = -np.exp(layer.array("bias"))
    heads = (log_z.size, 1) if layer.family == "rwkv-4" else layer.shape("bonus")
    if log_z.size != np.prod(heads):
        raise LayerError(
            f"layer {layer.name}: {layer.tensor_names['bias']} has {log_z.size} values, expected those of {heads[0]} heads of {heads[1]}"
        )
    return np.asarray(log_z.reshape(heads))


def _stored_exponential(layer: LayerTensors, log_z: FloatArray, options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    w = layer.array("bias")
    with np.errstate(over="ignore"):
        return {"bias": np.where(-np.exp(w) == log_z.reshape(w.shape), w, np.log(-log_z).reshape(w.shape))}


def _settled(layer: LayerTensors, log_z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """e^u and S of the module docstring, (K, 1)."""
    first = np.exp(layer.array("bonus")).reshape(-1, 1)
    return first, first - 1 / np.expm1(log_z)


def _first_share(layer: LayerTensors, log_z: FloatArray) -> FloatArray:
    first, total = _settled(layer, log_z)
    return np.asarray((first / total)[:, 0])


def _bonus(layer: LayerTensors, log_z: FloatArray) -> FloatArray:
    return np.asarray(layer.array("bonus").sum(axis=1))


def _sigmoid(layer: LayerTensors, options: ReadOptions) -> FloatArray:
    return np.asarray(LARGEST * np.exp(-softplus(-layer.array("bias").reshape(-1, 1))))


def _stored_sigmoid(layer: LayerTensors, log_z: FloatArray, options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    share, w = log_z / LARGEST, layer.array("bias")
    if (share >= 1).any():
        raise LayerError(
            f"layer {layer.name}: a pole of {np.exp(log_z.min()):.3g} is out of reach: RWKV-7 keeps poles above {np.exp(LARGEST):.3g}"
        )
    kept = _sigmoid(layer, options) == log_z
    return {"bias": np.where(kept.reshape(w.shape), w, (np.log(share) - np.log1p(-share)).reshape(w.shape))}


_HEADS = "at r = k = 1, for one value channel of a head"
RWKV4 = DecayGate(
    name="rwkv-4",
    title="RWKV-4, time mixing at constant keys",
    source="BlinkDL/RWKV-LM, RWKV-v4/src/model.py, cuda/wkv_cuda.cu; transformers, models/rwkv; arXiv 2305.13048",
    templates=({"bias": Slot("time_decay", "C"), "bonus": Slot("time_first", "C")},),
    log_z=_exponential,
    words="constant keys, denominator settled",
    skip=_first_share,
    gain=lambda layer, log_z: 1 / _settled(layer, log_z)[1],
    delay=1,
    left_out=lambda layer: (f"the wkv operator of every channel; {TOKEN_SHIFT}",),
    stored=_stored_exponential,
    absent=("ln_x.weight",),  # RWKV-5
)
RWKV5 = DecayGate(
    name="rwkv-5",
    title="RWKV-5 (Eagle), time mixing",
    source="BlinkDL/RWKV-LM, RWKV-v5/src/model.py (x052), cuda/wkv5_cuda.cu; arXiv 2404.05892",
    templates=({"bias": Slot("time_decay", "h N"), "bonus": Slot("time_faaaa", "h N")},),
    log_z=_exponential,
    words="decays that do not depend on the input",
    skip=_bonus,
    delay=1,
    left_out=lambda layer: (f"{_HEADS}; {TOKEN_SHIFT}",),
    stored=_stored_exponential,
    absent=("time_decay_w1", "time_decay_w2"),  # RWKV-6
)
RWKV6 = DecayGate(
    name="rwkv-6",
    title="RWKV-6 (Finch), time mixing: decay gate only",
    source="BlinkDL/RWKV-LM, RWKV-v5/src/model.py (x060); fla-org/flash-linear-attention, fla/layers/rwkv6.py; arXiv 2404.05892",
    templates=(
        {
            "bonus": Slot("time_faaaa", "h N"),
            "bias": Slot("time_decay", "1 1 C|C"),
            "gate_in": Slot("time_decay_w1", "m r"),
            "gate_out": Slot("time_decay_w2", "r C"),
        },
        {
            "bonus": Slot("bonus", "h N"),
            "bias": Slot("w_proj.linear.lora.2.bias|w_proj.lora.2.bias", "C"),
            "gate_out": Slot("w_proj.linear.lora.2.weight|w_proj.lora.2.weight", "C r"),
        },
    ),
    log_z=_exponential,
    words="bias point, where the low-rank part of the decay is 0",
    skip=_bonus,
    delay=1,
    left_out=lambda layer: (f"{_HEADS}; {TOKEN_SHIFT}",),
    stored=_stored_exponential,
)
RWKV7 = DecayGate(
    name="rwkv-7",
    title="RWKV-7 (Goose), time mixing: decay gate only",
    source="BlinkDL/RWKV-LM, RWKV-v7/rwkv_v7_demo.py (x070); fla-org/flash-linear-attention, fla/layers/rwkv7.py; arXiv 2503.14456",
    templates=(
        {"bias": Slot("w0", "1 1 C|C"), "gate_in": Slot("w1", "m r"), "gate_out": Slot("w2", "r C")},
        {
            "bias": Slot("w_lora.lora.2.bias", "C"),
            "gate_in": Slot("w_lora.lora.0.weight", "r m"),
            "gate_out": Slot("w_lora.lora.2.weight", "C r"),
        },
    ),
    log_z=_sigmoid,
    words="bias point, where the low-rank part of the decay is 0",
    left_out=lambda layer: (
        "only the decay gate is analyzed, per channel; the delta rule's state transition (a, kk) is not included",
        TOKEN_SHIFT,
    ),
    stored=_stored_sigmoid,
)
