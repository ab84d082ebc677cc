"""S5: one multi-input multi-output diagonal system, a = Lambda_re + i Lambda_im with a step per mode.

conj_sym (half of the spectrum stored, output 2 Re) and the discretization are not in the file: the first is read off the signs of
Lambda_im, the second is ZOH, the code's default, unless `--discretization` says otherwise.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.families.parameterization import choose_discretization, fold
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot, as_complex
from ssmspec.statespace import ComplexArray, StateSpace

CLIP = -1e-4  # the largest real part that clip_eigs lets through, S5SSM.setup


def _is_full_spectrum(poles: ComplexArray) -> bool:
    """Whether both halves of conjugate pairs are stored: about half of the poles (P,) lie below the axis, and most are mirrored.

    Half a spectrum has one sign at birth, and after training at most a few poles with another.
    """
    below = float((poles.imag < 0).mean())
    if not 0.25 < below < 0.75:
        return False
    distance = np.abs(poles.conj()[:, None] - poles)
    np.fill_diagonal(distance, np.inf)
    return bool(np.median(distance.min(axis=1) / np.abs(poles)) < 0.3)


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Tensors of one layer to its state space; the formulas are those of the module docstring."""
    real, imag = layer.array("Lambda_re"), layer.array("Lambda_im")
    with np.errstate(over="ignore"):
        step = np.exp(layer.array("log_step").reshape(1, -1))
    poles = as_complex(np.where(real > CLIP, CLIP, real), imag)[None]
    full = _is_full_spectrum(poles[0])
    stored = "the full spectrum is stored, output Re" if full else "half of each conjugate pair is stored (conj_sym), output 2 Re"
    assumptions = [f"{stored}: from the signs of Lambda_im"]
    if (real > CLIP).any():
        assumptions.append(f"{int((real > CLIP).sum())} real parts above {CLIP:g} were clipped, as clip_eigs does")
    if options.discretization is None:
        assumptions.append("discretization zoh (the code's default; the file does not say; --discretization bilinear is the alternative)")
    lower = imag[None] < 0
    poles, B, C = fold(lower, poles, layer.complex_array("B")[None], layer.complex_array("C")[None])
    D = layer.array("D") if "D" in layer else np.zeros(layer.sizes["H"])
    return [
        StateSpace(
            name=layer.name,
            family=layer.family,
            poles=poles,
            B=B,
            C=C / 2 if full else C,
            D=np.diag(D)[None],
            step=step,
            discretization=choose_discretization(layer, options, ("zoh", "bilinear")),
            assumptions=tuple(assumptions),
        )
    ]


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`."""
    (system,) = systems
    imag = layer.array("Lambda_im")
    poles, B, C = fold(imag[None] < 0, system.poles, system.B, system.C)
    if _is_full_spectrum(layer.array("Lambda_re") + 1j * imag):
        C = C * 2
    stored: dict[str, npt.NDArray[Any]] = {
        "Lambda_re": poles[0].real,
        "Lambda_im": poles[0].imag,
        "B": layer.as_stored("B", B[0]),
        "C": layer.as_stored("C", C[0]),
        "log_step": np.log(np.broadcast_to(system.step, poles.shape)).reshape(layer.tensors["log_step"].shape),
    }
    if "D" in layer:
        stored["D"] = np.diagonal(system.D[0])
    return stored


S5 = Family(
    name="s5",
    title="S5 (flax)",
    source="lindermanlab/S5, s5/ssm.py, S5SSM; arXiv 2208.04933",
    templates=(
        {
            "Lambda_re": Slot("Lambda_re", "P"),
            "Lambda_im": Slot("Lambda_im", "P"),
            "B": Slot("B", "P H ~"),
            "C": Slot("C", "H P ~"),
            "log_step": Slot("log_step", "P 1|P"),
            "D": Slot("D", "H", optional=True),
        },
    ),
    read=read,
    write=write,
)
