"""ConvS5: S5 whose B and C are convolutions over space; read at zero spatial frequency, where B and C are the sums over their taps.

    k[l] = 2 Re(C Abar^l Bbar),   Bbar = (Abar - 1)/a B,   B (P, U) = sum_taps B (P, U, k, k),   C (U, P) = sum_taps C (k, k, P, U)

This is the exact response of the layer to images that are the same at every pixel, away from their border. The poles are the same at every
spatial frequency; only the residues differ. D is applied after the convolution C and is not read. The tensor clip_eigs is written by
`ssmspec.nn.ConvS5`; files of the original code do not have it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.known.s5 import CLIPPING, clipped
from ssmspec.families.parameterization import fold
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.statespace import ComplexArray, StateSpace

_ASSUMPTIONS: tuple[str, ...] = (
    "B and C are summed over their spatial taps: the response to images that are the same at every pixel, away from the border",
    "discretization zoh (the code's only rule), half of each conjugate pair stored, output 2 Re",
)


def _taps(layer: LayerTensors) -> tuple[ComplexArray, ComplexArray]:
    """B (P, U, k k) and C (P, U, k k).

    Raises:
        LayerError: the width of B is not U times the square of a kernel size.
    """
    B, C = layer.complex_array("B"), layer.complex_array("C")
    inputs, size = layer.sizes["U"], B.shape[1] / layer.sizes["U"]
    if size != int(np.sqrt(size)) ** 2:
        raise LayerError(f"layer {layer.name}: {layer.tensor_names['B']} has {B.shape[1]} columns, expected {inputs} times a square number")
    return B.reshape(len(B), inputs, -1), C.transpose(2, 3, 0, 1).reshape(*C.shape[2:], -1)


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Convert the tensors of one layer to its state space, with the formulas of the module docstring."""
    imag = layer.array("Lambda_im")
    with np.errstate(over="ignore"):
        step = np.exp(layer.array("log_step")[:, 0])
    poles, more = clipped(layer, options)
    B, C = (taps.sum(-1) for taps in _taps(layer))
    folded, B, C = fold(imag[None] < 0, poles[None], B[None], C.T[None])
    return [
        StateSpace(
            name=layer.name,
            family=layer.family,
            poles=folded,
            B=B,
            C=C,
            D=np.zeros((1, layer.sizes["U"], layer.sizes["U"])),
            step=step[None],
            discretization="zoh",
            **more | {"assumptions": _ASSUMPTIONS + more.get("assumptions", ())},
        )
    ]


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`.

    If the new B or C of a mode is a multiple of the old one, its taps keep their shape. Any remaining difference is spread evenly.
    """
    (system,) = systems
    poles, B, C = fold(layer.array("Lambda_im")[None] < 0, system.poles, system.B, system.C)
    inputs, outputs = (_spread(taps, sums) for taps, sums in zip(_taps(layer), (B[0], C[0].T), strict=True))
    k = layer.sizes["k"]
    return {
        "Lambda_re": poles[0].real,
        "Lambda_im": poles[0].imag,
        "log_step": np.log(np.broadcast_to(system.step, poles.shape)[0])[:, None],
        "B": layer.as_stored("B", inputs.reshape(len(inputs), -1)),
        "C": layer.as_stored("C", outputs.reshape(*outputs.shape[:2], k, k).transpose(2, 3, 0, 1)),
    }


def _spread(taps: ComplexArray, sums: ComplexArray) -> ComplexArray:
    """Taps (P, U, T) whose sums are (P, U), as close as possible to a multiple (one per mode) of the given taps."""
    before = taps.sum(-1)
    energy = (np.abs(before) ** 2).sum(1)
    factor = np.where(energy > 0, (before.conj() * sums).sum(1) / np.where(energy > 0, energy, 1), 1)[:, None]
    rest = (sums - factor * before) / taps.shape[-1]
    return np.asarray(factor[:, None] * taps + rest[..., None])


CONV_S5 = Family(
    name="conv-s5",
    title="ConvS5, at zero spatial frequency",
    source="NVlabs/ConvSSM, src/models/convS5/diagonal_ssm.py, ConvS5SSM; arXiv 2310.19694",
    templates=(
        {
            "Lambda_re": Slot("Lambda_re", "P"),
            "Lambda_im": Slot("Lambda_im", "P"),
            "B": Slot("B", "P M ~"),
            "C": Slot("C", "k k P U ~"),
            "log_step": Slot("log_step", "P 1"),
            "clip_eigs": Slot("clip_eigs", "", optional=True),
        },
    ),
    read=read,
    write=write,
    assumptions=(CLIPPING,),
)
