"""The directions of a block: each is a layer of its own, which has some of the block's tensors, or rows of them.

A reader makes a part for every direction, reads it as a layer of one direction, and puts together what is written for the parts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import LayerError
from ssmspec.families.template import LayerTensors, Tensor

Values = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a stored tensor, in a shape of their own; only they are read.

    Args:
        first: number of the first row along axis 0 of the stored tensor.
    """

    tensor: Tensor
    first: int
    shape: tuple[int, ...]

    @property
    def dtype(self) -> str:
        return self.tensor.dtype

    def read(self, rows: slice | None = None) -> npt.NDArray[Any]:
        count = math.prod(self.shape) // math.prod(self.tensor.shape[1:])
        values = self.tensor.read(slice(self.first, self.first + count)).reshape(self.shape)
        return values if rows is None else values[rows]


def part(layer: LayerTensors, label: str, roles: Mapping[str, str], tensors: Mapping[str, Tensor] | None = None) -> LayerTensors:
    """One direction as a layer of its own.

    Args:
        label: end of its name. roles: role in the part -> role in the block, for the tensors that the block has.
        tensors: those of the part by their role in the block; by default the block's own.
    """
    held = layer.tensors if tensors is None else tensors
    own = {role: of_block for role, of_block in roles.items() if of_block in layer}
    return replace(
        layer,
        name=layer.name + label,
        tensors={role: held[of_block] for role, of_block in own.items()},
        tensor_names={role: layer.tensor_names[of_block] for role, of_block in own.items()},
    )


def stacked(layer: LayerTensors, count: int, shapes: Mapping[str, tuple[int, ...]]) -> list[dict[str, Tensor]]:
    """For every one of the directions that a tensor holds along its first axis, its rows, by role.

    Args:
        shapes: of one direction's part of every tensor that is there.
    """
    return [
        {
            role: Rows(layer.tensors[role], number * layer.tensors[role].shape[0] // count, shape)
            for role, shape in shapes.items()
            if role in layer
        }
        for number in range(count)
    ]


def unstacked(layer: LayerTensors, written: Sequence[Values]) -> dict[str, npt.NDArray[Any]]:
    """What the stored tensors must hold for the values of every direction; the inverse of `stacked`."""
    return {
        role: np.concatenate([values[role].reshape(-1) for values in written]).reshape(layer.tensors[role].shape) for role in written[0]
    }


def together(layer: LayerTensors, written: Sequence[tuple[Mapping[str, str], Values]]) -> dict[str, npt.NDArray[Any]]:
    """The values for the block from those for its directions, each with its roles as for `part`.

    Raises:
        LayerError: a tensor that directions share would have to hold different values.
    """
    stored: dict[str, npt.NDArray[Any]] = {}
    for roles, values in written:
        for role, array in values.items():
            known = stored.setdefault(roles[role], array)
            if not np.array_equal(known, array, equal_nan=True):
                name = layer.tensor_names[roles[role]]
                raise LayerError(f"layer {layer.name}: directions that share {name} were changed differently; they must change together")
    return stored
