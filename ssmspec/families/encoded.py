"""Tensors of a layer that are stored as something else (codes with scales, a base with an adapter): which were read, in words.

Nothing here knows the forms themselves: such a tensor says in `origin` what it is, in `encoded` what the file holds of it, and in `refusal`
why it has no values, if so.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from ssmspec.families.template import LayerTensors, Tensor, flat_values


class WatchedTensor:
    """A tensor that remembers whether its values were read."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.was_read = tensor, False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def dtype(self) -> str:
        return self.tensor.dtype

    @property
    def refusal(self) -> str:
        return str(getattr(self.tensor, "refusal", ""))

    def read(self, rows: slice | None = None) -> npt.NDArray[Any]:
        self.was_read = True
        return self.tensor.read(rows)

    def read_flat(self, start: int, stop: int) -> npt.NDArray[Any]:
        self.was_read = True
        return flat_values(self.tensor, start, stop)


def watched(layer: LayerTensors) -> tuple[LayerTensors, Mapping[str, WatchedTensor]]:
    """The layer with its encoded tensors watched, and those by their own names in the layer; the layer itself where there are none."""
    found = {role: WatchedTensor(tensor) for role, tensor in layer.tensors.items() if getattr(tensor, "origin", "")}
    if not found:
        return layer, {}
    names = {layer.tensor_names[role].removeprefix(f"{layer.name}."): tensor for role, tensor in found.items()}
    return replace(layer, tensors={**layer.tensors, **found}), names


def said_of(tensors: Mapping[str, WatchedTensor]) -> list[str]:
    """A line for every form: which tensors have it, and whether they were read."""
    lines: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        origin = str(getattr(tensor.tensor, "origin", ""))
        text = f"read as {origin}" if tensor.was_read else f"{tensor.refusal or origin}; not needed here"
        lines.setdefault(text, []).append(name)
    return [f"{', '.join(names)}: {text}" for text, names in lines.items()]


def as_stored(layer: LayerTensors) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a layer as the file holds them, with a label each, in an order that depends on the labels only."""
    for role, tensor in sorted(layer.tensors.items()):
        yield from _parts(role, tensor)


def _parts(label: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    parts = getattr(tensor, "encoded", ())
    for number, part in enumerate(parts):
        yield from _parts(f"{label}.{number}", part)
    if not parts:
        yield label, tensor
