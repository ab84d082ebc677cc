"""Tensors whose reads are observed: which bytes of a layer its reader needs."""

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from ssmspec.families.template import Tensor


class Observed:
    """A tensor that reports which rows are read.

    Args:
        on_read: called before a read with its rows; None for all of them.
    """

    def __init__(self, tensor: Tensor, on_read: Callable[[slice | None], object]) -> None:
        self.tensor, self._on_read = tensor, on_read

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def dtype(self) -> str:
        return self.tensor.dtype

    def read(self, rows: slice | None = None) -> npt.NDArray[Any]:
        self._on_read(rows)
        return self.tensor.read(rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tensor, name)  # what a tensor that is stored as codes says of itself
