"""How far two versions of a layer are apart: poles that moved, responses that changed. A new distance is a function and a line here."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from ssmspec.grid import FloatArray
from ssmspec.statespace import ComplexArray
from ssmspec.statistics.quadrature import pole_distances
from ssmspec.statistics.spectrum import LayerSpectrum
from ssmspec.statistics.values import Values

BAND_EDGE = np.pi / 4  # rad/sample: the corner of low_frequency_share
# theta of the Wasserstein distance: energies there are exact, between them the shares are taken as linear
FINE_GRID = np.union1d(np.linspace(0, np.pi, 256), np.geomspace(1e-4, np.pi, 128))


@dataclass(frozen=True, slots=True)
class Distance:
    """A number per copy that says how far `after` is from `before`.

    Args:
        name, unit, formula, source: as for `Statistic`.
        function: (before, after) -> Values; both have the same copies.
        needs_equal_modes: whether the layers must also have the same number of modes.
    """

    name: str
    unit: str
    formula: str
    source: str
    function: Callable[[LayerSpectrum, LayerSpectrum], Values]
    needs_equal_modes: bool = False


def pole_movement(before: LayerSpectrum, after: LayerSpectrum) -> Values:
    """Median over the poles of |log z_after - log z_before|."""
    return Values(np.median(np.abs(_movement(before, after)), axis=1))


def relative_pole_movement(before: LayerSpectrum, after: LayerSpectrum) -> Values:
    """Median pole movement over the median distance between neighboring poles before."""
    spacing = _spacing(_log_poles(before))
    moved = np.median(np.abs(_movement(before, after)), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Values(np.where(spacing > 0, moved / spacing, np.nan), "one mode, or all poles in one place: there is no spacing")


def crossed_share(before: LayerSpectrum, after: LayerSpectrum) -> Values:
    """Share of the poles whose frequency crossed pi/4 rad/sample, in either direction."""
    start = _log_poles(before)
    end = start + _movement(before, after)
    return Values(((start.imag < BAND_EDGE) != (end.imag < BAND_EDGE)).mean(axis=1))


def log_spectral_distance(before: LayerSpectrum, after: LayerSpectrum) -> Values:
    """Root mean square over the log grid of 20 log10(|H_after|/|H_before|)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = 20 * np.log10(after.magnitude / before.magnitude)
    return Values(np.sqrt((ratio**2).mean(axis=1)), "a response is zero somewhere")


def spectrum_distance(before: LayerSpectrum, after: LayerSpectrum) -> Values:
    """Wasserstein-1 distance of the normalized |H|^2 over [0, pi]: the integral of the difference of their cumulative shares."""
    difference = np.abs(after.energy_shares(FINE_GRID) - before.energy_shares(FINE_GRID))
    return Values(((difference[:, 1:] + difference[:, :-1]) / 2) @ np.diff(FINE_GRID), "no response, or an energy not known to 1e-9")


def _log_poles(spectrum: LayerSpectrum) -> ComplexArray:
    """log z of the upper half, (K, N): decay per sample and frequency in rad/sample, both without cancellation."""
    angle, decay = pole_distances(spectrum.modal)
    return -decay + 1j * angle


def _movement(before: LayerSpectrum, after: LayerSpectrum) -> ComplexArray:
    """log z_after - log z_before of matched poles: by index where the file stores the poles, else by the assignment that moves least."""
    start, end = _log_poles(before), _log_poles(after)
    if not before.system.rank and not after.system.rank:
        return end - start
    moved = np.empty_like(start)
    for copy, (a, b) in enumerate(zip(start, end, strict=True)):
        rows, columns = linear_sum_assignment(np.abs(a[:, None] - b))
        moved[copy, rows] = b[columns] - a[rows]
    return moved


def _spacing(poles: ComplexArray) -> FloatArray:
    """Median distance to the nearest other pole of the copy, (K,); 0 for a single mode."""
    if poles.shape[1] < 2:
        return np.zeros(len(poles))
    distance = np.abs(poles[:, :, None] - poles[:, None, :])
    distance[:, np.arange(poles.shape[1]), np.arange(poles.shape[1])] = np.inf
    return np.asarray(np.median(distance.min(axis=2), axis=1))


_TUNING = "arXiv 2410.02035 (Tuning Frequency Bias of SSMs), section 3: training moves poles little"

DISTANCES: dict[str, Distance] = {
    distance.name: distance
    for distance in (
        Distance("pole_movement", "rad/sample", "median |log z_after - log z_before|", _TUNING, pole_movement, True),
        Distance("relative_pole_movement", "", "pole_movement over the median pole spacing", _TUNING, relative_pole_movement, True),
        Distance("crossed_share", "", "share of poles that crossed pi/4 rad/sample", _TUNING, crossed_share, True),
        Distance("log_spectral_distance", "dB", "rms of 20 log10(|H_after|/|H_before|) on the grid", "customary", log_spectral_distance),
        Distance("spectrum_distance", "rad/sample", "Wasserstein-1 distance of |H|^2/E(pi)", "customary", spectrum_distance),
    )
}
