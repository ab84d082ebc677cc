"""One layer in a form from which its reductions to any number of modes follow.

Copies that share their poles, their step and their B (two directions of a block, several outputs per channel) are one system with all of
their outputs, and are reduced together, so that they share afterwards, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.systems.statespace import FloatArray, StateSpace, modal_form
from ssmspec.tuning.reduction.balanced import Balanced, balance, truncation
from ssmspec.tuning.reduction.certificate import difference, norms
from ssmspec.tuning.reduction.discrete_modes import Modes, as_direct, as_layer, joined, modes_of, stacked
from ssmspec.tuning.reduction.h2_optimal import improve
from ssmspec.tuning.reduction.orders import Kept, Places, in_places, keep
from ssmspec.tuning.reduction.single_modes import scores, strongest


@dataclass(frozen=True, slots=True)
class Reduced:
    """The directions of a layer with fewer modes, before they are stored, the states of every copy (K,), and the bound of its error (K,).

    The bound is None for methods that have none.
    """

    systems: tuple[StateSpace, ...]
    orders: tuple[FloatArray, ...]
    bounds: tuple[FloatArray, ...] | None


class Reducer:
    """The directions of one layer.

    Args:
        systems: the directions. base: number of copies after which poles repeat. method: "balanced" or "h2", or "modal" for the modes of a
            low-rank layer.
    Raises:
        LayerError: the directions have poles of their own.
    """

    def __init__(self, systems: Sequence[StateSpace], base: int, method: str) -> None:
        self.systems, self.method = tuple(systems), method
        self.system = together(systems, base)
        self._balanced = None if method == "modal" else balance(self.system)
        self._whole: Modes | None = None

    @property
    def balanced(self) -> Balanced:
        """The layer in balanced coordinates."""
        assert self._balanced is not None
        return self._balanced

    @property
    def whole(self) -> Modes:
        """All modes; of a low-rank layer those of its balanced form, which leaves out what is rounding."""
        if self._whole is None:
            self._whole = _all_modes(self.system, self.balanced) if self.system.rank else modes_of(self.system)
        return self._whole

    def reduced(self, places: Places) -> Reduced:
        """The layer in a number of places.

        Raises:
            LayerError: no reduced system fits.
        """
        if self.method == "modal":
            kept, bounds = self._modal(places), None
        else:
            kept = keep(self.balanced, places, self.system.name)
            kept = self._filled(kept, places)
            bounds = self.balanced.bound(kept.orders) if self.method == "balanced" else None
            if self.method == "h2":
                kept = improve(self.whole, kept, places)
        modes = in_places(kept.modes, places)
        systems, orders, limits, row = [], [], [], 0
        for system in self.systems:
            repeats = system.copies // len(modes.poles)
            width = repeats * system.outputs
            part = Modes(modes.poles, modes.B, modes.C[:, row : row + width])
            systems.append(as_layer(_apart(part, repeats), system))
            orders.append(np.tile(kept.orders, repeats))
            limits.append(np.zeros(0) if bounds is None else np.tile(bounds, repeats))
            row += width
        return Reduced(tuple(systems), tuple(orders), None if bounds is None else tuple(limits))

    def _modal(self, places: Places) -> Kept:
        """The strongest modes of a low-rank layer, of which real and complex ones take their places."""
        modal = modal_form(self.system)[0]
        modes = modes_of(modal)
        order = strongest(np.where(modes.alive, scores(modal), -1.0), places.count)
        picked = Modes(
            np.take_along_axis(modes.poles, order, axis=1),
            np.take_along_axis(modes.B, order[:, :, None], axis=1),
            np.take_along_axis(modes.C, order[:, None, :], axis=2),
        )
        return Kept(picked, (picked.alive * np.where(picked.poles.imag != 0, 2, 1)).sum(axis=1))

    def _filled(self, kept: Kept, places: Places) -> Kept:
        """Empty places take modes of the error, balanced in turn, where that lowers its peak."""
        free = places.count - places.taken(kept.modes)
        wanting = np.flatnonzero((free > 0) & (kept.orders < self.balanced.known))
        if not len(wanting) or places.real or places.both or places.form is not None:
            return kept
        for count in np.unique(free[wanting]):
            part = wanting[free[wanting] == count]
            now = kept.modes.pick(part).packed()
            whole = self.whole.pick(part)
            error = joined([whole, Modes(now.poles, now.B, -now.C)])
            try:
                more = keep(balance(as_direct(error)), Places(int(count)), self.system.name)
            except LayerError:
                continue
            fuller = joined([now, more.modes])
            peaks = [norms(difference(as_direct(whole), as_direct(modes))).peak for modes in (now, fuller)]
            better = (peaks[1] < peaks[0]) & places.fit(fuller)
            chosen = np.zeros(len(kept.orders), bool)
            chosen[part[better]] = True
            kept = kept.with_systems(chosen, fuller.pick(better))
        return kept


def together(systems: Sequence[StateSpace], base: int) -> StateSpace:
    """The first `base` copies with the outputs of all copies that share their poles, without weight and skip connection."""
    first = systems[0].copy_slice(0, base)
    outputs = []
    for system in systems:
        for start in range(0, system.copies, base):
            part = system.copy_slice(start, start + base)
            same = all(np.array_equal(getattr(part, name), getattr(first, name)) for name in ("poles", "step", "B"))
            if not same or (part.rank and not np.array_equal(part.P, first.P)):  # type: ignore[arg-type]
                raise LayerError(f"layer {system.name} ({system.family}): its directions have poles of their own, and stay as they are")
            outputs.append(part.C)
    C = np.concatenate(outputs, axis=1)
    return replace(first, C=C, D=np.zeros((base, C.shape[1], first.inputs)), sobolev=None)


def _apart(modes: Modes, repeats: int) -> Modes:
    """The modes of copies of which each group has some outputs in a row; copy k + base j has the j-th part of those of k."""
    if repeats == 1:
        return modes
    parts = np.split(modes.C, repeats, axis=1)
    return Modes(np.tile(modes.poles, (repeats, 1)), np.tile(modes.B, (repeats, 1, 1)), np.concatenate(parts))


def _all_modes(system: StateSpace, balanced: Balanced) -> Modes:
    parts = [truncation(balanced.pick(slice(k, k + 1)), max(1, int(balanced.known[k]))) for k in range(system.copies)]
    return stacked(parts)
