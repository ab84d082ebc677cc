"""Power spectra and cross-spectra of the user's data by Welch's method, with their statistical spread.

The spread comes from a jackknife over groups of the data, so it is also valid for data that are neither Gaussian nor stationary. It does
not include the bias of the window: half a decibel at the third bin of a 1/f^2 spectrum.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ssmspec.errors import SsmspecError
from ssmspec.systems.statespace import FloatArray
from ssmspec.tuning.spectra.segments import Segments, Sums
from ssmspec.tuning.spectra.signals import Signals

FLOOR = 1e-4  # smallest power distinguished from zero, relative to the mean over the grid: 40 dB below white noise of the same power
MOST_PAIRS = 4096  # input times output channels of a cross-spectrum
LEAST_LEFT = 1e-12  # share of the power that must remain without any one group; less is a rounding error of the rest
FALSE_ALARM = 1e-3  # probability that unrelated Gaussian signals are taken for coherent


@dataclass(frozen=True, slots=True)
class Spectrum:
    """A spectrum normalized over its grid: the mean over the F bins is 1, so white noise gives 1 everywhere.

    Args:
        theta: (F,) [rad/sample], 2 pi j/n for j = 2..n/2.
        power: (F,) S(theta), dimensionless: the power spectrum, or |S_xy|.
        replicates: (G, F) the same, computed without one of G groups of the data.
        floor: (F,) power below which the estimate is not meaningful.
        segment: n [samples]. segments: number of segments.
        degrees_of_freedom: 2 n_eff of every bin for Gaussian data, n_eff being the number of independent segments; channels do not count.
        kind: "power" or "cross".
        coherence: for a cross-spectrum, mean over bins of sum |S_xy|^2/(S_xx S_yy), bias removed, weighted with |S_xy|; otherwise None.
        assumptions: assumptions about the data, in words.
    """

    theta: FloatArray
    power: FloatArray
    replicates: FloatArray
    floor: FloatArray
    segment: int
    segments: int
    degrees_of_freedom: float
    kind: Literal["power", "cross"] = "power"
    coherence: float | None = None
    assumptions: tuple[str, ...] = ()

    @property
    def standard_error(self) -> FloatArray:
        """(F,), standard error of `power`."""
        return jackknife(self.replicates)

    @property
    def standard_error_db(self) -> FloatArray:
        """(F,) [dB], standard error of 10 log10(power + floor)."""
        return jackknife(10 * np.log10(self.replicates + self.floor))

    def rolloff(self, share: float = 0.95) -> tuple[float, float]:
        """The theta [rad/sample] below which the given share of the power lies, and its standard error, at least half a bin."""
        half = np.pi / self.segment
        edges = np.minimum(self.theta + half, np.pi)
        found = [np.interp(share * row.sum(), np.cumsum(row), edges) for row in (self.power, *self.replicates)]
        return float(found[0]), float(np.hypot(jackknife(np.array(found[1:])), half))

    def method(self) -> str:
        """How it was estimated, in one line."""
        return (
            f"Welch: {self.segments} segments of {self.segment} samples, Hann window, half overlapping, mean removed, bins 2..n/2; "
            f"frequencies below {self.theta[0] - np.pi / self.segment:.2g} rad/sample are not resolved (longer segments resolve more); "
            f"{self.degrees_of_freedom:.0f} degrees of freedom; spread by a jackknife over {len(self.replicates)} groups"
        )


def jackknife(replicates: FloatArray) -> FloatArray:
    """Standard error (...) of a statistic from its values (G, ...) without one of G groups: sqrt((G - 1)/G sum (x_g - mean)^2).

    Source: Efron & Stein, Ann. Statist. 9 (1981), equation 1.2.
    """
    result: FloatArray = np.sqrt((len(replicates) - 1) * replicates.var(axis=0))
    return result


def power_spectrum(signals: Signals, *, segment: int | None = None) -> Spectrum:
    """Welch estimate of the power spectrum, summed over channels.

    Args:
        signals: (batch, L, channels).
        segment: n [samples], even; by default the largest power of two up to 1024 that leaves 32 segments.
    Returns:
        Spectrum of F = n/2 - 1 bins.
    Raises:
        SsmspecError: segments do not fit, or there are fewer than 8; there is no power above the lowest two bins.
    Source: Welch, IEEE Trans. Audio Electroacoust. 15 (1967), 70-73.
    """
    segments = Segments.cut(signals, None, segment)
    groups = segments.groups()
    whole = sum(groups[1:], groups[0])
    replicates = np.stack([(whole - group).power for group in groups])
    return _spectrum(segments, whole.power, replicates, np.zeros_like(whole.power))


def cross_spectrum(signals: Signals, target: Signals, *, segment: int | None = None) -> Spectrum:
    """Welch estimate of the magnitude of the cross-spectrum between data and target.

        |S_xy|^2 = sum_io |mean over segments of conj(X_i) Y_o|^2 - b,      b = sum_io S_ii S_oo/n_eff

    b is the expected value for unrelated signals with n_eff independent segments. sqrt(b) is the floor of the result; |S_xy|^2 < 0 counts
    as 0.

    Args:
        signals: (batch, L, I). target: (batch, L, O). segment: as in `power_spectrum`.
    Raises:
        SsmspecError: the same errors as `power_spectrum`; sequences that do not match; more than MOST_PAIRS channel pairs; no coherence.
    Source: Bendat & Piersol, Random Data (4th ed. 2010), section 9.2, for b; the sum over channels is ours.
    """
    _check_pair(signals, target)
    segments = Segments.cut(signals, target, segment)
    groups = segments.groups()
    whole = sum(groups[1:], groups[0])
    ratio = _raw_ratio(whole, segments)
    if not _coherent(ratio):
        raise SsmspecError(
            f"{target.source}: not coherent with {signals.source} at any frequency; expected related signals, or more of them"
        )
    magnitude, floor = _magnitude(whole, segments)
    replicates = np.stack([_magnitude(whole - group, segments)[0] for group in groups])
    coherence = np.maximum(ratio - 1, 0) / segments.independent(whole.count)
    return _spectrum(segments, magnitude, replicates, floor, float(np.average(coherence, weights=magnitude)))


def _check_pair(signals: Signals, target: Signals) -> None:
    if signals.values.shape[:2] != target.values.shape[:2]:
        raise SsmspecError(
            f"{target.source}: {target.batch} sequences of {target.length} samples, but {signals.source} has {signals.batch} of "
            f"{signals.length}; expected a target with a value for every sample; labels of whole sequences have no cross-spectrum"
        )
    pairs = signals.channels * target.channels
    if pairs > MOST_PAIRS:
        raise SsmspecError(f"{target.source}: {pairs} pairs of channels with {signals.source}; expected at most {MOST_PAIRS}; choose fewer")


def _magnitude(sums: Sums, segments: Segments) -> tuple[FloatArray, FloatArray]:
    """|S_xy| and sqrt(b), (F,) each."""
    bias = sums.power * sums.target_power / sums.count**2 / segments.independent(sums.count)
    squared = (np.abs(sums.cross / sums.count) ** 2).sum(axis=0)
    return np.sqrt(np.maximum(squared - bias, 0)), np.sqrt(bias)


def _raw_ratio(sums: Sums, segments: Segments) -> FloatArray:
    """|S_xy|^2 before b is subtracted, in units of b, (F,): 1 on average for unrelated signals."""
    squared = (np.abs(sums.cross) ** 2).sum(axis=0)
    ceiling = sums.power * sums.target_power
    return segments.independent(sums.count) * np.divide(squared, ceiling, out=np.zeros_like(squared), where=ceiling > 0)


def _coherent(ratio: FloatArray) -> bool:
    """Whether any bin, or their mean, exceeds the chance level. For unrelated Gaussian signals the ratio is exponential with mean 1.

    Neighboring bins are correlated by the Hann window, so the F bins count as F/2.
    """
    return bool(ratio.max() > np.log(len(ratio) / FALSE_ALARM) or ratio.mean() > 1 + 4 / np.sqrt(len(ratio) / 2))


def _spectrum(segments: Segments, power: FloatArray, replicates: FloatArray, floor: FloatArray, coherence: float | None = None) -> Spectrum:
    """Power, replicates and floor divided by their mean power.

    Raises:
        SsmspecError: one group of segments contains almost all of the power.
    """
    level, levels = power.mean(), replicates.mean(axis=1, keepdims=True)
    target = segments.target
    if levels.min() <= LEAST_LEFT * level:
        raise SsmspecError(
            f"{segments.signals.source}: one section contains all of the power, so the spread is unknown; cut it out, or give more data"
        )
    return Spectrum(
        theta=segments.theta,
        power=power / level,
        replicates=replicates / levels,
        floor=np.maximum(floor / level, FLOOR),
        segment=segments.size,
        segments=segments.count,
        degrees_of_freedom=2 * segments.independent(segments.count),
        kind="power" if target is None else "cross",
        coherence=coherence,
        assumptions=segments.signals.assumptions + (() if target is None else target.assumptions),
    )
