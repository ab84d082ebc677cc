"""Integrals of |H|^2 over theta by quadrature adapted to the poles.

|H|^2 is analytic between its poles theta_n + i w_n, z_n = exp(-w_n + i theta_n). From 0 upward every panel is as long as it may be for all
poles to stay outside its Bernstein ellipse of parameter rho: the distances of a pole from both ends of the panel add up to at least
(rho + 1/rho)/2 times its length. With rho = 7.9 a polynomial through 16 Gauss-Legendre points leaves 1e-14 of the integrand and their
integral leaves far less; what is left is estimated from the last Legendre coefficients. Where the energies have a closed form, rho = 4.5
suffices: 1e-10 of the integrand, 1e-20 of the integral.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ssmspec.systems.grid import FloatArray, theta_nodes
from ssmspec.systems.statespace import StateSpace, log_poles

ORDER = 16
REACH, SHORT_REACH = 4.0, 2.4  # (rho + 1/rho)/2
MAX_PANELS = 200_000
NUMBERS_AT_ONCE = 1 << 20  # Legendre coefficients gathered at once: 8 MB
NODES, WEIGHTS = np.polynomial.legendre.leggauss(ORDER)
# values at the nodes -> Legendre coefficients, exact for polynomials of degree < ORDER
TO_COEFFICIENTS = (np.polynomial.legendre.legvander(NODES, ORDER - 1) * WEIGHTS[:, None] * (np.arange(ORDER) + 0.5)).T


def pole_distances(diagonal: StateSpace) -> tuple[FloatArray, FloatArray]:
    """theta_n in [0, pi] and w_n > 0 of every stored pole of a diagonal system, each (K, N) [rad/sample]."""
    logarithm = log_poles(diagonal)
    return np.abs(logarithm.imag), -logarithm.real


@dataclass(frozen=True, slots=True)
class Panels:
    """Edges of the panels of every copy, (K, P + 1), from 0 to pi; copies that need fewer are padded with panels of zero length."""

    edges: FloatArray

    def nodes(self) -> FloatArray:
        """Abscissas (K, P * ORDER) [rad/sample]."""
        left, right = self.edges[:, :-1, None], self.edges[:, 1:, None]
        points = (left + right) / 2 + (right - left) / 2 * NODES
        return np.clip(points, left, right).reshape(len(self.edges), -1)

    def nodes_between_ends(self, *, compiled: bool = False) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(K, P * ORDER + 2) the same with 0 before and pi behind, and cos theta/2 and sin theta/2 there.

        Args:
            compiled: whether to do it in the loops of `quick`.
        """
        if compiled:
            from ssmspec.statistics.quick import panel_nodes  # here, since it loads LLVM

            return panel_nodes(self.edges, NODES)
        ends = np.zeros((len(self.edges), 1)), np.full((len(self.edges), 1), np.pi)
        theta = np.concatenate([ends[0], self.nodes(), ends[1]], axis=1)
        return theta, *theta_nodes(theta)

    def weights(self) -> FloatArray:
        """Weights (K, P * ORDER): the integral over [0, pi] is the sum of weight times value at `nodes()`."""
        half = (self.edges[:, 1:, None] - self.edges[:, :-1, None]) / 2
        return np.asarray(half * WEIGHTS).reshape(len(self.edges), -1)

    def coefficients(self, values: FloatArray) -> FloatArray:
        """Legendre coefficients (K, P, ORDER) of the integrand on every panel, from its values at `nodes()`."""
        return (values.reshape(-1, ORDER) @ TO_COEFFICIENTS.T).reshape(len(self.edges), -1, ORDER)


def panels(diagonal: StateSpace, reach: float | FloatArray = REACH, *, compiled: bool = False) -> Panels | None:
    """Panels over [0, pi] for the poles of a diagonal system, and the knee and corners of its beta weight; None beyond MAX_PANELS.

    Args:
        reach: (rho + 1/rho)/2 of the ellipses without poles, one for all copies or (K, 1). With D the distance of a pole from the left end
            and x its part along the axis, the length h with D + |pole - right end| = reach h is 2 (reach D - x)/(reach^2 - 1).
        compiled: whether to do it in the loops of `quick`.
    """
    angle, decay = pole_distances(diagonal)
    knee = None if diagonal.sobolev is None else diagonal.sobolev.knee(diagonal.step)
    knots = () if diagonal.sobolev is None else diagonal.sobolev.knots
    if compiled:
        from ssmspec.statistics.quick import panel_edges  # here, since it loads LLVM

        far, bend = (np.broadcast_to(part, (len(angle), 1)) for part in (reach, np.inf if knee is None else knee))
        cut = panel_edges(angle, decay * decay, far, bend, knots, MAX_PANELS)
        return None if cut is None else Panels(cut)
    squared, scale = decay * decay, 2 / (reach * reach - 1)
    ahead, length = np.empty_like(angle), np.empty_like(angle)
    left = np.zeros((len(angle), 1))
    edges = [left]
    while (left < np.pi).any():
        if len(edges) > MAX_PANELS:
            return None
        np.subtract(angle, left, out=ahead)
        np.multiply(ahead, ahead, out=length)
        length += squared
        np.sqrt(length, out=length)
        length *= reach
        length -= ahead
        step = scale * length.min(axis=1, keepdims=True)
        if knee is not None:  # it lies on the axis below zero, or beside zero
            step = np.minimum(step, scale * reach / np.sqrt(2) * (left + knee))
        reached = np.minimum(left + np.maximum(step, 8 * np.spacing(left + 1e-8)), np.pi)
        for knot in knots:
            reached = np.where(left < knot, np.minimum(reached, knot), reached)
        left = reached
        edges.append(left)
    return Panels(np.concatenate(edges, axis=1))


@dataclass(frozen=True)
class Integral:
    """|H|^2 as a piecewise polynomial in theta; integrals are over [0, theta], divided by pi: (1/2pi) times that over [-theta, theta]."""

    edges: FloatArray
    coefficients: FloatArray

    @cached_property
    def _half(self) -> FloatArray:
        return np.diff(self.edges, axis=1) / 2

    @cached_property
    def _cumulative(self) -> FloatArray:
        """Energy up to every edge, (K, P + 1)."""
        each = 2 * self._half * self.coefficients[:, :, 0] / np.pi
        return np.concatenate([np.zeros((len(each), 1)), np.cumsum(each, axis=1)], axis=1)

    def total(self) -> FloatArray:
        """E(pi), (K,)."""
        return self._cumulative[:, -1]

    def relative_error(self) -> FloatArray:
        """Estimate of the relative error of E(theta), (K,), from the last two Legendre coefficients of every panel.

        Inside one panel the series is cut off, and what is cut integrates to at most its size over 2 ORDER - 1; beside that, `whole_error`.
        """
        tail = np.abs(self.coefficients[:, :, -2]) + np.abs(self.coefficients[:, :, -1])
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.whole_error() + (2 * self._half * tail).max(axis=1) / (2 * ORDER - 1) / np.pi / self.total()

    def whole_error(self) -> FloatArray:
        """The same of integrals over [0, pi]: over whole panels the rule is exact to twice the degree, so it misses the tail squared."""
        tail, size = np.abs(self.coefficients[:, :, -2]) + np.abs(self.coefficients[:, :, -1]), np.abs(self.coefficients[:, :, 0])
        with np.errstate(divide="ignore", invalid="ignore"):
            return (2 * self._half * np.where(tail > 0, tail**2 / size, 0)).sum(axis=1) / np.pi / self.total()

    def density(self, theta: FloatArray) -> FloatArray:
        """dE/d theta = |H|^2/pi, (K,), for theta (K,) in [0, pi]."""
        rows, panel, local = self._place(theta)
        values = np.polynomial.legendre.legvander(local, ORDER - 1)
        return np.asarray((self.coefficients[rows, panel] * values).sum(axis=1)) / np.pi

    def bracket(self, share: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """theta (K,) on both sides of the one with E(theta) = share E(pi), a small part of a panel apart, and one between them near it."""
        rows, cumulative = np.arange(len(self.edges)), self._cumulative
        target = share * cumulative[:, -1]
        panel = np.clip((cumulative[:, 1:-1] < target[:, None]).sum(axis=1), 0, self.edges.shape[1] - 2)
        half, left = self._half[rows, panel], self.edges[rows, panel]
        inside = cumulative[rows, panel][:, None] + half[:, None] * (self.coefficients[rows, panel] @ PARTIAL) / np.pi
        place = np.clip((inside[:, 1:-1] < target[:, None]).sum(axis=1), 0, len(STEPS) - 2)
        low, high = left + half * (1 + STEPS[place]), left + half * (1 + STEPS[place + 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            part = (target - inside[rows, place]) / (inside[rows, place + 1] - inside[rows, place])
        low, high = low * (1 - MARGIN), np.minimum(high * (1 + MARGIN), np.pi)
        return low, high, low + np.clip(np.where(np.isfinite(part), part, 0.5), 0, 1) * (high - low)

    def first_moment(self) -> FloatArray:
        """Integral of theta |H|^2 in the same normalization, (K,)."""
        middle = (self.edges[:, :-1] + self.edges[:, 1:]) / 2
        half = self._half
        each = 2 * half * (middle * self.coefficients[:, :, 0] + half * self.coefficients[:, :, 1] / 3)
        return each.sum(axis=1) / np.pi

    def up_to(self, theta: FloatArray) -> FloatArray:
        """E(theta), (K,), for theta (K,) in [0, pi]."""
        rows, panel, local = self._place(theta)
        return self._cumulative[rows, panel] + self._half[rows, panel] * _partial(self.coefficients[rows, panel], local) / np.pi

    def cumulative(self, theta: FloatArray) -> FloatArray:
        """E(theta), (K, F), of every copy at the same ascending theta (F,) in [0, pi]."""
        block = max(1, NUMBERS_AT_ONCE // (ORDER * len(theta)))
        parts = []
        for start in range(0, len(self.edges), block):
            rows = np.arange(start, min(start + block, len(self.edges)))
            panel = np.stack([np.searchsorted(self.edges[row, 1:-1], theta, side="right") for row in rows])
            rows = rows[:, None]
            partial = _partial(self.coefficients[rows, panel], self._local(rows, panel, theta))
            parts.append(self._cumulative[rows, panel] + self._half[rows, panel] * partial / np.pi)
        return np.concatenate(parts)

    def _place(self, theta: FloatArray) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], FloatArray]:
        """Copies, the panels in which theta (K,) lies, and where in [-1, 1] of these."""
        panel = np.clip((self.edges[:, 1:-1] <= theta[:, None]).sum(axis=1), 0, self.edges.shape[1] - 2)
        rows = np.arange(len(panel))
        return rows, panel, self._local(rows, panel, theta)

    def _local(self, rows: npt.NDArray[np.intp], panel: npt.NDArray[np.intp], theta: FloatArray) -> FloatArray:
        """Where in [-1, 1] of a panel theta lies; -1 in panels of no length."""
        half, left = self._half[rows, panel], self.edges[rows, panel]
        return np.where(half > 0, (theta - left) / np.where(half > 0, half, 1) - 1, -1.0)


def _partial(coefficients: FloatArray, local: FloatArray) -> FloatArray:
    """Integral from -1 to local (...) of Legendre series (..., ORDER): (P_{j+1} - P_{j-1})/(2j + 1) term by term."""
    values = np.polynomial.legendre.legvander(local, ORDER)
    degrees = np.arange(1, ORDER)
    terms = (values[..., 2:] - values[..., :-2]) / (2 * degrees + 1)
    return np.asarray(coefficients[..., 0] * (local + 1) + (coefficients[..., 1:] * terms).sum(axis=-1))


MARGIN = 1e-9  # relative, by which a bracket is wider than the integral says
STEPS = np.linspace(-1, 1, 33)  # places within a panel from which a quantile is sought
PARTIAL = _partial(np.eye(ORDER)[:, None, :], STEPS)
