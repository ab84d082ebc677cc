"""Suggestions from data for a layer before training: beta, the range of alpha, and the step, each with source and uncertainty."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssmspec.errors import SsmspecError
from ssmspec.systems.sobolev import Convention, Sobolev
from ssmspec.systems.statespace import Discretization, FloatArray, StateSpace, modal_form
from ssmspec.tuning.spectra.estimate import Spectrum
from ssmspec.tuning.spectra.power_law import PowerLaw, correlation_time, opposed_aims, power_law

_TUNING = "arXiv 2410.02035"
_TOPO = "guideline of Topo_S4, beta ~ gamma/2; there a uniform filter raised the mean squared error on noise by 37 %"
ROUGH = 0.05  # smallest uncertainty of beta, because a guideline is not a measurement; ours
COARSE = 0.05  # smallest relative uncertainty of the memory, because of the window and the lowest bins; ours
CERTAIN = 2.0  # standard errors from 0 at which gamma counts as different from 0
VAGUE = 0.5  # uncertainty above which beta is not suggested; ours
PANELS = 24  # octaves below Nyquist that are integrated separately, for knees down to 2e-7 rad/sample


@dataclass(frozen=True, slots=True)
class StartingLayer:
    """The properties of a layer that must be known before training.

    Args:
        step: (smallest, largest) Delta [model time per sample]; (1, 1) for layers with discrete poles.
        highest: largest |Im a| [rad per model time] at alpha = 1.
        decay: smallest -Re a [1/model time].
        discretization: it determines whether a pole can alias.
        selective: whether the layer is linear only at an operating point, so that beta has no fixed meaning.
        step_per_mode: whether there is more than one step per copy, for which the convention "paper" is not defined.

    Raises:
        SsmspecError: the range is not positive, finite and increasing; the frequency is negative, or the decay is not positive.
    """

    step: tuple[float, float]
    highest: float
    decay: float = 0.5
    discretization: Discretization = "zoh"
    selective: bool = False
    step_per_mode: bool = False
    assumptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        low, high = self.step
        if not 0 < low <= high < math.inf:
            raise SsmspecError(f"step is {low}..{high}, expected two positive finite values, the smaller one first")
        if not (0 <= self.highest < math.inf and 0 < self.decay < math.inf):
            raise SsmspecError(f"highest is {self.highest} and decay {self.decay}, expected a frequency of at least 0 and a positive decay")

    @classmethod
    def s4d_lin(cls, modes: int, step: tuple[float, float] = (1e-3, 1e-1)) -> "StartingLayer":
        """a_n = -1/2 + i pi n, n = 0..modes-1. Source: arXiv 2206.11893, section 4; the steps are the defaults of its code."""
        if modes < 1:
            raise SsmspecError(f"modes is {modes}, expected at least 1")
        return cls(step, math.pi * (modes - 1))

    @classmethod
    def of(cls, system: StateSpace) -> "StartingLayer":
        """The properties of an existing layer; alpha is then a factor on its present frequencies (of its eigenvalues if it is low-rank)."""
        poles = modal_form(system)[0].poles
        exponents = np.log(poles) if system.discretization == "direct" else poles
        return cls(
            step=(float(system.step.min()), float(system.step.max())),
            highest=float(np.abs(exponents.imag).max()),
            decay=float(-exponents.real.max()),
            discretization=system.discretization,
            selective=system.operating_point is not None,
            step_per_mode=system.step.shape[1] > 1,
            assumptions=system.assumptions,
        )


@dataclass(frozen=True, slots=True)
class Suggested:
    """One suggested number.

    Args:
        name: its name. value: rounded to the accuracy that the uncertainty justifies; None if no value can be given.
        uncertainty: one standard error, in the same unit; None for a value that follows from definitions alone.
        unit: "" for a pure number. source: paper and section, or how it was estimated. note: what to know before using it.
    """

    name: str
    value: float | None
    uncertainty: float | None
    unit: str
    source: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class SuggestSettings:
    """The options of `suggest`.

    Args:
        convention: convention of the beta weight, with theta_ref [rad/sample] or length [samples] if it needs one; see `Sobolev`.
        memory: desired memory of the slowest mode [samples]; None uses the correlation time of the data.
        fit_range: [rad/sample] for gamma; None for the default of `power_law`.

    Raises:
        LayerError: the convention is unknown, or a parameter that it needs is missing.
        SsmspecError: the memory is not positive.
    """

    convention: Convention = "lra"
    theta_ref: float | None = None
    length: int | None = None
    memory: float | None = None
    fit_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        self.weight(np.zeros(1))
        if self.memory is not None and not 0 < self.memory < math.inf:
            raise SsmspecError(f"memory is {self.memory}, expected a positive number of samples")

    def weight(self, beta: FloatArray) -> Sobolev:
        """The weight with these exponents."""
        return Sobolev(beta, self.convention, self.theta_ref, self.length)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """All suggestions for a layer.

    Args:
        items: gamma, beta, noise_amplification, nyquist_gain, alpha_min, alpha_max, memory, step.
        power_law: the fit behind gamma and beta, not rounded.
        assumptions: assumptions about the data and the layer, and how the spectrum was estimated.
        settings, layer: the options and the layer that were given.
    """

    items: tuple[Suggested, ...]
    power_law: PowerLaw
    assumptions: tuple[str, ...]
    settings: SuggestSettings
    layer: StartingLayer

    @property
    def has_beta(self) -> bool:
        """Whether there is a beta to apply: it has a value that differs from 0, and the spectrum is a power law."""
        told = abs(self.power_law.gamma) >= CERTAIN * self.power_law.uncertainty
        return self["beta"].value is not None and told and not self.power_law.bends

    @property
    def aims(self) -> tuple[str, ...]:
        """What the numbers aim at, where a fit to the spectrum aims at the opposite."""
        text = "" if self["beta"].value is None else opposed_aims(self.power_law.gamma)
        return (text,) if text else ()

    def __getitem__(self, name: str) -> Suggested:
        return next(item for item in self.items if item.name == name)


def suggest(spectrum: Spectrum, layer: StartingLayer, settings: SuggestSettings | None = None) -> Suggestion:
    """Suggest initial values for a layer whose input has the given spectrum.

    Signs: S(theta) ~ theta^-gamma, so gamma > 0 for data whose power falls with frequency, and beta = gamma/2 > 0 raises high frequencies:
    |weight|^2 S is then flat for theta far above the knee.

    Args:
        spectrum: spectrum of the layer's input, from `ssmspec.tuning.spectra.estimate`.
        layer: the initial layer.
        settings: convention and options.
    Raises:
        SsmspecError: there are too few bins for gamma, or the convention does not support the layer's steps.
    Source: given with every item.
    """
    settings = settings or SuggestSettings()
    if settings.convention == "paper" and layer.step_per_mode:
        raise SsmspecError("the beta convention 'paper' needs one step per copy, but this layer has one per mode; use 'angular' or 'lra'")
    law = power_law(spectrum, settings.fit_range)
    items = (*_bias_items(law, layer, settings), *_alpha_items(spectrum, layer), *_memory_items(spectrum, layer, settings))
    return Suggestion(items, law, (*spectrum.assumptions, spectrum.method(), *layer.assumptions), settings, layer)


def _bias_items(law: PowerLaw, layer: StartingLayer, settings: SuggestSettings) -> tuple[Suggested, ...]:
    low, high = law.fit_range
    fit = f"least squares of log S over log theta, {low:.2g}..{high:.2g} rad/sample, all octaves weighted equally"
    bend = (
        f"not a power law: gamma is {law.halves[0]:.2g} in the lower and {law.halves[1]:.2g} in the upper half of the range"
        if law.bends
        else ""
    )
    gamma = Suggested("gamma", *rounded(law.gamma, law.uncertainty), "", fit, bend)
    beta, error = rounded(law.gamma / 2, max(law.uncertainty / 2, ROUGH))
    if error > VAGUE or layer.selective:
        note = "gamma is too uncertain; match the spectrum instead"
        if layer.selective:
            note = "the layer is linear only at an operating point, so beta has no fixed meaning"
        names = {"beta": "", "noise_amplification": "dB", "nyquist_gain": "dB"}
        return gamma, *(Suggested(name, None, None, unit, _TOPO, note) for name, unit in names.items())
    unclear = "not significantly different from 0: leave beta at 0" if abs(law.gamma) < CERTAIN * law.uncertainty else bend
    weight = settings.weight(np.array([beta, beta - error, beta + error]))
    step = np.full((3, 1), math.sqrt(layer.step[0] * layer.step[1]))
    noise, gain = (_with_error(values) for values in (noise_amplification(weight, step), gain_at_nyquist(weight, step)))
    per_copy = f", which differs per copy; here for the middle step, {step[0, 0]:.3g}" if settings.convention == "paper" else ""
    note = f"at beta {beta:g}, convention {settings.convention}{per_copy}"
    return (
        gamma,
        Suggested("beta", beta, error, "", _TOPO, unclear),
        Suggested("noise_amplification", *noise, "dB", "definition: mean square of the weight over [0, pi], white noise", note),
        Suggested("nyquist_gain", *gain, "dB", f"{_TUNING}, section 4.2: the weight at pi", note),
    )


def _with_error(values: FloatArray) -> tuple[float, float]:
    """The first value, and half the distance between the other two."""
    return rounded(float(values[0]), abs(float(values[2] - values[1])) / 2)


def noise_amplification(weight: Sobolev, step: FloatArray) -> FloatArray:
    """The gain of a beta weight for white noise, 10 log10 of the mean of |W|^2 over [0, pi]; (K,) [dB].

    Args:
        weight: of K copies. step: (K, 1) [model time per sample].
    """
    nodes, shares = np.polynomial.legendre.leggauss(16)
    edges = np.concatenate([[0.0], np.pi * 0.5 ** np.arange(PANELS, -1.0, -1.0)])  # halved toward zero, where the knee may be
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    theta = (middle[:, None] + half[:, None] * nodes).reshape(1, -1)
    squares = weight.gain(theta, step) ** 2
    result: FloatArray = 10 * np.log10(squares @ (half[:, None] * shares).reshape(-1) / np.pi)
    return result


def gain_at_nyquist(weight: Sobolev, step: FloatArray) -> FloatArray:
    """|W(pi)|, (K,) [dB]."""
    result: FloatArray = 20 * np.log10(weight.gain(np.full((1, 1), np.pi), step)[:, 0])
    return result


def _alpha_items(spectrum: Spectrum, layer: StartingLayer) -> tuple[Suggested, ...]:
    """The range of alpha for which the fastest pole of the fastest copy lies above the data's band and below Nyquist."""
    unit = layer.highest * layer.step[1]
    source = f"{_TUNING}, section 4.1: |Im a| Delta < pi, for the largest step {layer.step[1]:.3g}"
    if unit == 0:
        return tuple(
            Suggested(name, None, None, "", source, "all poles are real: change the step instead") for name in ("alpha_min", "alpha_max")
        )
    edge, error = spectrum.rolloff()
    bilinear = layer.discretization == "bilinear"
    reach = 2 * math.tan(min(edge, 3.1) / 2) if bilinear else edge  # bilinear warps: theta = 2 atan(|Im a| Delta/2)
    slope = 1 / math.cos(min(edge, 3.1) / 2) ** 2 if bilinear else 1.0
    note = f"95 % of the power of the data lies below {edge:.3g} +- {error:.1g} rad/sample"
    lowest = _two_digits(reach / unit, math.ceil)
    uncertainty = max(slope * error / unit, 0.5 * 10.0 ** (math.floor(math.log10(lowest)) - 1))  # the second digit is rounded up
    low = Suggested("alpha_min", lowest, rounded(lowest, uncertainty)[1], "", "ours: the fastest pole reaches it", note)
    if bilinear:
        return low, Suggested("alpha_max", None, None, "", source, "bilinear warps instead of aliasing: no limit")
    largest = _two_digits(math.pi / unit, math.floor)
    aliased = "" if largest >= 1 else "below 1: some copies already alias, as do 43..54 % of the poles in published settings"
    return low, Suggested("alpha_max", largest, None, "", source, aliased)


def _memory_items(spectrum: Spectrum, layer: StartingLayer, settings: SuggestSettings) -> tuple[Suggested, ...]:
    """The memory, and the step that gives this memory to the slowest mode."""
    source = f"time constant 1/(|Re a| Delta) = memory, |Re a| = {layer.decay:.3g}"
    if layer.discretization == "direct":
        source, layer_note = "time constant -1/log|z| = memory", "discrete poles have no step: multiply their log|z| by this"
    else:
        layer_note = "for the slowest mode"
    if settings.memory is not None:
        step = _two_digits(1 / (layer.decay * settings.memory), round)
        return Suggested("memory", settings.memory, None, "samples", "given"), Suggested("step", step, None, "", source, layer_note)
    time, error, falls = correlation_time(spectrum)
    error = max(error, COARSE * time)
    bound = "" if falls else f"a lower bound: segments of {spectrum.segment} samples are too short to resolve all of it"
    memory = Suggested(
        "memory", *rounded(time, error), "samples", "correlation time of the data: sum of the squared autocorrelation", bound
    )
    step_note = layer_note if falls else f"{layer_note}; an upper bound"
    return memory, Suggested("step", *rounded(1 / (layer.decay * time), error / time / (layer.decay * time)), "", source, step_note)


def rounded(value: float, uncertainty: float) -> tuple[float, float]:
    """Both rounded to the leading digit of the uncertainty, or to its second digit if it starts with 1; 0.4312 +- 0.027 is 0.43 +- 0.03."""
    if not (math.isfinite(uncertainty) and uncertainty > 0):
        return value, uncertainty
    exponent = math.floor(math.log10(uncertainty))
    digits = (1 if uncertainty / 10**exponent < 1.95 else 0) - exponent
    return round(value, digits) + 0.0, round(uncertainty, digits)  # + 0.0 turns -0.0 into 0.0


def _two_digits(value: float, towards: Callable[[float], float]) -> float:
    """The value with two significant digits; a bound is rounded to the safe side."""
    if value <= 0:
        return value
    digits = 1 - math.floor(math.log10(value))
    return round(towards(round(value * 10.0**digits, 9)) / 10.0**digits, digits)
