"""All values of a tensor in bounded memory, in one pass over its bytes, for work that looks at every one of them."""

import math
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ssmspec.checkpoint.tensors import ITEMSIZE, StoredTensor, decode, extent, numpy_dtype, problem, reading

BLOCK = 1 << 23  # bytes of a block; a single row of a tensor with gaps may be larger


class Readable(Protocol):
    """What a tensor of any source can do."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    def read(self, rows: slice | None = None) -> NDArray[Any]: ...


def in_blocks(tensor: Readable) -> Iterator[NDArray[Any]]:
    """The values of a tensor in any order, each block a flat array. Values that a tensor repeats along an axis come once.

    Raises:
        CheckpointError: as `StoredTensor.read`.
    """
    if isinstance(tensor, StoredTensor):
        with reading(tensor):
            yield from _stored(tensor)
    else:
        yield from _rows(tensor)


def _stored(tensor: StoredTensor) -> Iterator[NDArray[Any]]:
    strides = tensor.span.strides
    if strides is not None:  # an axis of stride 0 repeats its values, be it a million times
        kept = tuple(1 if stride == 0 else size for size, stride in zip(tensor.shape, strides, strict=True))
        tensor = replace(tensor, shape=kept)
        if math.prod(kept) != extent(kept, strides):  # there are gaps, or values that overlap
            yield from _rows(tensor)
            return
    count, itemsize = math.prod(tensor.shape), ITEMSIZE[tensor.dtype]
    for raw in _bytes(tensor, count * itemsize):
        yield decode(raw, numpy_dtype(tensor.dtype), tensor.span.flags)


def _bytes(tensor: StoredTensor, count: int) -> Iterator[NDArray[np.uint8]]:
    """The first bytes of a span. A deflated member is inflated once, not from its beginning for every block."""
    span = tensor.span
    if span.member is None or span.data is not None:
        for start in range(0, count, BLOCK):
            yield span.fetch(start, min(BLOCK, count - start))
        return
    with span.path.open("rb") as whole, zipfile.ZipFile(whole) as archive, archive.open(span.member) as file:
        file.seek(span.offset)
        for start in range(0, count, BLOCK):
            data = file.read(min(BLOCK, count - start))
            if len(data) < min(BLOCK, count - start):
                raise problem(span.path, "a compressed member inflates to fewer bytes than declared: the file is damaged; fetch it again")
            yield np.frombuffer(data, np.uint8)


def _rows(tensor: Readable) -> Iterator[NDArray[Any]]:
    if not tensor.shape:
        yield tensor.read().reshape(-1)
        return
    row = math.prod(tensor.shape[1:]) * ITEMSIZE[tensor.dtype]
    height = max(1, BLOCK // max(1, row))
    for start in range(0, tensor.shape[0], height):
        yield tensor.read(slice(start, start + height)).reshape(-1)
