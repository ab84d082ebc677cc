"""One layer with any number of modes: reduced, put into its tensors, read back, and compared with what it was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.layers import ReadLayer
from ssmspec.families.resized import beside, picked, resized, resizing_of
from ssmspec.families.template import Family, LayerTensors, ReadOptions
from ssmspec.systems.statespace import StateSpace, modal_form
from ssmspec.systems.trust import assess
from ssmspec.tuning.reduction.certificate import Certificate, Norms, certify, error_norms, norms, relative
from ssmspec.tuning.reduction.orders import Places
from ssmspec.tuning.reduction.reducer import Reducer
from ssmspec.tuning.reduction.request import Method
from ssmspec.tuning.reduction.single_modes import scores, strongest

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A layer with fewer modes, as it would be stored.

    Args:
        count: stored modes per copy. tensors: the layer with its new tensors. changed: their roles. extra: tensors beside them, by name.
        wanted: the directions before rounding. stored: as they are read back, with the weights of the layer.
        orders, bounds: states of every copy and bound of its error, per direction; no bounds for methods that have none.
    """

    count: int
    tensors: LayerTensors
    changed: Arrays
    extra: Arrays
    wanted: tuple[StateSpace, ...]
    stored: tuple[StateSpace, ...]
    orders: tuple[npt.NDArray[Any], ...]
    bounds: tuple[npt.NDArray[Any], ...] | None

    @property
    def parameters(self) -> int:
        """Numbers in the tensors of the layer."""
        return sum(int(np.prod(tensor.shape)) for tensor in self.tensors.tensors.values())


class LayerWork:
    """One layer, whose attempts are kept.

    Raises:
        LayerError: the layer cannot be reduced; the message says why.
    """

    def __init__(self, layer: ReadLayer, family: Family, read: ReadOptions, method: Method) -> None:
        self.layer, self.family, self.read, self.method = layer, family, read, method
        problem = why_not(layer, family, method)
        if problem:
            raise LayerError(problem)
        self.systems = layer.state_spaces
        self.resizing = resizing_of(family, layer.tensors)
        self._modal = tuple(modal_form(system)[0] for system in self.systems)
        self.before = tuple(norms(*pair) for pair in zip(self.systems, self._modal, strict=True))
        if not all(np.isfinite(size.peak).all() for size in self.before):
            raise LayerError("poles too close to the unit circle for a known norm")
        self.refusals: dict[int, str] = {}  # why no system of a size can be stored
        self._attempts: dict[int, Attempt] = {}
        self._errors: dict[int, tuple[Norms, ...]] = {}
        self._reducer: Reducer | None = None

    @property
    def modes(self) -> int:
        """Stored modes per copy."""
        return self.layer.tensors.sizes[self.resizing.state]

    @property
    def tied(self) -> int:
        """Sets of poles that channels share, where the code can also have one per channel; 0 elsewhere."""
        sizes = self.layer.tensors.sizes
        sets = sizes.get(self.resizing.sets, 0) if self.resizing.sets else 0
        return 0 if sets == sizes.get("H") else sets

    @property
    def unties(self) -> bool:
        """Whether a reduction gives every channel poles of its own: channels of one set have steps of their own, so z differs."""
        return bool(self.tied) and not self.picks

    @property
    def picks(self) -> bool:
        """Whether some of the stored modes are kept as they are."""
        return self.method == "modal" and not self.systems[0].rank

    def attempt(self, count: int) -> Attempt:
        """The layer with `count` stored modes per copy.

        Raises:
            LayerError: it cannot be stored so.
        """
        if count not in self._attempts:
            self._attempts[count] = self._picked(count) if self.picks else self._replaced(count)
        return self._attempts[count]

    def errors(self, count: int) -> npt.NDArray[np.float64]:
        """H-infinity errors of all copies of all directions, each relative to the norm of its direction."""
        pairs = zip(self._error(count), self.before, strict=True)
        return np.concatenate([relative(error, float(size.peak.max())) for error, size in pairs])

    def _error(self, count: int) -> tuple[Norms, ...]:
        """Norms of the error of every direction."""
        if count not in self._errors:
            parts = zip(self.systems, self._modal, self.attempt(count).stored, strict=True)
            self._errors[count] = tuple(error_norms(system, modal, stored) for system, modal, stored in parts)
        return self._errors[count]

    def certificates(self, count: int) -> list[Certificate]:
        """The certificate of every direction."""
        attempt = self.attempt(count)
        return [
            certify(
                system,
                size,
                attempt.wanted[place],
                attempt.stored[place],
                self._error(count)[place],
                orders=attempt.orders[place],
                bound=None if attempt.bounds is None else attempt.bounds[place],
            )
            for place, (system, size) in enumerate(zip(self.systems, self.before, strict=True))
        ]

    def _replaced(self, count: int) -> Attempt:
        if self._reducer is None:
            base = min(self.systems[0].copies, self.layer.tensors.sizes.get("H", self.systems[0].copies))
            self._reducer = Reducer(self.systems, base, self.method)
        tensors, read = self.layer.tensors, self.read
        form = self.resizing.form
        places = Places(
            count,
            both=self.resizing.both(tensors, read),
            real=self.resizing.real(tensors, read),
            form=None if form is None else replace(form(tensors, read), norm=float(self.before[0].peak.max())),
        )
        found = self._reducer.reduced(places)
        empty = resized(self.family, tensors, count, untied=self.unties)
        if self.resizing.blank is not None:
            empty = self.resizing.blank(empty, tensors, found.systems)
        with np.errstate(all="ignore"):
            if self.family.anew is not None:
                empty = self.family.anew(empty, found.systems)
            written = self.family.write(empty, found.systems, read)
        values = {role: array for role, array in written.items() if not _as_before(array, tensors, role, empty)}
        if not all(np.isfinite(array).all() for array in values.values()):
            raise LayerError(f"layer {tensors.name}: {count} modes need values that {self.family.name} cannot hold")
        filled = empty.with_values(values)
        return self._attempt(count, filled, values, found.systems, found.orders, found.bounds)

    def _picked(self, count: int) -> Attempt:
        tensors = self.layer.tensors
        strength = np.stack([_of_places(scores(system), self.modes) for system in self.systems])
        copies = strength.reshape(-1, self.modes)
        sets = 1 if self._one_row else self.tied or min(len(copies), tensors.sizes.get("H", len(copies)))
        places = strongest(copies.reshape(-1, sets, self.modes).max(axis=0), count)
        values = picked(self.family, tensors, places[0] if self._one_row else places)
        empty = resized(self.family, tensors, count, untied=False)
        filled = empty.with_values(values)
        orders = tuple(_orders(system) for system in self._read_back(filled))
        return self._attempt(count, filled, values, None, orders, None)

    @property
    def _one_row(self) -> bool:
        """Whether the stored modes are those of all copies."""
        return not any(system.copies > 1 for system in self.systems) or bool(self.resizing.only_modal)

    def _attempt(
        self,
        count: int,
        filled: LayerTensors,
        values: Arrays,
        wanted: Sequence[StateSpace] | None,
        orders: tuple[npt.NDArray[Any], ...],
        bounds: tuple[npt.NDArray[Any], ...] | None,
    ) -> Attempt:
        stored = self._read_back(filled)
        faults = [fault.text for system in stored for fault in assess(system).faults]
        if faults:
            raise LayerError(f"layer {self.layer.tensors.name} with {count} modes would become unusable: {faults[0]}")
        extra = beside(self.family, self.layer.tensors, count)
        return Attempt(count, filled, values, extra, stored if wanted is None else tuple(wanted), stored, orders, bounds)

    def _read_back(self, filled: LayerTensors) -> tuple[StateSpace, ...]:
        with np.errstate(all="ignore"):
            found = [system.state_space() for system in self.family.read(filled, self.read)]
        return tuple(replace(after, sobolev=before.sobolev) for after, before in zip(found, self.systems, strict=True))


def why_not(layer: ReadLayer, family: Family, method: Method) -> str | None:
    """Why a layer cannot be reduced so, or None."""
    absent = next((system.no_poles for system in layer.systems if system.no_poles), None)
    if absent:
        return absent
    spaces = layer.state_spaces
    if spaces[0].operating_point is not None:
        return "its poles hold at one operating point, and other inputs have others; none of them can be left out for all"
    if family.resizing is None:
        return family.unreduced or family.fixed or f"how the code of {family.name} stores fewer modes is not known to ssmspec"
    refused = family.resizing.refused(layer.tensors)
    if refused:
        return refused
    if method != "modal" and family.resizing.only_modal:
        return f"{family.resizing.only_modal}; --method modal keeps some of its own modes"
    faults = [fault.text for system in spaces for fault in assess(system).faults]
    return "; ".join(dict.fromkeys(faults)) or None


def _as_before(array: npt.NDArray[Any], tensors: LayerTensors, role: str, empty: LayerTensors) -> bool:
    """Whether a value, recomputed, is that of a tensor whose shape stays: such a tensor keeps its bytes."""
    if tuple(empty.tensors[role].shape) != tuple(tensors.tensors[role].shape) or role not in tensors:
        return False
    stored = tensors.tensors[role].read()
    return bool(np.allclose(np.asarray(array).reshape(stored.shape), stored, rtol=1e-6, atol=0, equal_nan=True))


def _of_places(values: npt.NDArray[np.float64], modes: int) -> npt.NDArray[np.float64]:
    """Scores (K, N) of modes as those of the stored places, of which each has one mode, or both of an oscillator."""
    return values.reshape(len(values), -1, modes).sum(axis=1)


def _orders(system: StateSpace) -> npt.NDArray[np.float64]:
    pairs = np.where(system.poles.imag != 0, 2, 1)
    return np.asarray(pairs.sum(axis=1), dtype=np.float64)
