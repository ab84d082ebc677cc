"""Where the energy of the response lies, and its peak."""

import numpy as np

from ssmspec.grid import FloatArray
from ssmspec.statistics.spectrum import LayerSpectrum
from ssmspec.statistics.values import Values

TOO_SHARP = "the layer has no response, or it is too sharp to integrate to a relative error of 1e-9"


def low_frequency_share(spectrum: LayerSpectrum) -> Values:
    """E(theta_c)/E(pi)."""
    return Values(_ratio(spectrum.band.low, spectrum.band.total), TOO_SHARP)


def centroid(spectrum: LayerSpectrum) -> Values:
    """Mean of theta weighted with |H|^2 over [0, pi]."""
    return Values(spectrum.band.centroid, TOO_SHARP)


def rolloff_95(spectrum: LayerSpectrum) -> Values:
    """theta with E(theta) = 0.95 E(pi)."""
    return Values(np.where(spectrum.band.total > 0, spectrum.band.rolloff, np.nan), TOO_SHARP)


def peak_gain(spectrum: LayerSpectrum) -> Values:
    """H-infinity norm over theta."""
    gain = spectrum.band.peak.gain
    return Values(np.where(np.isfinite(gain), gain, np.nan))


def peak_frequency(spectrum: LayerSpectrum) -> Values:
    """theta of the H-infinity norm."""
    peak = spectrum.band.peak
    return Values(np.where(peak.gain > 0, peak.theta, np.nan))


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, np.nan)
