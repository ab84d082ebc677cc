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

from ssmspec.statistics.quadrature import Integral
from ssmspec.systems.grid import FloatArray, theta_nodes
from ssmspec.systems.statespace import ComplexArray, StateSpace, cayley_poles, homogeneous_scale

TOLERANCE = 1e-9  # relative error above which a closed form gives way to quadrature, and quadrature to null
ROLLOFF = 0.95  # of the energy lies below the roll-off
RESOLUTION = 1e-15  # relative width at which a bisection ends
NUMBERS_AT_ONCE = 1 << 22  # pairs of modes held at once: 64 MB of complex128
MOST_BISECTIONS = 1100  # enough to get from pi to the smallest float
MOST_STEPS = 30  # of Newton, or halvings in its stead
EXCESS, SETTLED = 1e-10, 1e-12  # relative: energy missing at a theta that moves no more
ROUNDING = 1e-14  # relative: energy missing that is no more than rounding


@dataclass(frozen=True, slots=True)
class ClosedEnergy:
    """tau and sigma of the stored half, (K, N), and the sum of the absolute terms that made tau; the other half doubles every sum."""

    tau: ComplexArray
    sigma: ComplexArray
    size: FloatArray

    def up_to(self, theta: FloatArray) -> FloatArray:
        """E(theta), (K,), for theta (K,) in [0, pi] [rad/sample]."""
        length, angle = self._logarithms(theta)
        return np.asarray((self.tau.real * angle + self.tau.imag * length).sum(axis=1)) * (2 / np.pi)

    def relative_error(self, theta: FloatArray) -> FloatArray:
        """Rounding error of E(theta) relative to it, estimated from how far its terms cancel, (K,)."""
        return self.with_error(theta)[1]

    def with_error(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """`up_to` and `relative_error`."""
        length, angle = self._logarithms(theta)
        energy = np.asarray((self.tau.real * angle + self.tau.imag * length).sum(axis=1)) * (2 / np.pi)
        terms = (self.size * np.hypot(length, angle)).sum(axis=1) * (2 / np.pi)
        with np.errstate(divide="ignore", invalid="ignore"):
            return energy, 8 * np.finfo(float).eps * terms / np.abs(energy)

    def _logarithms(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Real and imaginary part of log(i y - sigma x) - log(-i y - sigma x), (K, N), with the digits of each even where it is tiny."""
        x, y = theta_nodes(theta[:, None])
        a, b = self.sigma.real * x, self.sigma.imag * x
        size = np.hypot(a, b)
        scale = np.maximum(size, y)
        angle = np.arctan2(-2 * (a / scale) * (y / scale), (size - y) / scale * ((size + y) / scale))
        forward, backward = np.hypot(a, y - b), np.hypot(a, y + b)
        excess = -4 * (y / backward) * (b / backward)  # squared ratio minus 1
        small = np.abs(excess) < 0.5
        length = np.where(small, np.log1p(np.where(small, excess, 0)) / 2, np.log(forward / backward))
        return length, angle


def closed_energy(diagonal: StateSpace, *, compiled: bool = False) -> ClosedEnergy:
    """The closed form for a diagonal system with one input and one output, without beta weight, without D.

    Args:
        compiled: whether to sum in the loops of `quick`.
    """
    sigma = cayley_poles(diagonal)
    gain = diagonal.C[:, 0] * diagonal.B[:, :, 0] * homogeneous_scale(diagonal, sigma)
    if compiled:
        from ssmspec.statistics.quick import moderate, pair_rows  # here, since it loads LLVM

        if moderate(sigma):
            tau, size = pair_rows(gain, sigma)
            return ClosedEnergy(-2 * gain * tau, sigma, 2 * np.abs(gain) * size)
    tau, size = np.zeros_like(sigma), np.zeros(sigma.shape)
    width = max(1, NUMBERS_AT_ONCE // sigma.size)
    for start in range(0, diagonal.modes, width):
        part = slice(start, start + width)
        for other, weight in ((sigma.conj()[:, part], gain.conj()[:, part]), (sigma[:, part], gain[:, part])):
            inverse = np.reciprocal(sigma[:, :, None] + other[:, None, :])
            tau += (inverse @ weight[:, :, None])[:, :, 0]
            size += (np.abs(inverse) @ np.abs(weight)[:, :, None])[:, :, 0]
    return ClosedEnergy(-2 * gain * tau, sigma, 2 * np.abs(gain) * size)


def solved(
    energy: Callable[[FloatArray], FloatArray],
    density: Callable[[FloatArray], FloatArray],
    target: FloatArray,
    bracket: tuple[FloatArray, FloatArray, FloatArray],
) -> FloatArray:
    """theta with E(theta) = target, (K,) [rad/sample], by Newton steps; NaN where they do not arrive.

    Args:
        density: dE/d theta.
        bracket: theta below and above, to be halved where a Newton step leaves it, and where to begin.
    """
    low, high, theta = bracket
    arrived = np.zeros(len(theta), bool)
    for _ in range(MOST_STEPS):
        excess = energy(theta) - target
        low, high = np.where(excess < 0, theta, low), np.where(excess < 0, high, theta)
        with np.errstate(divide="ignore", invalid="ignore"):
            better = theta - excess / density(theta)
        better = np.where((better >= low) & (better <= high), better, (low + high) / 2)
        arrived = (np.abs(excess) <= EXCESS * target) & (np.abs(better - theta) <= SETTLED * theta)
        arrived |= np.abs(excess) <= ROUNDING * target
        theta = np.where(arrived, theta, better)
        if (arrived | np.isnan(excess)).all():
            break
    return np.where(arrived, theta, np.nan)


def bisected(energy: Callable[[FloatArray], FloatArray], target: FloatArray) -> FloatArray:
    """theta with E(theta) = target, (K,) [rad/sample], by bisection of [0, pi]."""
    low, high = np.zeros(len(target)), np.where(np.isfinite(target), np.pi, np.nan)
    for _ in range(MOST_BISECTIONS):
        if not (high - low > RESOLUTION * high).any():
            break
        middle = (low + high) / 2
        above = energy(middle) >= target
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return (low + high) / 2


def rolloff_of(energy: Callable[[FloatArray], FloatArray], total: FloatArray, integral: Integral) -> FloatArray:
    """theta (K,) with E(theta) = ROLLOFF E(pi); by bisection where Newton steps from the place that the integral names do not arrive."""
    target = ROLLOFF * total
    theta = solved(energy, integral.density, target, integral.bracket(ROLLOFF))
    lost = np.isnan(theta) & np.isfinite(total)
    return np.where(lost, bisected(energy, target), theta) if lost.any() else theta
