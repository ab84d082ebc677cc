"""Tensors of a layer that are stored as something else (codes with scales, a base with an adapter): which were read, in words.

Nothing here knows the forms themselves: such a tensor says in `origin` what it is, in `encoded` what the file holds of it, and in `refusal`
why it has no values, if so.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from ssmspec.families.observed import Observed
from ssmspec.families.template import LayerTensors, Tensor


@dataclass(frozen=True, slots=True)
class Encoded:
    """The encoded tensors of a layer by their own names in it, and those of them that were read."""

    tensors: dict[str, Observed] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)

    def said(self) -> list[str]:
        """A line for every form: which tensors have it, and whether they were read."""
        lines: dict[str, list[str]] = {}
        for name, tensor in self.tensors.items():
            text = f"read as {tensor.origin}" if name in self.read else f"{tensor.refusal or tensor.origin}; not needed here"
            lines.setdefault(text, []).append(name)
        return [f"{', '.join(names)}: {text}" for text, names in lines.items()]

    def _note(self, name: str, rows: slice | None) -> None:
        self.read.add(name)

    def watch(self, name: str, tensor: Tensor) -> Observed:
        """The tensor, whose reads are noted here."""
        return self.tensors.setdefault(name, Observed(tensor, partial(self._note, name)))


def watched(layer: LayerTensors) -> tuple[LayerTensors, Encoded]:
    """The layer with its encoded tensors watched; the layer itself where there are none."""
    found, seen = {role: tensor for role, tensor in layer.tensors.items() if getattr(tensor, "origin", "")}, Encoded()
    if not found:
        return layer, seen
    own = {role: seen.watch(layer.tensor_names[role].removeprefix(f"{layer.name}."), tensor) for role, tensor in found.items()}
    return replace(layer, tensors={**layer.tensors, **own}), seen


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
