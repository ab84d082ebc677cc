"""Integrals of |H|^2 over theta by quadrature adapted to the poles.

|H|^2 is analytic except at its poles theta_n + i w_n, z_n = exp(-w_n + i theta_n). From 0 upward, every panel is half as long as the
distance from its left end to the nearest pole. The nearest singularity therefore always lies outside a Bernstein ellipse of parameter 5.8.
With 16 Gauss-Legendre points the error of the integrand is small, and that of its integral far smaller; it is estimated from the last
Legendre coefficients.
"""

from dataclasses import dataclass

import numpy as np

from ssmspec.systems.grid import FloatArray
from ssmspec.systems.statespace import StateSpace, log_poles

ORDER = 16
FRACTION = 0.5  # panel length as a fraction of the distance to the nearest pole
MAX_PANELS = 200_000
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(ORDER)
# values at the nodes -> Legendre coefficients, exact for polynomials of degree < ORDER
TO_COEFFICIENTS = (np.polynomial.legendre.legvander(_NODES, ORDER - 1) * _WEIGHTS[:, None] * (np.arange(ORDER) + 0.5)).T


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
        points = (left + right) / 2 + (right - left) / 2 * _NODES
        return np.clip(points, left, right).reshape(len(self.edges), -1)

    def weights(self) -> FloatArray:
        """Weights (K, P * ORDER): the integral over [0, pi] is the sum of weight times value at `nodes()`."""
        half = (self.edges[:, 1:, None] - self.edges[:, :-1, None]) / 2
        return np.asarray(half * _WEIGHTS).reshape(len(self.edges), -1)

    def coefficients(self, values: FloatArray) -> FloatArray:
        """Legendre coefficients (K, P, ORDER) of the integrand on every panel, from its values at `nodes()`."""
        return values.reshape(len(self.edges), -1, ORDER) @ TO_COEFFICIENTS.T


def panels(diagonal: StateSpace) -> Panels | None:
    """Panels over [0, pi] for the poles of a diagonal system and the knee and corners of its beta weight; None above MAX_PANELS."""
    angle, decay = pole_distances(diagonal)
    knee = None if diagonal.sobolev is None else diagonal.sobolev.knee(diagonal.step)
    knots = () if diagonal.sobolev is None else diagonal.sobolev.knots
    left = np.zeros((len(angle), 1))
    edges = [left]
    while (left < np.pi).any():
        if len(edges) > MAX_PANELS:
            return None
        distance = np.hypot(left - angle, decay).min(axis=1, keepdims=True)
        if knee is not None:
            distance = np.minimum(distance, left + knee)
        step = np.maximum(FRACTION * distance, 8 * np.spacing(left + 1e-8))
        reached = np.minimum(left + step, np.pi)
        for knot in knots:
            reached = np.where(left < knot, np.minimum(reached, knot), reached)
        left = reached
        edges.append(left)
    return Panels(np.concatenate(edges, axis=1))


@dataclass(frozen=True, slots=True)
class Integral:
    """|H|^2 as a piecewise polynomial in theta; integrals are over [0, theta], divided by pi: (1/2pi) times that over [-theta, theta]."""

    edges: FloatArray
    coefficients: FloatArray

    @property
    def _half(self) -> FloatArray:
        return np.diff(self.edges, axis=1) / 2

    def _cumulative(self) -> FloatArray:
        """Energy up to every edge, (K, P + 1)."""
        each = 2 * self._half * self.coefficients[:, :, 0] / np.pi
        return np.concatenate([np.zeros((len(each), 1)), np.cumsum(each, axis=1)], axis=1)

    def total(self) -> FloatArray:
        """E(pi), (K,)."""
        return self._cumulative()[:, -1]

    def relative_error(self) -> FloatArray:
        """Estimate of the relative error of E(theta), (K,), from the last two Legendre coefficients of every panel.

        Inside one panel the series is truncated, and the integral of the truncated part is at most its size divided by 2 ORDER - 1. Over
        whole panels the rule is exact up to twice the degree, so the coefficients that it misses are of the order of the tail squared.
        """
        tail = np.abs(self.coefficients[:, :, -2:]).sum(axis=2)
        size = np.abs(self.coefficients).max(axis=2)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside = (2 * self._half * tail).max(axis=1) / (2 * ORDER - 1)
            whole = (2 * self._half * np.where(size > 0, tail**2 / size, 0)).sum(axis=1)
            return (inside + whole) / np.pi / self.total()

    def first_moment(self) -> FloatArray:
        """Integral of theta |H|^2 in the same normalization, (K,)."""
        middle = (self.edges[:, :-1] + self.edges[:, 1:]) / 2
        half = self._half
        each = 2 * half * (middle * self.coefficients[:, :, 0] + half * self.coefficients[:, :, 1] / 3)
        return each.sum(axis=1) / np.pi

    def up_to(self, theta: FloatArray) -> FloatArray:
        """E(theta), (K,), for theta (K,) in [0, pi]."""
        panel = np.clip((self.edges[:, 1:-1] <= theta[:, None]).sum(axis=1), 0, self.edges.shape[1] - 2)
        rows = np.arange(len(panel))
        half, left = self._half[rows, panel], self.edges[rows, panel]
        local = np.where(half > 0, (theta - left) / np.where(half > 0, half, 1) - 1, -1.0)
        return self._cumulative()[rows, panel] + half * _partial(self.coefficients[rows, panel], local) / np.pi


def _partial(coefficients: FloatArray, local: FloatArray) -> FloatArray:
    """Integral from -1 to local of a Legendre series (K, ORDER): (P_{j+1} - P_{j-1})/(2j + 1) term by term."""
    values = np.polynomial.legendre.legvander(local, ORDER)
    degrees = np.arange(1, ORDER)
    terms = (values[:, 2:] - values[:, :-2]) / (2 * degrees + 1)
    return coefficients[:, 0] * (local + 1) + (coefficients[:, 1:] * terms).sum(axis=1)
