"""Tensors whose reads are observed: which values of a layer its reader needs."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt

from ssmspec.families.template import Tensor, flat_values


class Observed:
    """A tensor that reports what is read of it, and of everything else tells only what it is stored as (see `ssmspec.families.encoded`).

    Args:
        on_read: called before a read with its rows; None for all of them, also where values are read in blocks.
    """

    def __init__(self, tensor: Tensor, on_read: Callable[[slice | None], object]) -> None:
        self.tensor, self._on_read = tensor, on_read
        self.origin, self.refusal = str(getattr(tensor, "origin", "")), str(getattr(tensor, "refusal", ""))
        self.encoded: Sequence[Tensor] = getattr(tensor, "encoded", ())

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def dtype(self) -> str:
        return self.tensor.dtype

    def read(self, rows: slice | None = None) -> npt.NDArray[Any]:
        self._on_read(rows)
        return self.tensor.read(rows)

    def read_flat(self, start: int, stop: int) -> npt.NDArray[Any]:
        self._on_read(None)
        return flat_values(self.tensor, start, stop)
