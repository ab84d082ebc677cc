"""S4Torch, a port of the Annotated S4 to PyTorch: one Lambda, p and q (N) for all channels, the whole spectrum stored, output Re.

    A = diag(Lambda) - p q^*,  bilinear,  k[l] = Re(conj(C) Abar^l Bbar),   conj(C) from the stored Ct by C~ = C (I - Abar^L)

L is the number of nodes in the buffer omega_l. The poles are not paired, and p and q couple them: rank 2 in the real form, as in
`ssmspec.families.known.annotated_s4`, but here q is not p. Nothing is clipped.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.families.parameterization import (
    fold,
    fold_rows,
    missing_length,
    stored_output_matrix,
    true_output_matrix,
    unpaired_low_rank,
    unpaired_rows,
    untile,
)
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.systems.statespace import ComplexArray, StateSpace


def _shared(layer: LayerTensors, role: str) -> ComplexArray:
    """One row (N) for all channels, as (H, N)."""
    row = layer.complex_array(role).reshape(1, -1)
    return np.broadcast_to(row, (layer.sizes["H"], row.shape[1]))


def _length(layer: LayerTensors, options: ReadOptions) -> int:
    if options.length is not None:
        return options.length
    if "omega" in layer:
        return layer.sizes["L"]
    raise missing_length(layer, options, "Ct is stored for a kernel length")


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Tensors of one layer to its state space; the formulas are those of the module docstring."""
    length = _length(layer, options)
    Lambda, p, q = (_shared(layer, role) for role in ("Lambda", "p", "q"))
    lower = Lambda.imag < 0
    with np.errstate(over="ignore", invalid="ignore"):
        step = np.exp(layer.array("log_step"))[:, None]
        outputs = layer.complex_array("Ct").conj()[:, None] / 2
    poles, B, C = fold(lower, Lambda, layer.complex_array("B")[:, :, None], outputs)
    D = layer.array("D").reshape(-1) if "D" in layer else np.zeros(len(poles))
    system = StateSpace(
        name=layer.name,
        family=layer.family,
        poles=poles,
        B=B,
        C=C,
        D=D[:, None, None],
        step=step,
        discretization="bilinear",
        P=fold_rows(lower, unpaired_low_rank(p[:, :, None])),
        Q=fold_rows(lower, unpaired_low_rank(q[:, :, None])),
    )
    usable = all(np.isfinite(part).all() for part in (Lambda, p, q, B, C, step)) and length > 0
    return [replace(system, C=true_output_matrix(system, length)) if usable else system]


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`."""
    (system,) = systems
    assert system.P is not None
    assert system.Q is not None
    length = _length(layer, options)
    lower = _shared(layer, "Lambda").imag < 0
    poles, B, C = fold(lower, system.poles, system.B, stored_output_matrix(system, length) if length > 0 else system.C)
    p, q = (unpaired_rows(fold_rows(lower, part), layer.name)[:, :, 0] for part in (system.P, system.Q))
    stored: dict[str, npt.NDArray[Any]] = {
        "log_step": np.log(system.step[:, 0]),
        "B": layer.as_stored("B", B[:, :, 0]),
        "Ct": layer.as_stored("Ct", 2 * C[:, 0].conj()),
    }
    for role, rows in (("Lambda", poles), ("p", p), ("q", q)):
        values = layer.as_stored(role, untile(rows, 1, layer.name))
        stored[role] = values.reshape(layer.tensors[role].shape)
    if "D" in layer:
        stored["D"] = system.D[:, 0, 0].reshape(layer.tensors["D"].shape)
    return stored


S4_TORCH = Family(
    name="s4-torch",
    title="S4Torch, a port of the Annotated S4",
    source="TariqAHassan/S4Torch, s4torch/layer.py; arXiv 2111.00396",
    templates=(
        {
            "Lambda": Slot("_lambda_", "1 1 N ~|1 N ~|N ~"),
            "p": Slot("_p", "N ~"),
            "q": Slot("_q", "N ~"),
            "B": Slot("_B", "H N ~"),
            "Ct": Slot("_Ct", "H N ~"),
            "log_step": Slot("log_step", "H"),
            "D": Slot("D", "1 1 H|H", optional=True),
            "omega": Slot("omega_l", "L ~", optional=True),
        },
    ),
    read=read,
    write=write,
    unreduced="all channels share Lambda, p and q, and each has a step of its own, so that poles that are balanced for one channel are not "
    "for another; to keep some of the modes of the whole matrix for all channels is not supported. Train it with a smaller n instead",
)
