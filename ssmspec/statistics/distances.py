"""Distances between two versions of a layer: moved poles, changed responses. To add one, write a function and add one line here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssmspec.statistics.quadrature import pole_distances
from ssmspec.statistics.rounding import ROUNDS, steady, without
from ssmspec.statistics.spectra import Spectrum
from ssmspec.statistics.spectrum import LayerSpectrum
from ssmspec.statistics.values import Values
from ssmspec.systems.statespace import ComplexArray, padded_modes

BAND_EDGE = np.pi / 4  # rad/sample: the corner of low_frequency_share
# theta grid of the Wasserstein distance: energies are exact on it, and shares are interpolated linearly in between
FINE_GRID = np.union1d(np.linspace(0, np.pi, 256), np.geomspace(1e-4, np.pi, 128))


@dataclass(frozen=True, slots=True)
class Distance:
    """A number per copy that measures how far `after` is from `before`.

    Args:
        name, unit, formula, source: as for `Statistic`.
        function: (before, after) -> Values; both have the same copies.
        needs_equal_modes: whether the layers must also have the same number of modes; it then takes state spaces only.
    """

    name: str
    unit: str
    formula: str
    source: str
    function: Callable[[Any, Any], Values]
    needs_equal_modes: bool = False

    def of(self, before: Spectrum, after: Spectrum) -> Values:
        """The values of all copies; NaN also where rounding alone determines them (see `rounding`), judged by absolute error."""
        values = self.function(before, after)
        copies = np.union1d(before.shaken[0], after.shaken[0])
        if not len(copies):
            return values
        others = [self.function(before.moved(copies, seed), after.moved(copies, seed)).values for seed in range(ROUNDS)]
        return without(values, copies, steady(values.values[copies], others, absolute=True))


def pole_movement(before: LayerSpectrum, after: LayerSpectrum) -> Values:
    """Median over the poles of |log z_after - log z_before|."""
    return Values(np.array([np.median(np.abs(end - start)) if len(start) else np.nan for start, end in _matched(before, after)]))


def relative_pole_movement(before: LayerSpectrum, after: LayerSpectrum) -> Values:
    """Median pole movement, divided by the median distance between neighboring poles before."""
    moved = pole_movement(before, after).values
    spacing = np.array([_spacing(start) for start, _ in _matched(before, after)])
    with np.errstate(divide="ignore", invalid="ignore"):
        return Values(np.where(spacing > 0, moved / spacing, np.nan), "there is no pole spacing: only one mode, or all poles coincide")


def crossed_share(before: LayerSpectrum, after: LayerSpectrum) -> Values:
    """Share of poles whose frequency crossed pi/4 rad/sample, in either direction."""
    crossed = [(np.abs(a.imag) < BAND_EDGE) != (np.abs(b.imag) < BAND_EDGE) for a, b in _matched(before, after)]
    return Values(np.array([each.mean() if len(each) else np.nan for each in crossed]))


def log_spectral_distance(before: Spectrum, after: Spectrum) -> Values:
    """Root mean square of 20 log10(|H_after|/|H_before|) over the log grid."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = 20 * np.log10(after.unit_magnitude / before.unit_magnitude)
    ratio += 20 * np.log10(2) * (after.exponents - before.exponents)[:, None]
    return Values(np.sqrt((ratio**2).mean(axis=1)), "a response is zero at some frequency")


def spectrum_distance(before: Spectrum, after: Spectrum) -> Values:
    """Wasserstein-1 distance of the normalized |H|^2 over [0, pi]: integral of the difference of their cumulative shares."""
    difference = np.abs(after.energy_shares(FINE_GRID) - before.energy_shares(FINE_GRID))
    return Values(((difference[:, 1:] + difference[:, :-1]) / 2) @ np.diff(FINE_GRID), "no response, or its energy is not known to 1e-9")


def _matched(before: LayerSpectrum, after: LayerSpectrum) -> list[tuple[ComplexArray, ComplexArray]]:
    """For every copy, log z before and after, pole by pole: decay per sample and frequency in rad/sample, both free of cancellation.

    Poles that the files store are matched by index, upper half to upper half. Eigenvalues of low-rank layers have no natural order, so all
    2N are matched by the assignment that moves them least.
    """
    starts, ends = _log_poles(before), _log_poles(after)
    if not before.system.rank and not after.system.rank:
        return list(zip(starts, ends, strict=True))
    from scipy.optimize import linear_sum_assignment  # imported here because it takes half a second and only low-rank layers need it

    pairs = []
    for spectrum_start, spectrum_end in zip(_completed(before, starts), _completed(after, ends), strict=True):
        rows, columns = linear_sum_assignment(np.abs(spectrum_start[:, None] - spectrum_end))
        pairs.append((spectrum_start[rows], spectrum_end[columns]))
    return pairs


def _log_poles(spectrum: LayerSpectrum) -> ComplexArray:
    angle, decay = pole_distances(spectrum.modal)
    return -decay + 1j * angle


def _completed(spectrum: LayerSpectrum, upper: ComplexArray) -> list[ComplexArray]:
    """All 2N poles of every copy: both poles of each pair; real poles of a low-rank layer only once; no padding."""
    modal = spectrum.modal
    if not spectrum.system.rank:
        return [np.concatenate([row, row.conj()]) for row in upper]
    real, padding = modal.poles.imag == 0, padded_modes(spectrum.system, modal)
    return [np.concatenate([row[~pad], row[~pad & ~flat].conj()]) for row, pad, flat in zip(upper, padding, real, strict=True)]


def _spacing(poles: ComplexArray) -> float:
    """Median distance to the nearest other pole of a copy; 0 if there is only one pole."""
    if len(poles) < 2:
        return 0.0
    distance = np.abs(poles[:, None] - poles)
    np.fill_diagonal(distance, np.inf)
    return float(np.median(distance.min(axis=1)))


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
