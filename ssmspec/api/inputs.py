"""What a Python user has at hand as an open checkpoint: a path or an address, a torch module, or a mapping of arrays."""

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import numpy.typing as npt

from ssmspec.checkpoint import Checkpoint, natural_key, plain_name
from ssmspec.checkpoint.tensors import ITEMSIZE
from ssmspec.errors import SsmspecError
from ssmspec.families import ReadOptions
from ssmspec.families.layers import open_for_layers

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ssmspec.nn.live import FrozenTensor

MAX_DEPTH = 100  # nesting levels of a mapping


class ArrayTensor:
    """An array of NumPy, or of a library whose arrays NumPy can read. It is not copied before it is read."""

    def __init__(self, values: Any) -> None:
        self._values = values
        self.shape = tuple(int(size) for size in values.shape)
        self.dtype = str(np.dtype(values.dtype))

    def read(self, rows: slice | None = None) -> npt.NDArray[Any]:
        """The values in their own dtype, or some rows of them, as a new array."""
        return np.array(self._values if rows is None else self._values[rows])


def opened(what: Any, read: ReadOptions) -> Checkpoint:
    """An open checkpoint; tensors in memory are read where they are.

    Args:
        what: a path, an address, a torch module, or a mapping of arrays or tensors by name, nested or not.
    Raises:
        SsmspecError: it is none of these, or holds no array. CheckpointError: a file cannot be read. LayerError: a sharded module.
    """
    if isinstance(what, str | Path | Checkpoint):
        found = open_for_layers(what, read)
        return replace(found, config={**found.config, **read.config})
    if is_module(what):
        return _of_module(what, read)
    if isinstance(what, Mapping):
        leaves = dict(_leaves(what, ()))
        return _in_memory("arrays", "arrays in memory", {name: _tensor(name, value) for name, value in leaves.items()}, read.config)
    raise SsmspecError(
        f"{type(what).__name__} cannot be analyzed; give a path, an address, a torch module, or a mapping of arrays by tensor name"
    )


def is_module(what: Any) -> "TypeGuard[nn.Module]":
    """Whether it is a torch module; torch is not imported for the answer."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(what, torch.nn.Module)


def _of_module(model: "nn.Module", read: ReadOptions) -> Checkpoint:
    from ssmspec.nn.live import FrozenTensor, named_tensors, own_config, refuse_sharded, unwrapped

    refuse_sharded(model)
    tensors = {name: FrozenTensor(name, value) for name, value in named_tensors(model).items()}
    return _in_memory(f"model {type(unwrapped(model)).__name__}", "module in memory", tensors, {**own_config(model), **read.config})


def _in_memory(name: str, container: str, tensors: Mapping[str, "ArrayTensor | FrozenTensor"], config: Mapping[str, object]) -> Checkpoint:
    stored: dict[str, Any] = dict(tensors)
    if not stored:
        raise SsmspecError(f"{name}: no array is in it; give the parameters of a model by name")
    naming = plain_name if len({plain_name(each) for each in stored}) == len(stored) else str
    named = {naming(each): tensor for each, tensor in stored.items()}
    size = sum(math.prod(tensor.shape) * ITEMSIZE[tensor.dtype] for tensor in stored.values())
    in_order = {each: named[each] for each in sorted(named, key=natural_key)}
    return Checkpoint(path=Path(name), container=container, size=size, tensors=in_order, config=dict(config), notes=(), assembled=True)


def _leaves(tree: Mapping[Any, Any], above: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Arrays with their names; the keys of nested mappings are joined by dots."""
    if len(above) > MAX_DEPTH:
        raise SsmspecError(f"the mapping is nested more than {MAX_DEPTH} levels deep; give the parameters of a model by name")
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, str(key)))
        elif hasattr(value, "shape") and hasattr(value, "dtype"):
            yield ".".join((*above, str(key))), value


def _tensor(name: str, value: Any) -> "ArrayTensor | FrozenTensor":
    if _is_torch(value):
        from ssmspec.nn.live import FrozenTensor, readable

        if readable(value):
            return FrozenTensor(name, value)
        raise SsmspecError(f"tensor {name} is not a dense tensor of numbers ({value.dtype}, {value.layout}); leave it out")
    try:
        tensor = ArrayTensor(value)
    except TypeError as error:
        raise SsmspecError(f"array {name} has dtype {value.dtype}, which is not a type of numbers; leave it out") from error
    if tensor.dtype not in ITEMSIZE:
        raise SsmspecError(f"array {name} has dtype {tensor.dtype}, which is not a type of numbers; leave it out")
    return tensor


def _is_torch(value: Any) -> "TypeGuard[torch.Tensor]":
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)
