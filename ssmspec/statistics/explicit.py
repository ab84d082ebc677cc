"""The counterpart of `LayerSpectrum` for layers that are an explicit kernel: every quantity comes from the samples themselves.

    |H|^2 = r_0 + 2 sum_d r_d cos(d theta),   r the autocorrelation of the kernel
    E(theta) = (r_0 theta + 2 sum_d r_d sin(d theta)/d)/pi,   E(pi) = r_0 = sum |k|^2

so energies, centroid and roll-off need no quadrature. All work is done for a few copies at a time, so that no kernel is held whole.
"""

from functools import cached_property

import numpy as np

from ssmspec.backends import CauchySum
from ssmspec.errors import LayerError
from ssmspec.statistics.energy import ROLLOFF, TOLERANCE
from ssmspec.statistics.extent import LONG, Extent
from ssmspec.statistics.normalization import Exponents, restored
from ssmspec.statistics.peak import Peak
from ssmspec.statistics.sampled_hankel import MOST_SAMPLES, MOST_WORK, sampled_hankel, work_of
from ssmspec.statistics.sampled_peak import sampled_peak
from ssmspec.statistics.sampled_variation import sampled_variation
from ssmspec.statistics.spectrum import MOST_VALUES, Band, LayerSpectrum
from ssmspec.systems.grid import FloatArray, FrequencyGrid
from ssmspec.systems.kernel import KernelSystem
from ssmspec.systems.statespace import ComplexArray, StateSpace
from ssmspec.systems.trigonometric import SampledSums, smooth_size

ROUNDING = 4 * np.finfo(float).eps  # of r_d in units of r_0, for every doubling of the length of its FFT
BISECTIONS = 60
STRUCTURED = 1024  # samples that hold the energy; the grid from pi/1024 samples shorter kernels finely enough to show their structure


class KernelSpectrum:
    """A finite kernel and a grid.

    Args:
        system: all values are finite (`systems.trust.assess`).
        grid, cauchy_sum, with_skip, corner: as for `LayerSpectrum`; a kernel needs no Cauchy sums.
    """

    silent = "all samples are zero"

    def __init__(
        self, system: KernelSystem, grid: FrequencyGrid, cauchy_sum: CauchySum, *, with_skip: bool = False, corner: float = np.pi / 4
    ) -> None:
        self.system = system
        self.grid = grid
        self.cauchy_sum = cauchy_sum
        self.with_skip = with_skip
        self.corner = corner

    @cached_property
    def _first_pass(self) -> tuple[Exponents, FloatArray, Extent]:
        """Powers of two, |H| of the kernels divided by them, (K, F), and their extent, from one pass over all samples."""
        copies, points = self.system.copies, self.grid.values.size
        if copies * points > MOST_VALUES:
            text = f"{copies} copies at {points} points take gigabytes; ask for at most {MOST_VALUES // copies} points"
            raise LayerError(f"layer {self.system.name}: {text}")
        exponents, magnitude = np.zeros(copies, int), np.empty((copies, points))
        extent = Extent(np.empty(copies), np.empty(copies))
        for place, samples in self.system.blocks():
            entries, exponents[place] = self._scaled(samples, place)
            whole, lags = self._with_skip(entries, place, exponents[place])
            sums = SampledSums(whole.reshape(-1, whole.shape[2])).at(self.grid.values)
            magnitude[place] = _norm(sums.reshape(*whole.shape[:2], -1))
            extent.delay[place], extent.length[place] = _extent(whole, lags)
        return exponents, magnitude, extent

    def _scaled(self, samples: FloatArray, place: slice) -> tuple[FloatArray, Exponents]:
        """Entries (k, O I, L) with their largest value near 1, and the powers of two by which the samples are larger."""
        entries = samples.reshape(len(samples), -1, samples.shape[3])
        largest = np.abs(entries).max(axis=(1, 2))
        skip = np.abs(self.system.D[place]).max(axis=(1, 2))
        largest = np.where((largest == 0) & self.with_skip, skip, largest)
        exponents = np.where(largest > 0, np.frexp(largest)[1], 0).astype(int)
        return np.ldexp(entries, -exponents[:, None, None]), exponents

    def _with_skip(self, entries: FloatArray, place: slice, exponents: Exponents) -> tuple[FloatArray, np.ndarray]:
        """The samples with D among them if it counts, and their lags."""
        lags = self.system.lags
        if not self.with_skip:
            return entries, lags
        low, high = min(0, int(lags[0])), max(0, int(lags[-1]))
        whole = np.zeros((*entries.shape[:2], high - low + 1))
        whole[..., lags[0] - low : lags[-1] - low + 1] = entries
        whole[..., -low] += np.ldexp(self.system.D[place].reshape(*entries.shape[:2]), -exponents[:, None])
        return whole, np.arange(low, high + 1)

    @property
    def exponents(self) -> Exponents:
        """(K,) powers of two by which the response is larger than what `unit_magnitude` and `band` describe."""
        return self._first_pass[0]

    @property
    def unit_magnitude(self) -> FloatArray:
        """|H| on the grid (Frobenius norm for several inputs or outputs), divided by a power of two, (K, F)."""
        return self._first_pass[1]

    @property
    def magnitude(self) -> FloatArray:
        """|H| on the grid, (K, F)."""
        return self.restored(self.unit_magnitude)

    @property
    def extent(self) -> Extent:
        """When the kernels act."""
        return self._first_pass[2]

    @property
    def sharp(self) -> np.ndarray:
        """No copy (K,) has a pole near the unit circle."""
        return np.zeros(self.system.copies, bool)

    @property
    def condition(self) -> FloatArray:
        """Nothing is diagonalized: 1 for every copy, (K,)."""
        return np.ones(self.system.copies)

    @property
    def shaken(self) -> "tuple[np.ndarray, tuple[LayerSpectrum, ...]]":
        """No copy: samples are used as they are, and none is the difference of larger numbers."""
        return np.zeros(0, int), ()

    def moved(self, copies: np.ndarray, seed: int) -> "KernelSpectrum":
        """The same samples of some copies: they have all digits."""
        return KernelSpectrum(self.system.pick(copies), self.grid, self.cauchy_sum, with_skip=self.with_skip, corner=self.corner)

    @property
    def modal(self) -> StateSpace:
        """There is none, and an error says why."""
        return self.system.state_space()

    def notes(self) -> list[str]:
        """What to know about |H| on the grid: where it lies below 2 pi/L, and where it is coarser than the structure of the kernel.

        A kernel whose energy lies in M samples has structure about 2 pi/M wide.
        """
        theta, length = self.grid.values, self.system.length
        notes, lowest = [], 2 * np.pi / length
        if theta[0] < lowest:
            count = int((theta < lowest).sum())
            notes.append(
                f"{count} of {theta.size} frequencies of the grid lie below 2 pi/L = {lowest:.3g} rad/sample, where a kernel of {length} "
                "samples has less than one period: |H| says little there"
            )
        extent = float(np.nanmax(self.extent.length)) if np.isfinite(self.extent.length).any() else 0.0
        width = 2 * np.pi / max(extent, 1.0)
        coarse = np.diff(theta) > width
        if extent > STRUCTURED and coarse.any():
            edge = theta[int(coarse.argmax())]
            notes.append(
                f"above {edge:.3g} rad/sample the grid is coarser than the structure of the kernel, about {width:.3g} rad/sample wide "
                f"(99 % of the energy within up to {extent:.0f} samples): center_frequency, spectral_slope and the curve are samples of it"
            )
        return notes

    def restored(self, values: FloatArray) -> FloatArray:
        """Gains (K, ...) of the scaled kernels as those of the layer; NaN where they leave the range of double precision."""
        return restored(values, self.exponents)

    @cached_property
    def band(self) -> Band:
        """Energies, centroid, roll-off, variation and peak of every copy."""
        fields = np.empty((6, self.system.copies))
        gains, thetas = np.empty(self.system.copies), np.empty(self.system.copies)
        for place, samples in self.system.blocks():
            entries, exponents = self._scaled(samples, place)
            whole, _ = self._with_skip(entries, place, exponents)
            fields[:4, place], fields[5, place] = _energies(whole, self.corner)
            lags = self.system.lags if self.system.earliest_lag else np.arange(self.system.length)  # a delay only turns the phase
            fields[4, place] = sampled_variation(entries, lags)
            gains[place], thetas[place] = sampled_peak(whole, self.system.outputs)
        total, low, centroid, rolloff, variation, error = fields
        variation = np.where(self.unit_magnitude.any(axis=1), variation, np.nan)  # 0 of one sample, whose response is constant
        return Band(total, low, centroid, rolloff, variation, error, Peak(gains, thetas))

    def energy_shares(self, theta: FloatArray) -> FloatArray:
        """E(theta)/E(pi) of every copy at theta (F,) in [0, pi], (K, F)."""
        shares = np.empty((self.system.copies, len(theta)))
        for place, samples in self.system.blocks():
            entries, exponents = self._scaled(samples, place)
            found = _Energy(self._with_skip(entries, place, exponents)[0])
            with np.errstate(divide="ignore", invalid="ignore"):
                shares[place] = found.up_to(theta) / found.total[:, None]
        return shares

    @cached_property
    def hankel_missing(self) -> str | None:
        """Why there are no Hankel singular values, or None."""
        system = self.system
        if system.earliest_lag:
            return "the kernel looks ahead, so no state carries its past into its future"
        if system.length > MOST_SAMPLES:
            return f"a kernel of {system.length} samples has a Hankel matrix of that size; they are computed up to {MOST_SAMPLES}"
        if work_of(*system.shape) > MOST_WORK:
            return f"{system.copies} Hankel matrices of {system.length} rows take more than a minute; choose fewer layers"
        return None

    @cached_property
    def unit_hankel(self) -> FloatArray:
        """Hankel singular values of the scaled kernels in descending order, (K, M); M = 1 and NaN where there are none."""
        if self.hankel_missing:
            return np.full((self.system.copies, 1), np.nan)
        scaled = np.concatenate([self._scaled(samples, place)[0] for place, samples in self.system.blocks()])
        return sampled_hankel(scaled.reshape(self.system.shape))

    @property
    def hankel(self) -> FloatArray:
        """Hankel singular values of the layer, (K, M)."""
        return self.restored(self.unit_hankel)


def _norm(entries: ComplexArray) -> FloatArray:
    """Frobenius norm over axis 1."""
    return np.abs(entries[:, 0]) if entries.shape[1] == 1 else np.asarray(np.linalg.norm(entries, axis=1))


def _extent(whole: FloatArray, lags: np.ndarray) -> tuple[FloatArray, FloatArray]:
    squares = (whole**2).sum(axis=1)
    cumulative = np.cumsum(squares, axis=1)
    total = cumulative[:, -1]
    length = (cumulative < LONG * total[:, None]).sum(axis=1) + 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, squares @ lags / total, np.nan), np.where(total > 0, length, np.nan)


class _Energy:
    """E(theta) of kernels (k, E, L)."""

    def __init__(self, whole: FloatArray) -> None:
        length = whole.shape[2]
        size = smooth_size(2 * length)
        power = np.abs(np.fft.rfft(whole, size, axis=2)) ** 2
        self.correlation = np.fft.irfft(power.sum(axis=1), size, axis=1)[:, :length]
        self.total = (whole**2).sum(axis=(1, 2))
        self.error = ROUNDING * np.log2(size) * self.total
        divisors = np.arange(length, dtype=float)
        divisors[0] = np.inf
        self._sums = SampledSums(self.correlation / divisors)

    def up_to(self, theta: FloatArray) -> FloatArray:
        """E (k, F) at theta (F,) or (k, F)."""
        return np.asarray((self.total[:, None] * theta - 2 * self._sums.at(theta).imag) / np.pi)

    def centroid(self) -> FloatArray:
        """The mean of theta weighted with |H|^2, (k,)."""
        d = np.arange(1, self.correlation.shape[1], 2, dtype=float)  # even ones vanish
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((self.total * np.pi**2 / 2 - 4 * self.correlation[:, 1::2] @ d**-2) / (np.pi * self.total))

    def quantile(self, share: float) -> FloatArray:
        """theta (k,) below which lies so much of the energy."""
        low, high = np.zeros((len(self.total), 1)), np.full((len(self.total), 1), np.pi)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            above = self.up_to(middle) >= share * self.total[:, None]
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return np.asarray((low + high)[:, 0] / 2)


def _energies(whole: FloatArray, corner: float) -> tuple[FloatArray, FloatArray]:
    """Total, low, centroid and roll-off, (4, k), and the relative error of the low energy, which is the largest of them, (k,)."""
    energy = _Energy(whole)
    low = energy.up_to(np.array([corner]))[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        error = energy.error / np.abs(low)
    low = np.where(error <= TOLERANCE, low, np.nan)
    rolloff = np.where(energy.total > 0, energy.quantile(ROLLOFF), np.nan)
    return np.stack([energy.total, low, energy.centroid(), rolloff]), np.where(error <= TOLERANCE, error, energy.error / energy.total)
