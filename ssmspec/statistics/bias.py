"""The two headline statistics: which frequencies training can change, and which frequencies the layer passes."""

from collections.abc import Callable

import numpy as np

from ssmspec.statistics.spectra import Spectrum
from ssmspec.statistics.spectrum import CONDITION_LIMIT, ILL_CONDITIONED, LayerSpectrum
from ssmspec.statistics.values import NUMBERS_AT_ONCE, Values
from ssmspec.systems.grid import FloatArray


def bias_slope(spectrum: LayerSpectrum) -> Values:
    """Least-squares slope of log10 K(theta) over log10 theta on the grid."""
    usable = spectrum.condition <= CONDITION_LIMIT
    if not usable.any():
        reason = ILL_CONDITIONED.format(worst=spectrum.condition.max())
        return Values(np.full(spectrum.system.copies, np.nan), reason)
    return Values(np.where(usable, log_slope(spectrum.grid.values, spectrum.unit_sensitivity), np.nan))


def center_frequency(spectrum: Spectrum) -> Values:
    """The theta below which half of |H| lies, summed over the log-spaced grid; interpolated in log theta between grid points."""
    return Values(center_of(spectrum.grid.values, spectrum.unit_magnitude))


def center_of(theta: FloatArray, magnitude: FloatArray) -> FloatArray:
    """The same of given values of |H| (K, F) on a log-spaced grid (F,)."""
    log_theta = np.log(theta)
    return _by_rows(lambda rows: _halving(log_theta, rows), magnitude)


def _halving(log_theta: FloatArray, magnitude: FloatArray) -> FloatArray:
    cumulative = np.cumsum(magnitude, axis=1)
    target = cumulative[:, -1:] / 2
    index = np.minimum((cumulative < target).sum(axis=1), magnitude.shape[1] - 1)
    rows = np.arange(len(index))
    before = np.where(index > 0, cumulative[rows, np.maximum(index - 1, 0)], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = (target[:, 0] - before) / magnitude[rows, index]
    lower = log_theta[np.maximum(index - 1, 0)]
    return np.asarray(np.exp(lower + fraction * (log_theta[index] - lower)))


def spectral_slope(spectrum: Spectrum) -> Values:
    """Least-squares slope of log10 |H|^2 over log10 theta on the grid."""
    return Values(2 * log_slope(spectrum.grid.values, spectrum.unit_magnitude))


def log_slope(theta: FloatArray, values: FloatArray) -> FloatArray:
    """Slopes (K,) of log values (K, F) over log theta; NaN if a value is zero or not finite."""
    centered = np.log(theta) - np.log(theta).mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = _by_rows(lambda rows: np.log(rows) @ centered, values) / (centered @ centered)
    return np.where(np.isfinite(slopes), slopes, np.nan)


def _by_rows(function: Callable[[FloatArray], FloatArray], values: FloatArray) -> FloatArray:
    """A function (k, F) -> (k,) of values (K, F), so many rows at a time that what it forms stays in the cache."""
    count = max(1, NUMBERS_AT_ONCE // values.shape[1])
    return np.concatenate([function(values[start : start + count]) for start in range(0, len(values), count)])
