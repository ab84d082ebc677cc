"""The current S4 block (v4), diagonal and DPLR, and the FreqBias block derived from it.

    a = -exp(A_real) - i A_imag,  step = exp(inv_dt) (despite its name it holds log dt),  output 2 Re
    real: a = -exp(A_real) and B, C real, with the same output; the tensor A_imag is missing, or there and not used (before July 2023)
    DPLR: A = diag(a) - P P^*, bilinear, C stored as C~ = C (I - Abar^L) for L = l_kernel (0: not set)
    FreqBias: no B, and the response is weighted with (1 + theta/2pi)^s before D is added

The options real_transform, imag_transform and dt_transform can replace exp, none and exp; the file does not state them.

S tied copies of A, B, P serve H channels in the order '(v s)'. If C has twice as many channels as D, the block is bidirectional: the first
half runs forward, the second backward. Each direction becomes a layer of its own here, and D belongs to the forward one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.assumption import TRUTH, Assumption
from ssmspec.families.parameterization import (
    POSITIVE,
    chosen_rule,
    discretization,
    fold,
    fold_rows,
    positive,
    stored_length,
    stored_output_matrix,
    tile,
    true_output_matrix,
    untile,
)
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Resizing, Slot, as_complex
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace

_SHARED = {
    "A_real": Slot("kernel.A_real", "S N"),
    "A_imag": Slot("kernel.A_imag", "S N"),
    "inv_dt": Slot("kernel.inv_dt", "H 1|H N"),
    "C": Slot("kernel.C", "ch H N ~"),
    "D": Slot("D", "skip H", optional=True),
}
_REAL = {
    "A_real": Slot("kernel.A_real", "S N"),
    "inv_dt": Slot("kernel.inv_dt", "H 1|H N"),
    "B": Slot("kernel.B", "1 S N"),
    "C": Slot("kernel.C", "ch H N"),
    "D": Slot("D", "skip H", optional=True),
}
_INPUT = {"B": Slot("kernel.B", "1 S N ~")}
_LOW_RANK = {"P": Slot("kernel.P", "R S N ~"), "l_kernel": Slot("kernel.l_kernel", "", optional=True)}


SOURCE = "state-spaces/s4, models/s4/s4.py"
RULE = discretization("zoh", "bilinear", source=f"{SOURCE}, SSMKernelDiag.disc")


REAL = positive("s4_real_transform", "what -Re a is of the stored A_real", source=f"{SOURCE}, SSMKernelDiag.real_transform")
IMAG = positive("s4_imag_transform", "what -Im a is of the stored A_imag", source=f"{SOURCE}, SSMKernelDiag.imag_transform", first="none")
STEP = positive("s4_dt_transform", "what the step is of the stored inv_dt", source=f"{SOURCE}, SSMKernel.dt_transform")


def _told_real(layer: LayerTensors, config: Mapping[str, object]) -> tuple[str, str] | None:
    return None if "A_imag" in layer else ("true", "there is no kernel.A_imag")


IS_REAL = Assumption(
    name="s4_is_real",
    about="whether the poles are real: A_imag is missing, or there and not used",
    values=TRUTH,
    source=f"{SOURCE}, SSMKernelDiag.is_real; force_real before commit 070384a",
    told_by="a missing tensor kernel.A_imag",
    told=_told_real,
)


def _has_real_poles(layer: LayerTensors, options: ReadOptions) -> bool:
    return "P" not in layer and IS_REAL.value(layer, options) == "true"


def _frequencies(layer: LayerTensors, options: ReadOptions) -> FloatArray:
    """-Im a, (S, N)."""
    if _has_real_poles(layer, options):
        return np.zeros(layer.tensors["A_real"].shape)
    if "A_imag" not in layer:
        raise LayerError(f"layer {layer.name}: s4_is_real=false, and there is no kernel.A_imag; only real poles can be read")
    return POSITIVE[IMAG.value(layer, options)][0](layer.array("A_imag"))


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Convert the tensors of one layer to its state spaces, with the formulas of the module docstring."""
    H = layer.sizes["H"]
    imag = tile(_frequencies(layer, options), H, layer.name)
    with np.errstate(over="ignore"):
        decay = POSITIVE[REAL.value(layer, options)][0](layer.array("A_real"))
        step = POSITIVE[STEP.value(layer, options)][0](layer.array("inv_dt"))
    poles = as_complex(-tile(decay, H, layer.name), -imag)
    B = tile(_complex(layer, "B")[0], H, layer.name) if "B" in layer else np.ones(poles.shape, complex)
    P = tile(np.moveaxis(layer.complex_array("P"), 0, -1), H, layer.name) if "P" in layer else None
    return [_direction(layer, options, channels, label, (poles, imag > 0, step, B, P)) for label, channels in directions(layer)]


def _complex(layer: LayerTensors, role: str) -> ComplexArray:
    """B or C, which a block without A_imag holds as real numbers."""
    return layer.complex_array(role) if "A_imag" in layer else layer.array(role).astype(complex)


def _as_stored(layer: LayerTensors, role: str, values: ComplexArray) -> npt.NDArray[Any]:
    """The inverse of `_complex`."""
    if "A_imag" in layer:
        return layer.as_stored(role, values)
    if np.count_nonzero(values.imag):
        raise LayerError(f"layer {layer.name}: {layer.tensor_names[role]} holds real numbers, and the new {role} is complex")
    return values.real


def directions(layer: LayerTensors) -> list[tuple[str, slice]]:
    """Name suffixes and channel ranges of the directions of a block."""
    channels = layer.sizes["ch"]
    if channels == 2 * layer.sizes.get("skip", 0):
        return [(":forward", slice(0, channels // 2)), (":backward", slice(channels // 2, channels))]
    return [("", slice(0, channels))]


def _direction(layer: LayerTensors, options: ReadOptions, channels: slice, label: str, shared: tuple[Any, ...]) -> StateSpace:
    poles, lower, step, B, P = shared
    C: ComplexArray = _complex(layer, "C")[channels]
    count = len(C)
    repeat = (count, 1)
    rank = P is not None
    D = layer.array("D").reshape(-1) if "D" in layer and label != ":backward" else np.zeros(C.shape[0] * C.shape[1])
    folded_poles, folded_B, folded_C = fold(
        np.tile(lower, repeat), np.tile(poles, repeat), np.tile(B, repeat)[:, :, None], C.reshape(-1, 1, C.shape[2])
    )
    low_rank = fold_rows(np.tile(lower, repeat), np.tile(P, (count, 1, 1))) if rank else None
    system = StateSpace(
        name=layer.name + label,
        family=layer.family,
        poles=folded_poles,
        B=folded_B,
        C=folded_C,
        D=D[:, None, None],
        step=np.tile(step, repeat),
        discretization="bilinear" if rank else chosen_rule(RULE, layer, options),
        P=low_rank,
        Q=low_rank,
        sobolev=Sobolev(layer.array("s").reshape(-1), "lra") if "s" in layer else None,
    )
    return _undo_truncation(system, layer, options)


def _length(layer: LayerTensors, options: ReadOptions) -> int:
    if options.length is not None:
        return options.length
    return stored_length(layer, "l_kernel", options) if "l_kernel" in layer else 0


def _undo_truncation(system: StateSpace, layer: LayerTensors, options: ReadOptions) -> StateSpace:
    if system.P is None:
        return system
    length = _length(layer, options)
    if length <= 0:
        return replace(system, assumptions=(*system.assumptions, "l_kernel is not set, so the stored C is taken as the true C"))
    return replace(system, C=true_output_matrix(system, length))


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`."""
    first = systems[0]
    H, S, N = layer.sizes["H"], layer.sizes["S"], layer.sizes["N"]
    lower = tile(_frequencies(layer, options), H, layer.name) > 0
    length = _length(layer, options)
    outputs = []
    for system in systems:
        C = stored_output_matrix(system, length) if system.P is not None and length > 0 else system.C
        repeated = np.tile(lower, (system.copies // H, 1))
        outputs.append(fold(repeated, system.poles, system.B, C)[2].reshape(-1, H, N))
    poles, B, _ = fold(lower, first.poles[:H], first.B[:H], first.C[:H])
    C = np.concatenate(outputs)
    stored: dict[str, npt.NDArray[Any]] = {
        "A_real": POSITIVE[REAL.value(layer, options)][1](-untile(poles.real, S, layer.name)),
        "inv_dt": POSITIVE[STEP.value(layer, options)][1](first.step[:H]),
    }
    if not _has_real_poles(layer, options):
        stored["A_imag"] = POSITIVE[IMAG.value(layer, options)][1](-untile(poles.imag, S, layer.name))
    elif np.count_nonzero(poles.imag):
        raise LayerError(f"layer {layer.name}: its poles are real (s4_is_real=true), and the new ones are not")
    if "B" in layer:
        stored["B"] = _as_stored(layer, "B", untile(B[:, :, 0], S, layer.name)[None])
    else:
        C = C * B[None, :, :, 0]
    stored["C"] = _as_stored(layer, "C", C)
    if first.P is not None:
        stored["P"] = layer.as_stored("P", np.moveaxis(untile(fold_rows(lower, first.P[:H]), S, layer.name), -1, 0))
    if "D" in layer:
        stored["D"] = first.D[:, 0, 0].reshape(-1, H)
    if first.sobolev is not None and "s" in layer:
        stored["s"] = first.sobolev.beta.reshape(-1, H)
    return stored


S4_DIAGONAL = Family(
    name="s4-diag",
    title="S4 block v4, diagonal (S4D)",
    source="state-spaces/s4, models/s4/s4.py, SSMKernelDiag and FFTConv; arXiv 2206.11893",
    templates=(_SHARED | _INPUT, _REAL),
    read=read,
    write=write,
    resizing=Resizing(sets="S", real=_has_real_poles),
    assumptions=(RULE, REAL, IMAG, STEP, IS_REAL),
    absent=("kernel.P", "kernel.l_kernel"),
)

S4_DPLR = Family(
    name="s4-dplr",
    title="S4 block v4, diagonal plus low rank",
    source="state-spaces/s4, models/s4/s4.py, SSMKernelDPLR and FFTConv; arXiv 2111.00396",
    templates=(_SHARED | _INPUT | _LOW_RANK,),
    read=read,
    write=write,
    resizing=Resizing(sets="S"),
    assumptions=(REAL, IMAG, STEP),
)

FREQBIAS_BLOCK = Family(
    name="freqbias-block",
    title="FreqBias S4D block with a trainable beta",
    source="AnnanYu/FreqBiasSSM, src/models/sequence/modules/s4block.py; arXiv 2410.02035",
    templates=(_SHARED | {"s": Slot("s", "skip H")},),
    when_named=(_SHARED,),
    read=read,
    write=write,
    resizing=Resizing(sets="S", real=_has_real_poles),
    assumptions=(RULE, REAL, IMAG, STEP, IS_REAL),
    absent=("kernel.B", "kernel.P"),
)
