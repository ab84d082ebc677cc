"""One layer on the grid of the statistics: what several statistics need, computed once and on demand."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ssmspec.backends import CauchySum
from ssmspec.errors import LayerError
from ssmspec.grid import FloatArray, FrequencyGrid, theta_nodes
from ssmspec.response import discrete_response, squared_magnitude
from ssmspec.statespace import ComplexArray, StateSpace, cayley_poles, discrete_poles, homogeneous_scale, modal_form
from ssmspec.statistics.energy import TOLERANCE, ClosedEnergy, closed_energy, quantile
from ssmspec.statistics.hankel import hankel_singular_values
from ssmspec.statistics.peak import Peak, find_peak
from ssmspec.statistics.quadrature import Integral, Panels, panels, pole_distances
from ssmspec.statistics.variation import Variation, total_variation, variation_from_samples

CONDITION_LIMIT = 1e8  # of eigenvectors; beyond it residues of a low-rank system have no digits to trust
ILL_CONDITIONED = "the state matrix has no usable eigenvectors (condition number {worst:.1e}, limit 1e8), so there are no residues"
LOST = 1e-6  # relative error by cancellation from which |H| is null
SHARPEST = 5e-13  # rad/sample between a pole and the unit circle: theta, known to 4e-16, then places a peak to 1e-6
VARIATION_TOLERANCE = 1e-6  # relative error above which a total variation is null
MOST_VALUES = 1 << 25  # of |H| of one layer: every model of today has a twentieth, and a few repeated bytes of a file can stand for more
NUMBERS_AT_ONCE = 1 << 21  # numbers per array where pairs of modes or quadrature nodes are formed


@dataclass(frozen=True, slots=True)
class Band:
    """What one pass over the quadrature nodes yields, each (K,); NaN where the error is above the tolerance."""

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
        system: poles decay and all values are finite (`statespace.untrustworthy` is None).
        grid: theta [rad/sample], the F points on which slopes and medians are taken.
        cauchy_sum: the engine.
        with_skip: include D in magnitude, energies and peak.
        corner: theta_c of the low-frequency share [rad/sample].
    """

    def __init__(
        self, system: StateSpace, grid: FrequencyGrid, cauchy_sum: CauchySum, *, with_skip: bool = False, corner: float = np.pi / 4
    ) -> None:
        self.system = system
        self.grid = grid
        self.cauchy_sum = cauchy_sum
        self.with_skip = with_skip
        self.corner = corner

    @cached_property
    def magnitude(self) -> FloatArray:
        """|H| on the grid (Frobenius norm for several inputs or outputs), beta weight applied, (K, F).

        Raises:
            LayerError: more than MOST_VALUES of them.
        """
        copies, points = self.system.copies, self.grid.values.size
        if copies * points > MOST_VALUES:
            text = f"{copies} copies at {points} points take gigabytes; ask for at most {MOST_VALUES // copies} points"
            raise LayerError(f"layer {self.system.name}: {text}")
        squared = squared_magnitude(self.system, self.grid.values[None, :], self.cauchy_sum, with_skip=self.with_skip)
        magnitude = np.sqrt(np.maximum(squared, 0))
        return np.where(self.cancels(magnitude)[:, None], np.nan, magnitude)

    def cancels(self, magnitude: FloatArray) -> np.ndarray:
        """Copies (K,) of a diagonal system whose |H| on the grid (K, F) has lost more than six digits to terms that cancel.

        The terms are bounded by |C_n| |B_n| |scale_n| over the largest |Re sigma_n|, |sigma_n| x - y that the grid comes near; only copies
        for which this bound is alarming have their terms added up.
        """
        suspects = np.zeros(len(magnitude), bool)
        if self.system.rank:
            return suspects
        sigma = cayley_poles(self.system)
        size = np.linalg.norm(self.system.C, axis=1) * np.linalg.norm(self.system.B, axis=2) * np.abs(homogeneous_scale(self.system, sigma))
        typical = magnitude.mean(axis=1)
        alarming = np.finfo(float).eps * (2 * size / np.abs(sigma.real)).sum(axis=1) > LOST * typical
        x, y = theta_nodes(self.grid.values[None, :])
        for copy in np.flatnonzero(alarming):
            both = (np.abs(1j * y - s[:, None] * x) for s in (sigma[copy], sigma[copy].conj()))
            terms = sum((size[copy][:, None] / distance).sum(axis=0) for distance in both)
            suspects[copy] = np.finfo(float).eps * np.mean(terms) > LOST * typical[copy]
        return suspects

    @cached_property
    def sharp(self) -> np.ndarray:
        """Copies (K,) with a pole so close to the unit circle that theta beside it has too few digits."""
        return np.asarray((pole_distances(self.modal)[1] < SHARPEST).any(axis=1))

    @cached_property
    def _modal(self) -> tuple[StateSpace, FloatArray]:
        return modal_form(self.system)

    @property
    def modal(self) -> StateSpace:
        """The diagonal form; its poles are the system's poles."""
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
    def sensitivity(self) -> FloatArray:
        """K(theta) = sum over the completed set of |g_n| |z_n| w(theta)/|1 - z_n e^{-i theta}|^2 on the grid, (K, F).

        As 1/|i y - sigma x|^2 = -Re[1/(i y - sigma x)]/(Re sigma x), this is the Cauchy sum once more.
        """
        modal = self.modal
        sigma = cayley_poles(modal)
        strength = np.linalg.norm(modal.C, axis=1) * np.linalg.norm(modal.B, axis=2)
        strength = strength * np.abs(homogeneous_scale(modal, sigma)) * np.abs(self.poles_z) * np.abs(1 - sigma) / 2
        x, y = theta_nodes(self.grid.values[None, :])
        residues = (strength / -sigma.real)[:, None, :].astype(complex)
        sums = self.cauchy_sum(residues, sigma, x, y)[:, 0, :].real
        at_nyquist = 2 * strength.sum(axis=1, keepdims=True)
        result = np.where(x > 0, sums / np.where(x > 0, x, 1), at_nyquist)
        if modal.sobolev is not None:
            result = result * modal.sobolev.gain(self.grid.values[None, :], modal.step)
        return np.asarray(result)

    @cached_property
    def hankel(self) -> FloatArray:
        """Hankel singular values in falling order, (K, 2N)."""
        return hankel_singular_values(self.modal)

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
        system, modal = self.system.copy_slice(start, stop), self.modal.copy_slice(start, stop)
        cut = panels(modal)
        if cut is None:
            return self._band_without_panels(system)
        nodes = cut.nodes()
        values, variation = self._sampled(system, modal, cut, nodes)
        integral = Integral(cut.edges, cut.coefficients(values))
        corner = np.full(stop - start, self.corner)
        total, low, error = integral.total(), integral.up_to(corner), integral.relative_error()
        with np.errstate(divide="ignore", invalid="ignore"):
            centroid = np.where(error <= TOLERANCE, integral.first_moment() / total, np.nan)
        closed, whole = self._closed(system), np.full(stop - start, np.pi)
        energy: Callable[[FloatArray], FloatArray] = integral.up_to
        if closed is not None:
            exact = np.maximum(closed.relative_error(whole), closed.relative_error(corner))
            energy = _preferring(closed.up_to, exact <= TOLERANCE, integral.up_to)
            total, low, error = energy(whole), energy(corner), np.where(exact <= TOLERANCE, exact, error)
        rolloff = quantile(energy, total, 0.95)
        known = np.isfinite(self.magnitude[start:stop]).all(axis=1)  # neither quadrature nor search sees what cancels in their samples
        trusted = (error <= TOLERANCE) & known
        return Band(
            total=np.where(trusted, total, np.nan),
            low=np.where(trusted, low, np.nan),
            centroid=np.where(known, centroid, np.nan),
            rolloff=np.where(trusted, rolloff, np.nan),
            relative_error=error,
            variation=np.where((variation.relative_error <= VARIATION_TOLERANCE) & known, variation.value, np.nan),
            peak=find_peak(
                modal if min(system.outputs, system.inputs) > 1 else system, nodes, values, self.cauchy_sum, with_skip=self.with_skip
            ),
        )

    def _band_without_panels(self, system: StateSpace) -> Band:
        """Poles too sharp or too many for quadrature: what the closed form knows, and nothing else."""
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
        """|H|^2 at the nodes (K, F) and the total variation; one input and one output give both from the same samples of H."""
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
        """E(theta)/E(pi) of every copy at theta (F,) in [0, pi], (K, F); NaN where the energy is not known to the tolerance."""
        parts = [self._shares_of(start, stop, theta) for start, stop in self._cuts()]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.concatenate(parts) / self.band.total[:, None]

    def _shares_of(self, start: int, stop: int, theta: FloatArray) -> FloatArray:
        system = self.system.copy_slice(start, stop)
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
        """Ranges of copies whose pairs of modes and quadrature nodes fit in memory together."""
        modes, copies = self.modal.modes, self.system.copies
        nodes = 600 + 200 * modes * bool(self.modal.poles.imag.any())  # about 200 per resonance, a few hundred for decays alone
        count = max(1, NUMBERS_AT_ONCE // max(4 * modes * modes, nodes))
        return [(start, min(start + count, copies)) for start in range(0, copies, count)]

    def _closed(self, system: StateSpace) -> ClosedEnergy | None:
        """The closed form holds for diagonal systems without beta and without D."""
        if system.rank or system.sobolev is not None or self.with_skip:
            return None
        return closed_energy(system)


def _preferring(
    closed: Callable[[FloatArray], FloatArray], usable: np.ndarray, other: Callable[[FloatArray], FloatArray]
) -> Callable[[FloatArray], FloatArray]:
    """The closed form of the copies that can use it (K,), the other way for the rest; the other is not called where none needs it."""
    return closed if usable.all() else lambda theta: np.where(usable, closed(theta), other(theta))
