"""Curves for figures, over frequency or over an index: one per copy, from the same spectrum as the statistics."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ssmspec.backends import CauchySum
from ssmspec.errors import LayerError
from ssmspec.statistics.bands import TOO_SHARP
from ssmspec.statistics.kernel_spectrum import kernel_spectrum
from ssmspec.statistics.results import Curve
from ssmspec.statistics.spectra import Spectrum
from ssmspec.statistics.spectrum import CONDITION_LIMIT, ILL_CONDITIONED, LayerSpectrum
from ssmspec.systems.grid import FloatArray, FrequencyGrid
from ssmspec.systems.response import CHUNK
from ssmspec.systems.statespace import ComplexArray
from ssmspec.systems.system import System

LENGTHS = (32, 128, 512)  # samples of the kernels whose spectra are compared with |H|^2
LARGEST_MATRIX = 1024  # rows or columns of T; its singular value decomposition takes about a second
SHORTEST_KERNEL = 16  # samples; the spectrum of a shorter kernel says nothing about the limit
MOST_COPIES = 8  # largest number of copies of a bank whose kernel spectra are pooled
SIGMA_WORK = 4e8  # of a sigma plot: number of frequencies times the third power of the width of H; about a second
FEWEST_SIGMA = 128  # frequencies of a sigma plot, however wide H is
UNIFORM_POINTS = 4096  # number of theta values at which the distribution of |H|^2 is sampled


def over_copies(values: FloatArray) -> Curve:
    """Median and 5..95 % band of values (K, F) over the copies without NaN, and few of them one by one; a single system has no band."""
    usable = values[~np.isnan(values).any(axis=1)]
    if len(values) == 1:
        return Curve(usable[0], None, None)
    return Curve.over(usable)


def magnitude_on(spectrum: Spectrum, grid: FrequencyGrid) -> FloatArray:
    """|H| over theta or |G| over omega, (K, F); Frobenius norm for several inputs or outputs."""
    if grid is spectrum.grid:
        return spectrum.magnitude
    blocks = [np.concatenate([np.sqrt((H.real**2 + H.imag**2).sum(axis=(1, 2))) for H in part]) for part in _in_parts(spectrum, grid)]
    return np.concatenate(blocks, axis=1)


def phase_on(spectrum: Spectrum, grid: FrequencyGrid) -> FloatArray:
    """Phase of H or G of layers with one input and one output, (K, F) [rad] in (-pi, pi]; NaN for a copy without response."""
    H = np.concatenate([block[:, 0, 0] for block in _responses(spectrum, grid)])
    return np.where((H != 0).any(axis=1, keepdims=True), np.angle(H), np.nan)


def singular_values_on(spectrum: Spectrum, grid: FrequencyGrid) -> FloatArray:
    """Singular values of H or G of a single system at every frequency, (F, min(O, I)) in descending order.

    Source: the sigma plot of control theory, e.g. Skogestad and Postlethwaite, Multivariable Feedback Control, section 3.3.
    """
    matrices = (H[0] for part in _in_parts(spectrum, grid) for H in part)
    return np.concatenate([np.linalg.svd(np.moveaxis(H, -1, 0), compute_uv=False) for H in matrices])


def sigma_grid(spectrum: Spectrum, grid: FrequencyGrid) -> FrequencyGrid:
    """The part of a grid on which singular values take seconds at most: evenly spaced points, and every peak of the Frobenius norm."""
    work = float(min(spectrum.system.inputs, spectrum.system.outputs)) ** 3
    count = int(np.clip(SIGMA_WORK / work, FEWEST_SIGMA, grid.values.size))
    if count >= grid.values.size:
        return grid
    norm = magnitude_on(spectrum, grid)[0]
    peaks = 1 + np.flatnonzero((norm[1:-1] >= norm[:-2]) & (norm[1:-1] > norm[2:]))
    places = np.union1d(np.linspace(0, grid.values.size - 1, count).round().astype(int), peaks)
    return FrequencyGrid(grid.values[places], grid.axis)


def _in_parts(spectrum: Spectrum, grid: FrequencyGrid) -> "Iterator[Iterator[ComplexArray]]":
    """The responses, for a few frequencies at a time."""
    width = max(16, CHUNK // _sums(spectrum.system))
    for start in range(0, grid.values.size, width):
        yield _responses(spectrum, FrequencyGrid(grid.values[start : start + width], grid.axis))


def _sums(system: System) -> int:
    """How many sums a response of one copy takes at one frequency."""
    return (system.outputs + system.rank) * (system.inputs + system.rank)


def _responses(spectrum: Spectrum, grid: FrequencyGrid) -> Iterator[ComplexArray]:
    """The response, for a few copies at a time, (k, O, I, F)."""
    system = spectrum.system
    count = max(1, CHUNK // (grid.values.size * _sums(system)))
    for start in range(0, system.copies, count):
        part = system.copy_slice(start, min(start + count, system.copies)).response(grid, spectrum.cauchy_sum)
        yield part.total if spectrum.with_skip else part.dynamic


def cumulative_energy(spectrum: Spectrum, theta: FloatArray) -> FloatArray:
    """E(theta)/E(pi) at theta (F,) [rad/sample], (K, F); NaN for a copy that has no response or is too sharp to integrate.

    Raises:
        LayerError: no copy has a value.
    """
    shares = spectrum.energy_shares(theta)
    usable = (spectrum.band.total > 0) & np.isfinite(shares).all(axis=1)
    if not usable.any():
        raise LayerError(f"layer {spectrum.system.name}: nothing to draw: {TOO_SHARP}")
    return np.where(usable[:, None], shares, np.nan)


def trusted_sensitivity(spectrum: LayerSpectrum) -> FloatArray:
    """K(theta) on the grid, (K, F); NaN for a copy that has no response or whose residues cannot be trusted.

    Raises:
        LayerError: no copy has a value.
    """
    return _trusted(spectrum, spectrum.sensitivity)


def normalized_hankel(spectrum: Spectrum) -> FloatArray:
    """Hankel singular values divided by the largest of their copy, (K, 2N), in descending order; NaN as in `trusted_sensitivity`.

    Raises:
        LayerError: no copy has a value.
    """
    if spectrum.hankel_missing:
        raise LayerError(f"layer {spectrum.system.name}: nothing to draw: {spectrum.hankel_missing}")
    values = spectrum.unit_hankel
    return _trusted(spectrum, values / np.where(values[:, :1] > 0, values[:, :1], 1))


def _trusted(spectrum: Spectrum, values: FloatArray) -> FloatArray:
    conditioned = spectrum.condition <= CONDITION_LIMIT
    usable = conditioned & (values.max(axis=1) > 0) & np.isfinite(values).all(axis=1)
    if not usable.any():
        reason = "all residues are zero" if conditioned.any() else ILL_CONDITIONED.format(worst=spectrum.condition.max())
        raise LayerError(f"layer {spectrum.system.name}: nothing to draw: {reason}")
    return np.where(usable[:, None], values, np.nan)


@dataclass(frozen=True, slots=True)
class KernelQuantiles:
    """Eigenvalues of T^T T for kernels of one length, and the quantiles of |H|^2 that they approach, each (Q,) in ascending order."""

    length: int
    eigenvalues: FloatArray
    limits: FloatArray


def kernel_quantiles(spectrum: Spectrum, lengths: Sequence[int] = LENGTHS) -> tuple[list[KernelQuantiles], int]:
    """Kernel spectra of a layer with their limit in distribution, without D and beta; and the number of copies that were pooled.

    A bank is treated as one block-diagonal system, whose spectrum is that of all copies together. From a large bank, `MOST_COPIES` copies
    are taken, evenly spaced in order of energy. For several inputs and outputs, the squared singular values of H replace |H|^2. Lengths are
    limited so that T stays within `LARGEST_MATRIX`.

    Raises:
        LayerError: T would be too large because of too many inputs or outputs, or the layer has no response.
    """
    system = spectrum.system
    if system.earliest_lag < 0:
        raise LayerError(f"layer {system.name} looks ahead; the kernel spectrum is that of causal kernels")
    wide = max(system.inputs, system.outputs)
    if wide * SHORTEST_KERNEL > LARGEST_MATRIX:
        most = LARGEST_MATRIX // SHORTEST_KERNEL
        raise LayerError(f"layer {system.name} has {wide} inputs or outputs; kernel spectra can be drawn for at most {most}")
    cut = max(1, max(lengths) * wide // LARGEST_MATRIX)
    theta = (np.arange(UNIFORM_POINTS) + 0.5) * np.pi / UNIFORM_POINTS
    copies = _spread(spectrum.magnitude)
    if not copies:
        raise LayerError(f"layer {system.name}: nothing to draw: all residues are zero")
    chosen = [system.copy_slice(k, k + 1) for k in copies]
    squares = np.sort(np.concatenate([_squared_singular_values(copy, theta, spectrum.cauchy_sum) for copy in chosen]))
    result = []
    for length in sorted({max(2, length // cut) for length in lengths}):
        eigenvalues = np.sort(np.concatenate([kernel_spectrum(copy, length)[0] for copy in chosen]))
        share = (np.arange(len(eigenvalues)) + 0.5) / len(eigenvalues)
        result.append(KernelQuantiles(length, eigenvalues, _interpolated(squares, share)))
    return result, len(copies)


def _spread(magnitude: FloatArray) -> list[int]:
    """At most `MOST_COPIES` copies with a response, evenly spaced in the order of their mean square."""
    energy = (magnitude**2).mean(axis=1)
    alive = [int(k) for k in np.argsort(energy, kind="stable") if energy[k] > 0]
    if len(alive) <= MOST_COPIES:
        return alive
    places = (np.arange(MOST_COPIES) + 0.5) * len(alive) / MOST_COPIES
    return [alive[int(place)] for place in places]


def _squared_singular_values(copy: System, theta: FloatArray, engine: CauchySum) -> FloatArray:
    """Squared singular values of H at all theta without beta, in one vector; |H|^2 for one input and one output."""
    H = np.moveaxis(copy.response(FrequencyGrid(theta, "theta"), engine, with_beta=False).dynamic[0], -1, 0)
    if copy.inputs == copy.outputs == 1:
        return np.asarray(H.real**2 + H.imag**2).ravel()
    return np.asarray(np.linalg.svd(H, compute_uv=False).ravel() ** 2, dtype=np.float64)


def _interpolated(ordered: FloatArray, shares: FloatArray) -> FloatArray:
    """Quantiles (Q,) of values that are in ascending order already, by linear interpolation."""
    return np.asarray(np.interp(shares * (len(ordered) - 1), np.arange(len(ordered)), ordered))


@dataclass(frozen=True, slots=True)
class CurveStatistic:
    """A statistic with many values per copy.

    Args:
        name, unit, axis, formula, source: as for `Statistic`.
        function: spectrum -> (K, ...) values; if the axis is theta, on the grid of the spectrum.
    """

    name: str
    unit: str
    axis: str
    formula: str
    source: str
    function: Callable[[LayerSpectrum], FloatArray]


def magnitude(spectrum: LayerSpectrum) -> FloatArray:
    """|H| on the grid, (K, F)."""
    return spectrum.magnitude


def energy_shares(spectrum: LayerSpectrum) -> FloatArray:
    """E(theta)/E(pi) on the grid, (K, F)."""
    return spectrum.energy_shares(spectrum.grid.values)


def hankel_values(spectrum: LayerSpectrum) -> FloatArray:
    """Hankel singular values, (K, 2N)."""
    return spectrum.hankel


def induced_kernel(spectrum: LayerSpectrum) -> FloatArray:
    """Eigenvalues of T^T T for kernels of 256 samples, (K, 256 min(O, I))."""
    return kernel_spectrum(spectrum.system)


_TUNING = "arXiv 2410.02035 (Tuning Frequency Bias of SSMs), section 3"

CURVES: dict[str, CurveStatistic] = {
    curve.name: curve
    for curve in (
        CurveStatistic("magnitude", "", "theta", "|H|, Frobenius norm for several inputs or outputs", "definition", magnitude),
        CurveStatistic("sensitivity", "", "theta", "K = sum |g_n| |z_n| w/|1 - z_n e^(-i theta)|^2", _TUNING, trusted_sensitivity),
        CurveStatistic("energy_shares", "", "theta", "E(theta)/E(pi)", "definition", energy_shares),
        CurveStatistic("hankel_singular_values", "", "modes", "sqrt of the eigenvalues of P Q", "Glover 1984", hankel_values),
        CurveStatistic("kernel_spectrum", "", "samples", "eigenvalues of T^T T, L = 256", "arXiv 2509.20789, section 3", induced_kernel),
    )
}
