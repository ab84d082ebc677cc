"""Tensors that are stored in another form: in pieces, as codes with scales, with an adapter beside them. They are read when asked only."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import ITEMSIZE, StoredTensor, numpy_dtype, problem, short
from ssmspec.errors import CheckpointError

ADVICE = "give a checkpoint with plain values (float32, bfloat16 or float16, adapters merged)"
UNKNOWN = -1  # size of an axis that nothing tells


class NamedTensor(Protocol):
    """What every tensor of a checkpoint is: a name, a shape, a dtype, and values that are read when asked."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...
    def read(self, rows: slice | None = None) -> NDArray[Any]: ...


@dataclass(frozen=True, slots=True)
class DerivedTensor:
    """A tensor whose values are computed from others: codes that are dequantized, a weight to which an adapter is added.

    Args:
        name: the name that its values have in the model.
        shape: of the values; UNKNOWN for axes that nothing tells.
        path: the file, for messages.
        origin: what it is made from, in words; begins what is said of it: "dequantized from ...".
        encoded: the tensors that hold it in the file.
        compute: rows `first` to `last` of the values, in float32.
        refusal: why there are no values; reading raises it.
    """

    name: str
    shape: tuple[int, ...]
    path: Location
    origin: str
    encoded: tuple[NamedTensor, ...]
    compute: Callable[[int, int], NDArray[Any]] | None = field(default=None, repr=False)
    refusal: str = ""
    dtype: str = "float32"

    def read(self, rows: slice | None = None) -> NDArray[Any]:
        """The values; arguments as those of `StoredTensor.read`.

        Raises:
            CheckpointError: they cannot be computed: the text names the tensor, what it is and what to do.
        """
        if self.compute is None:
            raise problem(self.path, f"tensor '{short(self.name)}': {self.refusal}; {ADVICE}")
        return read_rows(self.name, self.path, self.shape, rows, self.compute)


@dataclass(frozen=True, slots=True)
class Piece:
    """A box of a tensor: the box of `size` from `source` on in another one belongs at `target`."""

    tensor: NamedTensor
    source: tuple[int, ...]
    size: tuple[int, ...]
    target: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class JoinedTensor:
    """A tensor that is stored in several pieces, in files or ranks of their own; of each only the rows that are asked for are read."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    path: Location
    pieces: tuple[Piece, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * ITEMSIZE[self.dtype]

    def read(self, rows: slice | None = None) -> NDArray[Any]:
        """The values; arguments and errors as those of `StoredTensor.read`, and pieces that overlap or leave gaps."""
        if not self.shape:
            return self.pieces[0].tensor.read().reshape(())
        return read_rows(self.name, self.path, self.shape, rows, self._rows)

    def _rows(self, first: int, last: int) -> NDArray[Any]:
        values = np.empty((last - first, *self.shape[1:]), numpy_dtype(self.dtype))
        filled = np.zeros(values.shape, np.bool_)
        for piece in self.pieces:
            begin, end = max(first, piece.target[0]), min(last, piece.target[0] + piece.size[0])
            if begin >= end or 0 in piece.size:
                continue
            shift = piece.source[0] - piece.target[0]
            inner = tuple(slice(start, start + count) for start, count in zip(piece.source[1:], piece.size[1:], strict=True))
            place = (
                slice(begin - first, end - first),
                *(slice(start, start + count) for start, count in zip(piece.target[1:], piece.size[1:], strict=True)),
            )
            if filled[place].any():
                raise problem(self.path, f"tensor '{short(self.name)}': its pieces overlap; save the checkpoint again")
            values[place] = piece.tensor.read(slice(begin + shift, end + shift))[(slice(None), *inner)]
            filled[place] = True
        if not filled.all():
            raise problem(self.path, f"tensor '{short(self.name)}': its pieces leave {int((~filled).sum())} values out; fetch all files")
        return values


AnyTensor = StoredTensor | JoinedTensor | DerivedTensor


def concatenated(name: str, path: Location, tensors: Sequence[NamedTensor], axis: int) -> JoinedTensor:
    """Tensors of one shape but for an axis, one after the other along it.

    Raises:
        CheckpointError: they differ in dtype, or in another axis.
    """
    first, pieces, start = tensors[0], [], 0
    for tensor in tensors:
        shape = tensor.shape
        if tensor.dtype != first.dtype or len(shape) <= axis or _without(shape, axis) != _without(first.shape, axis):
            seen = f"{first.shape} {first.dtype} and {shape} {tensor.dtype}"
            raise problem(path, f"the parts of tensor '{short(name)}' do not fit together along axis {axis}: {seen}; fetch all files again")
        pieces.append(Piece(tensor, (0,) * len(shape), shape, tuple(start if a == axis else 0 for a in range(len(shape)))))
        start += shape[axis]
    return JoinedTensor(name, (*first.shape[:axis], start, *first.shape[axis + 1 :]), first.dtype, path, tuple(pieces))


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def read_rows(
    name: str, path: Location, shape: tuple[int, ...], rows: slice | None, compute: Callable[[int, int], NDArray[Any]]
) -> NDArray[Any]:
    """What `compute` gives for a slice of rows, an axis of its own for a step; errors of any kind become one line.

    Raises:
        CheckpointError: always of this kind.
    """
    if not shape:
        raise problem(path, f"tensor '{short(name)}' has no rows; read it whole")
    picked = range(*(rows or slice(None)).indices(shape[0]))
    first, last = (min(picked[0], picked[-1]), max(picked[0], picked[-1]) + 1) if picked else (0, 0)
    try:
        values = compute(first, last)
    except CheckpointError:
        raise
    except Exception as error:  # whatever damaged bytes provoke in NumPy is one line to the user
        text = f"tensor '{short(name)}' cannot be read ({type(error).__name__}: {short(str(error))}): the file is damaged; fetch it again"
        raise problem(path, text) from error
    return values if picked.step == 1 else values[:: picked.step].copy()


def in_file(tensors: Sequence[AnyTensor]) -> Iterator[tuple[str, StoredTensor | JoinedTensor]]:
    """Tensors by the names that they have in the file: those that encode a derived one in its place."""
    for tensor in tensors:
        if isinstance(tensor, DerivedTensor):
            yield from in_file([part for part in tensor.encoded if isinstance(part, AnyTensor)])
        else:
            yield tensor.name, tensor
