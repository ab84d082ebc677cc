"""Summarize a spectrum in a few numbers: the exponent of a power law, and the correlation time of the data."""

from dataclasses import dataclass

import numpy as np

from ssmspec.errors import SsmspecError
from ssmspec.systems.statespace import FloatArray
from ssmspec.tuning.spectra.estimate import Spectrum, jackknife
from ssmspec.tuning.spectra.segments import FIRST_BIN

LOWEST_BIN = 4  # start of the default range; below it, a Hann window distorts a 1/f^2 spectrum by more than 0.3 dB
HIGHEST = np.pi / 2  # rad/sample, end of the default range; there, sampled 1/f^2 noise, 1/(4 sin^2 theta/2), has flattened by 0.9 dB
FEWEST_BINS = 4
SIGNIFICANT = 3.0  # standard errors above which the two halves of the range disagree


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """S(theta) ~ theta^-gamma: gamma = 0 is white noise, 1 pink noise, 2 a random walk; for gamma < 0 the power rises with frequency.

    Args:
        gamma: dimensionless. uncertainty: the jackknife error (one standard error) and the effect of the choice of the range, added in
            squares. The latter is half the difference of the halves or, if the spectrum bends, of the most distant two of the three.
        fit_range: (low, high) [rad/sample].
        halves: gamma of the lower and of the upper half of the range (in log theta).
        bends: whether any two of gamma and the halves differ by more than three standard errors of the difference and by more than 0.2. A
            step between two flat halves is not a power law, either.
    """

    gamma: float
    uncertainty: float
    fit_range: tuple[float, float]
    halves: tuple[float, float]
    bends: bool


CLEAR = 0.2  # size of gamma from which on the two aims point in opposite directions


def opposed_aims(gamma: float) -> str:
    """Why a suggested beta and a fit to the spectrum contradict each other; empty where the spectrum is nearly flat."""
    if abs(gamma) < CLEAR:
        return ""
    weak = "high" if gamma > 0 else "low"
    return (
        f"with gamma {gamma:.3g} the data have little power at {weak} frequencies: beta {gamma / 2:+.2g} ('ssmspec suggest') lifts them to "
        "learn them as well as the others, while 'retune --match-spectrum' makes |H|^2 like the power and lowers them. "
        "These are two aims, not two estimates of one"
    )


def power_law(spectrum: Spectrum, fit_range: tuple[float, float] | None = None) -> PowerLaw:
    """Least-squares fit of log10 S over log10 theta, with every bin weighted by 1/theta, so that all octaves have the same weight.

    Args:
        spectrum: the estimate; for a cross-spectrum, only bins above the floor count.
        fit_range: [rad/sample]; by default from the fourth bin to pi/2, or all bins if that would be fewer than four.
    Raises:
        SsmspecError: there are fewer than four bins in the range.
    """
    inside = _inside(spectrum, fit_range)
    theta = spectrum.theta[inside]
    if len(theta) < FEWEST_BINS:
        raise SsmspecError(
            f"{len(theta)} bins with power in {fit_range or 'the whole grid'} rad/sample; expected at least {FEWEST_BINS}; "
            f"the grid ranges from {spectrum.theta[0]:.3g} to {np.pi:.3g} in steps of {2 * np.pi / spectrum.segment:.3g}"
        )
    least = np.where(spectrum.kind == "cross", spectrum.floor, np.finfo(float).tiny)[inside]
    levels = np.log10(np.maximum(np.vstack([spectrum.power[inside], spectrum.replicates[:, inside]]), least))
    gammas = -_slopes(theta, levels)
    middle = np.searchsorted(theta, np.sqrt(theta[0] * theta[-1])).clip(2, len(theta) - 2)
    halves = np.stack([-_slopes(theta[:middle], levels[:, :middle]), -_slopes(theta[middle:], levels[:, middle:])], axis=1)
    three = np.column_stack([halves, gammas])
    apart = three - np.roll(three, 1, axis=1)  # lower minus whole, upper minus lower, whole minus upper
    bends = bool((np.abs(apart[0]) > np.maximum(SIGNIFICANT * jackknife(apart[1:]), 0.2)).any())
    range_error = np.abs(apart[0] if bends else apart[0, 1]).max() / 2
    uncertainty = float(np.hypot(jackknife(gammas[1:]), range_error))
    bounds = (float(theta[0]), float(theta[-1]))
    return PowerLaw(float(gammas[0]), uncertainty, bounds, (float(halves[0, 0]), float(halves[0, 1])), bends)


def _inside(spectrum: Spectrum, fit_range: tuple[float, float] | None) -> np.ndarray:
    trusted = spectrum.power > (spectrum.floor if spectrum.kind == "cross" else 0)
    low, high = fit_range or (LOWEST_BIN * 2 * np.pi / spectrum.segment * (1 - 1e-9), HIGHEST)
    inside: np.ndarray = trusted & (spectrum.theta >= low) & (spectrum.theta <= high)
    return trusted if fit_range is None and inside.sum() < FEWEST_BINS else inside


def _slopes(theta: FloatArray, levels: FloatArray) -> FloatArray:
    """Weighted least-squares slope of every row of levels over log10 theta."""
    x, weights = np.log10(theta), 1 / theta
    x = x - np.average(x, weights=weights)
    slopes: FloatArray = (levels * (weights * x)).sum(axis=1) / (weights * x * x).sum()
    return slopes


def correlation_time(spectrum: Spectrum) -> tuple[float, float, bool]:
    """Sum of the squared autocorrelation over all lags [samples], its standard error, and whether the segments are long enough for it.

        tau = sum_l (c[l]/c[0])^2 = mean S^2/(mean S)^2        (Parseval)

    tau is 1 for white noise, the time constant for an exponential decay, and half of it for a resonance. Bins 0 and 1 are filled with the
    value of bin 2, and the variance of the estimate is subtracted from S^2. Above an eighth of a segment, tau is only a lower bound,
    because with a Hann window even a pure tone gives at most a quarter. It is also a lower bound if it depends on the lowest bins, as for
    1/f noise: that is, if filling the bins that segments of half the length would not have, like bins 0 and 1, reduces tau by more than a
    tenth and by more than two standard errors.

    Source: Bartlett, J. R. Stat. Soc. Suppl. 8 (1946), where it determines the variance of correlations.
    """
    rows = (spectrum.power, *spectrum.replicates)
    noise = float((spectrum.standard_error**2).mean())
    found = np.array([_squared_correlation(row, FIRST_BIN, noise) for row in rows])
    shorter = np.array([_squared_correlation(row, 2 * FIRST_BIN, noise) for row in rows])
    time, error, missing = float(max(found[0], 1.0)), float(jackknife(found[1:])), float(found[0] - shorter[0])
    hangs = missing > max(0.1 * time, 2 * float(jackknife((found - shorter)[1:])))
    return time, float(np.hypot(error, missing if hangs else 0.0)), bool(found[0] < spectrum.segment / 8 and not hangs)


def _squared_correlation(row: FloatArray, lowest: int, noise: float) -> float:
    """mean S^2/(mean S)^2 from bin 0 on; bins below the lowest one get its value."""
    known = row[lowest - FIRST_BIN :]
    filled = np.concatenate([np.repeat(known[:1], lowest), known])
    return float(((filled**2).mean() - noise) / filled.mean() ** 2)
