"""A mapped layer that is an explicit kernel: the [[layer]] tables of kind "kernel".

[[layer]]
match = "blocks.*.filter"
kind = "kernel"
order = "time"                 # time: sample l acts at lag first_lag + l; reversed: the last sample comes first, as in conv1d of torch
first_lag = 0                  # below 0 for a kernel that looks ahead
length = 128                   # where only so many samples are used
repeat = 1                     # channels that share one kernel, one after the other
[layer.kernel]
tensor = "h"
axes = "H L"                   # H channels, or O outputs and I inputs of one system; L samples
times = "decay"                # or plus, or a table with tensor, transform and axes: a second tensor
[layer.D]
tensor = "D"
axes = "H"
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ssmspec.errors import SsmspecError
from ssmspec.families.kernel_sources import FIXED, Combined, Cut, StoredKernel
from ssmspec.families.mapping.combined import OPERATIONS, Other, parse_other, parse_text
from ssmspec.families.mapping.transform import IDENTITY, Transform
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot
from ssmspec.files.reading import known_keys, shown
from ssmspec.systems.kernel import MOST_SAMPLES, HeldKernel, KernelSource, KernelSystem
from ssmspec.systems.statespace import FloatArray

ORDERS = ("time", "reversed")
MOST_REPEATS = 1 << 20
LETTERS = {"kernel": "HOIL", "D": "HOI"}


@dataclass(frozen=True, slots=True)
class Part:
    """One stored tensor: its name, its axes and the transform from the stored numbers; and what it is multiplied with or added to."""

    name: str
    axes: tuple[str, ...]
    transform: Transform
    other: Other | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLayout:
    """What a mapping file says of one kind of explicit kernel; the names are those of its keys."""

    source: str
    reversed: bool
    first_lag: int
    repeat: int
    length: int
    kernel: Part
    D: Part | None


def explicit_family(name: str, table: Mapping[str, Any], source: str, where: str) -> Family:
    """The family of one table of kind "kernel".

    Raises:
        SsmspecError: a key is missing, unknown or has an invalid value; one line that begins with `where`.
    """
    known_keys(table, ("match", "kind", "order", "first_lag", "length", "repeat", *LETTERS), where)
    missing = [key for key in ("match", "kernel") if key not in table]
    if missing:
        raise SsmspecError(f"{where}: {', '.join(missing)} missing; a layer of kind 'kernel' needs match and kernel")
    if not isinstance(table["match"], str):
        raise SsmspecError(f"{where}: match is {shown(table['match'])}, expected a glob of prefixes such as 'blocks.*.filter'")
    order = table.get("order", "time")
    if order not in ORDERS:
        raise SsmspecError(f"{where}: order {shown(order)} is unknown; choose one of {', '.join(ORDERS)}")
    layout = KernelLayout(
        source=source,
        reversed=order == "reversed",
        first_lag=_whole(table.get("first_lag", 0), f"{where}: first_lag", -(1 << 40), 1 << 40),
        repeat=_whole(table.get("repeat", 1), f"{where}: repeat", 1, MOST_REPEATS),
        length=_whole(table.get("length", MOST_SAMPLES), f"{where}: length", 1, MOST_SAMPLES),
        kernel=_part(table["kernel"], "kernel", "H L", f"{where}: kernel"),
        D=_part(table["D"], "D", "H", f"{where}: D") if "D" in table else None,
    )
    channels = "O" not in layout.kernel.axes and "I" not in layout.kernel.axes
    if layout.repeat > 1 and not channels:
        raise SsmspecError(f"{where}: repeat counts channels, but the kernel has the axes {' '.join(layout.kernel.axes)}")
    slots = {}
    for quantity, part in (("kernel", layout.kernel), ("D", layout.D)):
        if part is not None:
            slots[quantity] = Slot(part.name, _letters(part.axes, layout.repeat if quantity == "D" else 1))
        if part is not None and part.other is not None:
            slots[part.other.role(quantity)] = Slot(part.other.name, _letters(part.other.axes, layout.repeat if quantity == "D" else 1))
    return Family(
        name=name,
        title="explicit kernel, as described by a mapping",
        source=source,
        templates=(slots,),
        read=partial(read, layout),
        fixed=FIXED,
        explicit=True,
        match=table["match"],
    )


def _letters(axes: tuple[str, ...], repeat: int) -> str:
    """Axes as a template has them, where so many channels share one kernel."""
    return " ".join(f"{repeat}H" if axis == "H" and repeat > 1 else axis for axis in axes)


def read(layout: KernelLayout, layer: LayerTensors, options: ReadOptions) -> list[KernelSystem]:
    """One copy per channel, or one system with several outputs and inputs."""
    K, O, I = layer.sizes.get("H", 1) * layout.repeat, layer.sizes.get("O", 1), layer.sizes.get("I", 1)
    length = min(layer.sizes["L"], layout.length)
    cut = f", of which the first {length} of {layer.sizes['L']} samples are used" if length < layer.sizes["L"] else ""
    D = np.zeros((K, O, I)) if layout.D is None else np.broadcast_to(_spread(layout.D, layer, "D", "HOI"), (K, O, I))
    return [
        KernelSystem(
            name=layer.name,
            family=layer.family,
            shape=(K, O, I, length),
            source=Cut(_source(layout, layer), length),
            D=np.ascontiguousarray(D),
            first_lag=layout.first_lag,
            assumptions=(
                f"as {layout.source} says: an explicit kernel, {'the last sample first' if layout.reversed else 'in time order'}{cut}",
            ),
        )
    ]


def _source(layout: KernelLayout, layer: LayerTensors) -> KernelSource:
    part = layout.kernel
    other = part.other
    if [axis for axis in part.axes if axis != "1"] in (["H", "L"], ["L"]) and (other is None or other.axes == part.axes):
        first = _rows(layout, layer, "kernel", part.transform)  # rows lie together, so they are read in blocks
        return first if other is None else Combined(first, _rows(layout, layer, other.role("kernel"), other.transform), other.combine)
    values = np.repeat(_spread(part, layer, "kernel", "HOIL"), layout.repeat, axis=0)
    return HeldKernel(np.ascontiguousarray(values[..., ::-1] if layout.reversed else values))


def _rows(layout: KernelLayout, layer: LayerTensors, role: str, transform: Transform) -> StoredKernel:
    change = None if transform == IDENTITY else transform.apply
    return StoredKernel(layer, role, layer.sizes["L"], layout.repeat, layout.reversed, change)


def _spread(part: Part, layer: LayerTensors, role: str, letters: str) -> FloatArray:
    """The values with their axes in the order of `letters`, and size 1 for those that the tensor lacks."""
    array = part.transform.apply(layer.array(role))
    if part.other is not None:
        array = part.other.combine(array, part.other.values(layer, role, part.axes))
    sizes = {axis: size for axis, size in zip(part.axes, array.shape, strict=True) if axis != "1"}
    order = [list(sizes).index(letter) for letter in letters if letter in sizes]
    return np.asarray(array.reshape(tuple(sizes.values())).transpose(order).reshape([sizes.get(letter, 1) for letter in letters]))


def _part(table: object, quantity: str, usual: str, where: str) -> Part:
    if not isinstance(table, dict):
        raise SsmspecError(f"{where} is {shown(table)}, expected a table [layer.{quantity}] with tensor = ...")
    known_keys(table, ("tensor", "axes", "transform", *OPERATIONS), where)
    name, axes, text = table.get("tensor"), table.get("axes", usual), table.get("transform", "none")
    if not isinstance(name, str) or not name or "|" in name:
        raise SsmspecError(f"{where}: tensor is {shown(name)}, expected the name of a tensor below the prefix")
    letters = axes.split() if isinstance(axes, str) else []
    named = [axis for axis in letters if axis != "1"]
    several = {"O", "I"} & set(named)
    fits = set(named) <= set(LETTERS[quantity]) and len(set(named)) == len(named) and not (several and "H" in named)
    if not letters or not fits or ("L" in named) != (quantity == "kernel"):
        expected = "H L, or O I L of one system" if quantity == "kernel" else "H, or O I of one system"
        raise SsmspecError(f"{where}: axes are {shown(axes)}, expected a list such as {expected}, with 1 for axes of that size")
    return Part(name, tuple(letters), parse_text(text, where), parse_other(table, tuple(letters), where))


def _whole(value: object, where: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise SsmspecError(f"{where} is {shown(value)}, expected a whole number from {least} to {most}")
    return value
