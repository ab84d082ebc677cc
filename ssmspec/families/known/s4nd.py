"""S4ND: an S4 kernel per axis of the data, whose product over the axes is the convolution kernel. Every axis is a layer of its own.

    K[c, h, l1, l2, ..] = k1[c, h, l1] k2[c, h, l2] ..,   y = K * u + D u

Axis number i of the data has its tensors under kernel.i, which are those of an S4 kernel v4 (`ssmspec.families.known.s4_block`), of low
rank or diagonal. With twice as many channels in C as in D every axis runs in two directions. D is a skip beside all axes together, and
counts with none of them.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from ssmspec.families.directions import part
from ssmspec.families.known import s4_block
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot, Template
from ssmspec.systems.statespace import StateSpace

MOST_AXES = 4  # what its code can slice
ASSUMED = (
    "one axis of a convolution whose kernel is the product over all axes; the skip D belongs to all of them together",
    "trank 1 (the code's default; the file does not say): the channels of C are directions, not ranks of the product",
)


def _numbers(layer: LayerTensors) -> list[int]:
    return [axis for axis in range(MOST_AXES) if f"C.axis{axis}" in layer]


def _diagonal(layer: LayerTensors, options: ReadOptions) -> bool:
    """Whether an axis has no low-rank part."""
    return any(f"P.axis{axis}" not in layer for axis in _numbers(layer))


def _axes(layer: LayerTensors) -> list[LayerTensors]:
    """Every axis as the kernel of one layer, with the sizes that it has; without D."""
    found = []
    for axis in _numbers(layer):
        end = f".axis{axis}"
        roles = {role.removesuffix(end): role for role in layer.tensors if role.endswith(end)}
        own = {symbol.removesuffix(str(axis)): size for symbol, size in layer.sizes.items() if symbol.endswith(str(axis))}
        sizes = {symbol: size for symbol, size in layer.sizes.items() if not symbol[-1].isdigit()} | own
        found.append(replace(part(layer, f":axis{axis}", roles), sizes=sizes))
    return found


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """The systems of every axis, each as an S4 block."""
    systems = [system for axis in _axes(layer) for system in s4_block.read(axis, options)]
    return [replace(system, assumptions=(*system.assumptions, *ASSUMED)) for system in systems]


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The inverse of `read`; D stays."""
    stored: dict[str, npt.NDArray[Any]] = {"D": layer.array("D")} if "D" in layer else {}
    for axis in _axes(layer):
        own = [system for system in systems if system.name == axis.name or system.name.startswith(f"{axis.name}:")]
        end = axis.name.rpartition(":")[2]
        stored |= {f"{role}.{end}": values for role, values in s4_block.write(axis, own, options).items()}
    return stored


def _template(slots: Template) -> Template:
    """The slots of one kernel for every axis; those of the first are required, and a low-rank part has all of its tensors or none."""
    found: dict[str, Slot] = {"D": Slot("D", "skip H", optional=True)}
    for axis in range(MOST_AXES):
        for role, slot in slots.items():
            shape = re.sub(r"\b(?!H\b)([A-Za-z]+)", rf"\g<1>{axis}", slot.shape)
            group = f"{slot.group} {axis}" if slot.group else None if axis == 0 else f"axis {axis}"
            found[f"{role}.axis{axis}"] = replace(slot, names=f"kernel.{axis}.{slot.names}", shape=shape, group=group)
    return found


_KERNEL: Template = {
    "A_real": Slot("A_real", "S N"),
    "A_imag": Slot("A_imag", "S N"),
    "inv_dt": Slot("inv_dt", "H 1|H N"),
    "C": Slot("C", "ch H N ~"),
    "B": Slot("B", "1 S N ~"),
    "P": Slot("P", "R S N ~", group="low rank"),
    "l_kernel": Slot("l_kernel", "", optional=True, group="low rank"),
}

S4ND = Family(
    name="s4nd",
    title="S4ND, an S4 kernel per axis",
    source="state-spaces/s4, src/models/sequence/modules/s4nd.py; arXiv 2210.06583",
    templates=(_template(_KERNEL),),
    read=read,
    write=write,
    unreduced="the kernel of the layer is the product over its axes, of which each is reduced to an error that says nothing about the"
    " product; train it with a smaller d_state instead",
    assumptions=(
        replace(s4_block.RULE, applies=_diagonal),
        s4_block.REAL,
        s4_block.IMAG,
        s4_block.STEP,
        replace(
            s4_block.IS_REAL,
            about="whether the poles are real, and the stored A_imag is not used",
            applies=_diagonal,
            told=lambda layer, config: None,
            told_by="nothing",
        ),
    ),
)
