"""The exact error of reduced systems: peak and H2 norm of H - H_r, with the search that the statistic peak_gain uses."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ssmspec.backends import CauchySum, choose_backend, load_backend
from ssmspec.statistics.norms import pair_sums, squared_norms
from ssmspec.statistics.peak import find_operator_peak, find_peak
from ssmspec.statistics.quadrature import SHORT_REACH, Integral, Panels, panels
from ssmspec.statistics.spectrum import MOST_ENTRIES
from ssmspec.systems.response import DiscreteSums, squared_magnitude
from ssmspec.systems.statespace import FloatArray, StateSpace, modal_form

ROUNDING = 1e-9  # relative: of two searches for a peak, one for the error and one for the values of its bound
NUMBERS_AT_ONCE = 1 << 21


@dataclass(frozen=True, slots=True)
class Norms:
    """Norms of every copy, (K,): `peak` (H-infinity), `theta` where it is [rad/sample], `energy` (H2); NaN where digits do not suffice."""

    peak: FloatArray
    theta: FloatArray
    energy: FloatArray


def norms(system: StateSpace, modal: StateSpace | None = None) -> Norms:
    """The norms of the dynamic part, beta weight applied.

    Args:
        modal: the modal form of the system, if it is known.
    """
    modal = modal_form(system)[0] if modal is None else modal
    nodes = 600 + 200 * modal.modes
    count = max(1, NUMBERS_AT_ONCE // max(4 * modal.modes**2, nodes * min(system.inputs * system.outputs, MOST_ENTRIES)))
    pairs = float(system.copies) * nodes * system.modes * (1 + system.rank) ** 2
    engine = load_backend(choose_backend(pairs))
    parts = [_norms(system.pick(part), modal.pick(part), engine) for part in _slices(system.copies, count)]
    return Norms(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("peak", "theta", "energy")))


def _slices(copies: int, count: int) -> list[slice]:
    return [slice(start, min(start + count, copies)) for start in range(0, copies, count)]


def _norms(system: StateSpace, modal: StateSpace, engine: CauchySum) -> Norms:
    cut = panels(modal, SHORT_REACH)
    if cut is None:
        lost = np.full(system.copies, np.nan)
        return Norms(lost, lost, lost)
    if min(system.inputs, system.outputs) > 1:
        return _norms_of_operator(system, cut, engine)
    terms, theta = DiscreteSums.of(system), cut.nodes_between_ends()[0]
    values = terms.squared(theta, engine)
    integral = Integral(cut.edges, cut.coefficients(values[:, 1:-1]))
    peak = find_peak(lambda at: terms.squared(at, engine), theta, values, integral)
    return Norms(peak.gain, peak.theta, np.sqrt(np.maximum(integral.total(), 0)))


def _norms_of_operator(system: StateSpace, cut: Panels, engine: CauchySum) -> Norms:
    """Of several inputs and outputs: the largest singular value, and the Frobenius norm."""
    theta = cut.nodes_between_ends()[0]
    parts = []
    for k in range(system.copies):
        copy = system.copy_slice(k, k + 1)
        at = theta[k : k + 1]
        if system.rank or (system.sobolev is not None and not system.sobolev.zero_phase):
            squared = squared_magnitude(copy, at, engine)
        else:
            squared = squared_norms(copy, pair_sums(copy), at)
        edges = Panels(cut.edges[k : k + 1])
        peak = find_operator_peak(modal_form(copy)[0], at, squared, with_skip=False)
        total = Integral(edges.edges, edges.coefficients(squared[:, 1:-1])).total()
        parts.append((peak.gain, peak.theta, np.sqrt(np.maximum(total, 0))))
    return Norms(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def error_norms(system: StateSpace, modal: StateSpace, other: StateSpace) -> Norms:
    """The norms of a system less another, which is diagonal; the modal form of the first tells where its peaks may be."""
    return norms(difference(system, other), difference(modal, other))


def difference(system: StateSpace, other: StateSpace) -> StateSpace:
    """The system whose response is that of one less that of another, copy by copy, with the weight of the first.

    Both are sampled by the same rule. A low-rank part of the second must be zero.
    """
    count = other.modes
    steps = (system.step, other.step)
    if steps[0].shape[1] == steps[1].shape[1] == 1 and np.array_equal(*steps):
        step = system.step
    else:
        step = np.concatenate([np.broadcast_to(s.step, s.poles.shape) for s in (system, other)], axis=1)
    low_rank: dict[str, Any] = {}
    if system.P is not None and system.Q is not None:
        rows = np.zeros((system.copies, count, system.rank), complex)
        low_rank = {"P": np.concatenate([system.P, rows], axis=1), "Q": np.concatenate([system.Q, rows], axis=1)}
    return replace(
        system,
        poles=np.concatenate([system.poles, other.poles], axis=1),
        B=np.concatenate([system.B, other.B], axis=1),
        C=np.concatenate([system.C, -other.C], axis=2),
        D=np.zeros_like(system.D),
        step=step,
        **low_rank,
    )


@dataclass(frozen=True, slots=True)
class Certificate:
    """The error of a direction as it is stored, copy by copy.

    Args:
        before: norms of the layer before, as it runs, weight included. error: norms of the difference.
        unweighted, before_unweighted: the same without the beta weight; None for a layer without one.
        bound: (K,) 2 times the sum of the Hankel singular values dropped, which bounds the unweighted error of what was stored before
            rounding; None where the method has no bound.
        rounding: (K,) peak of the difference that rounding to the stored dtype made.
        orders: (K,) states kept.
    """

    before: Norms
    error: Norms
    unweighted: Norms | None
    before_unweighted: Norms | None
    bound: FloatArray | None
    rounding: FloatArray
    orders: FloatArray

    @property
    def norm(self) -> float:
        """H-infinity norm of the layer, the largest of its copies."""
        return float(self.before.peak.max())

    @property
    def norm_without_weight(self) -> float:
        """The same of the layer without its beta weight."""
        return float((self.before_unweighted or self.before).peak.max()) or 1.0

    @property
    def relative(self) -> FloatArray:
        """H-infinity error of every copy relative to that norm, (K,)."""
        return relative(self.error, self.norm)

    @property
    def relative_energy(self) -> FloatArray:
        """H2 error of every copy relative to the largest H2 norm of the copies, (K,)."""
        largest = float(self.before.energy.max())
        return self.error.energy / largest if largest else self.error.energy

    @property
    def holds(self) -> bool | None:
        """Whether the error is within the bound, but for rounding; None where there is no bound."""
        if self.bound is None:
            return None
        peak = (self.unweighted or self.error).peak
        return bool((peak <= self.bound * (1 + ROUNDING) + self.rounding + ROUNDING * self.norm_without_weight).all())


def relative(error: Norms, norm: float) -> FloatArray:
    """H-infinity errors (K,) relative to a norm; zero for a layer without a response."""
    return error.peak / norm if norm else error.peak


def certify(
    before: StateSpace, size: Norms, wanted: StateSpace, stored: StateSpace, error: Norms, *, orders: FloatArray, bound: FloatArray | None
) -> Certificate:
    """The certificate of one direction.

    Args:
        before: the layer; size: its norms. wanted: the reduced system. stored: the same as it is read back. error: norms of the difference.
    """
    weighted = before.sobolev is not None and bool(before.sobolev.beta.any())
    plain = replace(before, sobolev=None)
    return Certificate(
        before=size,
        error=error,
        unweighted=norms(difference(plain, replace(stored, sobolev=None))) if weighted else None,
        before_unweighted=norms(plain) if weighted else None,
        bound=bound,
        rounding=norms(difference(replace(wanted, sobolev=None, P=None, Q=None), stored)).peak,
        orders=orders,
    )
