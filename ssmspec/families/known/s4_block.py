"""The current S4 block (v4), diagonal and DPLR, and the FreqBias block made from it.

    a = -exp(A_real) - i A_imag,  step = exp(inv_dt) (despite its name it holds log dt),  output 2 Re
    DPLR: A = diag(a) - P P^*, bilinear, C stored as C~ = C (I - Abar^L) for L = l_kernel (0: not set)
    FreqBias: no B, and the response is weighted with (1 + theta/2pi)^s before D is added

S tied copies of A, B, P serve H channels as '(v s)'. With twice as many channels in C as in D the block is bidirectional: the first half
runs forward, the second backward, each a layer of its own here, and D goes with the forward one.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.families.parameterization import (
    chosen_rule,
    discretization,
    fold,
    fold_rows,
    stored_length,
    stored_output_matrix,
    tile,
    true_output_matrix,
    untile,
)
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot, as_complex
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import ComplexArray, StateSpace

_SHARED = {
    "A_real": Slot("kernel.A_real", "S N"),
    "A_imag": Slot("kernel.A_imag", "S N"),
    "inv_dt": Slot("kernel.inv_dt", "H 1|H N"),
    "C": Slot("kernel.C", "ch H N ~"),
    "D": Slot("D", "skip H", optional=True),
}
_INPUT = {"B": Slot("kernel.B", "1 S N ~")}
_LOW_RANK = {"P": Slot("kernel.P", "R S N ~"), "l_kernel": Slot("kernel.l_kernel", "", optional=True)}


RULE = discretization("zoh", "bilinear", source="state-spaces/s4, models/s4/s4.py, SSMKernelDiag.disc")


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Tensors of one layer to its state space; the formulas are those of the module docstring."""
    H = layer.sizes["H"]
    imag = tile(layer.array("A_imag"), H, layer.name)
    with np.errstate(over="ignore"):
        poles = as_complex(-np.exp(tile(layer.array("A_real"), H, layer.name)), -imag)
        step = np.exp(layer.array("inv_dt"))
    B = tile(layer.complex_array("B")[0], H, layer.name) if "B" in layer else np.ones(poles.shape, complex)
    P = tile(np.moveaxis(layer.complex_array("P"), 0, -1), H, layer.name) if "P" in layer else None
    return [_direction(layer, options, channels, label, (poles, imag > 0, step, B, P)) for label, channels in directions(layer)]


def directions(layer: LayerTensors) -> list[tuple[str, slice]]:
    """Name ends and channel ranges of the directions that a block has."""
    channels = layer.sizes["ch"]
    if channels == 2 * layer.sizes.get("skip", 0):
        return [(":forward", slice(0, channels // 2)), (":backward", slice(channels // 2, channels))]
    return [("", slice(0, channels))]


def _direction(layer: LayerTensors, options: ReadOptions, channels: slice, label: str, shared: tuple[Any, ...]) -> StateSpace:
    poles, lower, step, B, P = shared
    C: ComplexArray = layer.complex_array("C")[channels]
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
    return stored_length(layer, "l_kernel") if "l_kernel" in layer else 0


def _undo_truncation(system: StateSpace, layer: LayerTensors, options: ReadOptions) -> StateSpace:
    if system.P is None:
        return system
    length = _length(layer, options)
    if length <= 0:
        return replace(system, assumptions=(*system.assumptions, "l_kernel is not set: C is taken as the true C"))
    if not all(np.isfinite(part).all() for part in (system.poles, system.P, system.B, system.C, system.step)):
        return system
    return replace(system, C=true_output_matrix(system, length))


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`."""
    first = systems[0]
    H, S, N = layer.sizes["H"], layer.sizes["S"], layer.sizes["N"]
    lower = tile(layer.array("A_imag"), H, layer.name) > 0
    length = _length(layer, options)
    outputs = []
    for system in systems:
        C = stored_output_matrix(system, length) if system.P is not None and length > 0 else system.C
        repeated = np.tile(lower, (system.copies // H, 1))
        outputs.append(fold(repeated, system.poles, system.B, C)[2].reshape(-1, H, N))
    poles, B, _ = fold(lower, first.poles[:H], first.B[:H], first.C[:H])
    C = np.concatenate(outputs)
    stored: dict[str, npt.NDArray[Any]] = {
        "A_real": np.log(-untile(poles.real, S, layer.name)),
        "A_imag": -untile(poles.imag, S, layer.name),
        "inv_dt": np.log(first.step[:H]),
    }
    if "B" in layer:
        stored["B"] = layer.as_stored("B", untile(B[:, :, 0], S, layer.name)[None])
    else:
        C = C * B[None, :, :, 0]
    stored["C"] = layer.as_stored("C", C)
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
    templates=(_SHARED | _INPUT,),
    read=read,
    write=write,
    assumptions=(RULE,),
    absent=("kernel.P", "kernel.l_kernel"),
)

S4_DPLR = Family(
    name="s4-dplr",
    title="S4 block v4, diagonal plus low rank",
    source="state-spaces/s4, models/s4/s4.py, SSMKernelDPLR and FFTConv; arXiv 2111.00396",
    templates=(_SHARED | _INPUT | _LOW_RANK,),
    read=read,
    write=write,
)

FREQBIAS_BLOCK = Family(
    name="freqbias-block",
    title="FreqBias S4D block with a trainable beta",
    source="AnnanYu/FreqBiasSSM, src/models/sequence/modules/s4block.py; arXiv 2410.02035",
    templates=(_SHARED | {"s": Slot("s", "skip H")},),
    when_named=(_SHARED,),
    read=read,
    write=write,
    assumptions=(RULE,),
    absent=("kernel.B", "kernel.P"),
)
