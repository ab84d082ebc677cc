"""The measured frequency sensitivity S of a whole model, and what is derived from it: means over bands, half-sensitivity, slope, errors.

    S_c(theta_k) = E_u E_v | sum_t w_t g_(t,c) exp(-i theta_k t) |^2 / (m mean_t w_t^2),   theta_k = 2 pi k/L,   g = J^T v

J is the Jacobian of m outputs with respect to the input u, and v is random with E v v^T = 1. S_c is the mean over the outputs of the
squared response to a tone exp(i theta t) of unit amplitude in channel c; a real cosine of unit amplitude gives half of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ssmspec.systems.grid import FloatArray

UNRESOLVED = 16 * np.pi  # below UNRESOLVED/L, a few bins of a windowed transform decide
PER_OCTAVE = 2  # bands of an octave that curves and slopes are made of
FEWEST_BANDS = 3  # for a slope


class Estimate(NamedTuple):
    """A number with its standard error. Either is None where it cannot be told."""

    value: float | None
    error: float | None


@dataclass(frozen=True, slots=True)
class Band:
    """The mean of S over the bins of a band.

    Args:
        low, high: [low, high) [rad/sample]; the highest band includes pi. bins: number of bins of the DFT in it.
        mean: of S. error: its standard error; None if there is one input and one draw. resolved: whether it lies above 16 pi/L.
    """

    low: float
    high: float
    mean: float
    error: float | None
    bins: int
    resolved: bool

    @property
    def center(self) -> float:
        """Geometric center; of the band from 0, half of its upper end."""
        return float(np.sqrt(self.low * self.high)) if self.low else self.high / 2


def band_edges(length: int, per_octave: int) -> FloatArray:
    """Edges of bands down from pi, as long as they lie above 16 pi/L and hold a bin, and 0; from high to low [rad/sample]."""
    edges = [np.pi]
    limit = UNRESOLVED / length
    while (lower := np.pi * 2.0 ** (-len(edges) / per_octave)) >= limit * (1 - 1e-9) and bins_in(lower, edges[-1], length).any():
        edges.append(lower)
    return np.array([*edges, 0.0])


def bins_in(low: float, high: float, length: int) -> np.ndarray:
    """Which bins k = 0..L/2 lie in [low, high), and in [low, pi] if high is pi."""
    theta = 2 * np.pi * np.arange(length // 2 + 1) / length
    small = 1e-9 * np.pi  # edges are rounded
    return (theta >= low - small) & ((theta < high - small) | (high > np.pi - small))


@dataclass(frozen=True)
class FrequencySensitivity:
    """S from one place of a model to its output.

    Args:
        name: "input", or the block whose input it is. length: L [samples].
        draws: (B, M, F) S of every input and draw, summed over channels; F = L//2 + 1 bins. channels: (C, F) S of every channel.
        outputs: m. per_step: whether there are outputs at every step, so that the window is Hann. exact: whether E_v is exact.
        notes: what limits it, in words.
    """

    name: str
    length: int
    draws: FloatArray
    channels: FloatArray
    outputs: int
    per_step: bool
    exact: bool
    notes: tuple[str, ...] = ()

    @property
    def theta(self) -> FloatArray:
        """(F,) frequencies of the DFT [rad/sample]."""
        return 2 * np.pi * np.arange(self.draws.shape[2]) / self.length

    @cached_property
    def curve(self) -> FloatArray:
        """(F,) S, summed over channels and averaged over inputs and draws."""
        return self.draws.mean(axis=(0, 1))

    @property
    def resolved_from(self) -> float:
        """16 pi/L [rad/sample], below which nothing is resolved."""
        return float(UNRESOLVED / self.length)

    @property
    def resolved(self) -> npt.NDArray[np.bool_]:
        """(F,) whether a frequency is resolved."""
        return self.theta >= self.resolved_from * (1 - 1e-9)

    @property
    def relative_error(self) -> float | None:
        """Of S at one frequency, 1/sqrt(inputs times draws); None where E_v is exact, so that only the inputs differ."""
        return None if self.exact else float(1 / np.sqrt(self.draws.shape[0] * self.draws.shape[1]))

    @property
    def units(self) -> FloatArray:
        """(U, F) independent estimates of the curve: one per input, which holds its draws, or of a single input one per draw."""
        return self.draws.mean(axis=1) if len(self.draws) > 1 else self.draws[0]

    def bands(self, per_octave: int = 1) -> tuple[Band, ...]:
        """Means over bands from low to high: the unresolved rest from 0, then bands up to pi.

        Args:
            per_octave: bands of an octave.
        """
        edges = band_edges(self.length, per_octave)
        found = []
        for high, low in pairwise(edges):
            inside = bins_in(low, high, self.length)
            if inside.any():
                means = self.units[:, inside].mean(axis=1)
                found.append(Band(float(low), float(high), float(means.mean()), _standard_error(means), int(inside.sum()), bool(low > 0)))
        return tuple(reversed(found))

    @cached_property
    def half_frequency(self) -> Estimate:
        """Half-sensitivity frequency: half of the integral of S from 0 to pi lies below it [rad/sample]; zero where S is."""
        return self._jackknifed(self._half)

    def _half(self, curve: FloatArray) -> float:
        theta = self.theta
        weight = np.full(len(theta), 2.0)  # a bin stands for its negative frequency, too
        weight[0] = 1.0
        weight[-1] = 1.0 if self.length % 2 == 0 else 2.0
        total = np.cumsum(weight * curve)
        if not total[-1] > 0:
            return float("nan")
        upper = np.append(theta[:-1] + np.pi / self.length, np.pi)  # a bin reaches half way to the next
        return float(np.interp(total[-1] / 2, np.append(0.0, total), np.append(0.0, upper)))

    @cached_property
    def slope(self) -> Estimate:
        """Slope of log10 S over log10 theta, over resolved half-octave bands; the same of |H|^2 of a layer is its `spectral_slope`."""
        bands = [band for band in self.bands(PER_OCTAVE) if band.resolved]
        if len(bands) < FEWEST_BANDS:
            return Estimate(None, None)
        inside = np.array([bins_in(band.low, band.high, self.length) / band.bins for band in bands])
        at = np.log10([band.center for band in bands])

        def fitted(curve: FloatArray) -> float:
            means = inside @ curve
            return float(np.polyfit(at, np.log10(means), 1)[0]) if (means > 0).all() else float("nan")

        return self._jackknifed(fitted)

    @property
    def half_text(self) -> str:
        """The half-sensitivity frequency with its error, or that it is not resolved."""
        value = self.half_frequency.value
        return f"below {self.resolved_from:.3g}" if value is not None and value < self.resolved_from else estimate_text(self.half_frequency)

    def summary(self) -> str:
        """One line: name, half-sensitivity frequency, slope, and the unresolved rest."""
        parts = [
            f"half-sensitivity {self.half_text} rad/sample",
            f"slope {estimate_text(self.slope)}",
            f"unresolved below {self.resolved_from:.3g}",
        ]
        return f"{self.name}: {self.channels.shape[0]} channels x {self.length} samples; " + "; ".join(parts)

    def _jackknifed(self, number: Callable[[FloatArray], float]) -> Estimate:
        """A number of the curve, with the error that leaving out one input (of one input, one draw) at a time gives."""
        value = number(self.curve)
        if not np.isfinite(value):
            return Estimate(None, None)
        units, total = self.units, self.units.sum(axis=0)
        if len(units) < 2:
            return Estimate(value, None)
        left = np.array([number((total - unit) / (len(units) - 1)) for unit in units])
        if not np.isfinite(left).all():
            return Estimate(value, None)
        return Estimate(value, float(np.sqrt((len(left) - 1) * np.mean((left - left.mean()) ** 2))))


def estimate_text(estimate: Estimate) -> str:
    """A number with its standard error, or the word "none"."""
    if estimate.value is None:
        return "none"
    return f"{estimate.value:.3g}" + ("" if estimate.error is None else f" +- {estimate.error:.1g}")


def _standard_error(values: FloatArray) -> float | None:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


@dataclass(frozen=True, slots=True)
class FeatureSpectrum:
    """The power spectrum of what a block gives, over time or over height and width.

    Args:
        name: of the block. axes: "L" or "HW". theta: (F,) [rad/sample]; of "HW" along the diagonal, per axis.
        power: (F,) mean over inputs and channels of |DFT|^2 per sample. log_amplitude: (F,) mean of ln(|DFT| + 1e-6), likewise.
        error: (F,) standard error of log_amplitude over inputs; None of one input. notes: what was assumed, in words.
    Source: Park and Kim 2022, arXiv 2202.06709, figure 2; xxxnell/how-do-vits-work, fourier_analysis.ipynb (the relative log amplitude).
    """

    name: str
    axes: str
    theta: FloatArray
    power: FloatArray
    log_amplitude: FloatArray
    error: FloatArray | None
    notes: tuple[str, ...] = ()

    @property
    def relative(self) -> FloatArray:
        """(F,) relative log amplitude [nats]: that of a frequency minus that of the lowest."""
        return self.log_amplitude - self.log_amplitude[0]


@dataclass(frozen=True, slots=True)
class BandEffect:
    """The metric of a task under a disturbance of one band.

    Args:
        low, high: [low, high) [rad/sample]; the highest band includes pi. level: power of the signal over that of the disturbance [dB].
        values: the metric, one per seed.
    """

    low: float
    high: float
    level: float
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the metric over seeds."""
        return float(np.mean(self.values))

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds; None of one."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None


@dataclass(frozen=True, slots=True)
class Robustness:
    """What disturbances of equal energy in each band do to the metric of a task.

    Args:
        kind: "noise" or "attack". metric: its name. meaning: in words. clean: its value without a disturbance. effects: per band and level.
        notes: in words.
    """

    kind: str
    metric: str
    meaning: str
    clean: float
    effects: tuple[BandEffect, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Probed:
    """Everything that one probe of a model found.

    Args:
        path: the model, or what stands for it in memory. places: S from the input and from blocks. features: spectra of what blocks give.
        skipped: names and reasons. notes: in words. passes: number of backward passes. robustness: of every kind that was asked for.
    """

    path: str
    places: tuple[FrequencySensitivity, ...]
    features: tuple[FeatureSpectrum, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    passes: int = 0
    robustness: tuple[Robustness, ...] = ()
