"""S5: one multi-input multi-output diagonal system, a = Lambda_re + i Lambda_im, with one step per mode.

    k[l] = 2 Re(C Abar^l Bbar) with conj_sym, else Re(C Abar^l Bbar);   bidirectional: C1 (or the left half of C) reads the forward scan,
    C2 (the right half) the backward scan; both scans share Abar and Bbar.

A flax file stores neither conj_sym (half of the spectrum stored, output 2 Re), nor clip_eigs (real parts above -1e-4 become -1e-4), nor the
discretization. conj_sym is inferred from the signs of Lambda_im; the others are assumptions. The Equinox modules store conj_sym, clip_eigs
and step_rescale as numbers, which are used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.families.assumption import TRUTH, Assumption
from ssmspec.families.parameterization import chosen_rule, discretization, fold
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Resizing, Slot, Template, as_complex
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace

CLIP = -1e-4  # the largest real part that clip_eigs allows, S5SSM.setup
IF_GROWING = f"--assume s5_clip=true reads such poles as clipped to Re a = {CLIP:g}, as in a model that was made with clip_eigs"
RULE = discretization("zoh", "bilinear", source="lindermanlab/S5, s5/ssm.py, S5SSM.discretization; i404788/s5-pytorch, s5/s5_model.py")
LABELS = (":forward", ":backward")
_CONSTANTS = ("conj_sym", "clip_eigs", "step_rescale")  # not parameters: written back unchanged


def _is_full_spectrum(poles: ComplexArray) -> bool:
    """Whether both halves of conjugate pairs are stored: about half of the poles (P,) lie below the real axis, and most are mirrored.

    In half a spectrum all imaginary parts have the same sign at initialization; training changes the sign of a few poles at most.
    """
    below = float((poles.imag < 0).mean())
    if not 0.25 < below < 0.75:
        return False
    distance = np.abs(poles.conj()[:, None] - poles)
    np.fill_diagonal(distance, np.inf)
    return bool(np.median(distance.min(axis=1) / np.abs(poles)) < 0.3)


def output_matrices(layer: LayerTensors) -> list[ComplexArray]:
    """The output matrix (H, P) of every direction: one, or forward and backward."""
    if "C1" in layer:
        return [layer.complex_array("C1"), layer.complex_array("C2")]
    C = layer.complex_array("C")
    return np.split(C, 2, axis=1) if C.shape[1] == 2 * layer.sizes["P"] else [C]


def stored_output_matrices(layer: LayerTensors, outputs: Sequence[ComplexArray]) -> dict[str, npt.NDArray[Any]]:
    """The inverse of `output_matrices`, by role."""
    if "C1" in layer:
        return {role: layer.as_stored(role, C) for role, C in zip(("C1", "C2"), outputs, strict=True)}
    return {"C": layer.as_stored("C", np.concatenate(outputs, axis=1))}


def read_directions(layer: LayerTensors, options: ReadOptions, poles: ComplexArray, step: FloatArray, *, full: bool) -> list[StateSpace]:
    """The systems of a layer whose poles (P,) and steps (P,) are known. With `full`, the output is Re instead of 2 Re.

    Two directions share poles, B and step; D is counted once, in the forward direction.
    """
    outputs = output_matrices(layer)
    skip = layer.array("D") if "D" in layer else np.zeros(layer.sizes["H"])
    systems = []
    for label, output in zip(LABELS if len(outputs) > 1 else ("",), outputs, strict=True):
        folded, B, C = fold(poles.imag[None] < 0, poles[None], layer.complex_array("B")[None], output[None])
        systems.append(
            StateSpace(
                name=layer.name + label,
                family=layer.family,
                poles=folded,
                B=B,
                C=C / 2 if full else C,
                D=np.diag(np.zeros_like(skip) if label == LABELS[1] else skip)[None],
                step=step[None],
                discretization=chosen_rule(RULE, layer, options),
            )
        )
    return systems


def write_directions(
    layer: LayerTensors, systems: Sequence[StateSpace], lower: np.ndarray, *, full: bool
) -> tuple[ComplexArray, FloatArray, dict[str, npt.NDArray[Any]]]:
    """Unfolded poles (P,), steps (P,), and B, C and D by role; `lower` (P,) marks what `read_directions` folded."""
    first = systems[0]
    unfolded = [fold(lower[None], system.poles, system.B, system.C) for system in systems]
    stored = {"B": layer.as_stored("B", unfolded[0][1][0])}
    stored |= stored_output_matrices(layer, [C[0] * 2 if full else C[0] for _, _, C in unfolded])
    if "D" in layer:
        stored["D"] = np.diagonal(first.D[0])
    return unfolded[0][0][0], np.broadcast_to(first.step, first.poles.shape)[0], stored


def _constant(layer: LayerTensors, role: str) -> float | None:
    if role not in layer:
        return None
    return float(layer.tensors[role].read() if layer.tensors[role].dtype == "bool" else layer.array(role))


def _stored_truth(layer: LayerTensors, role: str) -> tuple[str, str] | None:
    constant = _constant(layer, role)
    return None if constant is None else (TRUTH[constant != 0], f"stored in {layer.tensor_names[role]}")


def _told_symmetry(layer: LayerTensors, config: Mapping[str, object]) -> tuple[str, str]:
    full = _is_full_spectrum(as_complex(layer.array("Lambda_re"), layer.array("Lambda_im")))
    stored = "the full spectrum is stored, output Re" if full else "half of each conjugate pair is stored, output 2 Re"
    return _stored_truth(layer, "conj_sym") or (TRUTH[not full], f"{stored}: from the signs of Lambda_im")


def _told_clipping(layer: LayerTensors, config: Mapping[str, object]) -> tuple[str, str] | None:
    return _stored_truth(layer, "clip_eigs")


def _would_be_clipped(layer: LayerTensors, options: ReadOptions) -> bool:
    return bool((layer.array("Lambda_re") > CLIP).any())


def _needs_both(layer: LayerTensors, options: ReadOptions) -> bool:
    """Whether only both halves of the spectrum tell that the output is Re: the tensor conj_sym, where there is one, tells it alone."""
    return "conj_sym" not in layer and SYMMETRY.value(layer, options) == "false"


def _blank(layer: LayerTensors, before: LayerTensors, systems: Sequence[StateSpace]) -> LayerTensors:
    """An empty layer that is read as half or all of a spectrum, like the one before."""
    full = _told_symmetry(before, {})[0] == "false"
    imag = np.where(np.arange(layer.sizes["P"]) % 2, -1.0, 1.0) if full and "conj_sym" not in layer else np.ones(layer.sizes["P"])
    return layer.with_values({"Lambda_im": imag})


SYMMETRY = Assumption(
    name="s5_conj_sym",
    about="whether half of each conjugate pair is stored and the output is 2 Re (true), or the full spectrum and the output is Re",
    values=("true", "false"),
    source="lindermanlab/S5, s5/ssm.py, apply_ssm",
    told_by="the tensor conj_sym (Equinox), or else the signs of Lambda_im",
    told=_told_symmetry,
    matters=lambda layer, options: "conj_sym" not in layer,
)
CLIPPING = Assumption(
    name="s5_clip",
    about=f"whether real parts of poles above {CLIP:g} are read as {CLIP:g}",
    values=TRUTH,
    source="lindermanlab/S5, s5/ssm.py, S5SSM.clip_eigs (default False); NVlabs/ConvSSM, src/models/convS5/diagonal_ssm.py",
    told_by="the tensor clip_eigs (Equinox, ssmspec.nn.ConvS5)",
    told=_told_clipping,
    matters=_would_be_clipped,
)


def clipped(layer: LayerTensors, options: ReadOptions) -> tuple[ComplexArray, dict[str, Any]]:
    """The poles (P,), clipped or not, and what `StateSpace` needs to know of that."""
    real, imag = layer.array("Lambda_re"), layer.array("Lambda_im")
    if CLIPPING.value(layer, options) == "false":
        return as_complex(real, imag), {} if "clip_eigs" in layer else {"if_growing": IF_GROWING}
    above = real > CLIP
    notes = (f"{int(above.sum())} real parts above {CLIP:g} were clipped, as clip_eigs does",) if above.any() else ()
    return as_complex(np.where(above, CLIP, real), imag), {"assumptions": notes}


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Convert the tensors of one layer to its state spaces, with the formulas of the module docstring."""
    rescale = _constant(layer, "step_rescale")
    with np.errstate(over="ignore"):
        step = np.exp(layer.array("log_step").reshape(-1)) * (1 if rescale is None else rescale)
    poles, more = clipped(layer, options)
    full = SYMMETRY.value(layer, options) == "false"
    return [replace(system, **more) for system in read_directions(layer, options, poles, step, full=full)]


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`."""
    imag = layer.array("Lambda_im")
    full = SYMMETRY.value(layer, options) == "false"
    poles, step, stored = write_directions(layer, systems, imag < 0, full=full)
    log_step = np.log(step / (_constant(layer, "step_rescale") or 1))
    stored |= {"Lambda_re": poles.real, "Lambda_im": poles.imag, "log_step": log_step.reshape(layer.tensors["log_step"].shape)}
    return stored | {role: layer.tensors[role].read() for role in _CONSTANTS if role in layer}


def _template(**outputs: Slot) -> Template:
    return {
        "Lambda_re": Slot("Lambda_re", "P"),
        "Lambda_im": Slot("Lambda_im", "P"),
        "B": Slot("B", "P H ~"),
        **outputs,
        "log_step": Slot("log_step", "P 1|P"),
        "D": Slot("D", "H", optional=True),
        **{role: Slot(role, "", optional=True) for role in _CONSTANTS},
    }


S5 = Family(
    name="s5",
    title="S5 (flax, Equinox)",
    source="lindermanlab/S5, s5/ssm.py, S5SSM; tk-rusch/linoss, models/S5.py (Equinox); arXiv 2208.04933",
    templates=(
        _template(C=Slot("C", "H P ~|H 2P ~")),
        _template(C1=Slot("C1", "H P ~"), C2=Slot("C2", "H P ~")),
    ),
    read=read,
    write=write,
    resizing=Resizing(state="P", both=_needs_both, counts=("P",), blank=_blank),
    assumptions=(RULE, SYMMETRY, CLIPPING),
)
