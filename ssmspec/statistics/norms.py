"""Frobenius norms of the response and of its derivative where there are several inputs and outputs, from sums over single modes.

With the Cayley poles sigma, phi_m = s_m e^{i theta/2}/q_m, q_m = i y - sigma_m x of the completed set, (x, y) = (cos, sin) theta/2 and
W_mn = <C_n, C_m> <B_n, B_m>, both squared norms are sums over pairs of modes, s_m conj(s_n) W_mn times a product of a function of m and the
conjugate of one of n. Partial fractions turn every product into a sum, so that one sum over pairs serves all frequencies:

    |H|^2          = sum_m Re[ tau_m h_m ],                                    h_m = (x - i sigma_m y)/q_m
    |dH/d theta|^2 = sum_m Re[ alpha_m/(2 q_m^2) + beta_m h_m ] + sum_m |s_m|^2 W_mm |1 + sigma_m|^2/(4 |q_m|^4)

    tau_m = -2 sum_n s_m conj(s_n) W_mn/(sigma_m + conj(sigma_n))
    alpha_m = (1 - sigma_m^2) sum_(n /= m) mu_mn,   beta_m = -sum_(n /= m) mu_mn (1 + sigma_m conj(sigma_n))/(sigma_m + conj(sigma_n))
    mu_mn = s_m conj(s_n) W_mn (1 + sigma_m)(1 + conj(sigma_n))/(sigma_m + conj(sigma_n))^2

A mode's own product needs no such turn and gets none: beside a sharp pole it would cancel. Where what remains cancels, the pairs of modes
are summed at that frequency.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from ssmspec.backends.reference import cauchy_sum
from ssmspec.statistics.energy import ClosedEnergy
from ssmspec.statistics.variation import squared_speed
from ssmspec.systems.grid import FloatArray, theta_nodes
from ssmspec.systems.response import squared_magnitude
from ssmspec.systems.statespace import ComplexArray, StateSpace, cayley_poles, homogeneous_scale

PAIRS_AT_ONCE = 1 << 20  # of modes
CANCELED, CANCELED_SPEED = 1e-6, 1e-7  # of the absolute terms: below it pairs are summed
NODES_AT_ONCE = 1 << 15  # mode-frequency pairs: a dozen arrays of them stay in the second-level cache


@dataclass(frozen=True, slots=True)
class PairSums:
    """What the module docstring names, of the stored half of K copies, each (K, N); the other half has the conjugate values.

    Args:
        tau_size, alpha_size, beta_size: sums of the absolute terms.
        own: of the last sum of the derivative, without |q_m|^-4.
    """

    sigma: ComplexArray
    tau: ComplexArray
    alpha: ComplexArray
    beta: ComplexArray
    own: FloatArray
    tau_size: FloatArray
    alpha_size: FloatArray
    beta_size: FloatArray

    def pick(self, start: int, stop: int) -> "PairSums":
        """Those of the copies start..stop-1."""
        return PairSums(*(getattr(self, field.name)[start:stop] for field in fields(self)))

    @property
    def energy(self) -> ClosedEnergy:
        """The energy in a band, which needs the same tau."""
        return ClosedEnergy(self.tau, self.sigma, self.tau_size)

    def squared_norm(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """|H|^2 at theta (1|K, F), (K, F); and the sum of the absolute terms behind it."""
        norm, size = self._evaluated(theta, speed=False)
        return norm, size

    def squared_norms(self, theta: FloatArray) -> tuple[FloatArray, ...]:
        """|H|^2 and |dH/d theta|^2 at theta (1|K, F), each followed by the sum of its absolute terms, then d|H|^2/d theta/2; (K, F)."""
        return self._evaluated(theta, speed=True)

    def _evaluated(self, theta: FloatArray, *, speed: bool) -> tuple[FloatArray, ...]:
        copies, modes = self.sigma.shape
        result = np.empty((5 if speed else 2, copies, theta.shape[1]))
        width = max(1, min(theta.shape[1], NODES_AT_ONCE // modes))
        height = max(1, NODES_AT_ONCE // (modes * width))
        for k in range(0, copies, height):
            part = self.pick(k, k + height)
            once, quadratic = part._columns()
            for f in range(0, theta.shape[1], width):
                nodes = theta[k : k + height, f : f + width] if len(theta) > 1 else theta[:, f : f + width]
                block = part._block(nodes, once, quadratic if speed else None)
                result[:, k : k + height, f : f + width] = block
        return tuple(result)

    def _columns(self) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Coefficients (K, N, columns) of 1/|q|^2, and those of the derivative's other sums."""
        s, t, excess = self.sigma.real, self.sigma.imag, np.abs(self.sigma) ** 2 - 1
        once = [part for value in (self.tau, self.beta) for part in (-value.real * s, -value.imag * t, -value.imag * excess)]
        sizes = [np.abs(part) * size for size in (self.tau_size, self.beta_size) for part in (s, t, excess)]
        moved = self.tau * (1 - self.sigma**2) / 2
        once += [*sizes, self.alpha.real / 2, self.alpha_size / 2, moved.imag / 2]
        squares = {
            "v2": np.stack([-self.alpha.real, -moved.imag], axis=2),
            "v": np.stack([-self.alpha.imag * s, moved.real * s], axis=2),
            "one": self.own[:, :, None],
        }
        return np.stack(once, axis=2), squares

    def _block(self, theta: FloatArray, once: FloatArray, squares: dict[str, FloatArray] | None) -> list[FloatArray]:
        x, y = theta_nodes(theta)
        columns = once if squares is not None else once[:, :, [0, 1, 2, 6, 7, 8]]
        nothing: FloatArray = np.zeros(())  # to which any shape can be added
        sums = differences = own = nothing
        squared = {"v2": [nothing, nothing], "v": [nothing, nothing]}
        for sign in (1, -1):
            v = y[:, :, None] - sign * self.sigma.imag[:, None, :] * x[:, :, None]
            a = self.sigma.real[:, None, :] * x[:, :, None]
            d = 1 / (a * a + v * v)
            found = d @ columns
            sums, differences = sums + found, differences + sign * found
            if squares is None:
                continue
            e = v * d * d
            for name, power in (("v", e), ("v2", v * e)):
                part = power @ squares[name]
                squared[name] = [squared[name][0] + part, squared[name][1] + sign * part]
            own = own + (d * d) @ squares["one"]
        across, along = x * y, x * x - y * y
        norm = sums[..., 0] + along * sums[..., 1] + across * differences[..., 2]
        if squares is None:
            return [norm, sums[..., 3] + np.abs(along) * sums[..., 4] + np.abs(across) * sums[..., 5]]
        norm_size = sums[..., 6] + np.abs(along) * sums[..., 7] + np.abs(across) * sums[..., 8]
        steady = sums[..., 3] + along * sums[..., 4] + across * differences[..., 5]
        own = own[..., 0]
        turned = sums[..., 12] + squared["v2"][0][..., 0] + x * squared["v"][1][..., 0]
        size = sums[..., 9] + np.abs(along) * sums[..., 10] + np.abs(across) * sums[..., 11] + sums[..., 13] + own
        slope = differences[..., 14] + squared["v2"][1][..., 1] + x * squared["v"][0][..., 1]
        return [norm, norm_size, own + steady + turned, size, slope]


def pair_sums(diagonal: StateSpace) -> PairSums:
    """The sums over pairs of modes of a diagonal system, without beta weight, without D."""
    upper = cayley_poles(diagonal)
    scale = homogeneous_scale(diagonal, upper)
    scaled = diagonal.B * scale[:, :, None]
    sums = [np.empty_like(upper) for _ in range(3)]
    sizes = [np.empty(upper.shape) for _ in range(3)]
    for copies, rows, terms in _terms(diagonal, scaled, upper):
        for kind, term in enumerate(terms):
            sums[kind][copies, rows], sizes[kind][copies, rows] = term.sum(axis=2), np.abs(term).sum(axis=2)
    tau, alpha, beta = sums
    lift = 1 - upper**2
    strength = np.linalg.norm(diagonal.C, axis=1) ** 2 * np.linalg.norm(scaled, axis=2) ** 2
    own = strength * np.abs(1 + upper) ** 2 / 4
    return PairSums(upper, tau, alpha * lift, beta, own, sizes[0], sizes[1] * np.abs(lift), sizes[2])


def _terms(diagonal: StateSpace, scaled: ComplexArray, upper: ComplexArray) -> Iterator[tuple[slice, slice, tuple[ComplexArray, ...]]]:
    """Terms (k, rows, 2N) of tau, of alpha without its factor, and of beta, for some copies and modes at a time."""
    sigma = np.concatenate([upper, upper.conj()], axis=1)
    height = max(1, PAIRS_AT_ONCE // (4 * diagonal.modes**2))
    for k in range(0, diagonal.copies, height):
        part = slice(k, k + height)
        U = np.concatenate([diagonal.C[part], diagonal.C[part].conj()], axis=2).conj().transpose(0, 2, 1)
        V = np.concatenate([scaled[part], scaled[part].conj()], axis=1).conj().transpose(0, 2, 1)
        width = max(1, PAIRS_AT_ONCE // sigma[part].size)
        for start in range(0, diagonal.modes, width):
            rows = slice(start, start + width)
            pairs = (scaled[part, rows] @ V) * (U @ diagonal.C[part, :, rows]).transpose(0, 2, 1)
            mine, other = upper[part, rows, None], sigma[part, None, :].conj()
            inverse = 1 / (mine + other)
            tau = -2 * pairs * inverse
            mu = pairs * ((1 + mine) * inverse) * ((1 + other) * inverse)
            own = np.arange(mu.shape[1])
            mu[:, own, start + own] = 0
            yield part, rows, (tau, mu, -mu * ((1 + mine * other) * inverse))


def squared_norms(system: StateSpace, sums: PairSums, theta: FloatArray) -> FloatArray:
    """Squared Frobenius norm of the response, real beta weight applied, at theta (1|K, F), (K, F).

    Args:
        system: diagonal. sums: its `pair_sums`.
    """
    norm, size = sums.squared_norm(theta)
    _replace(norm, norm < CANCELED * size, lambda k, at: squared_magnitude(_plain(system, k), at[None], cauchy_sum)[0], theta)
    return norm if system.sobolev is None else norm * system.sobolev.weight(theta, system.step) ** 2


def squared_norms_and_speeds(system: StateSpace, sums: PairSums, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The same, and the squared norm of d/d theta of the response without delay, weighted, too; both ends of theta only to the first.

    With a real weight w it is w^2 (|H'|^2 + 2 l <H, H'> + l^2 |H|^2), l = w'/w.
    """
    norm, norm_size, speed, speed_size, slope = sums.squared_norms(theta)
    _replace(norm, norm < CANCELED * norm_size, lambda k, at: squared_magnitude(_plain(system, k), at[None], cauchy_sum)[0], theta)
    if system.sobolev is not None:
        inner = theta[:, 1:-1]
        l = np.pad(system.sobolev.log_slope(inner, system.step), ((0, 0), (1, 1)))
        speed = speed + 2 * l * slope + l * l * norm
        speed_size = speed_size + 2 * np.abs(l) * np.sqrt(norm_size * speed_size) + l * l * norm_size
    lost = speed < CANCELED_SPEED * speed_size
    lost[:, [0, -1]] = False
    weight = 1.0 if system.sobolev is None else system.sobolev.weight(theta, system.step)
    norm, speed = norm * weight**2, speed * weight**2
    _replace(speed, lost, lambda k, at: squared_speed(system.copy_slice(k, k + 1), at), theta)
    return norm, speed


def _replace(values: FloatArray, lost: npt.NDArray[np.bool_], anew: Callable[[int, FloatArray], FloatArray], theta: FloatArray) -> None:
    """Put in values of anew(copy, theta) where those of (K, F) are lost."""
    for k in np.flatnonzero(lost.any(axis=1)):
        values[k, lost[k]] = anew(int(k), np.broadcast_to(theta, values.shape)[k, lost[k]])


def _plain(system: StateSpace, k: int) -> StateSpace:
    """Copy k without its weight."""
    return replace(system.copy_slice(k, k + 1), sobolev=None)
