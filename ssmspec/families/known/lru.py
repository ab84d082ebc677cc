"""LRU: z = exp(-exp(nu_log) + i exp(theta_log)), B scaled by exp(gamma_log), output Re (so half of the product is a residue).

No tensor tells whether B is scaled by exp(gamma_log), as in the paper, or by gamma_log itself, as in some code; nor whether y_t depends on
u_t (inclusive, as in the paper and most code) or only on earlier inputs (pre-update: y_t = Re(C x_t) before x is updated). Both are
assumptions. LRURec stores the three logarithms in the rows of
`params_log`, and B and C as complex linear maps with biases, which add a constant and are not part of the response.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.families.assumption import Assumption
from ssmspec.families.parameterization import fold
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Resizing, Slot, as_complex
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace

ROWS = ("nu_log", "theta_log", "gamma_log")  # of params_log
NO_PHASE = -800.0  # theta_log of a positive pole: its exponential is 0 in every precision
GAMMA = Assumption(
    name="lru_gamma",
    about="what B is scaled by: exp(gamma_log), or gamma_log itself in code that forgets the exponential",
    values=("exp", "raw"),
    source="arXiv 2303.06349, section 3.4 (exp); adrian-valente/lru_experiments, model.py, LRU.forward (raw)",
)
CONVENTIONS: dict[str | float, int] = {"inclusive": 0, "pre-update": 1}  # samples until an input is seen
CONVENTION = Assumption(
    name="lru_convention",
    about="whether y_t sees u_t (inclusive), or Re(C x_t) is taken before x is updated (pre-update)",
    values=("inclusive", "pre-update"),
    source="arXiv 2303.06349, appendix A; DecodEPFL/SSM, src/neural_ssm/ssm/lti_cells.py (pre-update)",
)

_POLES = {
    "nu_log": Slot("nu_log", "N"),
    "theta_log": Slot("theta_log", "N"),
    "gamma_log": Slot("gamma_log", "N"),
}
_SKIP = {"D": Slot("D", "I|O I", optional=True)}


def _logarithm(layer: LayerTensors, role: str) -> FloatArray:
    return layer.array("params_log")[ROWS.index(role)] if "params_log" in layer else layer.array(role)


def _matrix(layer: LayerTensors, letter: str) -> ComplexArray:
    if letter in layer:
        return layer.complex_array(letter)
    return as_complex(layer.array(f"{letter}_re"), layer.array(f"{letter}_im"))


def _phase(layer: LayerTensors) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.exp(_logarithm(layer, "theta_log"))


def _gamma(layer: LayerTensors, options: ReadOptions) -> FloatArray:
    stored = _logarithm(layer, "gamma_log")
    with np.errstate(over="ignore"):
        return np.exp(stored) if GAMMA.value(layer, options) == "exp" else stored


def _below_axis(phase: FloatArray) -> np.ndarray:
    """Whether exp(i phase) lies in the lower half plane; trained phases can exceed pi."""
    with np.errstate(invalid="ignore"):
        below: np.ndarray = np.mod(phase, 2 * np.pi) > np.pi
    return below


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Convert the tensors of one layer to its state space, with the formulas of the module docstring."""
    phase = _phase(layer)
    with np.errstate(over="ignore", invalid="ignore"):
        poles = np.exp(-np.exp(_logarithm(layer, "nu_log")) + 1j * phase)[None]
        B = (_matrix(layer, "B") * _gamma(layer, options)[:, None])[None]
    poles, B, C = fold(_below_axis(phase)[None], poles, B, _matrix(layer, "C")[None] / 2)
    D = layer.array("D") if "D" in layer else np.zeros((C.shape[1], B.shape[2]))
    biases = ("biases of in_proj and out_proj, if any, add a constant that is not part of the response",)
    return [
        StateSpace(
            name=layer.name,
            family=layer.family,
            poles=poles,
            B=B,
            C=C,
            D=(np.diag(D) if D.ndim == 1 else D)[None],
            step=np.ones((1, 1)),
            discretization="direct",
            delay=CONVENTIONS[CONVENTION.value(layer, options)],
            assumptions=biases if "params_log" in layer else (),
        )
    ]


def _log_phase(phase: FloatArray) -> FloatArray:
    """theta_log, finite where the phase is 0."""
    with np.errstate(divide="ignore"):
        return np.where(phase == 0, NO_PHASE, np.log(phase))


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`."""
    (system,) = systems
    phase = _phase(layer)
    gamma = _gamma(layer, options)
    poles, B, C = fold(_below_axis(phase)[None], system.poles, system.B, system.C)
    turns = phase - np.mod(phase, 2 * np.pi)
    stored: dict[str, npt.NDArray[Any]] = {
        "nu_log": np.log(-np.log(np.abs(poles[0]))),
        "theta_log": _log_phase(np.mod(np.angle(poles[0]), 2 * np.pi) + turns),
        "gamma_log": _logarithm(layer, "gamma_log"),
    }
    if "params_log" in layer:
        stored = {"params_log": np.stack([stored[row] for row in ROWS])}
    for letter, matrix in (("B", B[0] / gamma[:, None]), ("C", 2 * C[0])):
        if letter in layer:
            stored[letter] = layer.as_stored(letter, matrix)
        else:
            stored |= {f"{letter}_re": matrix.real, f"{letter}_im": matrix.imag}
    if "D" in layer:
        stored["D"] = np.diagonal(system.D[0]) if len(layer.tensors["D"].shape) == 1 else system.D[0]
    return stored


def anew(layer: LayerTensors, systems: Sequence[StateSpace]) -> LayerTensors:
    """The layer with gamma = sqrt(1 - |z|^2), as its code initializes it; afterwards gamma is trained independently."""
    gamma_log = np.log(-np.expm1(2 * np.log(np.abs(systems[0].poles[0])))) / 2
    if "params_log" not in layer:
        return layer.with_values({"gamma_log": gamma_log})
    rows = layer.array("params_log")
    rows[ROWS.index("gamma_log")] = gamma_log
    return layer.with_values({"params_log": rows})


LRU = Family(
    name="lru",
    title="LRU",
    source="arXiv 2303.06349; NicolasZucchet/minimal-LRU, lru/model.py; DecodEPFL/SSM, src/neural_ssm/ssm/lti_cells.py; "
    "yueqirex/LRURec, model/lru.py; Gothos/LRU-pytorch, LRU_pytorch/LRU.py",
    templates=(
        _POLES | {"B": Slot("B|Bp", "N I ~"), "C": Slot("C", "O N ~")} | _SKIP,
        _POLES
        | {"B_re": Slot("B_re", "N I"), "B_im": Slot("B_im", "N I"), "C_re": Slot("C_re", "O N"), "C_im": Slot("C_im", "O N")}
        | _SKIP,
        {
            "params_log": Slot("params_log", "3 N"),
            "B": Slot("in_proj.weight", "N I ~"),
            "C": Slot("out_proj.weight", "O N ~"),
        },
    ),
    read=read,
    write=write,
    resizing=Resizing(),
    assumptions=(CONVENTION, GAMMA),
    anew=anew,
    hints=("lru",),
)
