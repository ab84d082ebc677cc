"""Layers of a remote checkpoint: which tensors will be read of them, so that the bytes of all layers come in a few requests.

The vectors of every layer are compared to find copies, and are always read. What else a family reads shows in its first layer.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from ssmspec.checkpoint.prefetch import prefetch
from ssmspec.families.observed import Observed
from ssmspec.families.prefixes import candidate_prefixes
from ssmspec.families.template import Family, LayerTensors, join

Read = tuple[str, slice | None]  # role of a tensor, and its rows


@dataclass(slots=True)
class Ahead:
    """Reads tensors of a remote checkpoint before they are needed.

    Args:
        layers: those that will be read, in order.
        remote: nothing is done for others.
    """

    layers: Sequence[LayerTensors]
    remote: bool
    _known: set[str] = field(default_factory=set)
    _reads: list[Read] = field(default_factory=list)

    def vectors(self) -> None:
        """Reads the vectors of all layers."""
        if self.remote:
            prefetch((tensor, None) for layer in self.layers for tensor in layer.tensors.values() if len(tensor.shape) <= 1)

    def noted(self, layer: LayerTensors) -> LayerTensors:
        """The layer; the first one of a family with its reads noted."""
        if not self.remote or layer.family in self._known:
            return layer
        self._reads.clear()
        return replace(layer, tensors={role: Observed(tensor, partial(self._note, role)) for role, tensor in layer.tensors.items()})

    def _note(self, role: str, rows: slice | None) -> None:
        self._reads.append((role, rows))

    def learned(self, layer: LayerTensors) -> None:
        """After the first layer of a family was read: reads the same of the others."""
        if self.remote and layer.family not in self._known:
            self._known.add(layer.family)
            others = [each for each in self.layers if each.family == layer.family and each is not layer]
            prefetch((each.tensors[role], rows) for each in others for role, rows in self._reads if role in each.tensors)


def names_in_layers(families: Iterable[Family], names: Collection[str]) -> list[str]:
    """The names that may belong to SSM layers: those below a prefix that has the names of all required tensors of a template."""
    by_last_word: dict[str, list[str]] = {}
    for name in names:
        by_last_word.setdefault(name.rpartition(".")[2], []).append(name)
    found: set[str] = set()
    for family in families:
        for template in family.templates:
            for prefix in candidate_prefixes(template, by_last_word, 1.0):
                below = (join(prefix, suffix) for slot in template.values() for suffix in slot.suffixes())
                found |= {name for name in below if name in names}
    return sorted(found)
