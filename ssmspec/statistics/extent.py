"""When a layer's kernel acts: its mean lag, and how many samples hold nearly all of its energy.

    energy_delay = sum_l l |k[l]|^2 / sum_l |k[l]|^2,   length_99: the least L with sum_{l<L} |k[l]|^2 >= 0.99 sum_l |k[l]|^2

For a state space both are sums over pairs of the completed set, with q = z_m conj(z_n) and W_mn = (c_m, c_n) (b_m, b_n):

    sum_{l>=L} |k[l]|^2 = sum_mn W_mn q^L/(1 - q),   sum_l l |k[l]|^2 = sum_mn W_mn q/(1 - q)^2

With z = (1 + sigma)/(1 - sigma), 1 - q = -2 (sigma_m + conj(sigma_n))/((1 - sigma_m)(1 - conj(sigma_n))) does not cancel.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ssmspec.statistics.values import DEAD
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace, cayley_poles, discrete_residues, log_poles

LONG = 0.99  # share of the energy that the effective length holds
PAIRS_AT_ONCE = 1 << 20
LONGEST = 1 << 50  # samples; no kernel that double precision resolves is longer
WEIGHTED = "a beta weight applies to the response and is not part of the kernel"
TOO_LONG = "no response, or 99 % of the energy are not reached within double precision"


@dataclass(frozen=True, slots=True)
class Extent:
    """When copies act, each (K,): mean lag weighted with |k|^2, and samples from the first that hold LONG of the energy [samples].

    Args:
        reason, by_definition: as for `Values`.
    """

    delay: FloatArray
    length: FloatArray
    reason: str = DEAD
    by_definition: bool = False


@np.errstate(all="ignore")
def extent_of_modes(modal: StateSpace, usable: np.ndarray, problem: str, *, with_skip: bool) -> Extent:
    """The extent of the usable copies (K,) of a diagonal system; the problem is that of all copies, if they have one."""
    if problem or modal.sobolev is not None:
        reason = problem if modal.sobolev is None else WEIGHTED
        return Extent(nothing := np.full(modal.copies, np.nan), nothing, reason, modal.sobolev is not None)
    sums = [_Pairs.of(part, with_skip=with_skip) for part in _parts(modal)]
    found = np.concatenate([(each.delay(), each.length()) for each in sums], axis=1)
    delay, length = np.where(usable, found, np.nan)
    return Extent(delay, length, TOO_LONG)


def _parts(modal: StateSpace) -> Iterator[StateSpace]:
    count = max(1, PAIRS_AT_ONCE // (2 * modal.modes**2))
    return (modal.copy_slice(k, min(k + count, modal.copies)) for k in range(0, modal.copies, count))


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The pair sums of some copies, for rows of the upper half and columns of the completed set.

    Args:
        tails: (K, N, 2N), 2 W_mn/(1 - q), whose real parts add up to the energy. apart: (K, N, 2N), 1 - q. logarithms: (K, N), log z.
        skip: (K,) energy that D adds. own: whether D is a sample of its own, before the kernel. lag: of the kernel's first sample.
    """

    tails: ComplexArray
    apart: ComplexArray
    logarithms: ComplexArray
    skip: FloatArray
    own: bool
    lag: int

    @classmethod
    def of(cls, modal: StateSpace, *, with_skip: bool) -> "_Pairs":
        sigma, scaled = cayley_poles(modal), modal.B * discrete_residues(modal)[:, :, None]
        both = np.concatenate([sigma, sigma.conj()], axis=1)[:, None, :].conj()
        rows, own = sigma[:, :, None], with_skip and modal.delay > 0
        apart = -2 * (rows + both) / ((1 - rows) * (1 - both))
        B = np.concatenate([scaled, scaled.conj()], axis=1).conj().transpose(0, 2, 1)
        C = np.concatenate([modal.C, modal.C.conj()], axis=2).conj().transpose(0, 2, 1)
        weights = 2 * (scaled @ B) * (C @ modal.C).transpose(0, 2, 1)
        skip = np.zeros(modal.copies)
        if with_skip:
            first = 2 * (modal.C @ scaled).real
            skip = ((modal.D**2).sum(axis=(1, 2))) + (0 if own else 2 * (modal.D * first).sum(axis=(1, 2)))
        return cls(weights / apart, apart, log_poles(modal), skip, own, modal.delay)

    def energy(self) -> FloatArray:
        return np.asarray(self.tails.real.sum(axis=(1, 2)))

    def delay(self) -> FloatArray:
        moment = (self.tails * (1 - self.apart) / self.apart).real.sum(axis=(1, 2))
        energy = self.energy()
        return np.asarray(np.where(energy + self.skip > 0, (moment + self.lag * energy) / (energy + self.skip), np.nan))

    def tail(self, lag: FloatArray) -> FloatArray:
        """Energy of the samples lag, lag + 1, ... of the kernel, (K,)."""
        powers = np.exp(self.logarithms * lag[:, None])
        both = np.concatenate([powers, powers.conj()], axis=1).conj()
        return np.asarray(((self.tails @ both[:, :, None])[:, :, 0] * powers).real.sum(axis=1))

    def length(self) -> FloatArray:
        allowed = (1 - LONG) * (self.energy() + self.skip)
        # the first sample that counts: D on its own, or the first of the kernel, D included
        low, high = np.zeros(len(allowed)), np.ones(len(allowed))
        while (growing := (self.tail(high - self.own) > allowed) & (high < LONGEST)).any():
            low, high = np.where(growing, high, low), np.where(growing, 2 * high, high)
        while ((high - low) > 1).any():
            middle = np.floor((low + high) / 2)
            enough = self.tail(middle - self.own) <= allowed
            active = high - low > 1
            low, high = np.where(active & ~enough, middle, low), np.where(active & enough, middle, high)
        return np.where((allowed > 0) & (high < LONGEST), high, np.nan)
