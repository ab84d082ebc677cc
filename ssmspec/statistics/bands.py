"""Statistics of where the energy of the response lies, and of its peak."""

import numpy as np

from ssmspec.statistics.hankel import effective_order
from ssmspec.statistics.spectra import Spectrum
from ssmspec.statistics.spectrum import CONDITION_LIMIT, LayerSpectrum
from ssmspec.statistics.values import DEAD, Values
from ssmspec.statistics.variation import variation_bound
from ssmspec.systems.grid import FloatArray

TOO_SHARP_FOR_PEAK = "no response within double precision, or poles too close to the unit circle to resolve theta"
TOO_SHARP = "the layer has no response, or it is too sharp to integrate to a relative error of 1e-9"


def low_frequency_share(spectrum: Spectrum) -> Values:
    """E(theta_c)/E(pi)."""
    return Values(_ratio(spectrum.band.low, spectrum.band.total), TOO_SHARP)


def centroid(spectrum: Spectrum) -> Values:
    """Mean of theta weighted with |H|^2 over [0, pi]."""
    return Values(spectrum.band.centroid, TOO_SHARP)


def rolloff_95(spectrum: Spectrum) -> Values:
    """The theta for which E(theta) = 0.95 E(pi)."""
    return Values(np.where(spectrum.band.total > 0, spectrum.band.rolloff, np.nan), TOO_SHARP)


def peak_gain(spectrum: Spectrum) -> Values:
    """H-infinity norm over theta."""
    gain = spectrum.restored(spectrum.band.peak.gain)
    return Values(np.where(_has_peak(spectrum), gain, np.nan), TOO_SHARP_FOR_PEAK)


def peak_frequency(spectrum: Spectrum) -> Values:
    """The theta at which the H-infinity norm is attained."""
    return Values(np.where(_has_peak(spectrum), spectrum.band.peak.theta, np.nan), TOO_SHARP_FOR_PEAK)


def _has_peak(spectrum: Spectrum) -> np.ndarray:
    gain = spectrum.band.peak.gain
    return np.asarray(np.isfinite(gain) & (gain > 0) & ~spectrum.sharp)


def variation(spectrum: Spectrum) -> Values:
    """V_0^pi(H) = int_0^pi |dH/d theta| d theta of the dynamic part; a delay, which only changes the phase of H, is not counted."""
    return Values(spectrum.restored(spectrum.band.variation), TOO_SHARP)


def variation_beyond_nyquist(spectrum: LayerSpectrum) -> Values:
    """Upper bound of V_B^inf(G) with B = pi/step: how much the continuous response can vary above the Nyquist frequency."""
    modal = spectrum.modal
    nothing = np.full(modal.copies, np.nan)
    if not modal.continuous_time:
        return Values(nothing, "no continuous poles")
    if modal.step.shape[1] != 1:
        return Values(nothing, "one step per mode, so there is no single Nyquist frequency in model time")
    usable = spectrum.condition <= CONDITION_LIMIT
    bound = spectrum.restored(variation_bound(modal, np.pi / modal.step[:, 0]))
    return Values(np.where(usable & (bound > 0), bound, np.nan), "a pole beyond the Nyquist frequency", by_definition=True)


def hankel_norm(spectrum: Spectrum) -> Values:
    """The largest Hankel singular value."""
    return _of_hankel(spectrum, spectrum.hankel[:, 0])


def hankel_order(spectrum: Spectrum) -> Values:
    """Hankel singular values above 1 % of the largest."""
    return _of_hankel(spectrum, effective_order(spectrum.unit_hankel))


def _of_hankel(spectrum: Spectrum, values: FloatArray) -> Values:
    return Values(np.where(spectrum.unit_hankel[:, 0] > 0, values, np.nan), spectrum.hankel_missing or DEAD)


def energy_delay(spectrum: Spectrum) -> Values:
    """Mean lag weighted with |k|^2 [samples]."""
    found = spectrum.extent
    return Values(found.delay, found.reason, found.by_definition)


def length_99(spectrum: Spectrum) -> Values:
    """Number of samples of the kernel, from its first, that hold 99 % of its energy."""
    found = spectrum.extent
    return Values(found.length, found.reason, found.by_definition)


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0, part / whole, np.nan)
