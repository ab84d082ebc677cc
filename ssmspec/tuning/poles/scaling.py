"""Scale trained systems by alpha and related factors: on the imaginary part of the poles, on their real part, and on the step.

    a <- alpha_real Re a + i alpha Im a,   Delta <- step_scale Delta        (zoh, bilinear, euler; without a step of its own: on a)
    log z <- step_scale (alpha_real log|z| + i alpha arg z)                 (direct; phases are clipped at pi)

The residues C B are kept, or, to preserve the gain, C changes so that every |g_n| in discrete time is kept.
Source: arXiv 2410.02035, section 4.1 (alpha, there at initialization).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssmspec.errors import LayerError, SsmspecError
from ssmspec.systems.statespace import ComplexArray, StateSpace, beyond_nyquist, discrete_residues


@dataclass(frozen=True, slots=True)
class Scaling:
    """Factors on Im a, Re a and Delta, dimensionless and positive, and whether |g_n| is kept.

    Raises:
        SsmspecError: a factor is not a positive finite number.
    """

    alpha: float = 1.0
    alpha_real: float = 1.0
    step_scale: float = 1.0
    preserve_gain: bool = False

    def __post_init__(self) -> None:
        for name in ("alpha", "alpha_real", "step_scale"):
            value = getattr(self, name)
            if not 0 < value < np.inf:
                raise SsmspecError(f"{name.replace('_', '-')} is {value}; expected a positive finite factor")

    @property
    def changes(self) -> bool:
        return self.moves_poles or self.step_scale != 1

    @property
    def moves_poles(self) -> bool:
        return (self.alpha, self.alpha_real) != (1, 1)


@dataclass(frozen=True, slots=True)
class Scaled:
    """A scaled system, and how many of its discrete poles reached the phase pi and were clipped."""

    system: StateSpace
    clamped: int


def scale(system: StateSpace, scaling: Scaling) -> Scaled:
    """The system with scaled poles and step.

    Raises:
        LayerError: alpha is given for a system with only real poles, or with a low-rank part, whose poles a factor on the diagonal does not
            scale; or the gain cannot be kept.
    """
    if scaling.moves_poles and system.P is not None and system.P.any():
        raise LayerError(
            f"layer {system.name} ({system.family}) has a low-rank part, so scaling its diagonal would not scale its poles; "
            "--diagonalize converts it first and reports the error"
        )
    if scaling.alpha != 1 and not system.poles.imag.any():
        raise LayerError(
            f"layer {system.name} ({system.family}) has only real poles, which alpha does not change; "
            "--step-scale changes its time scale: 2 doubles every corner frequency"
        )
    if scaling.preserve_gain and (system.operating_point is not None or (system.P is not None and system.P.any())):
        reason = "has no stored C to preserve its gain with" if system.operating_point else "has a low-rank part, which couples its modes"
        raise LayerError(f"layer {system.name} ({system.family}) {reason}; remove --preserve-gain")
    poles, clamped = _scaled_poles(system, scaling)
    step = system.step * scaling.step_scale if system.has_step else system.step
    scaled = replace(system, poles=poles, step=step)
    if scaling.preserve_gain:
        ratio = np.abs(discrete_residues(system)) / np.abs(discrete_residues(scaled))
        scaled = replace(scaled, C=system.C * ratio[:, None, :])
    return Scaled(scaled, clamped)


def _scaled_poles(system: StateSpace, scaling: Scaling) -> tuple[ComplexArray, int]:
    if system.discretization != "direct":
        factor = scaling.step_scale if system.unit_step else 1.0
        return (factor * scaling.alpha_real) * system.poles.real + 1j * (factor * scaling.alpha * system.poles.imag), 0
    if (scaling.alpha, scaling.alpha_real, scaling.step_scale) == (1, 1, 1):
        return system.poles, 0
    phase = scaling.alpha * scaling.step_scale * np.abs(np.angle(system.poles))
    size = np.abs(system.poles) ** (scaling.alpha_real * scaling.step_scale)
    poles = (size * np.exp(1j * np.minimum(phase, np.pi))).astype(complex)
    return poles, int((phase > np.pi).sum())


def aliasing(before: Sequence[StateSpace], after: Sequence[StateSpace]) -> tuple[list[str], dict[str, float]]:
    """How many modes are beyond Nyquist before and after. Empty if no mode can be, or if neither poles nor steps changed."""
    counts = [[None if (beyond := beyond_nyquist(s)) is None else int(beyond.sum()) for s in part] for part in (before, after)]
    moved = any(not (np.array_equal(a.poles, b.poles) and np.array_equal(a.step, b.step)) for a, b in zip(before, after, strict=True))
    if any(None in part for part in counts) or not moved or not any(system.poles.imag.any() for system in (*before, *after)):
        return [], {}
    first, last = (sum(count or 0 for count in part) for part in counts)
    figures = {"beyond_nyquist_before": float(first), "beyond_nyquist_after": float(last)}
    return [f"modes beyond Nyquist, which alias: {first} -> {last} of {sum(system.poles.size for system in after)}"], figures
