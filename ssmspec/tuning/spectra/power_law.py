"""What a spectrum says in a few numbers: the exponent of a power law, and how long the data remember."""

from dataclasses import dataclass

import numpy as np

from ssmspec.errors import SsmspecError
from ssmspec.systems.statespace import FloatArray
from ssmspec.tuning.spectra.estimate import Spectrum, jackknife
from ssmspec.tuning.spectra.segments import FIRST_BIN

LOWEST_BIN = 4  # of the default range: below it a Hann window bends a 1/f^2 spectrum by more than 0.3 dB
HIGHEST = np.pi / 2  # rad/sample, of the default range: sampled 1/f^2 noise, 1/(4 sin^2 theta/2), has flattened by 0.9 dB there
FEWEST_BINS = 4
SIGNIFICANT = 3.0  # standard errors beyond which the two halves of the range disagree


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """S(theta) ~ theta^-gamma: gamma = 0 is white, 1 pink, 2 a random walk; gamma < 0 rises with frequency.

    Args:
        gamma: dimensionless. uncertainty: of the jackknife (one standard error) and of the choice of the range (half the
            difference of the halves, or where it bends of the farthest two of the three), added in squares.
        fit_range: (low, high) [rad/sample].
        halves: gamma of the lower and of the upper half of the range (in log theta).
        bends: whether two of gamma and the halves differ by more than three standard errors of the difference, and by more than 0.2: a
            step between two flat halves is no power law either.
    """

    gamma: float
    uncertainty: float
    fit_range: tuple[float, float]
    halves: tuple[float, float]
    bends: bool


def power_law(spectrum: Spectrum, fit_range: tuple[float, float] | None = None) -> PowerLaw:
    """Least squares of log10 S on log10 theta, every bin weighted with 1/theta, so that every octave counts the same.

    Args:
        spectrum: the estimate; of a cross-spectrum only bins above the floor count.
        fit_range: [rad/sample]; by default from the fourth bin to pi/2, or all bins where those are fewer than four.
    Raises:
        SsmspecError: fewer than four bins in the range.
    """
    inside = _inside(spectrum, fit_range)
    theta = spectrum.theta[inside]
    if len(theta) < FEWEST_BINS:
        raise SsmspecError(
            f"{len(theta)} bins with power from {fit_range or 'the whole grid'} rad/sample; expected at least {FEWEST_BINS}; "
            f"the grid goes from {spectrum.theta[0]:.3g} to {np.pi:.3g} in steps of {2 * np.pi / spectrum.segment:.3g}"
        )
    least = np.where(spectrum.kind == "cross", spectrum.floor, np.finfo(float).tiny)[inside]
    levels = np.log10(np.maximum(np.vstack([spectrum.power[inside], spectrum.replicates[:, inside]]), least))
    gammas = -_slopes(theta, levels)
    middle = np.searchsorted(theta, np.sqrt(theta[0] * theta[-1])).clip(2, len(theta) - 2)
    halves = np.stack([-_slopes(theta[:middle], levels[:, :middle]), -_slopes(theta[middle:], levels[:, middle:])], axis=1)
    three = np.column_stack([halves, gammas])
    apart = three - np.roll(three, 1, axis=1)  # lower from whole, upper from lower, whole from upper
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
    """Sum of the squared autocorrelation over all lags [samples], its standard error, and whether the segments are long enough to see it.

        tau = sum_l (c[l]/c[0])^2 = mean S^2/(mean S)^2        (Parseval)

    1 for white noise, the time constant of an exponential decay, half of it for a resonance. The bins 0 and 1 are filled with the value of
    bin 2, and the estimate's own variance is taken off S^2. Beyond an eighth of a segment it is a lower bound: through a Hann window even a
    pure tone shows no more than a quarter. It is one, too, where it hangs on the lowest bins, as that of 1/f noise does: where bins that
    segments of half the length have not, filled like bins 0 and 1, would make it less by a tenth and by two standard errors.

    Source: Bartlett, J. R. Stat. Soc. Suppl. 8 (1946), where it sets the variance of correlations.
    """
    rows = (spectrum.power, *spectrum.replicates)
    noise = float((spectrum.standard_error**2).mean())
    found = np.array([_squared_correlation(row, FIRST_BIN, noise) for row in rows])
    shorter = np.array([_squared_correlation(row, 2 * FIRST_BIN, noise) for row in rows])
    time, error, missing = float(max(found[0], 1.0)), float(jackknife(found[1:])), float(found[0] - shorter[0])
    hangs = missing > max(0.1 * time, 2 * float(jackknife((found - shorter)[1:])))
    return time, float(np.hypot(error, missing if hangs else 0.0)), bool(found[0] < spectrum.segment / 8 and not hangs)


def _squared_correlation(row: FloatArray, lowest: int, noise: float) -> float:
    """mean S^2/(mean S)^2 from bin 0 on, where bins below the lowest one have its value."""
    known = row[lowest - FIRST_BIN :]
    filled = np.concatenate([np.repeat(known[:1], lowest), known])
    return float(((filled**2).mean() - noise) / filled.mean() ** 2)
