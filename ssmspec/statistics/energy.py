"""Energy in a band, E(theta_0) = (1/2pi) int_{-theta_0}^{theta_0} |H|^2 d theta: in closed form if possible, otherwise by quadrature.

With the Cayley poles sigma and phi_m = s_m/(i y - sigma_m x) of the completed set, |H|^2 = sum_mn phi_m conj(phi_n) W_mn, and

    E(theta_0) = (1/pi) sum_m Im[ tau_m (log(i y - sigma_m x) - log(-i y - sigma_m x)) ],   (x, y) = (cos, sin) theta_0/2
    tau_m = -2 sum_n s_m conj(s_n) W_mn/(sigma_m + conj(sigma_n)),      E(pi) = sum_m Re tau_m

This is the partial-fraction integral of the continuous system that results from the discrete one by the Cayley transform. Both logarithms
have arguments in the right half plane, so no branch cut is crossed. No 1 - |z|^2 is computed, so nothing cancels near the unit circle.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssmspec.systems.grid import FloatArray, theta_nodes
from ssmspec.systems.statespace import ComplexArray, StateSpace, cayley_poles, homogeneous_scale

TOLERANCE = 1e-9  # above this relative error the closed form is replaced by quadrature, and quadrature by null
RESOLUTION = 1e-15  # relative interval width at which a bisection stops
NUMBERS_AT_ONCE = 1 << 22  # pairs of modes in memory at once: 64 MB of complex128
MOST_BISECTIONS = 1100  # enough to get from pi down to the smallest float


@dataclass(frozen=True, slots=True)
class ClosedEnergy:
    """tau and sigma of the completed set, (K, 2N), and the sum of the absolute values of the terms of tau."""

    tau: ComplexArray
    sigma: ComplexArray
    size: FloatArray

    def up_to(self, theta: FloatArray) -> FloatArray:
        """E(theta), (K,), for theta (K,) in [0, pi] [rad/sample]."""
        return (self.tau * self._logarithms(theta)).imag.sum(axis=1) / np.pi

    def relative_error(self, theta: FloatArray) -> FloatArray:
        """Relative rounding error of E(theta), (K,), estimated from the cancellation of its terms."""
        terms = (self.size * np.abs(self._logarithms(theta))).sum(axis=1) / np.pi
        with np.errstate(divide="ignore", invalid="ignore"):
            return 8 * np.finfo(float).eps * terms / np.abs(self.up_to(theta))

    def _logarithms(self, theta: FloatArray) -> ComplexArray:
        """log(i y - sigma x) - log(-i y - sigma x), (K, 2N), accurate in both parts even if both logarithms are far larger."""
        x, y = theta_nodes(theta[:, None])
        a, b = self.sigma.real * x, self.sigma.imag * x
        size = np.hypot(a, b)
        scale = np.maximum(size, y)
        angle = np.arctan2(-2 * (a / scale) * (y / scale), (size - y) / scale * ((size + y) / scale))
        forward, backward = np.hypot(a, y - b), np.hypot(a, y + b)
        excess = -4 * (y / backward) * (b / backward)  # squared ratio minus 1
        small = np.abs(excess) < 0.5
        length = np.where(small, np.log1p(np.where(small, excess, 0)) / 2, np.log(forward / backward))
        return np.asarray(length + 1j * angle)


def closed_energy(diagonal: StateSpace) -> ClosedEnergy:
    """The closed form for a diagonal system without beta weight and without D."""
    upper = cayley_poles(diagonal)
    scale = homogeneous_scale(diagonal, upper)
    sigma = np.concatenate([upper, upper.conj()], axis=1)
    U = np.concatenate([diagonal.C, diagonal.C.conj()], axis=2).conj().transpose(0, 2, 1)
    V = np.concatenate([diagonal.B * scale[:, :, None], (diagonal.B * scale[:, :, None]).conj()], axis=1).conj().transpose(0, 2, 1)
    tau, size = np.empty_like(upper), np.empty(upper.shape)
    height = max(1, NUMBERS_AT_ONCE // sigma.size)
    for start in range(0, diagonal.modes, height):
        rows = slice(start, start + height)
        pairs = (diagonal.B[:, rows] * scale[:, rows, None] @ V) * (U @ diagonal.C[:, :, rows]).transpose(0, 2, 1)
        terms = -2 * pairs / (upper[:, rows, None] + sigma[:, None, :].conj())
        tau[:, rows], size[:, rows] = terms.sum(axis=2), np.abs(terms).sum(axis=2)
    return ClosedEnergy(np.concatenate([tau, tau.conj()], axis=1), sigma, np.concatenate([size, size], axis=1))


def quantile(up_to: Callable[[FloatArray], FloatArray], total: FloatArray, share: float) -> FloatArray:
    """The theta for which E(theta) = share E(pi), (K,) [rad/sample], by bisection of a function that increases with theta."""
    low, high = np.zeros(len(total)), np.where(np.isfinite(total), np.pi, np.nan)
    for _ in range(MOST_BISECTIONS):
        if not (high - low > RESOLUTION * high).any():
            break
        middle = (low + high) / 2
        above = up_to(middle) >= share * total
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return (low + high) / 2
