"""Which stored tensors of a layer differ between two checkpoints, and by how much."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.families.template import LayerTensors, Tensor
from ssmspec.statistics.changes import TensorChange

MOST_VALUES = 1 << 24  # of a tensor that is read for this
ROWS_AT_ONCE = 1 << 20  # values


def tensor_changes(pairs: Sequence[tuple[LayerTensors, LayerTensors]]) -> tuple[TensorChange, ...]:
    """The tensors of pairs of layers, in file order; tensors that several layers share are there once."""
    found: dict[tuple[str, str], TensorChange] = {}
    for before, after in pairs:
        for (name, old), (name_after, new) in _common(before, after):
            if (name, name_after) not in found:
                found[name, name_after] = _change(name, name_after, old, new)
    return tuple(found.values())


_Named = tuple[str, Tensor]


def _common(before: LayerTensors, after: LayerTensors) -> Iterator[tuple[_Named, _Named]]:
    """Tensors that both layers have: those that the family reads, by role, then the others under the layer's name, by suffix."""
    for role, name in before.tensor_names.items():
        if role in after:
            yield (name, before.tensors[role]), (after.tensor_names[role], after.tensors[role])
    for suffix, tensor in before.beside.items():
        if suffix in after.beside:
            yield (before.start + suffix, tensor), (after.start + suffix, after.beside[suffix])


def _change(name: str, name_after: str, before: Tensor, after: Tensor) -> TensorChange:
    if before.shape != after.shape:
        return TensorChange(name, name_after, None, f"its shape was {before.shape} and is {after.shape}")
    if math.prod(before.shape) > MOST_VALUES:
        return TensorChange(name, name_after, None, f"its {math.prod(before.shape)} values were not read")
    try:
        apart, size = (math.sqrt(sum(parts)) for parts in zip(*_squares(before, after), strict=True))
    except LayerError as error:
        return TensorChange(name, name_after, None, str(error))
    if not math.isfinite(apart + size):
        return TensorChange(name, name_after, None, "it has values that are not finite")
    return TensorChange(name, name_after, apart / size if size else math.inf if apart else 0.0)


def _squares(before: Tensor, after: Tensor) -> Iterator[tuple[float, float]]:
    """Squared norms of the difference and of what was there before, block by block."""
    if not before.shape:
        yield _squares_of(before.read(), after.read())
        return
    height = max(1, ROWS_AT_ONCE // max(1, math.prod(before.shape[1:])))
    for start in range(0, before.shape[0], height):
        rows = slice(start, start + height)
        yield _squares_of(before.read(rows), after.read(rows))


def _squares_of(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    kind = complex if np.iscomplexobj(a) or np.iscomplexobj(b) else float
    with np.errstate(all="ignore"):
        return float((np.abs(b.astype(kind) - a.astype(kind)) ** 2).sum()), float((np.abs(a.astype(kind)) ** 2).sum())
