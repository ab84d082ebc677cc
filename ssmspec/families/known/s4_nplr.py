"""S4 v2, normal plus low rank: A = diag(w) - P Q^T with Q stored already conjugated, bilinear, C stored as C~, output 2 Re.

In its Hurwitz form w = -exp(log_w_real) + i w_imag, and Q is the conjugate of P if it is not stored.

S tied copies of w, B, P and Q serve H channels in the order '(v s)'. Two channels are two directions: two layers that share A, B, P and Q.
D belongs to the forward one.
The kernel length L of C~ is the tensor `L` if there is one (v2.1), otherwise 2 (len(omega) - 1).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.assumption import Assumption
from ssmspec.families.parameterization import (
    POSITIVE,
    Transform,
    fold,
    fold_rows,
    missing_length,
    stored_length,
    stored_output_matrix,
    tile,
    true_output_matrix,
    untile,
)
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Resizing, Slot, as_complex
from ssmspec.systems.statespace import ComplexArray, StateSpace

_REST = {
    "log_dt": Slot("kernel.kernel.log_dt", "H"),
    "B": Slot("kernel.kernel.B", "1 S N ~"),
    "P": Slot("kernel.kernel.P", "R S N ~"),
    "C": Slot("kernel.kernel.C", "ch H N ~"),
    "D": Slot("D", "skip H", optional=True),
    "omega": Slot("kernel.kernel.omega", "nodes ~", optional=True),
    "L": Slot("kernel.kernel.L", "|1", optional=True),
}


REAL = Assumption(
    name="s4_real_transform",
    about="what -Re a is of the stored inv_w_real",
    values=("exp", "relu", "softplus", "sigmoid", "none"),
    source="state-spaces/s4 v3 (commit b766e87), src/models/sequence/ss/kernel.py, SSKernelNPLR.real_type",
)


def _transform(layer: LayerTensors, options: ReadOptions) -> Transform:
    """From the stored number to -Re a, and back: of v2 exp, of v3 an option whose relu has no shift."""
    if not layer.tensor_names["log_w_real"].endswith("inv_w_real"):
        return POSITIVE["exp"]
    name = REAL.value(layer, options)
    return (lambda x: np.maximum(x, 0), lambda y: y) if name == "relu" else POSITIVE[name]


def _diagonal(layer: LayerTensors, options: ReadOptions) -> ComplexArray:
    if "w" in layer:
        return tile(layer.complex_array("w"), layer.sizes["H"], layer.name)
    with np.errstate(over="ignore"):
        stored = as_complex(-_transform(layer, options)[0](layer.array("log_w_real")), layer.array("w_imag"))
    return tile(stored, layer.sizes["H"], layer.name)


def _low_rank(layer: LayerTensors, role: str) -> ComplexArray:
    return tile(np.moveaxis(layer.complex_array(role), 0, -1), layer.sizes["H"], layer.name)


def _length(layer: LayerTensors, options: ReadOptions) -> int:
    if options.length is not None:
        return options.length
    if "L" in layer:
        return stored_length(layer, "L", options)
    if "omega" in layer:
        return 2 * (layer.sizes["nodes"] - 1)
    raise missing_length(layer, options)


def _directions(layer: LayerTensors) -> list[str]:
    channels, skips = layer.sizes["ch"], layer.sizes.get("skip", 1)
    if channels == skips:
        return [f":channel{c}" for c in range(channels)] if channels > 1 else [""]
    if channels == 2 * skips == 2:
        return [":forward", ":backward"]
    raise LayerError(f"layer {layer.name}: C has {channels} channels, D {skips}; expected equal numbers, or two directions of one channel")


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Convert the tensors of one layer to its state spaces, with the formulas of the module docstring."""
    w = _diagonal(layer, options)
    lower = w.imag < 0
    with np.errstate(over="ignore"):
        step = np.exp(layer.array("log_dt"))[:, None]
    P = _low_rank(layer, "P")
    Q = _low_rank(layer, "Q").conj() if "Q" in layer else P
    B_shared = tile(layer.complex_array("B")[0], len(w), layer.name)[:, :, None]
    length = _length(layer, options)
    systems = []
    for channel, label in enumerate(_directions(layer)):
        poles, B, C = fold(lower, w, B_shared, layer.complex_array("C")[channel][:, None, :])
        with_skip = "D" in layer and label != ":backward"
        D = layer.array("D")[min(channel, layer.sizes["skip"] - 1)] if with_skip else np.zeros(len(w))
        system = StateSpace(
            name=layer.name + label,
            family=layer.family,
            poles=poles,
            B=B,
            C=C,
            D=D[:, None, None],
            step=step,
            discretization="bilinear",
            P=fold_rows(lower, P),
            Q=fold_rows(lower, Q),
            assumptions=() if length > 0 else ("L is not set, so the stored C is taken as the true C",),
        )
        systems.append(replace(system, C=true_output_matrix(system, length)) if length > 0 else system)
    return systems


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`."""
    lower = _diagonal(layer, options).imag < 0
    first = systems[0]
    assert first.P is not None
    assert first.Q is not None
    S = layer.sizes["S"]
    poles, B, _ = fold(lower, first.poles, first.B, first.C)
    poles = untile(poles, S, layer.name)
    length = _length(layer, options)
    outputs = [fold(lower, s.poles, s.B, stored_output_matrix(s, length) if length > 0 else s.C)[2][:, 0, :] for s in systems]
    stored: dict[str, npt.NDArray[Any]] = {
        "log_dt": np.log(first.step[:, 0]),
        "B": layer.as_stored("B", untile(B[:, :, 0], S, layer.name)[None]),
        "C": layer.as_stored("C", np.stack(outputs)),
        "P": layer.as_stored("P", np.moveaxis(untile(fold_rows(lower, first.P), S, layer.name), -1, 0)),
    }
    if "Q" not in layer and not np.array_equal(first.P, first.Q):
        raise LayerError(f"layer {layer.name}: Q is not stored but computed as the conjugate of P; the two must change together")
    if "Q" in layer:
        stored["Q"] = layer.as_stored("Q", np.moveaxis(untile(fold_rows(lower, first.Q), S, layer.name), -1, 0).conj())
    if "w" in layer:
        stored["w"] = layer.as_stored("w", poles)
    else:
        stored |= {"log_w_real": _transform(layer, options)[1](-poles.real), "w_imag": poles.imag}
    if "D" in layer:
        stored["D"] = np.stack([s.D[:, 0, 0] for s in systems[: layer.sizes["skip"]]])
    return stored


S4_NPLR = Family(
    name="s4-nplr-v2",
    title="S4 v2, normal plus low rank",
    source="state-spaces/s4 v2 (src/models/sequence/ss/standalone/s4.py), as in raminmh/liquid-s4; arXiv 2111.00396",
    templates=(
        {"w": Slot("kernel.kernel.w", "S N ~"), "Q": Slot("kernel.kernel.Q", "R S N ~")} | _REST,
        {
            "log_w_real": Slot("kernel.kernel.log_w_real", "S N"),
            "w_imag": Slot("kernel.kernel.w_imag", "S N"),
            "Q": Slot("kernel.kernel.Q", "R S N ~", optional=True),
        }
        | _REST,
    ),
    read=read,
    write=write,
    resizing=Resizing(sets="S"),
)
