"""One layer on the grid of the statistics: quantities shared by several statistics, computed once and on demand."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ssmspec.backends import CauchySum
from ssmspec.errors import LayerError
from ssmspec.statistics.energy import TOLERANCE, ClosedEnergy, closed_energy, quantile
from ssmspec.statistics.hankel import hankel_singular_values
from ssmspec.statistics.normalization import Exponents, normalized, restored
from ssmspec.statistics.peak import Peak, find_peak
from ssmspec.statistics.quadrature import Integral, Panels, panels, pole_distances
from ssmspec.statistics.rounding import ERROR, ROUNDS, moved, suspects
from ssmspec.statistics.variation import Variation, total_variation, variation_from_samples
from ssmspec.systems.grid import FloatArray, FrequencyGrid, theta_nodes
from ssmspec.systems.response import discrete_response, squared_magnitude
from ssmspec.systems.statespace import ComplexArray, StateSpace, cayley_poles, discrete_poles, homogeneous_scale, modal_form, mode_sizes

CONDITION_LIMIT = 1e8  # of the eigenvectors; above it, residues of a low-rank system have no reliable digits
ILL_CONDITIONED = "the state matrix has no usable eigenvectors (condition number {worst:.1e}, limit 1e8), so there are no residues"
SHARPEST = 5e-13  # rad/sample from pole to unit circle: theta, known to 4e-16, locates a peak to 1e-6; panels stop at the same limit
VARIATION_TOLERANCE = 1e-6  # relative error above which a total variation is null
MOST_VALUES = 1 << 25  # values of |H| of one layer: current models need a twentieth, but a small compressed file can expand to more
NUMBERS_AT_ONCE = 1 << 21  # numbers per array of mode pairs or quadrature nodes


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
        return np.sqrt(np.maximum(squared_magnitude(self.unit, self.grid.values[None, :], self.cauchy_sum, with_skip=with_skip), 0))

    @cached_property
    def magnitude(self) -> FloatArray:
        """|H| of the layer on the grid, (K, F); NaN for a copy whose values are determined by rounding."""
        copies, others = self.shaken
        known, found = np.ones(self.system.copies, bool), self.unit_magnitude[copies]
        for other in others:
            change = np.abs(other.unit_magnitude - found).mean(axis=1)
            known[copies] &= change <= ERROR * found.mean(axis=1)
        return np.where(known[:, None], self.restored(self.unit_magnitude), np.nan)

    @cached_property
    def shaken(self) -> "tuple[np.ndarray, tuple[LayerSpectrum, ...]]":
        """Copies that may have lost digits, and their spectra with all numbers perturbed in their last digits (see `rounding`)."""
        if not self.exact:
            return np.zeros(0, int), ()
        gain = 1.0 if self.system.sobolev is None else self.system.sobolev.gain(self.grid.values[None, :], self.system.step)
        magnitudes = [self.unit_magnitude / gain]
        if self.with_skip:
            magnitudes.append(self._on_grid(with_skip=False) / gain)
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

    @cached_property
    def poles_z(self) -> ComplexArray:
        """Discrete poles of the upper half, (K, N)."""
        return discrete_poles(self.modal)

    @cached_property
    def unit_sensitivity(self) -> FloatArray:
        """K(theta) = sum over the completed set of |g_n| |z_n| w(theta)/|1 - z_n e^{-i theta}|^2 of `unit` on the grid, (K, F).

        Because 1/|i y - sigma x|^2 = -Re[1/(i y - sigma x)]/(Re sigma x), this is again a Cauchy sum.
        """
        modal = self.modal
        sigma = cayley_poles(modal)
        strength = mode_sizes(modal) * np.abs(homogeneous_scale(modal, sigma)) * np.abs(self.poles_z) * np.abs(1 - sigma) / 2
        x, y = theta_nodes(self.grid.values[None, :])
        residues = (strength / -sigma.real)[:, None, :].astype(complex)
        sums = self.cauchy_sum(residues, sigma, x, y)[:, 0, :].real
        at_nyquist = 2 * strength.sum(axis=1, keepdims=True)
        result = np.where(x > 0, sums / np.where(x > 0, x, 1), at_nyquist)
        if modal.sobolev is not None:
            result = result * modal.sobolev.gain(self.grid.values[None, :], modal.step)
        return np.asarray(result)

    @cached_property
    def sensitivity(self) -> FloatArray:
        """K(theta) of the layer on the grid, (K, F)."""
        return self.restored(self.unit_sensitivity)

    @cached_property
    def unit_hankel(self) -> FloatArray:
        """Hankel singular values of `unit` in descending order, (K, 2N)."""
        return hankel_singular_values(self.unit)

    @cached_property
    def hankel(self) -> FloatArray:
        """Hankel singular values of the layer in descending order, (K, 2N)."""
        return self.restored(self.unit_hankel)

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
        system, modal = self.unit.copy_slice(start, stop), self.modal.copy_slice(start, stop)
        cut = panels(modal)
        if cut is None:
            return self._band_without_panels(system)
        nodes = cut.nodes()
        values, variation = self._sampled(system, modal, cut, nodes)
        integral = Integral(cut.edges, cut.coefficients(values))
        corner = np.full(stop - start, self.corner)
        total, low, error = integral.total(), integral.up_to(corner), integral.relative_error()
        sharp = self.sharp[start:stop]  # no node comes close enough to such a pole to resolve it
        error, variation = np.where(sharp, np.inf, error), replace(variation, value=np.where(sharp, np.nan, variation.value))
        with np.errstate(divide="ignore", invalid="ignore"):
            centroid = np.where(error <= TOLERANCE, integral.first_moment() / total, np.nan)
        closed, whole = self._closed(system), np.full(stop - start, np.pi)
        energy: Callable[[FloatArray], FloatArray] = integral.up_to
        if closed is not None:
            exact = np.maximum(closed.relative_error(whole), closed.relative_error(corner))
            energy = _preferring(closed.up_to, exact <= TOLERANCE, integral.up_to)
            total, low, error = energy(whole), energy(corner), np.where(exact <= TOLERANCE, exact, error)
        rolloff = quantile(energy, total, 0.95)
        trusted = error <= TOLERANCE
        return Band(
            total=np.where(trusted, total, np.nan),
            low=np.where(trusted, low, np.nan),
            centroid=centroid,
            rolloff=np.where(trusted, rolloff, np.nan),
            relative_error=error,
            variation=np.where(variation.relative_error <= VARIATION_TOLERANCE, variation.value, np.nan),
            peak=find_peak(
                modal if min(system.outputs, system.inputs) > 1 else system, nodes, values, self.cauchy_sum, with_skip=self.with_skip
            ),
        )

    def _band_without_panels(self, system: StateSpace) -> Band:
        """For poles that are too sharp or too many for quadrature: only the results of the closed form."""
        nothing, whole = np.full(system.copies, np.nan), np.full(system.copies, np.pi)
        closed = self._closed(system)
        if closed is None:
            return Band(nothing, nothing, nothing, nothing, nothing, whole * np.inf, Peak(nothing, nothing))
        corner = np.full(system.copies, self.corner)
        error = np.maximum(closed.relative_error(whole), closed.relative_error(corner))
        total = np.where(error <= TOLERANCE, closed.up_to(whole), np.nan)
        low = np.where(error <= TOLERANCE, closed.up_to(corner), np.nan)
        return Band(total, low, nothing, quantile(closed.up_to, total, 0.95) + 0 * total, nothing, error, Peak(nothing, nothing))

    def _sampled(self, system: StateSpace, modal: StateSpace, cut: Panels, nodes: FloatArray) -> tuple[FloatArray, Variation]:
        """|H|^2 at the nodes (K, F) and the total variation; with one input and one output, both come from the same samples of H."""
        if system.outputs * system.inputs > 1:
            return squared_magnitude(system, nodes, self.cauchy_sum, with_skip=self.with_skip), total_variation(modal)
        prompt = replace(system, delay=0)
        H = discrete_response(prompt, *theta_nodes(nodes), self.cauchy_sum)[:, 0, 0]
        if system.sobolev is not None:
            H = H * system.sobolev.weight(nodes, system.step)
        variation = variation_from_samples(modal, cut, H)
        if self.with_skip:
            H = H * np.exp(-1j * nodes * system.delay) + system.D[:, 0]
        return H.real**2 + H.imag**2, variation

    def energy_shares(self, theta: FloatArray) -> FloatArray:
        """E(theta)/E(pi) of every copy at theta (F,) in [0, pi], (K, F); NaN if the energy is not known to within the tolerance."""
        parts = [self._shares_of(start, stop, theta) for start, stop in self._cuts()]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.concatenate(parts) / self.band.total[:, None]

    def _shares_of(self, start: int, stop: int, theta: FloatArray) -> FloatArray:
        system = self.unit.copy_slice(start, stop)
        whole = np.full(stop - start, np.pi)
        closed = self._closed(system)
        if closed is not None and (closed.relative_error(whole) <= TOLERANCE).all():
            energy = closed.up_to
        else:
            cut = panels(self.modal.copy_slice(start, stop))
            if cut is None:
                return np.full((stop - start, len(theta)), np.nan)
            values = squared_magnitude(system, cut.nodes(), self.cauchy_sum, with_skip=self.with_skip)
            energy = Integral(cut.edges, cut.coefficients(values)).up_to
        return np.stack([energy(np.full(stop - start, at)) for at in theta], axis=1)

    def _cuts(self) -> list[tuple[int, int]]:
        """Ranges of copies small enough that their mode pairs and quadrature nodes fit in memory."""
        modes, copies = self.modal.modes, self.system.copies
        nodes = 600 + 200 * modes * bool(self.modal.poles.imag.any())  # about 200 per resonance, and a few hundred for decays
        count = max(1, NUMBERS_AT_ONCE // max(4 * modes * modes, nodes))
        return [(start, min(start + count, copies)) for start in range(0, copies, count)]

    def _closed(self, system: StateSpace) -> ClosedEnergy | None:
        """The closed form, or None; it exists only for diagonal systems without beta and without D."""
        if system.rank or system.sobolev is not None or self.with_skip:
            return None
        return closed_energy(system)


def _preferring(
    closed: Callable[[FloatArray], FloatArray], usable: np.ndarray, other: Callable[[FloatArray], FloatArray]
) -> Callable[[FloatArray], FloatArray]:
    """Use the closed form for the copies marked usable (K,), and the other function for the rest; it is called only if needed."""
    return closed if usable.all() else lambda theta: np.where(usable, closed(theta), other(theta))
