"""A mapped layer whose tensors hold several directions: each is read and written as a mapped layer of one direction.

An axis "K" counts the directions; "K*H" has the H of all of them one after the other. A tensor without either is shared by all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.mapping import mapped
from ssmspec.families.mapping.mapped import Layout
from ssmspec.families.template import LayerTensors, ReadOptions, Tensor
from ssmspec.systems.statespace import StateSpace


@dataclass(frozen=True, slots=True)
class Slice:
    """One direction's part of a tensor.

    Args:
        axis: that of the directions. count: of directions. number: which of them.
        merged: the axis also counts something else, which changes faster.
    """

    tensor: Tensor
    axis: int
    count: int
    number: int
    merged: bool

    @property
    def shape(self) -> tuple[int, ...]:
        before, size, after = self.tensor.shape[: self.axis], self.tensor.shape[self.axis], self.tensor.shape[self.axis + 1 :]
        return (*before, size // self.count, *after) if self.merged else (*before, *after)

    @property
    def dtype(self) -> str:
        return self.tensor.dtype

    def read(self, rows: slice | None = None) -> npt.NDArray[Any]:
        values = np.split(np.asarray(self.tensor.read()), self.count, axis=self.axis)[self.number].reshape(self.shape)
        return values if rows is None else values[rows]


def single(layout: Layout) -> Layout:
    """The layout of one direction."""
    parts = {
        quantity: replace(part, axes=_single_axes(part.axes), other=part.other and replace(part.other, axes=_single_axes(part.other.axes)))
        for quantity, part in layout.parts.items()
    }
    return replace(layout, directions=(), parts=parts)


def _single_axes(axes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(axis.removeprefix("K*") for axis in axes if axis != "K")


def _axis_of_directions(layout: Layout, role: str) -> tuple[int, bool] | None:
    """Which axis of a tensor counts the directions, and whether something else with them; None for a tensor that they share."""
    part = layout.parts[role.split(".")[0]]
    axes = part.other.axes if part.other is not None and role == part.other.role(role.split(".")[0]) else part.axes
    return next(((place, axis != "K") for place, axis in enumerate(axes) if axis.startswith("K")), None)


def _directions(layout: Layout, layer: LayerTensors) -> list[LayerTensors]:
    found = []
    for number, label in enumerate(layout.directions):
        tensors = dict(layer.tensors)
        for role, tensor in layer.tensors.items():
            place = _axis_of_directions(layout, role)
            if place is not None:
                tensors[role] = Slice(tensor, place[0], len(layout.directions), number, place[1])
        found.append(replace(layer, name=f"{layer.name}:{label}", tensors=tensors))
    return found


def read(layout: Layout, layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """Tensors of one layer to a state space per direction, as the layout says."""
    one = single(layout)
    return [system for direction in _directions(layout, layer) for system in mapped.read(one, direction, options)]


def write(layout: Layout, layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The values that the stored tensors must have for the given systems, by role: the inverse of `read`.

    Raises:
        LayerError: as `mapped.write`; also a tensor that directions share, and that would have to hold different values.
    """
    one, pairs = single(layout), zip(_directions(layout, layer), systems, strict=True)
    written = [mapped.write(one, direction, [system], options) for direction, system in pairs]
    stored = {}
    for role in written[0]:
        parts, place = [values[role] for values in written], _axis_of_directions(layout, role)
        if place is None:
            if any(not np.array_equal(part, parts[0], equal_nan=True) for part in parts):
                name = layer.tensor_names[role]
                raise LayerError(f"layer {layer.name}: directions that share {name} were changed differently; they must change together")
            stored[role] = parts[0]
        else:
            axis, merged = place
            stored[role] = np.concatenate(parts, axis=axis) if merged else np.stack(parts, axis=axis)
    return stored
