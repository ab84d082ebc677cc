"""Re-initialize a trained layer: poles, step, B and C are drawn again, with the shapes and tied copies of the layer; D is kept."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssmspec.errors import LayerError, SsmspecError
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace
from ssmspec.tuning.poles.initializations import INITIALIZATIONS, Poles, Settings, initial_poles, sample_step, unknown
from ssmspec.tuning.poles.matrices import INPUT_INITIALIZATIONS, OUTPUT_INITIALIZATIONS, initial_inputs, initial_outputs

KEPT = "kept"  # in the place of an initialization: the layer's weights are real numbers in a form that no draw has
# family -> names of the initializations of B and C in the family's own code
DRAWS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("s4d", "freqbias-standalone", "freqbias-block", "annotated-s4d"), ("ones", "normal")),
    **dict.fromkeys(("s4-diag", "s4-diag-v3", "s4-diag-v2"), ("ones", "normal")),
    **dict.fromkeys(("s5", "s5-torch"), ("s5", "s5")),
    "lru": ("lru", "lru"),
    **dict.fromkeys(("evo-1", "gss"), ("ones", "normal")),
    **dict.fromkeys(("centaurus", "evo-2-hcl"), (KEPT, KEPT)),
}
OWN_INPUTS = {"s4d-legs": "legs", "fout": "fout"}  # initializations of poles that come with their own B, for families that store B
S5_BLOCKS = 8
SMALLEST_PHASE = 1e-6  # rad/sample: LRU and GSS store the logarithms of their phases


@dataclass(frozen=True, slots=True, kw_only=True)
class Reinitialization:
    """How layers are re-initialized.

    Args:
        name: key of `INITIALIZATIONS`. alpha: factor on Im of the poles. seed: seed of all random numbers.
        step: range of Delta [model time per sample], log-uniform; the default is that of S4, S4D and S5.
        inputs, outputs: keys of `INPUT_INITIALIZATIONS` and `OUTPUT_INITIALIZATIONS`; None means those of the family's own code.

    Raises:
        SsmspecError: a name is unknown.
    """

    name: str
    alpha: float = 1.0
    seed: int = 0
    step: tuple[float, float] = (1e-3, 1e-1)
    inputs: str | None = None
    outputs: str | None = None

    def __post_init__(self) -> None:
        for what, name, choices in (
            ("initialization", self.name, INITIALIZATIONS),
            ("initialization of B", self.inputs, INPUT_INITIALIZATIONS),
            ("initialization of C", self.outputs, OUTPUT_INITIALIZATIONS),
        ):
            if name is not None and name not in choices:
                raise unknown(what, name, choices)

    def describe(self, family: str) -> str:
        """What is drawn for a layer of the given family, and its source, in words."""
        of_B, of_C = self.draw_of_inputs(family), self.outputs or DRAWS[family][1]
        low, high = self.step
        steps = "" if family == "lru" else f", step {low:g}..{high:g}"
        source = INITIALIZATIONS[self.name].source
        return f"{self.name}, alpha {self.alpha:g}, B {of_B}, C {of_C}{steps}, seed {self.seed}; poles from {source}"

    def draw_of_inputs(self, family: str) -> str:
        """The initialization of B for a layer of the given family."""
        return self.inputs or (OWN_INPUTS.get(self.name) if family == "s4-diag" else None) or DRAWS[family][0]


@dataclass(frozen=True, slots=True)
class Place:
    """The number of a layer, from 1, the number of layers, and the number of copies with poles of their own (None: all)."""

    layer: int = 1
    layers: int = 1
    groups: int | None = None


def reinitialize(systems: Sequence[StateSpace], how: Reinitialization, place: Place, *, features: int) -> tuple[list[StateSpace], int]:
    """The re-initialized directions of one layer, and the number of phases that reached pi.

    Args:
        systems: the directions, which share poles, B and step; each has its own C.
        how, place: see their classes.
        features: H, the number of copies after which poles and steps repeat (channels of one block).
    Raises:
        LayerError: the family has no known initialization, or the poles are continuous and the layer stores discrete ones.
    """
    first = systems[0]
    if first.family not in DRAWS:
        raise LayerError(f"layer {first.name} ({first.family}) cannot be re-initialized; supported families: {', '.join(DRAWS)}")
    rng = np.random.default_rng([how.seed, place.layer])
    base = min(first.copies, features)
    groups = min(place.groups or base, base)
    blocks = math.gcd(S5_BLOCKS, first.modes) if how.name == "s5-hippo" else 1
    settings = Settings(
        copies=groups,
        modes=first.modes,
        inputs=first.inputs,
        outputs=first.outputs,
        blocks=blocks,
        layer=place.layer,
        layers=place.layers,
    )
    start = initial_poles(how.name, settings, alpha=how.alpha, rng=rng)
    # poles that the file ties across copies are continuous, so poles placed on the z-plane need tied steps, too
    steps = groups if start.plane == "z" or first.unit_step else base
    step = np.tile(sample_step(steps, *how.step, rng, modes=first.step.shape[1]), (base // steps, 1))
    start = Poles(np.tile(start.exponents, (base // groups, 1)), start.plane, start.clamped * (base // groups))
    draw = how.draw_of_inputs(first.family)
    B = first.B[:base] if draw == KEPT else np.tile(initial_inputs(draw, settings, rng=rng), (base // groups, 1, 1))
    renewed = [_renewed(system, how, start, step, B, replace(settings, copies=system.copies), rng) for system in systems]
    return renewed, start.clamped


def _renewed(
    system: StateSpace,
    how: Reinitialization,
    start: Poles,
    step: FloatArray,
    B: ComplexArray,
    settings: Settings,
    rng: np.random.Generator,
) -> StateSpace:
    repeats = system.copies // len(step)
    draw = how.outputs or DRAWS[system.family][1]
    C = system.C if draw == KEPT else initial_outputs(draw, settings, rng=rng)
    if system.discretization == "direct":
        try:
            poles = start.discrete()
        except SsmspecError as error:
            names = ", ".join(name for name, start in INITIALIZATIONS.items() if start.plane == "z")
            raise LayerError(
                f"layer {system.name} ({system.family}) stores discrete poles, but {how.name} has continuous ones; choose {names}"
            ) from error
        gamma = start.normalization()[:, :, None]
        poles = np.abs(poles) * np.exp(1j * np.maximum(np.angle(poles), SMALLEST_PHASE))
        return replace(system, poles=poles, B=B * gamma, C=C / 2)  # output Re, not 2 Re
    poles, step, B = np.tile(start.continuous(step), (repeats, 1)), np.tile(step, (repeats, 1)), np.tile(B, (repeats, 1, 1))
    if system.unit_step:
        poles, step = poles * step, np.ones_like(step)
        imag = np.maximum(poles.imag, SMALLEST_PHASE) if poles.imag.any() else poles.imag
        poles = np.asarray(poles.real + 1j * imag, dtype=np.complex128)
    return replace(system, poles=poles, step=step, B=B, C=C)
