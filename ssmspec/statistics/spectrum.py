"""One layer on the grid of the statistics: quantities shared by several statistics, computed once and on demand."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ssmspec.backends import CauchySum, compiles
from ssmspec.errors import LayerError
from ssmspec.statistics.energy import ROLLOFF, TOLERANCE, ClosedEnergy, bisected, closed_energy, rolloff_of
from ssmspec.statistics.extent import Extent, extent_of_modes
from ssmspec.statistics.hankel import MOST_MODES, hankel_singular_values
from ssmspec.statistics.normalization import Exponents, normalized, restored
from ssmspec.statistics.norms import PairSums, pair_sums, squared_norms, squared_norms_and_speeds
from ssmspec.statistics.peak import Peak, find_operator_peak, find_peak
from ssmspec.statistics.quadrature import REACH, SHORT_REACH, Integral, Panels, panels, pole_distances
from ssmspec.statistics.rounding import ERROR, ROUNDS, moved, suspects
from ssmspec.statistics.variation import ACCEPTED, Variation, total_variation, variation_from_samples, variation_from_speeds
from ssmspec.systems.grid import FloatArray, FrequencyGrid, theta_nodes
from ssmspec.systems.response import DiscreteSums, squared_magnitude, turn
from ssmspec.systems.statespace import ComplexArray, StateSpace, cayley_poles, discrete_poles, homogeneous_scale, modal_form, mode_sizes

CONDITION_LIMIT = 1e8  # of the eigenvectors; above it, residues of a low-rank system have no reliable digits
ILL_CONDITIONED = "the state matrix has no usable eigenvectors (condition number {worst:.1e}, limit 1e8), so there are no residues"
SHARPEST = 5e-13  # rad/sample from pole to unit circle: theta, known to 4e-16, locates a peak to 1e-6; panels stop at the same limit
VARIATION_TOLERANCE = 1e-6  # relative error above which a total variation is null
MOST_ENTRIES = 8  # of H: inputs times outputs up to which every entry is formed
MOST_VALUES = 1 << 25  # of |H| of one layer: every model of today has a twentieth, and a few repeated bytes of a file can stand for more
SUMS_AT_ONCE = 1 << 16  # of every kind on the grid
NUMBERS_AT_ONCE = 1 << 21  # numbers per array where pairs of modes or quadrature nodes are formed


@dataclass(frozen=True, slots=True)
class Band:
    """Results of one pass over the quadrature nodes for the normalized system, each (K,); NaN if the error is above the tolerance."""

    total: FloatArray
    low: FloatArray
    centroid: FloatArray
    rolloff: FloatArray
    variation: FloatArray
    relative_error: FloatArray
    peak: Peak


class LayerSpectrum:
    """A trustworthy layer, a grid and an engine.

    Args:
        system: its poles decay and all values are finite (`systems.trust.untrustworthy` is None).
        grid: theta [rad/sample], the F points at which slopes and medians are computed.
        cauchy_sum: the engine.
        with_skip: include D in magnitude, energies and peak.
        corner: theta_c of the low-frequency share [rad/sample].
        exact: whether the values of the system are the original ones; otherwise they were perturbed to test the effect of rounding.
    """

    silent = "zero residues"

    def __init__(
        self,
        system: StateSpace,
        grid: FrequencyGrid,
        cauchy_sum: CauchySum,
        *,
        with_skip: bool = False,
        corner: float = np.pi / 4,
        exact: bool = True,
    ) -> None:
        self.system = system
        self.grid = grid
        self.cauchy_sum = cauchy_sum
        self.with_skip = with_skip
        self.corner = corner
        self.exact = exact
        self._compiled = compiles(cauchy_sum)

    @cached_property
    def _normalized(self) -> tuple[StateSpace, Exponents]:
        return normalized(self.system, with_skip=self.with_skip)

    @property
    def unit(self) -> StateSpace:
        """The system scaled so that its largest response is near 1; everything below is computed from it."""
        return self._normalized[0]

    @property
    def exponents(self) -> Exponents:
        """(K,) powers of two by which the response of the layer is larger than that of `unit`."""
        return self._normalized[1]

    def restored(self, values: FloatArray) -> FloatArray:
        """Convert gains (K, ...) of `unit` to those of the layer; NaN where they leave the range of double precision."""
        return restored(values, self.exponents)

    @cached_property
    def unit_magnitude(self) -> FloatArray:
        """|H| of `unit` on the grid (Frobenius norm for several inputs or outputs), beta weight applied, (K, F).

        Raises:
            LayerError: there would be more than MOST_VALUES values.
        """
        copies, points = self.system.copies, self.grid.values.size
        if copies * points > MOST_VALUES:
            text = f"{copies} copies at {points} points take gigabytes; ask for at most {MOST_VALUES // copies} points"
            raise LayerError(f"layer {self.system.name}: {text}")
        return self._on_grid(with_skip=self.with_skip)

    def _on_grid(self, *, with_skip: bool) -> FloatArray:
        theta = self.grid.values[None, :]
        if not with_skip and self._single:
            return self._single_sums[0]
        if with_skip or not self._by_pairs:
            return np.sqrt(np.maximum(squared_magnitude(self.unit, theta, self.cauchy_sum, with_skip=with_skip), 0))
        return np.sqrt(np.maximum(squared_norms(self.unit, self.pair_sums, theta), 0))

    @cached_property
    def magnitude(self) -> FloatArray:
        """|H| of the layer on the grid, (K, F); NaN for a copy whose values are determined by rounding."""
        copies, others = self.shaken
        known, found = np.ones(self.system.copies, bool), self.unit_magnitude[copies]
        for other in others:
            change = np.abs(other.unit_magnitude - found).mean(axis=1)
            known[copies] &= change <= ERROR * found.mean(axis=1)
        magnitude = self.restored(self.unit_magnitude)
        return magnitude if known.all() else np.where(known[:, None], magnitude, np.nan)

    @cached_property
    def shaken(self) -> "tuple[np.ndarray, tuple[LayerSpectrum, ...]]":
        """Copies that may have lost digits, and their spectra with all numbers perturbed in their last digits (see `rounding`)."""
        if not self.exact:
            return np.zeros(0, int), ()
        magnitudes = [self.unit_magnitude, *([self._on_grid(with_skip=False)] if self.with_skip else [])]
        if self.system.sobolev is not None:
            gain = self.system.sobolev.gain(self.grid.values[None, :], self.system.step)
            magnitudes = [magnitude / gain for magnitude in magnitudes]
        copies = np.flatnonzero(suspects(self.modal, self.condition, magnitudes))
        return copies, tuple(self.moved(copies, seed) for seed in range(ROUNDS)) if len(copies) else ()

    def moved(self, copies: np.ndarray, seed: int) -> "LayerSpectrum":
        """The spectrum of some copies with all numbers perturbed in their last digits."""
        system = moved(self.system.pick(copies), seed)
        return LayerSpectrum(system, self.grid, self.cauchy_sum, with_skip=self.with_skip, corner=self.corner, exact=False)

    @cached_property
    def sharp(self) -> np.ndarray:
        """Copies (K,) with a pole so close to the unit circle that theta has too few digits to resolve it."""
        return np.asarray((pole_distances(self.modal)[1] < SHARPEST).any(axis=1))

    @cached_property
    def _modal(self) -> tuple[StateSpace, FloatArray]:
        return modal_form(self.unit)

    @property
    def modal(self) -> StateSpace:
        """The diagonal form, which has the same poles as the system."""
        return self._modal[0]

    @property
    def condition(self) -> FloatArray:
        """Condition number of the eigenvectors that diagonalize the system, (K,); 1 for diagonal systems."""
        return self._modal[1]

    @property
    def _single(self) -> bool:
        """Whether one sum is the response, and one more over the same poles the sensitivity."""
        return self.system.inputs == self.system.outputs == 1 and not self.system.rank

    @cached_property
    def _single_sums(self) -> tuple[FloatArray, FloatArray]:
        """|H| and K of `unit` on the grid, each (K, F), by sums that share their divisions."""
        theta, copies = self.grid.values[None, :], self.system.copies
        x, y = theta_nodes(theta)
        magnitude, sensitivity = np.empty((copies, theta.size)), np.empty((copies, theta.size))
        count = max(1, SUMS_AT_ONCE // theta.size)
        for start in range(0, copies, count):
            part = slice(start, start + count)
            terms = DiscreteSums.of(self.unit.pick(part))
            strength = _strength(self.unit.pick(part), terms.sigma, self.poles_z[part])
            residues = np.concatenate([terms.residues, (strength / -terms.sigma.real)[:, None, :]], axis=1)
            sums = self.cauchy_sum(residues, terms.sigma, x, y)
            magnitude[part] = np.sqrt(sums[:, 0].real ** 2 + sums[:, 0].imag ** 2)
            sensitivity[part] = _per_x(sums[:, 1].real, x, strength)
        if self.system.sobolev is not None:
            gain = self.system.sobolev.gain(theta, self.system.step)
            return magnitude * gain, sensitivity * gain
        return magnitude, sensitivity

    @property
    def _by_pairs(self) -> bool:
        """Whether norms come from sums over pairs of modes: H has so many entries that these take less, and the layer permits them."""
        several = self.system.inputs * self.system.outputs > MOST_ENTRIES
        return several and not self.system.rank and (self.system.sobolev is None or self.system.sobolev.zero_phase)

    @cached_property
    def pair_sums(self) -> PairSums:
        """Of `unit`, a diagonal system."""
        return pair_sums(self.unit)

    @cached_property
    def poles_z(self) -> ComplexArray:
        """Discrete poles of the upper half, (K, N)."""
        return discrete_poles(self.modal)

    @cached_property
    def unit_sensitivity(self) -> FloatArray:
        """K(theta) = sum over the completed set of |g_n| |z_n| w(theta)/|1 - z_n e^{-i theta}|^2 of `unit` on the grid, (K, F).

        Because 1/|i y - sigma x|^2 = -Re[1/(i y - sigma x)]/(Re sigma x), this is again a Cauchy sum.
        """
        if self._single:
            return self._single_sums[1]
        modal, theta = self.modal, self.grid.values[None, :]
        sigma = cayley_poles(modal)
        strength = _strength(modal, sigma, self.poles_z)
        x, y = theta_nodes(theta)
        sums = self.cauchy_sum((strength / -sigma.real)[:, None, :].astype(complex), sigma, x, y)
        result = _per_x(sums[:, 0, :].real, x, strength)
        return result if modal.sobolev is None else result * modal.sobolev.gain(theta, modal.step)

    @cached_property
    def sensitivity(self) -> FloatArray:
        """K(theta) of the layer on the grid, (K, F)."""
        return self.restored(self.unit_sensitivity)

    @cached_property
    def unit_hankel(self) -> FloatArray:
        """Hankel singular values of `unit` in descending order, (K, 2N)."""
        return hankel_singular_values(self.unit, compiled=self._compiled)

    @cached_property
    def hankel(self) -> FloatArray:
        """Hankel singular values of the layer in descending order, (K, 2N)."""
        return self.restored(self.unit_hankel)

    @property
    def hankel_missing(self) -> str | None:
        """Why there are no Hankel singular values, or None."""
        return f"more than {MOST_MODES} modes would take too long" if self.system.modes > MOST_MODES else None

    @cached_property
    def extent(self) -> Extent:
        """When the kernels act."""
        conditioned = self.condition <= CONDITION_LIMIT
        problem = "" if conditioned.any() else ILL_CONDITIONED.format(worst=self.condition.max())
        usable = conditioned & ~self.sharp
        return extent_of_modes(self.modal, usable, problem, with_skip=self.with_skip, compiled=self._compiled)

    def notes(self) -> list[str]:
        """What to know about the numbers of a system with a low-rank part."""
        rank, worst = self.system.rank, self.condition.max()
        return [f"eigenvectors of diag - P Q^* have condition numbers up to {worst:.3g}"] if rank else []

    @cached_property
    def band(self) -> Band:
        """Energies, centroid, roll-off and peak of every copy."""
        parts = [self._band_of(start, stop) for start, stop in self._cuts()]
        if len(parts) == 1:
            return parts[0]
        fields = ("total", "low", "centroid", "rolloff", "variation", "relative_error")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in fields}
        gains = np.concatenate([part.peak.gain for part in parts])
        thetas = np.concatenate([part.peak.theta for part in parts])
        return Band(**joined, peak=Peak(gains, thetas))

    def _band_of(self, start: int, stop: int) -> Band:
        corner, whole = np.full(stop - start, self.corner), np.full(stop - start, np.pi)
        closed, exact = self._closed(start, stop), whole * np.inf
        if closed is not None:
            (closed_total, total_error), (closed_low, low_error) = closed.with_error(whole), closed.with_error(corner)
            exact = np.maximum(total_error, low_error)
        preferred = exact <= TOLERANCE
        cut = panels(self.modal.copy_slice(start, stop), np.where(preferred, SHORT_REACH, REACH)[:, None], compiled=self._compiled)
        if cut is None:
            return self._band_without_panels(closed, stop - start)
        theta, *halves = cut.nodes_between_ends(compiled=self._compiled)
        values, variation = self._sampled(start, stop, cut, theta, *halves)
        integral = Integral(cut.edges, cut.coefficients(values[:, 1:-1]))
        total, low, error = integral.total(), integral.up_to(corner), integral.relative_error()
        sharp = self.sharp[start:stop]  # no node comes near enough to such a pole to see it
        with np.errstate(divide="ignore", invalid="ignore"):
            centroid = np.where((integral.whole_error() <= TOLERANCE) & ~sharp, integral.first_moment() / total, np.nan)
        error = np.where(sharp, np.inf, error)
        energy: Callable[[FloatArray], FloatArray] = integral.up_to
        if closed is not None:
            energy = _preferring(closed.up_to, preferred, integral.up_to)
            total, low = np.where(preferred, closed_total, total), np.where(preferred, closed_low, low)
            error = np.where(preferred, exact, error)
        rolloff = rolloff_of(energy, total, integral)
        trusted = error <= TOLERANCE
        known = (variation.relative_error <= VARIATION_TOLERANCE) & (variation.value > 0) & ~sharp
        return Band(
            total=np.where(trusted, total, np.nan),
            low=np.where(trusted, low, np.nan),
            centroid=centroid,
            rolloff=np.where(trusted, rolloff, np.nan),
            relative_error=error,
            variation=np.where(known, variation.value, np.nan),
            peak=self._peak(start, stop, theta, values, integral),
        )

    def _band_without_panels(self, closed: ClosedEnergy | None, copies: int) -> Band:
        """Poles too sharp or too many for quadrature: what the closed form knows, and nothing else."""
        nothing, whole = np.full(copies, np.nan), np.full(copies, np.pi)
        if closed is None:
            return Band(nothing, nothing, nothing, nothing, nothing, whole * np.inf, Peak(nothing, nothing))
        (total, total_error), (low, low_error) = closed.with_error(whole), closed.with_error(np.full(copies, self.corner))
        error = np.maximum(total_error, low_error)
        total, low = (np.where(error <= TOLERANCE, energy, np.nan) for energy in (total, low))
        rolloff = bisected(closed.up_to, ROLLOFF * total) + 0 * total
        return Band(total, low, nothing, rolloff, nothing, error, Peak(nothing, nothing))

    def _sampled(self, start: int, stop: int, cut: Panels, theta: FloatArray, x: FloatArray, y: FloatArray) -> tuple[FloatArray, Variation]:
        """|H|^2 at theta (K, F), the nodes between both ends, with (x, y) = (cos, sin) theta/2, and the total variation, from the same."""
        system, modal = self.unit.copy_slice(start, stop), self.modal.copy_slice(start, stop)
        if self._by_pairs:
            squared, speeds = squared_norms_and_speeds(system, self.pair_sums.pick(start, stop), theta)
            variation = variation_from_speeds(system, cut, speeds[:, 1:-1])
            return squared_magnitude(system, theta, self.cauchy_sum, with_skip=True) if self.with_skip else squared, variation
        if system.outputs * system.inputs > MOST_ENTRIES:
            return squared_magnitude(system, theta, self.cauchy_sum, with_skip=self.with_skip), total_variation(modal)
        H = DiscreteSums.of(system).unturned(x, y, self.cauchy_sum)
        if system.sobolev is not None:
            H = H * system.sobolev.weight(theta, system.step)[:, None, None, :]
        accepted = VARIATION_TOLERANCE if system.rank else ACCEPTED
        variation = variation_from_samples(modal, cut, H, accepted, compiled=self._compiled)
        if self.with_skip:
            H = H * turn(x, y, system.delay)[:, None, None, :] + system.D[..., None]
        return np.asarray((H.real**2 + H.imag**2).sum(axis=(1, 2))), variation

    def _peak(self, start: int, stop: int, theta: FloatArray, squared: FloatArray, integral: Integral) -> Peak:
        """From the squared norms at theta (K, F), of which the integral has polynomials."""
        system = self.unit.copy_slice(start, stop)
        if min(system.outputs, system.inputs) > 1:
            return find_operator_peak(self.modal.copy_slice(start, stop), theta, squared, with_skip=self.with_skip)
        if self._by_pairs and not self.with_skip:
            sums = self.pair_sums.pick(start, stop)
            return find_peak(lambda at: squared_norms(system, sums, at), theta, squared, integral)
        terms = DiscreteSums.of(system)
        return find_peak(lambda at: terms.squared(at, self.cauchy_sum, with_skip=self.with_skip), theta, squared, integral)

    def energy_shares(self, theta: FloatArray) -> FloatArray:
        """E(theta)/E(pi) of every copy at theta (F,) in [0, pi], (K, F); NaN if the energy is not known to within the tolerance."""
        parts = [self._shares_of(start, stop, theta) for start, stop in self._cuts()]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.concatenate(parts) / self.band.total[:, None]

    def _shares_of(self, start: int, stop: int, theta: FloatArray) -> FloatArray:
        """E(theta) of some copies: from one piecewise polynomial where it is good enough, else from the closed form."""
        energy = np.full((stop - start, len(theta)), np.nan)
        cut = panels(self.modal.copy_slice(start, stop), compiled=self._compiled)
        if cut is not None:
            values = squared_magnitude(self.unit.copy_slice(start, stop), cut.nodes(), self.cauchy_sum, with_skip=self.with_skip)
            integral = Integral(cut.edges, cut.coefficients(values))
            known = (integral.relative_error() <= TOLERANCE) & ~self.sharp[start:stop]
            energy[known] = integral.cumulative(theta)[known]
            if known.all():
                return energy
        closed = self._closed(start, stop)
        if closed is not None:
            exact = np.stack([closed.up_to(np.full(stop - start, at)) for at in theta], axis=1)
            energy = np.where(np.isnan(energy), exact, energy)
        return energy

    def _cuts(self) -> list[tuple[int, int]]:
        """Ranges of copies small enough that their mode pairs and quadrature nodes fit in memory."""
        modes, copies = self.modal.modes, self.system.copies
        entries = min(self.system.inputs * self.system.outputs, MOST_ENTRIES)
        nodes = 600 + 200 * modes * bool(self.modal.poles.imag.any())  # about 200 per resonance, a few hundred for decays alone
        count = max(1, NUMBERS_AT_ONCE // max(4 * modes * modes, nodes * entries))
        return [(start, min(start + count, copies)) for start in range(0, copies, count)]

    def _closed(self, start: int, stop: int) -> ClosedEnergy | None:
        """The closed form holds for diagonal systems without beta and without D."""
        if self.system.rank or self.system.sobolev is not None or self.with_skip:
            return None
        single = self.system.inputs == self.system.outputs == 1
        if not single:
            return self.pair_sums.pick(start, stop).energy
        return closed_energy(self.unit.copy_slice(start, stop), compiled=self._compiled)


def _strength(modal: StateSpace, sigma: ComplexArray, z: ComplexArray) -> FloatArray:
    """|g_n| |z_n| |1 - sigma_n|^2/4 of every mode, (K, N): K(theta) is their sum over 1/|i y - sigma x|^2, twice at Nyquist."""
    return np.asarray(mode_sizes(modal) * np.abs(homogeneous_scale(modal, sigma)) * np.abs(z) * np.abs(1 - sigma) / 2)


def _per_x(sums: FloatArray, x: FloatArray, strength: FloatArray) -> FloatArray:
    """Sums (K, F) over x, and their limit where x is 0."""
    if x.all():
        return np.asarray(sums / x)
    return np.where(x > 0, sums / np.where(x > 0, x, 1), 2 * strength.sum(axis=1, keepdims=True))


def _preferring(
    closed: Callable[[FloatArray], FloatArray], usable: np.ndarray, other: Callable[[FloatArray], FloatArray]
) -> Callable[[FloatArray], FloatArray]:
    """Use the closed form for the copies marked usable (K,), and the other function for the rest; it is called only if needed."""
    return closed if usable.all() else lambda theta: np.where(usable, closed(theta), other(theta))
