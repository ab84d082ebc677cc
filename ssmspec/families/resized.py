"""The tensors of a layer with another number of stored modes: empty ones for a family to fill, and some rows of its own."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.shapes import COMPLEX, fitting_symbols, sized
from ssmspec.families.template import Family, Held, LayerTensors, Resizing, Tensor

Arrays = dict[str, npt.NDArray[Any]]
CHANNELS = "H"


def resizing_of(family: Family, layer: LayerTensors) -> Resizing:
    """How a layer is written with fewer modes.

    Raises:
        LayerError: that is not known.
    """
    if family.resizing is None:
        raise LayerError(f"layer {layer.name} ({family.name}): how its code stores fewer modes is not known to ssmspec")
    return family.resizing


def resized(family: Family, layer: LayerTensors, count: int, *, untied: bool) -> LayerTensors:
    """The layer with zeros for all tensors whose shape depends on the number of modes.

    Args:
        untied: whether tied sets of poles become one set per channel.
    """
    resizing, tensors = resizing_of(family, layer), dict(layer.tensors)
    sizes = {**layer.sizes, resizing.state: count}
    if untied and resizing.sets:
        sizes[resizing.sets] = sizes[CHANNELS]
    for role, symbols in _dependent(family, layer):
        shape = sized(symbols, sizes, parts=not layer.tensors[role].dtype.startswith("complex"))
        tensors[role] = Held(np.zeros(shape, layer.tensors[role].read().dtype), layer.tensors[role].dtype)
    return replace(layer, tensors=tensors, sizes=sizes)


def picked(family: Family, layer: LayerTensors, places: np.ndarray) -> Arrays:
    """Some of the stored modes of all tensors that have them, by role, exactly as they are stored.

    Args:
        places: (count,) for all copies, or (S, count) for every tied set or channel.
    """
    resizing = resizing_of(family, layer)
    return {role: _picked(layer.tensors[role].read(), symbols, resizing, places) for role, symbols in _dependent(family, layer)}


def beside(family: Family, layer: LayerTensors, count: int) -> Arrays:
    """Tensors that the code has and the reader does not use, by full name: the first of their modes, or the number of modes."""
    resizing, found = resizing_of(family, layer), {}
    for suffix, shape in resizing.beside.items():
        tensor = layer.beside.get(suffix)
        symbols = None if tensor is None else _symbols(shape, tensor, layer.sizes)
        if tensor is not None and symbols is not None:
            found[layer.start + suffix] = _picked(tensor.read(), symbols, resizing, np.arange(count))
    for suffix in resizing.counts:
        tensor = layer.beside.get(suffix)
        if tensor is not None and not tensor.shape:
            before = int(tensor.read())
            found[layer.start + suffix] = np.asarray(before // layer.sizes[resizing.state] * count)
    return found


def _dependent(family: Family, layer: LayerTensors) -> Iterator[tuple[str, list[str]]]:
    """The roles whose shape depends on the number of modes, or of tied sets, with the symbols of their axes."""
    resizing = resizing_of(family, layer)
    letters = {resizing.state, resizing.sets} - {""}
    for role, tensor in layer.tensors.items():
        slots = [template[role] for template in (*family.templates, *family.when_named) if role in template]
        named = [slot for slot in slots if any(_ends(layer.tensor_names[role], suffix) for suffix in slot.suffixes())]
        symbols = next((found for slot in named if (found := _symbols(slot.shape, tensor, layer.sizes)) is not None), [])
        if letters & {_letter(part) for symbol in symbols for part in symbol.split("*")}:
            yield role, symbols


def _ends(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith("." + suffix)


def _symbols(shape: str, tensor: Tensor, sizes: Mapping[str, int]) -> list[str] | None:
    return fitting_symbols(shape, tensor.shape, dict(sizes), parts=not tensor.dtype.startswith("complex"))


def _letter(part: str) -> str:
    return part.lstrip("0123456789")


def _picked(values: npt.NDArray[Any], symbols: list[str], resizing: Resizing, places: np.ndarray) -> npt.NDArray[Any]:
    axes = [symbol for symbol in symbols if symbol != COMPLEX]
    along = next((axis for axis, symbol in enumerate(axes) if _letter(symbol) == resizing.state), None)
    if along is None:
        return values
    blocks = int(axes[along].removesuffix(resizing.state) or 1)
    of_copies = next((axis for axis, symbol in enumerate(axes) if symbol in (resizing.sets, CHANNELS) and symbol), None)
    if places.ndim == 1 or of_copies is None:
        width = values.shape[along] // blocks
        rows = places if places.ndim == 1 else places[0]
        return np.take(values, np.concatenate([rows + block * width for block in range(blocks)]), axis=along)
    rows = np.tile(places, (values.shape[of_copies] // len(places), 1))
    index = np.expand_dims(rows if of_copies < along else rows.T, tuple(a for a in range(values.ndim) if a not in (of_copies, along)))
    return np.take_along_axis(values, index, axis=along)
