"""The Annotated S4 (flax): S4 and its S4D. Every array is (N, H), the transpose of ours; the full spectrum is stored, output Re.

    S4:   A = diag(Lambda) - P P^*,  Lambda = min(Lambda_re, -1e-4) + i Lambda_im,  bilinear,  k[l] = Re(C^bar Abar^l Bbar)
          C itself (not its conjugate) is stored, as C~ = C (I - Abar^L) for the model's l_max, which the file does not hold
    S4D:  a = min(A_re, -1e-4) + i A_im,  B = 1 (B_re and B_im are stored, but the kernel does not use them),  zoh,  k[l] = Re(..)

The poles are not paired, and P couples them. A real system of rank 2 with Q = P has the same output: P' = [P, iP]/sqrt 2, C' = C/2.

Its port to flax nnx keeps arrays (H, N), calls C `C_real_imag`, and clips the step to 0.001..1.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.parameterization import (
    fold,
    fold_rows,
    missing_length,
    stored_output_matrix,
    true_output_matrix,
    unpaired_low_rank,
    unpaired_rows,
)
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Resizing, Slot, as_complex
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace

CLIP = -1e-4  # the largest real part that S4Layer and S4DLayer allow
STEPS = (1e-3, 1.0)  # of the port to flax nnx


def _turned(layer: LayerTensors, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A stored array with channels first, or such an array as it is stored."""
    return array if _nnx(layer) else array.T


def _nnx(layer: LayerTensors) -> bool:
    return layer.tensor_names["C"].endswith("C_real_imag")


def _poles(layer: LayerTensors) -> ComplexArray:
    """(H, N)."""
    real, imag = (_turned(layer, layer.array(role)) for role in ("real", "imag"))
    return as_complex(np.where(real > CLIP, CLIP, real), imag)


def _clipped(layer: LayerTensors) -> tuple[str, ...]:
    count = int((layer.array("real") > CLIP).sum())
    lines = [f"{count} real parts above {CLIP:g} were clipped, as the code does"] if count else []
    with np.errstate(over="ignore"):
        outside = int((np.exp(_turned(layer, layer.array("log_step"))) != _step(layer)).sum())
    if outside:
        lines.append(f"{outside} steps outside {STEPS[0]:g}..{STEPS[1]:g} were clipped, as the code does")
    return tuple(lines)


def _step(layer: LayerTensors) -> FloatArray:
    """(H, 1)."""
    with np.errstate(over="ignore"):
        step = np.exp(_turned(layer, layer.array("log_step")))
    return np.asarray(np.clip(step, *STEPS) if _nnx(layer) else step)


def _skip(layer: LayerTensors) -> FloatArray:
    return np.asarray(_turned(layer, layer.array("D"))[:, :, None] if "D" in layer else np.zeros((layer.sizes["H"], 1, 1)))


def _half_output(layer: LayerTensors) -> ComplexArray:
    """C/2, (H, 1, N)."""
    with np.errstate(invalid="ignore"):
        return np.asarray(_turned(layer, layer.complex_array("C"))[:, None, :] / 2)


def _length(layer: LayerTensors, options: ReadOptions) -> int:
    if options.length is None:
        raise missing_length(layer, options)
    return options.length


def read_s4(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Convert the tensors of one S4 layer to its state space, with the formulas of the module docstring."""
    length = _length(layer, options)
    Lambda = _poles(layer)
    lower = Lambda.imag < 0
    P, inputs = (_turned(layer, layer.complex_array(role)) for role in "PB")
    poles, B, C = fold(lower, Lambda, inputs[:, :, None], _half_output(layer).conj())
    low_rank = fold_rows(lower, unpaired_low_rank(P[:, :, None]))
    system = StateSpace(
        name=layer.name,
        family=layer.family,
        poles=poles,
        B=B,
        C=C,
        D=_skip(layer),
        step=_step(layer),
        discretization="bilinear",
        P=low_rank,
        Q=low_rank,
        assumptions=_clipped(layer),
    )
    return [replace(system, C=true_output_matrix(system, length)) if length > 0 else system]


def write_s4(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read_s4`."""
    (system,) = systems
    length = _length(layer, options)
    lower = _poles(layer).imag < 0
    assert system.P is not None
    assert system.Q is not None
    if not np.array_equal(system.P, system.Q):
        raise LayerError(f"layer {layer.name}: Q is not stored, it is P; the two must change together")
    poles, B, C = fold(lower, system.poles, system.B, stored_output_matrix(system, length) if length > 0 else system.C)
    stored = _common(layer, system, poles)
    stored |= {
        "B": layer.as_stored("B", _turned(layer, B[:, :, 0])),
        "C": layer.as_stored("C", _turned(layer, 2 * C[:, 0].conj())),
        "P": layer.as_stored("P", _turned(layer, unpaired_rows(fold_rows(lower, system.P), layer.name)[:, :, 0])),
    }
    return stored


def _common(layer: LayerTensors, system: StateSpace, poles: ComplexArray) -> dict[str, npt.NDArray[Any]]:
    log_step = layer.array("log_step")
    stored = {
        "real": _turned(layer, poles.real),
        "imag": _turned(layer, poles.imag),
        "log_step": np.where(_turned(layer, _step(layer) == system.step), log_step, _turned(layer, np.log(system.step))),
    }
    if "D" in layer:
        stored["D"] = _turned(layer, system.D[:, :, 0])
    return stored


def read_s4d(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Convert the tensors of one S4D layer to its state space, with the formulas of the module docstring."""
    a = _poles(layer)
    poles, B, C = fold(a.imag < 0, a, np.ones((*a.shape, 1), complex), _half_output(layer))
    return [
        StateSpace(
            name=layer.name,
            family=layer.family,
            poles=poles,
            B=B,
            C=C,
            D=_skip(layer),
            step=_step(layer),
            discretization="zoh",
            assumptions=_clipped(layer),
        )
    ]


def write_s4d(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read_s4d`."""
    (system,) = systems
    poles, B, C = fold(_poles(layer).imag < 0, system.poles, system.B, system.C)
    return _common(layer, system, poles) | {"C": layer.as_stored("C", _turned(layer, 2 * C[:, 0] * B[:, :, 0]))}


_REST = {"C": Slot("C", "N H ~"), "log_step": Slot("log_step", "1 H"), "D": Slot("D", "1 H", optional=True)}

ANNOTATED_S4 = Family(
    name="annotated-s4",
    title="The Annotated S4 (flax)",
    source="srush/annotated-s4, s4/s4.py, S4Layer and kernel_DPLR; binoygeorge97/s4dpc, legacy/s4.py (flax nnx); arXiv 2111.00396",
    templates=(
        {
            "real": Slot("Lambda_re", "N H"),
            "imag": Slot("Lambda_im", "N H"),
            "P": Slot("P", "N H ~"),
            "B": Slot("B", "N H ~"),
        }
        | _REST,
        {
            "real": Slot("Lambda_re", "H N"),
            "imag": Slot("Lambda_im", "H N"),
            "P": Slot("P", "H N ~"),
            "B": Slot("B", "H N ~"),
            "C": Slot("C_real_imag", "H N ~"),
            "log_step": Slot("log_step", "H 1"),
            "D": Slot("D", "H 1", optional=True),
        },
    ),
    read=read_s4,
    write=write_s4,
    resizing=Resizing(),
)

ANNOTATED_S4D = Family(
    name="annotated-s4d",
    title="The Annotated S4, diagonal (flax)",
    source="srush/annotated-s4, s4/s4d.py, S4DLayer and s4d_kernel_zoh; arXiv 2206.11893",
    templates=({"real": Slot("A_re", "N H"), "imag": Slot("A_im", "N H")} | _REST,),
    read=read_s4d,
    write=write_s4d,
    resizing=Resizing(beside={"B_re": "N H", "B_im": "N H"}),
)
