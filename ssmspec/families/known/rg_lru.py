"""RG-LRU (Griffin, RecurrentGemma): one real pole per channel, gated by the input, so linear only while the gates are held fixed.

    h_t = z_t h_{t-1} + sqrt(1 - z_t^2) i_t x_t,   log z_t = -8 r_t softplus(recurrent_param),   r_t, i_t = sigmoid(W x_t + b)

Default operating point: the recurrence gate r = sigmoid(its bias), its value when the input-dependent part is zero, and unit residues apart
from the normalization: input gate 1, g = sqrt(1 - z^2). `--operating-point` takes r as delta (0 < delta <= 1) and the input gate as B. The
code does not normalize the first sample after a document boundary; this special case is ignored here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.configuration import UNUSED
from ssmspec.families.parameterization import inverse_softplus, logarithm_of_decay, softplus
from ssmspec.families.selective.calibration import as_samples
from ssmspec.families.selective.decay_gate import recorded_decay
from ssmspec.families.selective.frozen_system import values_of
from ssmspec.families.template import Family, LayerTensors, OperatingPoint, ReadOptions, Slot, Template
from ssmspec.systems.statespace import FloatArray, StateSpace

POWER = 8.0  # c of the paper: z = sigmoid(Lambda)^(c r)
ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11}  # relative, of a stored number


def _recurrence_gate(layer: LayerTensors, options: ReadOptions) -> FloatArray:
    """r of every channel, (W,)."""
    bias = layer.array("recurrence_bias").reshape(-1)
    width = layer.sizes["W"]
    if bias.size != width:
        name = layer.tensor_names["recurrence_bias"]
        raise LayerError(f"layer {layer.name}: {name} has {bias.size} values, expected {width}, one per channel")
    given = None if options.operating_point is None else options.operating_point.delta
    recorded = recorded_decay(layer, options, width)
    if recorded is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(recorded[0] / (-POWER * softplus(layer.array("param"))))
    if given is None:
        return np.asarray(np.exp(-softplus(-bias)))  # sigmoid
    gate = values_of(given, (width,), "delta", layer)
    if (gate > 1).any():
        raise LayerError(f"layer {layer.name}: operating point delta is the recurrence gate in this family; expected 0 < delta <= 1")
    return gate


def _input_gate(layer: LayerTensors, options: ReadOptions, shape: tuple[int, ...]) -> tuple[FloatArray, str]:
    """The input gate of every channel, and where it comes from."""
    point = options.operating_point or OperatingPoint()
    if point.B is None and options.calibration is not None:
        record = options.calibration.record(layer.name, "B")
        if record is not None:
            samples = as_samples(record, [shape], layer.name, "B")
            return samples.mean(axis=0), f", mean of the recorded input gate{', C as given' if point.C is not None else ''}"
    words = ", input gate 1" if point.B is None and point.C is None else ", B and C as given"
    return values_of(point.B, shape, "B", layer), words


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One copy per channel, with one real pole."""
    gate = _recurrence_gate(layer, options)
    param = layer.array("param")
    logarithm = -POWER * gate * softplus(param)
    point = options.operating_point or OperatingPoint()
    input_gate, gate_words = _input_gate(layer, options, param.shape)
    gain = np.sqrt(-np.expm1(2 * logarithm)) * input_gate
    recorded = recorded_decay(layer, options, param.size)
    words = "bias point, recurrence gate = sigmoid(gate bias)" if recorded is None else recorded[1]
    words = ("recurrence gate as given (delta)" if point.delta is not None else words) + gate_words
    assumptions = [f"operating point: {words}; g = sqrt(1 - z^2); response of the state alone, without conv1d, gates and projections"]
    if options.residues == "rms":
        assumptions.append("unit residues instead of rms: B and C of this layer are not projections of its input")
    dtype = layer.tensors["param"].dtype
    if dtype in ROUNDOFF:
        with np.errstate(invalid="ignore"):
            error = float(np.max(ROUNDOFF[dtype] * np.abs(param) * np.exp(-softplus(-param)) / softplus(param)))
        assumptions.append(f"{layer.tensor_names['param']} is stored in {dtype}: log z is known to {100 * error:.2g} % at best")
    return [
        StateSpace(
            name=layer.name,
            family=layer.family,
            poles=np.exp(logarithm).astype(complex)[:, None],
            B=gain.astype(complex)[:, None, None],
            C=(values_of(point.C, param.shape, "C", layer) / 2).astype(complex)[:, None, None],
            D=np.zeros((param.size, 1, 1)),
            step=np.ones((param.size, 1)),
            discretization="direct",
            operating_point=f"{words}; gate in {gate.min():.3g}..{gate.max():.3g}",
            assumptions=tuple(assumptions),
        )
    ]


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The recurrence parameter for the given poles, at the gates of the operating point; the residues follow from the poles."""
    (system,) = systems
    gate = _recurrence_gate(layer, options)
    return {"param": inverse_softplus(-logarithm_of_decay(system)[:, 0] / (POWER * gate))}


def _template(param: str, recurrence: str, ends: tuple[str, str]) -> Template:
    weight, bias = ends
    return {
        "param": Slot(param, "W"),
        "recurrence_bias": Slot(recurrence + bias, "h w"),
        "recurrence_weight": Slot(recurrence + weight, "h w w"),
        "input_bias": Slot("input_gate" + bias, "h w"),
        "input_weight": Slot("input_gate" + weight, "h w w"),
    }


RG_LRU = Family(
    name="rg-lru",
    title="RG-LRU (Griffin, RecurrentGemma)",
    source="transformers, models/recurrent_gemma; google-deepmind/recurrentgemma, recurrentgemma/torch/layers.py; arXiv 2402.19427",
    templates=(
        _template("recurrent_param", "recurrent_gate", ("_weight", "_bias")),
        _template("a_param", "a_gate", (".w", ".b")),
    ),
    read=read,
    write=write,
    unused=UNUSED,
    absent=("a_imag_param",),
    selective=True,
)
