"""LinOSS: forced harmonic oscillators y'' = -A y + B u, two real states each, A = relu(A_diag), h = sigmoid(steps), output Re(C y) + D u.

    IM    (implicit)            z = S (1 +- i x),                     det = S = 1/(1 + x^2)     x = h sqrt(A)
    IMEX  (implicit-explicit)   z = 1 - x^2/2 +- i x sqrt(1 - x^2/4), det = 1                   (undamped; real, and growing, beyond x = 2)

The position of one oscillator after a unit impulse is K[l] = r_1 z_1^l + r_2 z_2^l, r_1 = h^2 det z_1/(z_1 - z_2), r_2 likewise; B and C
are complex and K is real, so k[l] = Re(C B) K[l]: two modes (z_1, z_2) with residues C B r/2 each, folded. No tensor tells which of the two
schemes a model was trained with; it is an assumption, unless the configuration of the public training code states it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.assumption import Assumption
from ssmspec.families.parameterization import fold, softplus
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Resizing, Slot
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace

SCHEMES = ("im", "imex")
CONFIG_KEYS = ("linoss_discretization", "layer_name", "discretization")  # of the public training code


def _configured_scheme(layer: LayerTensors, config: Mapping[str, object]) -> tuple[str, str] | None:
    values = ((key, str(config.get(key)).lower()) for key in CONFIG_KEYS)
    return next(((value, f"{key} of the configuration") for key, value in values if value in SCHEMES), None)


SCHEME = Assumption(
    name="linoss_scheme",
    about="how the oscillators are discretized: implicit (im), or implicit-explicit (imex), which leaves them undamped",
    values=SCHEMES,
    source="tk-rusch/linoss, models/LinOSS.py, apply_linoss_im and apply_linoss_imex; arXiv 2410.03943",
    told_by=f"{', '.join(CONFIG_KEYS)} of the configuration",
    keys=CONFIG_KEYS,
    told=_configured_scheme,
)


def _scheme(layer: LayerTensors, options: ReadOptions) -> str:
    return str(SCHEME.value(layer, options))


def _step(layer: LayerTensors) -> FloatArray:
    return np.asarray(np.exp(-softplus(-layer.array("steps"))))  # sigmoid


def _modes(A: FloatArray, step: FloatArray, scheme: str) -> tuple[ComplexArray, ComplexArray]:
    """Poles z_1, z_2 and residues r_1, r_2 of the position of every oscillator, (2, P) each; A = 0 has a double pole and no residues."""
    square = step**2 * A
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if scheme == "im":
            determinant = 1 / (1 + square)
            half, discriminant = determinant, -(determinant**2) * square
        else:
            determinant = np.ones_like(square)
            half, discriminant = 1 - square / 2, -square * (1 - square / 4)
        root = np.sqrt(discriminant.astype(complex))
        poles = np.stack([half + root, half - root])
        if scheme == "imex":  # rounding must not turn an undamped oscillator into a damped one
            poles = np.where((poles.imag != 0) & (np.abs(poles) < 1), poles * (1 + 2.0**-52), poles)
        residues = step**2 * determinant * poles / np.stack([2 * root, -2 * root])
    return poles, residues


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Convert the tensors of one layer to its state space, with the formulas of the module docstring."""
    if "G_diag" in layer:
        raise LayerError(f"layer {layer.name}: {layer.tensor_names['G_diag']} makes it a damped LinOSS, which is not supported")
    scheme = _scheme(layer, options)
    stored = layer.array("A_diag")
    z, r = _modes(np.maximum(stored, 0), _step(layer), scheme)
    assumptions: tuple[str, ...] = ()
    if (stored <= 0).any():
        assumptions += (
            f"{int((stored <= 0).sum())} of {stored.size} oscillators have A_diag <= 0, so no restoring force and a double pole at z = 1",
        )
    C = layer.complex_array("C")
    poles, B, C = fold(
        z.reshape(1, -1).imag < 0,
        z.reshape(1, -1),
        np.concatenate([layer.complex_array("B")] * 2)[None],
        np.concatenate([C * r[0] / 2, C * r[1] / 2], axis=1)[None],
    )
    return [
        StateSpace(
            name=layer.name,
            family=layer.family,
            poles=poles,
            B=B,
            C=C,
            D=np.diag(layer.array("D") if "D" in layer else np.zeros(layer.sizes["H"]))[None],
            step=np.ones((1, 1)),
            discretization="direct",
            assumptions=assumptions,
            undamped="IMEX, |z| = 1" if scheme == "imex" else "",
        )
    ]


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """A_diag for the given poles, and B, C and D; the steps do not change.

    Raises:
        LayerError: no oscillator of the scheme has these poles, or the two modes of an oscillator no longer match.
    """
    (system,) = systems
    scheme, step, before = _scheme(layer, options), _step(layer), layer.array("A_diag")
    P = step.size
    first, second = system.poles[0, :P], system.poles[0, P:]
    half = np.where(first.imag > 0, first.real, (first + second).real / 2)
    square = (first.imag / first.real) ** 2 if scheme == "im" else 2 - 2 * half
    A = square / step**2
    z, r = _modes(A, step, scheme)
    expected = np.where(z.imag < 0, z.conj(), z).reshape(-1)
    if not np.allclose(expected, system.poles[0], rtol=1e-6, atol=0):
        raise LayerError(
            f"layer {layer.name}: its poles are no longer those of LinOSS-{scheme.upper()} oscillators, "
            "whose frequency and decay both follow from one A_diag"
        )
    loose = A == 0  # no residue to divide by
    with np.errstate(divide="ignore", invalid="ignore"):
        C = np.where(loose, layer.complex_array("C"), 2 * system.C[0, :, :P] / r[0])
        partner = np.where(first.imag > 0, C.conj(), C) * np.where(first.imag > 0, r[1].conj(), r[1]) / 2
    if not np.allclose(np.where(loose, 0, partner), np.where(loose, 0, system.C[0, :, P:]), rtol=1e-6, atol=1e-6 * np.abs(C).max()):
        raise LayerError(f"layer {layer.name}: the two modes of an oscillator were changed differently; they must change together")
    stored = {
        "A_diag": np.where(loose & (before < 0), before, A),
        "steps": layer.array("steps"),
        "B": layer.as_stored("B", system.B[0, :P]),
        "C": layer.as_stored("C", C),
    }
    if "D" in layer:
        stored["D"] = np.diagonal(system.D[0])
    return stored


LINOSS = Family(
    name="linoss",
    title="LinOSS",
    source="tk-rusch/linoss, models/LinOSS.py, LinOSSLayer; jaredbmit/damped-linoss, src/damped_linoss/models/LinOSS.py; arXiv 2410.03943",
    templates=(
        {
            "A_diag": Slot("A_diag", "P"),
            "B": Slot("B", "P H ~"),
            "C": Slot("C", "H P ~"),
            "steps": Slot("steps|dt", "P"),
            "D": Slot("D", "H", optional=True),
            "G_diag": Slot("G_diag", "P", optional=True),
        },
    ),
    read=read,
    write=write,
    resizing=Resizing(
        state="P",
        only_modal="frequency and decay of an oscillator both follow from one A, and its two residues from one real matrix, "
        "which no balanced or H2-optimal pole keeps to",
    ),
    assumptions=(SCHEME,),
)
