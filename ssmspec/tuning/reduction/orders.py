"""How many states every system keeps, so that its modes fit into one number of stored places.

A complex pair of poles takes one place, and a real pole takes one, too; where a file stores both poles of a pair, a pair takes two. Reduced
systems of one order differ in their number of real poles, so every system keeps the highest order whose modes fit.
"""

from dataclasses import dataclass

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.systems.statespace import FloatArray
from ssmspec.tuning.reduction.balanced import Balanced, truncation
from ssmspec.tuning.reduction.discrete_modes import Modes, joined, padded, stacked
from ssmspec.tuning.reduction.form import FITS, Form

Mask = np.ndarray


@dataclass(frozen=True, slots=True)
class Places:
    """What a layer can store.

    Args:
        count: number of stored modes of every copy. both: whether both poles of a complex pair are stored, so that a pair takes two places.
        real: whether only real poles between 0 and 1 with real residues can be stored. form: what modes can be stored; None for any.
    """

    count: int
    both: bool = False
    real: bool = False
    form: Form | None = None

    def taken(self, modes: Modes) -> FloatArray:
        """Places that the modes of every system take, (G,)."""
        if self.form is not None:
            return np.array([self.form.places(modes.pick(slice(k, k + 1))) for k in range(len(modes.poles))])
        return np.asarray((modes.alive * np.where(modes.poles.imag != 0, 1 + self.both, 1)).sum(axis=1))

    def fit(self, modes: Modes) -> Mask:
        """Which systems can be stored, (G,): their modes fit, decay, and are real where they must be."""
        if self.form is not None:
            each = [modes.pick(slice(k, k + 1)) for k in range(len(modes.poles))]
            return np.array([self.form.fits(one) and self.form.places(one) <= self.count for one in each])
        allowed = np.abs(modes.poles) < 1
        if self.real:
            allowed &= (modes.poles.imag == 0) & (modes.poles.real > 0)
        fits: Mask = (self.taken(modes) <= self.count) & (allowed | ~modes.alive).all(axis=1)
        return fits

    @property
    def most_states(self) -> int:
        """The highest order that may fit."""
        if self.form is not None:
            return 2 * self.form.parts * self.count
        return self.count if self.both or self.real else 2 * self.count


@dataclass(frozen=True, slots=True)
class Kept:
    """Reduced systems, and the number of states (G,) of each."""

    modes: Modes
    orders: FloatArray

    def with_systems(self, where: Mask, modes: Modes) -> "Kept":
        """The same where some systems, in order, have other modes."""
        others = np.flatnonzero(~where)
        whole = stacked([self.modes.pick(others), modes])
        return Kept(whole.pick(np.argsort(np.concatenate([others, np.flatnonzero(where)]))), self.orders)


def keep(balanced: Balanced, places: Places, name: str) -> Kept:
    """Truncate every system to the highest order whose modes fit.

    Args:
        name: the layer, for messages.
    Raises:
        LayerError: a system has no order whose poles can be stored.
    """
    left = np.flatnonzero(balanced.known > 0)
    silent = np.flatnonzero(balanced.known == 0)
    found = [(silent, _silent(balanced, len(silent)))] if len(silent) else []
    orders = np.zeros(len(balanced.values), int)
    for order in range(min(places.most_states, balanced.A.shape[1]), 0, -1):
        tried = left[balanced.known[left] >= order]
        if places.form is not None:
            lossless = balanced.pick(tried).bound(np.full(len(tried), order)) <= FITS * places.form.norm
            tried = tried[[some or places.form.possible(balanced.A[k, :order, :order]) for k, some in zip(tried, lossless, strict=True)]]
        if not len(tried):
            continue
        modes = truncation(balanced.pick(tried), order)
        fits = places.fit(modes)
        orders[tried[fits]] = order
        found.append((tried[fits], modes.pick(fits)))
        left = np.setdiff1d(left, tried[fits])
        if not len(left):
            break
    if len(left) and places.form is not None:
        raise LayerError(f"layer {name}: {_no_form(balanced, places.form, places)}")
    if len(left):
        what = "only real poles between 0 and 1" if places.real else f"at most {places.count} modes"
        raise LayerError(
            f"layer {name}: {len(left)} of {len(orders)} copies have no balanced truncation with {what}, which is what the file can store; "
            "--method modal keeps some of their own poles"
        )
    whole = stacked([modes for _, modes in found])
    return Kept(whole.pick(np.argsort(np.concatenate([where for where, _ in found]), kind="stable")), orders)


def _no_form(balanced: Balanced, form: Form, places: Places) -> str:
    """Why no truncation can be stored, from the highest order that may fit."""
    order = min(places.most_states, int(balanced.known.max()))
    problem = form.problem(truncation(balanced, order).pick(slice(0, 1)))
    return (
        f"no balanced truncation that fits into {places.count} stored modes has the form of {form.title}: that to {order} states "
        f"{problem}; --method modal keeps some of its own modes"
    )


def _silent(balanced: Balanced, count: int) -> Modes:
    """A mode without residue, for systems without a response."""
    outputs, inputs = balanced.C.shape[1], balanced.B.shape[2]
    return Modes(np.full((count, 1), 0.5 + 0j), np.zeros((count, 1, inputs), complex), np.zeros((count, outputs, 1), complex))


def in_places(modes: Modes, places: Places) -> Modes:
    """The modes in the columns of a file: `count` of them; where both poles of a pair are stored, pairs come first, each twice in a row.

    Each of the two then has half of the residue of the pair.
    """
    if places.form is not None:
        held = stacked([places.form.held(modes.pick(slice(k, k + 1))) for k in range(len(modes.poles))])
        halves = np.split(np.arange(held.poles.shape[1]), places.form.parts)
        return joined([padded(Modes(held.poles[:, part], held.B[:, part], held.C[:, :, part]), places.count) for part in halves])
    if not places.both:
        return padded(modes.packed(), places.count)
    parts = []
    for k in range(len(modes.poles)):
        one = modes.pick(slice(k, k + 1))
        pair = np.repeat(np.flatnonzero(one.alive[0] & (one.poles[0].imag != 0)), 2)
        single = np.flatnonzero(one.alive[0] & (one.poles[0].imag == 0))
        columns = np.concatenate([pair, single]) if len(pair) + len(single) else np.zeros(1, int)
        share = np.where(np.arange(len(columns)) < len(pair), 0.5, 1.0)
        parts.append(Modes(one.poles[:, columns], one.B[:, columns], one.C[:, :, columns] * share))
    return padded(stacked(parts), places.count)
