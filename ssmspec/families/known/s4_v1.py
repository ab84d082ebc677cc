"""S4 v1, normal plus low rank: A = diag(w) - p q^*, bilinear, output 2 Re; B is stored as the rows [B, p], C as the rows [C, q].

C and q enter the kernel conjugated. The kernel is the inverse FFT of C~ (I - Abar z)^{-1} Bbar at the L-th roots of unity. The stored C is
therefore C~ = C (I - Abar^L), whether or not the option length_correction adjusted it at initialization (by default it does not).

L = 2 (len(nodes) - 1), or one more if the angle of the nodes says so. For an odd L the original code uses an FFT of L - 1 samples, and its
kernel then differs slightly from that of the system. Depending on the option `trainable`, w and [B, p] have one row for all channels or one
per channel.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.families.parameterization import fold, fold_rows, missing_length, stored_output_matrix, true_output_matrix, untile
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Resizing, Slot
from ssmspec.systems.statespace import ComplexArray, StateSpace


def _per_channel(layer: LayerTensors, role: str, own_axes: int) -> ComplexArray:
    """A tensor with a leading axis of size H, even if the file has one row for all channels."""
    values = layer.complex_array(role)
    return values if values.ndim > own_axes else np.broadcast_to(values, (layer.sizes["H"], *values.shape))


def _as_stored(layer: LayerTensors, role: str, values: ComplexArray, own_axes: int) -> npt.NDArray[Any]:
    stored_axes = len(layer.tensors[role].shape) - (not layer.tensors[role].dtype.startswith("complex"))
    return layer.as_stored(role, values if stored_axes > own_axes else untile(values, 1, layer.name)[0])


def _is_odd(layer: LayerTensors) -> bool:
    """Whether the second node is exp(-2 pi i/L) for L = 2 (len(nodes) - 1) + 1 rather than one less."""
    if layer.sizes["nodes"] < 2:
        return False
    even, angle = 2 * (layer.sizes["nodes"] - 1), -np.angle(layer.complex_array("nodes")[1])
    return bool(abs(angle * (even + 1) - 2 * np.pi) < abs(angle * even - 2 * np.pi))


def _length(layer: LayerTensors, options: ReadOptions) -> int:
    if options.length is not None:
        return options.length
    if "nodes" in layer:
        return 2 * (layer.sizes["nodes"] - 1) + _is_odd(layer)
    raise missing_length(layer, options)


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Convert the tensors of one layer to its state space, with the formulas of the module docstring."""
    w = _per_channel(layer, "w", 1)
    lower = w.imag < 0
    columns = np.moveaxis(_per_channel(layer, "B", 2), 1, -1)
    rows = layer.complex_array("C")
    with np.errstate(over="ignore"):
        step = np.exp(layer.array("log_dt"))[:, None]
    poles, B, C = fold(lower, w, columns[:, :, :1], rows[:, :1].conj())
    D = layer.array("D") if "D" in layer else np.zeros(len(w))
    length = _length(layer, options)
    assumptions = () if length > 0 else ("the kernel length is 0, so the stored C is taken as the true C",)
    if options.length is None and _is_odd(layer):
        assumptions = (
            f"kernel length {length} is odd: the original code uses an FFT of {length - 1} samples and deviates from this system",
        )
    system = StateSpace(
        name=layer.name,
        family=layer.family,
        poles=poles,
        B=B,
        C=C,
        D=D[:, None, None],
        step=step,
        discretization="bilinear",
        P=fold_rows(lower, columns[:, :, 1:]),
        Q=fold_rows(lower, np.moveaxis(rows[:, 1:], 1, -1)),
        assumptions=assumptions,
    )
    return [replace(system, C=true_output_matrix(system, length)) if length > 0 else system]


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`."""
    (system,) = systems
    assert system.P is not None
    assert system.Q is not None
    lower = _per_channel(layer, "w", 1).imag < 0
    length = _length(layer, options)
    poles, B, C = fold(lower, system.poles, system.B, stored_output_matrix(system, length) if length > 0 else system.C)
    columns = np.concatenate([B, fold_rows(lower, system.P)], axis=2)
    rows = np.concatenate([C.conj(), np.moveaxis(fold_rows(lower, system.Q), -1, 1)], axis=1)
    stored: dict[str, npt.NDArray[Any]] = {
        "log_dt": np.log(system.step[:, 0]),
        "w": _as_stored(layer, "w", poles, 1),
        "B": _as_stored(layer, "B", np.moveaxis(columns, -1, 1), 2),
        "C": layer.as_stored("C", rows),
    }
    if "D" in layer:
        stored["D"] = system.D[:, 0, 0]
    return stored


def _refused(layer: LayerTensors) -> str:
    """Why a layer must keep its number of modes, if it must: steps are those of the channels."""
    if all(layer.complex_array(role).ndim > own_axes for role, own_axes in (("w", 1), ("B", 2))):
        return ""
    return (
        "all channels share one row of w and B, and each has a step of its own, so that poles that are balanced for one channel are not "
        "for another. Train it with a smaller d_state instead; a layer whose channels have rows of their own can be reduced"
    )


S4_NPLR_V1 = Family(
    name="s4-nplr-v1",
    title="S4 v1, normal plus low rank",
    source="state-spaces/s4 v1 (commit 048b3e6, src/models/sequence/ss/standalone/s4.py, SSKernelNPLR); arXiv 2111.00396",
    templates=(
        {
            "log_dt": Slot("kernel.krylov.log_dt", "H"),
            "w": Slot("kernel.krylov.w", "N ~|H N ~"),
            "B": Slot("kernel.krylov.B", "rows N ~|H rows N ~"),
            "C": Slot("kernel.krylov.C", "H rows N ~"),
            "nodes": Slot("kernel.krylov.nodes", "nodes ~", optional=True),
            "D": Slot("D", "H", optional=True),
        },
    ),
    read=read,
    write=write,
    resizing=Resizing(refused=_refused),
)
