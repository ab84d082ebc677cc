"""When a layer's kernel acts: its mean lag, and how many samples hold nearly all of its energy.

    energy_delay = sum_l l |k[l]|^2 / sum_l |k[l]|^2,   length_99: the least L with sum_{l<L} |k[l]|^2 >= 0.99 sum_l |k[l]|^2

For a state space both are sums over pairs of the completed set, with q = z_m conj(z_n) and W_mn = (c_m, c_n) (b_m, b_n):

    sum_{l>=L} |k[l]|^2 = sum_mn W_mn q^L/(1 - q),   sum_l l |k[l]|^2 = sum_mn W_mn q/(1 - q)^2

With z = (1 + sigma)/(1 - sigma), 1 - q = -2 (sigma_m + conj(sigma_n))/((1 - sigma_m)(1 - conj(sigma_n))) does not cancel.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ssmspec.statistics.hankel import in_real_coordinates
from ssmspec.statistics.values import DEAD
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace, cayley_poles, discrete_residues, log_poles

LONG = 0.99  # share of the energy that the effective length holds
SPAN = 5.0  # mean lags; of one decay, 4.6 of them hold LONG of the energy
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
def extent_of_modes(modal: StateSpace, usable: np.ndarray, problem: str, *, with_skip: bool, compiled: bool = False) -> Extent:
    """The extent of the usable copies (K,) of a diagonal system; the problem is that of all copies, if they have one.

    Args:
        compiled: whether to sum in the loops of `quick`.
    """
    if problem or modal.sobolev is not None:
        reason = problem if modal.sobolev is None else WEIGHTED
        return Extent(nothing := np.full(modal.copies, np.nan), nothing, reason, modal.sobolev is not None)
    sums = [_Pairs.of(part, with_skip=with_skip, compiled=compiled) for part in _parts(modal)]
    found = np.concatenate([(each.delay(), each.length()) for each in sums], axis=1)
    delay, length = np.where(usable, found, np.nan)
    return Extent(delay, length, TOO_LONG)


def _parts(modal: StateSpace) -> Iterator[StateSpace]:
    size = max(1, PAIRS_AT_ONCE // (2 * modal.modes**2))
    return (modal.copy_slice(k, min(k + size, modal.copies)) for k in range(0, modal.copies, size))


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The pair sums of some copies.

    Args:
        form: (K, 2N, 2N), the energy from lag L on as a quadratic form in the real and minus the imaginary parts of z^L.
        delays: (K,), sum_l l |k[l]|^2 from the kernel's first sample. logarithms: (K, N), log z.
        skip: (K,) energy that D adds. own: whether D is a sample of its own, before the kernel. lag: of the kernel's first sample.
        compiled: whether to use the loops of `quick`.
    """

    form: FloatArray
    delays: FloatArray
    logarithms: ComplexArray
    skip: FloatArray
    own: bool
    lag: int
    compiled: bool

    @classmethod
    def of(cls, modal: StateSpace, *, with_skip: bool, compiled: bool) -> "_Pairs":
        sigma, scaled = cayley_poles(modal), modal.B * discrete_residues(modal)[:, :, None]
        single, C = modal.inputs == modal.outputs == 1, modal.C.transpose(0, 2, 1)
        turn, B = 1 - sigma, scaled * C if single else scaled
        form, moments = _form_and_moments(sigma, B * turn[:, :, None], None if single else C, turn, compiled=compiled)
        skip, own = np.zeros(modal.copies), with_skip and modal.delay > 0
        if with_skip:
            first = 2 * (modal.C @ scaled).real
            skip = ((modal.D**2).sum(axis=(1, 2))) + (0 if own else 2 * (modal.D * first).sum(axis=(1, 2)))
        pairs = cls(form, moments, log_poles(modal), skip, own, modal.delay, compiled)
        return replace(pairs, delays=moments - pairs.energy())

    def energy(self) -> FloatArray:
        modes = self.logarithms.shape[1]
        return np.asarray(self.form[:, :modes, :modes].sum(axis=(1, 2)))

    def delay(self) -> FloatArray:
        energy = self.energy()
        return np.asarray(np.where(energy + self.skip > 0, (self.delays + self.lag * energy) / (energy + self.skip), np.nan))

    def tail(self, lag: FloatArray) -> FloatArray:
        """Energy of the samples lag, lag + 1, ... of the kernel, (K,)."""
        powers = np.exp(self.logarithms * lag[:, None])
        parts = np.concatenate([powers.real, -powers.imag], axis=1)
        return np.asarray(((self.form @ parts[:, :, None])[:, :, 0] * parts).sum(axis=1))

    def length(self) -> FloatArray:
        """Samples that hold LONG of the energy, (K,): a bracket that begins with what one decay of the same mean lag takes, halved."""
        allowed = (1 - LONG) * (self.energy() + self.skip)
        # the first sample that counts: D on its own, or the first of the kernel, D included
        low, high = np.zeros(len(allowed)), np.clip(np.ceil(np.nan_to_num(SPAN * self.delay(), nan=1.0)), 1, LONGEST)
        while (growing := (self.tail(high - self.own) > allowed) & (high < LONGEST)).any():
            low, high = np.where(growing, high, low), np.where(growing, np.minimum(2 * high, LONGEST), high)
        if self.compiled:
            from ssmspec.statistics.quick import pair_lengths  # here, since it loads LLVM

            high = pair_lengths(self.form, self.logarithms, allowed, low, high, int(self.own))
            low = high - 1
        while ((high - low) > 1).any():
            middle = np.floor((low + high) / 2)
            enough = self.tail(middle - self.own) <= allowed
            active = high - low > 1
            low, high = np.where(active & ~enough, middle, low), np.where(active & enough, middle, high)
        return np.where((allowed > 0) & (high < LONGEST), high, np.nan)


def _form_and_moments(
    sigma: ComplexArray, B: ComplexArray, C: ComplexArray | None, turn: ComplexArray, *, compiled: bool
) -> tuple[FloatArray, FloatArray]:
    """The form (K, 2N, 2N) of `_Pairs`, and sum_l (l + 1) |k[l]|^2, (K,), from B (K, N, I) and C (K, N, O), which one sum does without."""
    if compiled and C is None:
        from ssmspec.statistics.quick import moderate, pair_form, pair_moments  # here, since it loads LLVM

        if moderate(sigma):
            return pair_form(B[:, :, 0], sigma), pair_moments(B[:, :, 0] * turn, sigma) / 2
    moments, sums = np.zeros(len(sigma)), []
    for conjugate in (True, False):
        other, b, last = (part.conj() if conjugate else part for part in (sigma, B, turn))
        inverse = np.reciprocal(sigma[:, :, None] + other[:, None, :])
        weighted = (B @ b.transpose(0, 2, 1)) * inverse
        if C is not None:
            weighted *= C @ (C.conj() if conjugate else C).transpose(0, 2, 1)
        sums.append(weighted)
        moments += (((weighted * inverse) @ last[:, :, None])[:, :, 0] * turn).real.sum(axis=1) / 2
    return in_real_coordinates(*sums), moments
