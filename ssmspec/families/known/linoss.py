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
from ssmspec.tuning.reduction.discrete_modes import Modes
from ssmspec.tuning.reduction.form import Form

SCHEMES = ("im", "imex")
SAME_POLE = 1e-7  # distance of two computed poles of which one is meant, relative to 1 - |z|
TRACE = 1e-5  # relative; what rounding does to the trace of an inverse, and more
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


def _circle(poles: ComplexArray) -> ComplexArray:
    """The nearest poles of implicit oscillators: |z|^2 = Re z is a circle around 1/2; NaN for real ones."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: ComplexArray = 0.5 + (poles - 0.5) / (2 * np.abs(poles - 0.5))
    return np.where(poles.imag == 0, np.nan, found)


def _oscillators(modes: Modes, rounding: float) -> Modes:
    """Implicit oscillators for the modes of one system: its pairs on the circle, those of one pole together, with a real matrix at each.

    K[l] = 2 Re(u z^l), u = z/(z - conj z), times Re(C B) of a vector C and B: a real matrix of rank 2. One of a higher rank takes several.
    """
    kept = np.flatnonzero(modes.alive[0] & (modes.poles[0].imag != 0))
    kept = kept[np.argsort(np.angle(modes.poles[0, kept]), kind="stable")]
    poles, residues = modes.poles[0, kept], modes.C[0][:, kept].T[:, :, None] * modes.B[0, kept][:, None, :]
    apart = np.flatnonzero(np.abs(np.diff(poles)) > SAME_POLE * (1 - np.abs(poles[1:]))) + 1
    found: list[tuple[complex, ComplexArray, ComplexArray]] = []
    for group in np.split(np.arange(len(kept)), apart) if len(kept) else ():
        weights = np.linalg.norm(residues[group], axis=(1, 2))
        pole = complex(_circle(np.average(poles[group], weights=weights)[None])[0])
        shape = pole / (2j * pole.imag)
        left, sizes, right = np.linalg.svd((residues[group].sum(axis=0) / shape).real, full_matrices=False)
        rank = max(1, int((sizes * abs(shape) > rounding * (1 - abs(pole))).sum()))
        roots = np.where(np.arange(rank + rank % 2) < rank, np.sqrt(np.pad(sizes[:rank], (0, rank % 2))), 0)
        U, V = (np.pad(part[:, :rank], ((0, 0), (0, rank % 2))) * roots for part in (left, right.T))
        found += [(pole, V[:, n] + 1j * V[:, n + 1], (U[:, n] - 1j * U[:, n + 1]) * shape / 2) for n in range(0, len(roots), 2)]
    if not found:
        found = [(0.5 + 0.5j, np.zeros(modes.B.shape[2], complex), np.zeros(modes.C.shape[1], complex))]
    poles, B, C = (np.array(part) for part in zip(*found, strict=True))
    shapes = (poles / (2j * poles.imag))[:, None]
    partner = (C / shapes).conj() * shapes
    return Modes(np.tile(poles, 2)[None], np.concatenate([B, B.conj()])[None], np.concatenate([C, partner]).T[None])


def _may_oscillate(A: FloatArray) -> bool:
    """Whether the poles of A (n, n) may be on the circle: Re 1/z is 1 there, so that the trace of the inverse is n."""
    order = len(A)
    try:
        return order % 2 == 0 and abs(np.trace(np.linalg.inv(A)) - order) <= TRACE * order
    except np.linalg.LinAlgError:
        return False


def _relation(pole: complex) -> str:
    return f"a pair of poles {pole.real:.4g} +- {pole.imag:.4g}i, whose |z|^2 = {abs(pole) ** 2:.4g} is not its Re z, as in an oscillator"


def _form(layer: LayerTensors, options: ReadOptions) -> Form:
    """Implicit oscillators; those of the other scheme have no norm, so that no layer of them comes so far."""
    return Form(title="LinOSS-IM", parts=2, nearest_poles=_circle, nearest=_oscillators, possible=_may_oscillate, relation=_relation)


def _blank(layer: LayerTensors, before: LayerTensors, systems: Sequence[StateSpace]) -> LayerTensors:
    """An empty layer with the step of the nearest oscillator before at each place: poles depend on step^2 A alone."""
    (system,) = systems
    known = _modes(np.maximum(before.array("A_diag"), 0), _step(before), "im")[0][0]
    new = system.poles[0, : layer.sizes["P"]]
    nearest = np.argmin(np.abs(new[:, None] - np.where(np.isfinite(known), known, np.inf)), axis=1)
    return layer.with_values({"steps": before.array("steps")[nearest]})


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
    resizing=Resizing(state="P", form=_form, blank=_blank),
    assumptions=(SCHEME,),
)
