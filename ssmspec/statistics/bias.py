"""The two headline statistics: which frequencies training can change, and which frequencies the layer passes."""

import numpy as np

from ssmspec.statistics.spectrum import CONDITION_LIMIT, ILL_CONDITIONED, LayerSpectrum
from ssmspec.statistics.values import Values
from ssmspec.systems.grid import FloatArray


def bias_slope(spectrum: LayerSpectrum) -> Values:
    """Least-squares slope of log10 K(theta) over log10 theta on the grid."""
    usable = spectrum.condition <= CONDITION_LIMIT
    if not usable.any():
        reason = ILL_CONDITIONED.format(worst=spectrum.condition.max())
        return Values(np.full(spectrum.system.copies, np.nan), reason)
    return Values(np.where(usable, log_slope(spectrum.grid.values, spectrum.unit_sensitivity), np.nan))


def center_frequency(spectrum: LayerSpectrum) -> Values:
    """The theta below which half of |H| lies, summed over the log-spaced grid; interpolated in log theta between grid points."""
    return Values(center_of(spectrum.grid.values, spectrum.unit_magnitude))


def center_of(theta: FloatArray, magnitude: FloatArray) -> FloatArray:
    """The same of given values of |H| (K, F) on a log-spaced grid (F,)."""
    cumulative = np.cumsum(magnitude, axis=1)
    target = cumulative[:, -1:] / 2
    index = np.minimum((cumulative < target).sum(axis=1), magnitude.shape[1] - 1)
    rows = np.arange(len(index))
    before = np.where(index > 0, cumulative[rows, np.maximum(index - 1, 0)], 0.0)
    log_theta = np.log(theta)
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = (target[:, 0] - before) / magnitude[rows, index]
    lower = log_theta[np.maximum(index - 1, 0)]
    return np.asarray(np.exp(lower + fraction * (log_theta[index] - lower)))


def spectral_slope(spectrum: LayerSpectrum) -> Values:
    """Least-squares slope of log10 |H|^2 over log10 theta on the grid."""
    return Values(2 * log_slope(spectrum.grid.values, spectrum.unit_magnitude))


def log_slope(theta: FloatArray, values: FloatArray) -> FloatArray:
    """Slopes (K,) of log values (K, F) over log theta; NaN if a value is zero or not finite."""
    centered = np.log(theta) - np.log(theta).mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = (np.log(values) @ centered) / (centered @ centered)
    return np.where(np.isfinite(slopes), slopes, np.nan)
