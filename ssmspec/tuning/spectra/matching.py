"""Power-spectrum matching: fit a layer so that its mean |H|^2 is initially close to the spectrum of the task.

The idea is task-dependent initialization (TDI, arXiv 2509.20789). Its exact loss was not available to us; the loss used here is ours and is
defined in `spectral_distance`.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ssmspec.backends import choose_backend
from ssmspec.errors import LayerError, SsmspecError
from ssmspec.systems.statespace import FloatArray, StateSpace
from ssmspec.systems.trust import untrustworthy
from ssmspec.tuning.spectra.estimate import Spectrum
from ssmspec.tuning.spectra.layer_power import Engine, Parameters, PullBack, layer_power
from ssmspec.tuning.spectra.spectral_distance import Distance, Target

Moved = Literal["step", "decay", "frequency", "C"]
MOVED: tuple[Moved, ...] = ("step", "decay", "frequency", "C")

FINE_ENOUGH = 0.1  # dB; the fit stops here however accurate the data are; below the bias of the window; ours
CHANCE = 1.25  # times the spread; the distance of a perfect match varies by 6 % at 200 bins because of chance
ATTEMPTS = 4  # number of fits with increasing jitter if one does not reach the goal
JITTER = 1e-3  # in units of the fit; lets copies with equal initial values diverge
REACH = 10.0  # unit of C, in root mean squares of its copy: reducing the power of some modes to zero takes several units
FARTHEST = 10.0  # bound on the change of log step and log decay: a factor of 2e4, so that no trial step overflows


@dataclass(frozen=True, slots=True)
class MatchSettings:
    """The options of a fit.

    Args:
        moved: any of "step" (Delta), "decay" (Re a), "frequency" (Im a) and "C". If C is not moved, it is still scaled to keep the power of
            its copy, and conjugated for modes whose pole is folded back from Im a < 0.
        pole_sets: number of different rows of poles, for code in which copies k and k + pole_sets share poles; None for one row per copy.
        iterations: largest number of L-BFGS iterations in each of up to ATTEMPTS fits.
        backend: the engine; None chooses one.

    Raises:
        SsmspecError: nothing to move, an unknown name, or a number below 1.
    """

    moved: tuple[Moved, ...] = MOVED
    pole_sets: int | None = None
    iterations: int = 300
    backend: str | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.moved if name not in MOVED]
        if unknown or not self.moved:
            raise SsmspecError(f"moved is {', '.join(unknown) or 'empty'}; choose from {', '.join(MOVED)}")
        if self.iterations < 1 or (self.pole_sets is not None and self.pole_sets < 1):
            raise SsmspecError(f"iterations is {self.iterations} and pole_sets {self.pole_sets}; expected at least 1")


@dataclass(frozen=True, slots=True)
class Match:
    """The result of matching a layer.

    Args:
        system: the fitted layer, or the unchanged layer if the fit was declined.
        declined: why nothing was changed, or None.
        before, after: distances [dB].
        spread: spread of the estimate in the band, rms [dB]. tolerance: distance up to which a layer counts as matched [dB].
        iterations: number of iterations of the fit.
        theta: (F,) [rad/sample]. target, start, fitted: (F,) spectra with mean 1, of the data and of the layer as seen by the estimate.
        error: (F,) standard error of the target [dB].
        band: (F,) bool, the bins that carry 95 % of the power.
    """

    system: StateSpace
    declined: str | None
    before: Distance
    after: Distance
    spread: float
    tolerance: float
    iterations: int
    theta: FloatArray
    target: FloatArray
    start: FloatArray
    fitted: FloatArray
    error: FloatArray
    band: np.ndarray

    @property
    def matched(self) -> bool:
        """Whether the layer now matches to within the accuracy of the estimate."""
        return self.after.band <= self.tolerance


def match_spectrum(system: StateSpace, spectrum: Spectrum, *, seed: int = 0, settings: MatchSettings | None = None) -> Match:
    """Fit a layer, starting from its initialization, until its mean |H|^2 has the shape of a spectrum.

    The layer's spectrum is the mean over copies of |H_k|^2 (for several inputs and outputs, of the squared Frobenius norm), because the
    operations after the layer mix the copies. Only shapes are compared. The power of every copy, int |H_k|^2, does not change: no copy is
    silenced and no gain grows. Poles stay stable, because -Re a and Delta are varied through their logarithms. The fit stops as soon as it
    is within the spread of the estimate (or 0.1 dB), so it stays close to the initialization. For a peak narrower than a bin only the power
    is resolved, and frequencies below the second bin are not resolved at all: choose longer segments if longer memory matters.

    This is worth trying with few data, and if the default is far from the task. With plenty of data the published gain vanishes, and the
    fit can be harmful (arXiv 2509.20789).

    Args:
        system: one linear diagonal layer; a selective or a low-rank one is refused.
        spectrum: from `ssmspec.tuning.spectra.estimate`.
        seed: seed of the small jitter that lets equal copies diverge.
        settings: what may be changed, and how.
    Returns:
        Match; `declined` if the layer is already within the tolerance, or if the fit did not improve it.
    Raises:
        LayerError: the layer cannot be fitted, or its rows of poles contradict pole_sets.
        BackendError: the named backend cannot run here.
    Source: arXiv 2509.20789 for the idea; loss and fit are ours.
    """
    settings = settings or MatchSettings()
    _check_layer(system, settings)
    target = Target.of(spectrum)
    fit = _Fit.of(system, target, settings)
    power = fit.copies(fit.start).mean(axis=0)
    before = target.loss(power)[2]
    tolerance = CHANCE * max(target.spread, FINE_ENOUGH)
    if before.band <= tolerance:
        reason = f"the layer already matches: {before.band:.2g} dB from the data, within their accuracy of {tolerance:.2g} dB"
        return _match(system, fit, before, before, reason, 0, fit.start, tolerance)
    found, iterations = _minimize(fit, max(target.spread, FINE_ENOUGH), settings.iterations, np.random.default_rng(seed))
    fitted = fit.with_power_kept(found)
    after = target.loss(fit.copies(fitted).mean(axis=0))[2]
    if not after.band < before.band:
        reason = f"the fit did not improve it: {after.band:.3g} dB from the data after {iterations} iterations, {before.band:.3g} dB before"
        return _match(system, fit, before, before, reason, iterations, fit.start, tolerance)
    return _match(fitted.system(system), fit, before, after, None, iterations, fitted, tolerance)


def _match(
    system: StateSpace,
    fit: "_Fit",
    before: Distance,
    after: Distance,
    declined: str | None,
    iterations: int,
    found: Parameters,
    tolerance: float,
) -> Match:
    target = fit.target
    start, fitted = (power / power.mean() for power in (fit.copies(parameters).mean(axis=0) for parameters in (fit.start, found)))
    return Match(
        system=system,
        declined=declined,
        before=before,
        after=after,
        spread=target.spread,
        tolerance=tolerance,
        iterations=iterations,
        theta=target.spectrum.theta,
        target=target.spectrum.power,
        start=start,
        fitted=fitted,
        error=target.spectrum.standard_error_db,
        band=target.band,
    )


def _check_layer(system: StateSpace, settings: MatchSettings) -> None:
    problem = untrustworthy(system)
    if problem:
        raise LayerError(f"layer {system.name}: {problem}; expected a stable layer to start from")
    if system.operating_point is not None:
        raise LayerError(f"layer {system.name}: it is selective, so its C depends on the input; only linear layers can be matched")
    if system.rank:
        raise LayerError(f"layer {system.name}: a low-rank state matrix cannot be matched; start from a diagonal layer")
    if not system.B.any() or not system.C.any():
        raise LayerError(f"layer {system.name}: B or C is zero, so the response is zero; expected an initialized layer")
    sets = settings.pole_sets
    if sets is not None and (system.copies % sets or (system.poles != np.tile(system.poles[:sets], (system.copies // sets, 1))).any()):
        raise LayerError(f"layer {system.name}: its {system.copies} copies do not share {sets} rows of poles; choose another pole_sets")


@dataclass(frozen=True, slots=True)
class _Fit:
    """The loss as a function of one vector: the change of the moved parameters, in units that make them comparable.

    The units are 1 for the logarithms, for Im a the width of the peak (its own or the resolved one), and REACH for C.
    """

    system: StateSpace
    target: Target
    start: Parameters
    totals: FloatArray  # (K, 1): power of every copy, to be kept
    units: Parameters
    moved: tuple[str, ...]  # fields of Parameters
    sets: int  # rows of log_decay and frequency that move independently
    engine: Engine

    @classmethod
    def of(cls, system: StateSpace, target: Target, settings: MatchSettings) -> "_Fit":
        start = Parameters.of(system)
        names = {"step": "log_step", "decay": "log_decay", "frequency": "frequency", "C": "C"}
        moved = tuple(names[name] for name in MOVED if name in settings.moved and not (name == "step" and not system.has_step))
        if not moved:
            raise LayerError(f"layer {system.name} has no step; choose other parts to move than {', '.join(settings.moved)}")
        engine = Engine.named(
            settings.backend or choose_backend(8.0 * start.frequency.size * len(target.spectrum.theta) * settings.iterations)
        )
        totals = layer_power(system, start, target.spectrum.theta[:1], target.eta, engine)[1]
        sets = settings.pole_sets or system.copies
        return cls(system, target, start, totals, _units(system, start, target, sets), moved, sets, engine)

    def _power(self, at: Parameters) -> tuple[FloatArray, FloatArray, PullBack]:
        return layer_power(self.system, at, self.target.spectrum.theta, self.target.eta, self.engine)

    def copies(self, at: Parameters) -> FloatArray:
        """|H_k|^2 (K, F), with every copy scaled to its original power."""
        power, total, _ = self._power(at)
        return power * _ratio(self.totals, total)

    def with_power_kept(self, at: Parameters) -> Parameters:
        """The same parameters, with C scaled to keep the power."""
        return replace(at, C=at.C * np.sqrt(_ratio(self.totals, self._power(at)[1]))[:, :, None])

    def parameters(self, vector: FloatArray) -> Parameters:
        """The parameters that a vector represents."""
        values: dict[str, Any] = {}
        for name, part in zip(self.moved, np.split(vector, np.cumsum(self._sizes())[:-1]), strict=True):
            values[name] = getattr(self.start, name) + getattr(self.units, name) * self._expand(name, part)
        return replace(self.start, **values)

    def _sizes(self) -> list[int]:
        sizes = {"log_step": self.start.log_step.size, "C": 2 * self.start.C.size}
        return [sizes.get(name, self.sets * self.system.modes) for name in self.moved]

    def _expand(self, name: str, part: FloatArray) -> np.ndarray:
        if name == "C":
            return part.view(complex).reshape(self.start.C.shape)
        if name == "log_step":
            return part.reshape(self.start.log_step.shape)
        return np.tile(part.reshape(self.sets, -1), (self.system.copies // self.sets, 1))

    def _collect(self, name: str, gradient: np.ndarray) -> FloatArray:
        """The transpose of `_expand`."""
        if name == "C":
            return np.ascontiguousarray(gradient).reshape(-1).view(float)
        if name == "log_step":
            return gradient.reshape(-1)
        return gradient.reshape(-1, self.sets, gradient.shape[1]).sum(axis=0).reshape(-1)

    def loss(self, vector: FloatArray) -> tuple[float, FloatArray, Distance]:
        """The loss [dB^2], its gradient, and the distances."""
        power, total, pull_back = self._power(self.parameters(vector))
        ratio = _ratio(self.totals, total)
        value, of_mean, distance = self.target.loss((power * ratio).mean(axis=0))
        of_power = ratio / len(power) * of_mean
        of_total = -(of_power * power).sum(axis=1, keepdims=True) * _ratio(np.ones_like(total), total)
        gradients = pull_back(of_power, of_total)
        parts = [self._collect(name, getattr(gradients, name) * getattr(self.units, name)) for name in self.moved]
        return value, np.concatenate(parts), distance

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Bounds of the vector; only the logarithms are bounded."""
        limits = [FARTHEST if name.startswith("log") else np.inf for name in self.moved]
        upper = np.repeat(limits, self._sizes())
        return -upper, upper


def _units(system: StateSpace, start: Parameters, target: Target, sets: int) -> Parameters:
    width = np.maximum(np.exp(start.log_decay), target.eta / system.step)
    shared = np.tile(width.reshape(-1, sets, system.modes).mean(axis=0), (system.copies // sets, 1))
    size = np.sqrt((np.abs(system.C) ** 2).mean(axis=(1, 2), keepdims=True))
    scale = np.broadcast_to(REACH * size + 0j, system.C.shape)
    return Parameters(np.ones_like(start.log_step), np.ones_like(start.log_decay), shared, scale)


def _ratio(wanted: FloatArray, now: FloatArray) -> FloatArray:
    """The factor that restores the power of every copy, (K, 1); zero for a copy without power."""
    return np.divide(wanted, now, out=np.zeros_like(now), where=now > 0)


def _minimize(fit: _Fit, goal: float, iterations: int, rng: np.random.Generator) -> tuple[Parameters, int]:
    """L-BFGS from the start until the distance in the band reaches the goal [dB].

    Some jitters lead to a local minimum, often one in which too few modes have moved to the band. Up to ATTEMPTS fits are therefore tried,
    each with ten times as much jitter, until one reaches the goal; the best one is used.
    """
    found, nearest, spent = fit.start, np.inf, 0
    for attempt in range(ATTEMPTS):
        vector, distance, count = _descend(fit, goal, iterations, JITTER * 10**attempt * rng.standard_normal(sum(fit._sizes())))
        spent += count
        if distance < nearest:
            found, nearest = fit.parameters(vector), distance
        if nearest <= CHANCE * goal:
            break
    return found, spent


def _descend(fit: _Fit, goal: float, iterations: int, start: FloatArray) -> tuple[FloatArray, float, int]:
    """The final point of L-BFGS, its distance in the band [dB], and the number of iterations."""
    from scipy.optimize import Bounds, minimize

    distances: dict[float, float] = {}

    def objective(vector: FloatArray) -> tuple[float, FloatArray]:
        value, gradient, distance = fit.loss(vector)
        distances[value] = distance.band
        return value, gradient

    def stop_when_near(intermediate_result: Any) -> None:
        if distances[float(intermediate_result.fun)] <= goal:
            raise StopIteration

    result = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(*fit.bounds()),
        callback=stop_when_near,
        options={"maxiter": iterations, "maxcor": 10, "ftol": 1e-6},
    )
    return result.x, distances[float(result.fun)], int(result.nit)
