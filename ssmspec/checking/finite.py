"""Which tensors of SSM layers hold NaN or infinity, and which of them were looked at."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from ssmspec.checkpoint.blocks import in_blocks
from ssmspec.checkpoint.tensors import ITEMSIZE
from ssmspec.families import Detection, LayerTensors, Tensor
from ssmspec.families.observed import Observed

Progress = Callable[[str, int, int], None]
Rows = npt.NDArray[np.bool_]
Key = tuple[str, str]  # name and family of a layer; two tables of a mapping may read directions under one name


@dataclass(frozen=True, slots=True)
class Account:
    """The tensors under the names of SSM layers.

    Args:
        spoiled: name -> how many of how many values are NaN or infinite, of tensors that hold some.
        looked_at: names of the tensors whose values were all looked at. unread: of the others.
    """

    spoiled: Mapping[str, str]
    looked_at: frozenset[str]
    unread: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reads:
    """Which rows of which tensors readers have asked for, by name; a tensor without rows has one."""

    rows: dict[str, Rows] = field(default_factory=dict)

    def watch(self, detection: Detection) -> Detection:
        """The same layers, whose reads are recorded here."""
        return replace(detection, layers=tuple(self._watched(layer) for layer in detection.layers))

    def _watched(self, layer: LayerTensors) -> LayerTensors:
        seen = {role: Observed(tensor, partial(_mark, self._of(layer, role))) for role, tensor in layer.tensors.items()}
        return replace(layer, tensors=seen)

    def _of(self, layer: LayerTensors, role: str) -> Rows:
        shape = layer.tensors[role].shape
        return self.rows.setdefault(layer.tensor_names[role], np.zeros(shape[0] if shape and shape[0] >= 0 else 1, bool))

    def complete(self) -> frozenset[str]:
        """Names of the tensors that were read whole."""
        return frozenset(name for name, rows in self.rows.items() if rows.all())


def _mark(marked: Rows, rows: slice | None) -> None:
    marked[rows or slice(None)] = True


def key_of(layer: LayerTensors) -> Key:
    """What tells layers of a checkpoint apart."""
    return layer.name, layer.family


def owned_tensors(layers: Iterable[LayerTensors]) -> dict[Key, dict[str, Tensor]]:
    """The tensors under the names of layers, by layer and full name: those with a role, then the others; each belongs to one layer.

    A tensor that has a role in one layer is no other tensor of a layer around it, and one below several layers belongs to the innermost.
    """
    layers = sorted(layers, key=lambda layer: -len(layer.start))
    with_role = {name for layer in layers for name in layer.tensor_names.values()}
    taken: set[str] = set()
    found: dict[Key, dict[str, Tensor]] = {}
    for layer in layers:
        own = {name: layer.tensors[role] for role, name in layer.tensor_names.items()}
        others = {layer.start + suffix: tensor for suffix, tensor in layer.beside.items()}
        new = own | {name: tensor for name, tensor in others.items() if name not in with_role and name not in taken}
        found[key_of(layer)] = new
        taken |= set(new)
    return found


def account_for(
    owned: Mapping[Key, Mapping[str, Tensor]], chosen: Mapping[Key, Iterable[str]], progress: Progress | None = None
) -> Account:
    """Look at every value of the chosen tensors, block by block.

    Args:
        owned: from `owned_tensors`. chosen: names of the tensors to look at, by layer.
        progress: called with (layer name, bytes done, total bytes).
    Raises:
        CheckpointError: a tensor cannot be read.
    """
    wanted = [(layer, name, owned[layer][name]) for layer, names in chosen.items() for name in names]
    wanted = [(layer, name, tensor) for layer, name, tensor in wanted if not getattr(tensor, "refusal", "")]  # codes without values
    total, done = sum(_work(tensor) for _, _, tensor in wanted), 0
    spoiled: dict[str, str] = {}
    for layer, name, tensor in wanted:
        bad = size = 0
        for values in in_blocks(tensor) if _work(tensor) else ():
            bad, size = bad + int((~np.isfinite(values)).sum()), size + values.size
            done += values.nbytes
            if progress:
                progress(layer[0], min(done, total), total)
        if bad:
            spoiled[name] = f"{bad} of {size}"
    looked_at = frozenset(name for _, name, _ in wanted)
    return Account(spoiled, looked_at, tuple(name for names in owned.values() for name in names if name not in looked_at))


def _work(tensor: Tensor) -> int:
    """Bytes to look at: integers are always finite."""
    floats = tensor.dtype.startswith(("float", "bfloat", "complex"))
    return math.prod(tensor.shape) * ITEMSIZE[tensor.dtype] if floats else 0
