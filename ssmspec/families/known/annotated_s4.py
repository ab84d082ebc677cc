"""The Annotated S4 (flax): S4 and its S4D. Every array is (N, H), the transpose of ours; the full spectrum is stored, output Re.

    S4:   A = diag(Lambda) - P P^*,  Lambda = min(Lambda_re, -1e-4) + i Lambda_im,  bilinear,  k[l] = Re(C^bar Abar^l Bbar)
          C itself (not its conjugate) is stored, as C~ = C (I - Abar^L) for the model's l_max, which the file does not hold
    S4D:  a = min(A_re, -1e-4) + i A_im,  B = 1 (B_re and B_im are stored, but the kernel does not use them),  zoh,  k[l] = Re(..)

The poles are not paired, and P couples them. A real system of rank 2 with Q = P has the same output: P' = [P, iP]/sqrt 2, C' = C/2, since
P' 2 Re(P'^* x) = P Re(P^* x) + i P Im(P^* x).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.parameterization import fold, fold_rows, stored_output_matrix, true_output_matrix
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot, as_complex
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace

CLIP = -1e-4  # the largest real part that S4Layer and S4DLayer allow


def _poles(layer: LayerTensors) -> ComplexArray:
    """(H, N)."""
    real = layer.array("real").T
    return as_complex(np.where(real > CLIP, CLIP, real), layer.array("imag").T)


def _clipped(layer: LayerTensors) -> tuple[str, ...]:
    count = int((layer.array("real") > CLIP).sum())
    return (f"{count} real parts above {CLIP:g} were clipped, as the code does",) if count else ()


def _step(layer: LayerTensors) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.exp(layer.array("log_step")).T


def _skip(layer: LayerTensors) -> FloatArray:
    return (layer.array("D")[0] if "D" in layer else np.zeros(layer.sizes["H"]))[:, None, None]


def _half_output(layer: LayerTensors) -> ComplexArray:
    """C/2, (H, 1, N)."""
    with np.errstate(invalid="ignore"):
        return layer.complex_array("C").T[:, None, :] / 2


def _length(layer: LayerTensors, options: ReadOptions) -> int:
    if options.length is None:
        raise LayerError(f"layer {layer.name}: C is stored for a kernel length (l_max) that the file does not hold; give it with --length")
    return options.length


def read_s4(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Convert the tensors of one S4 layer to its state space, with the formulas of the module docstring."""
    length = _length(layer, options)
    Lambda = _poles(layer)
    lower = Lambda.imag < 0
    P = layer.complex_array("P").T
    poles, B, C = fold(lower, Lambda, layer.complex_array("B").T[:, :, None], _half_output(layer).conj())
    with np.errstate(invalid="ignore"):
        low_rank = fold_rows(lower, np.stack([P, as_complex(-P.imag, P.real)], axis=2) / np.sqrt(2))
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
    lower = layer.array("imag").T < 0
    poles, B, C = fold(lower, system.poles, system.B, stored_output_matrix(system, length) if length > 0 else system.C)
    stored = _common(layer, system, poles)
    stored |= {
        "B": layer.as_stored("B", B[:, :, 0].T),
        "C": layer.as_stored("C", 2 * C[:, 0].conj().T),
        "P": layer.as_stored("P", _single_rank(layer, system, lower).T),
    }
    return stored


def _single_rank(layer: LayerTensors, system: StateSpace, lower: npt.NDArray[np.bool_]) -> ComplexArray:
    """P (H, N) of the layer, from P' = [P, iP]/sqrt 2 = Q'."""
    assert system.P is not None
    assert system.Q is not None
    rows = fold_rows(lower, system.P)
    if not (np.array_equal(system.P, system.Q) and np.allclose(rows[:, :, 1], 1j * rows[:, :, 0], rtol=1e-12, atol=0)):
        raise LayerError(f"layer {layer.name}: P and Q are not stored separately; both must stay [p, ip] for one column p")
    return rows[:, :, 0] * np.sqrt(2)


def _common(layer: LayerTensors, system: StateSpace, poles: ComplexArray) -> dict[str, npt.NDArray[Any]]:
    stored: dict[str, npt.NDArray[Any]] = {"real": poles.real.T, "imag": poles.imag.T, "log_step": np.log(system.step).T}
    if "D" in layer:
        stored["D"] = system.D[:, :, 0].T
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
    poles, B, C = fold(layer.array("imag").T < 0, system.poles, system.B, system.C)
    return _common(layer, system, poles) | {"C": layer.as_stored("C", 2 * (C[:, 0] * B[:, :, 0]).T)}


_REST = {"C": Slot("C", "N H ~"), "log_step": Slot("log_step", "1 H"), "D": Slot("D", "1 H", optional=True)}

ANNOTATED_S4 = Family(
    name="annotated-s4",
    title="The Annotated S4 (flax)",
    source="srush/annotated-s4, s4/s4.py, S4Layer and kernel_DPLR; arXiv 2111.00396",
    templates=(
        {
            "real": Slot("Lambda_re", "N H"),
            "imag": Slot("Lambda_im", "N H"),
            "P": Slot("P", "N H ~"),
            "B": Slot("B", "N H ~"),
        }
        | _REST,
    ),
    read=read_s4,
    write=write_s4,
)

ANNOTATED_S4D = Family(
    name="annotated-s4d",
    title="The Annotated S4, diagonal (flax)",
    source="srush/annotated-s4, s4/s4d.py, S4DLayer and s4d_kernel_zoh; arXiv 2206.11893",
    templates=({"real": Slot("A_re", "N H"), "imag": Slot("A_im", "N H")} | _REST,),
    read=read_s4d,
    write=write_s4d,
)
