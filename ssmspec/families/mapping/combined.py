"""A second tensor by which the first one of a quantity is multiplied, or which is added to it: the keys `times`, `plus` and `then`.

    value = then(transform(tensor) * transform(times)),   or with a sum:   then(transform(tensor) + transform(plus))

A changed value is written to the first tensor; the second one stays.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssmspec.errors import SsmspecError
from ssmspec.families.mapping.transform import Transform, parse_transform
from ssmspec.families.template import LayerTensors
from ssmspec.files.reading import known_keys, one_line, shown
from ssmspec.systems.statespace import FloatArray

OPERATIONS = ("times", "plus")


@dataclass(frozen=True, slots=True)
class Other:
    """The second tensor of a quantity.

    Args:
        operation: times or plus. name: below the prefix of the layer.
        axes: in any order; all of them are axes of the first tensor. transform: from the stored numbers.
    """

    operation: str
    name: str
    axes: tuple[str, ...]
    transform: Transform

    def role(self, quantity: str) -> str:
        """Its role in the template of the family."""
        return f"{quantity}.{self.operation}"

    def values(self, layer: LayerTensors, quantity: str, axes: tuple[str, ...]) -> FloatArray:
        """Its values with the axes of the first tensor, and size 1 for those that it lacks."""
        array = self.transform.apply(layer.array(self.role(quantity)))
        sizes = {axis: size for axis, size in zip(self.axes, array.shape, strict=True) if axis != "1"}
        order = [list(sizes).index(axis) for axis in axes if axis in sizes]
        return array.reshape(tuple(sizes.values())).transpose(order).reshape([sizes.get(axis, 1) for axis in axes])

    def combine(self, first: np.ndarray, second: FloatArray) -> np.ndarray:
        """The product or the sum."""
        with np.errstate(all="ignore"):
            return np.asarray(first * second if self.operation == "times" else first + second)

    def separate(self, value: np.ndarray, second: FloatArray) -> np.ndarray:
        """The first one from the product or the sum; not finite where the second one is zero in a product."""
        with np.errstate(all="ignore"):
            return np.asarray(value / second if self.operation == "times" else value - second)


def parse_other(table: Mapping[str, Any], axes: tuple[str, ...], where: str) -> Other | None:
    """The second tensor that the table of a quantity names, if any: by its name, or by a table with tensor, transform and axes.

    Args:
        axes: those of the first tensor, which the second one has unless its table says otherwise.
    Raises:
        SsmspecError: two operations, or an invalid value; one line that begins with `where`.
    """
    named = [key for key in OPERATIONS if key in table]
    if len(named) > 1:
        raise SsmspecError(f"{where}: times and plus are given; expected one of them")
    if not named:
        return None
    key, where = named[0], f"{where}: {named[0]}"
    entry = table[key] if isinstance(table[key], dict) else {"tensor": table[key]}
    known_keys(entry, ("tensor", "transform", "axes"), where)
    name, own = entry.get("tensor"), entry.get("axes", " ".join(axes))
    if not isinstance(name, str) or not name or "|" in name:
        raise SsmspecError(f"{where} is {shown(name)}, expected the name of a tensor below the prefix, or a table with tensor = ...")
    letters = tuple(own.split()) if isinstance(own, str) else ()
    own_letters = [letter for axis in letters if axis != "1" for letter in axis.split("*")]
    counted = [letter for axis in axes for letter in axis.split("*")]
    if not isinstance(own, str) or not set(own_letters) <= set(counted) or len(set(own_letters)) < len(own_letters):
        raise SsmspecError(f"{where}: axes are {shown(own)}, expected some of {' '.join(axes)!r}, and 1, once each")
    return Other(key, name, letters, parse_text(entry.get("transform", "none"), where))


def parse_text(text: object, where: str, scale: float = 1.0) -> Transform:
    """A transform.

    Raises:
        SsmspecError: the text is none; one line that begins with `where`.
    """
    if not isinstance(text, str):
        raise SsmspecError(f"{where}: transform is {shown(text)}, expected a text such as '-exp'")
    try:
        return parse_transform(text, scale)
    except SsmspecError as error:
        raise SsmspecError(f"{where}: {one_line(str(error), 400)}") from error
