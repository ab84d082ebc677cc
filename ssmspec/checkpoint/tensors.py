"""The parts of a checkpoint: named tensors that know where their bytes are and read them only on request."""

import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ssmspec.checkpoint.remote.path import Location, RemoteStatus
from ssmspec.checkpoint.remote.traffic import Traffic, Transfer
from ssmspec.errors import CheckpointError

if TYPE_CHECKING:
    from ssmspec.checkpoint.derived import AnyTensor

Flag = Literal["big-endian", "conjugate", "negative", "log of minus"]

ITEMSIZE = {
    **{name: np.dtype(name).itemsize for name in ("float64", "float32", "float16", "complex64", "complex128", "bool")},
    **{name: np.dtype(name).itemsize for name in ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")},
    "bfloat16": 2,
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"), 1),
}
"""Bytes per element of every dtype that can be read; the names are those of numpy and ml_dtypes."""

LOCAL_HEADER = 30  # bytes of a zip member's header before its name
MOST_EXTRA = 512  # bytes of its name and extra field that are read with it
MAX_DIMENSIONS = 32  # the limit of numpy 1.26


def problem(path: Location | str, text: str) -> CheckpointError:
    """The one-line error about a file; control characters (newline, escape) become spaces."""
    line = f"{path}: {short(text, 700)}"
    return CheckpointError("".join(c if c.isprintable() else " " for c in line))


def short(text: str, limit: int = 120) -> str:
    """The text, shortened to a length that fits in a message."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def numpy_dtype(name: str) -> "np.dtype[np.generic]":
    """The numpy dtype of a name in ITEMSIZE; bfloat16 and float8 come from ml_dtypes, imported only for them."""
    if name.startswith(("bfloat", "float8")):
        import ml_dtypes

        special: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, name))
        return special
    return np.dtype(name)


def c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Element strides of a contiguous array in C order."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def extent(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Number of elements from the first to the last one of a strided array, both included; 0 for an empty array."""
    return 0 if 0 in shape else 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))


@dataclass(frozen=True, slots=True)
class Span:
    """Where the bytes of one tensor are.

    Args:
        path: the file.
        offset: position of the first element: in the file, in the inflated `member`, or in `data`.
        nbytes: bytes from the first to the last element, both included.
        strides: in elements; None means contiguous in C order.
        flags: conversions from bytes to values: "big-endian", "conjugate", "negative" (lazy bits of torch), "log of minus" (of GGUF).
        member: name of the deflated zip member that holds the bytes; None if they are plain bytes of the file.
        data: the bytes themselves, if the container was decoded in memory.
        chunks: (file offset, bytes) of each piece, for a tensor stored in several pieces; `nbytes` in total.
        home: of a zip member in a store: where its local header begins, and by what byte it has ended. The header is then read with the
            data, and `offset` counts from its end.
    """

    path: Location
    offset: int
    nbytes: int
    strides: tuple[int, ...] | None = None
    flags: frozenset[Flag] = frozenset()
    member: str | None = None
    data: bytes | bytearray | None = field(default=None, repr=False)
    chunks: tuple[tuple[int, int], ...] = ()
    home: tuple[int, int] | None = None

    @property
    def patchable(self) -> bool:
        """Whether writing the bytes of new values at `offset` of the file changes this tensor and nothing else."""
        return self.strides is None and not self.flags and self.member is None and self.data is None and not self.chunks

    def fetch(self, start: int, count: int) -> NDArray[np.uint8]:
        """`count` bytes of the span, beginning at byte `start`. No other bytes are read, except earlier ones of a deflated member."""
        out = np.empty(count, np.uint8)
        view = out.data
        if self.data is not None:
            view[:] = memoryview(self.data)[self.offset + start : self.offset + start + count]
        elif self.member is not None:
            with self.path.open("rb") as whole, zipfile.ZipFile(whole) as archive, archive.open(self.member) as file:
                file.seek(self.offset + start)
                _fill(self.path, file.read(count), view)
        else:
            self._fetch_from_file(start, view)
        return out

    def _fetch_from_file(self, start: int, view: memoryview) -> None:
        # No mmap: a file that is truncated meanwhile must give an error, not SIGBUS.
        with self.path.open("rb", buffering=0) as file:
            base = 0 if self.home is None else after_local_header(self.path, file, self.home[0])
            for offset, nbytes in self.chunks or ((base + self.offset, self.nbytes),):
                first, last = max(start, 0), min(start + len(view), nbytes)
                if first < last:
                    file.seek(offset + first)
                    piece, view = view[: last - first], view[last - first :]
                    while len(piece):
                        got = file.readinto(piece)
                        if not got:
                            raise problem(
                                self.path, "the file ends inside a tensor: it was cut or changed while it was read; read it again"
                            )
                        piece = piece[got:]
                    start += last - first
                start -= nbytes

    def ranges(self, start: int, count: int) -> "Iterator[tuple[Location, int, int]]":
        """The bytes of the file, from the first to behind the last, that `fetch` reads for the same arguments."""
        if self.data is not None:
            return
        if self.home is None:
            for offset, nbytes in self.chunks or ((self.offset, self.nbytes),):
                yield self.path, offset + max(start, 0), offset + min(start + count, nbytes)
                start -= nbytes
            return
        header, end = self.home
        if self.member is not None:
            yield self.path, header, end
            return
        first = header + LOCAL_HEADER + self.offset + start
        yield self.path, header, min(end, header + LOCAL_HEADER + MOST_EXTRA)
        yield self.path, first, min(end, first + count + MOST_EXTRA)


def after_local_header(path: Location, file: BinaryIO, position: int) -> int:
    """Where the data of a zip member begin whose local header begins at a position.

    Raises:
        CheckpointError: there is no local header.
    """
    file.seek(position)
    header = b""
    while len(header) < LOCAL_HEADER and (more := file.read(LOCAL_HEADER - len(header))):
        header += more
    if len(header) != LOCAL_HEADER or header[:4] != b"PK\x03\x04":
        raise problem(path, f"no member of the zip file is at byte {position}, where its directory says: it is damaged; fetch it again")
    return position + LOCAL_HEADER + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _fill(path: Location, data: bytes, view: memoryview) -> None:
    if len(data) != len(view):
        raise problem(path, "a compressed member inflates to fewer bytes than declared: the file is damaged; fetch it again")
    view[:] = data


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a checkpoint: its dotted name, its dtype and shape, and where its bytes are."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    span: Span

    @property
    def nbytes(self) -> int:
        """Bytes of the values (not of the span, which may be larger or smaller for strided tensors)."""
        return math.prod(self.shape) * ITEMSIZE[self.dtype]

    def read(self, rows: slice | None = None) -> NDArray[np.generic]:
        """The values in their stored dtype, as a new array.

        Args:
            rows: slice of axis 0; only the bytes of these rows are read (a deflated member is inflated up to their end).
        Returns:
            array of `shape` (axis 0 sliced), C order; bfloat16 and float8 as ml_dtypes dtypes.
        Raises:
            CheckpointError: the file was changed, truncated or removed since it was opened, or its bytes are damaged.
        """
        with reading(self):
            return self._read(rows)

    def read_flat(self, start: int, stop: int) -> NDArray[np.generic] | None:
        """Values start..stop-1 in C order, of which no other bytes are read; None if they do not lie together. Raises the same."""
        if self.span.strides is not None:
            return None
        with reading(self):
            size = ITEMSIZE[self.dtype]
            return decode(self.span.fetch(start * size, (stop - start) * size), numpy_dtype(self.dtype), self.span.flags)

    def ranges(self, rows: slice | None = None) -> Iterator[tuple[Location, int, int]]:
        """The bytes that `read` needs: file, first byte, byte after the last."""
        shape, first, _ = self._picked(rows)
        strides = self.span.strides or c_strides(self.shape)
        itemsize = ITEMSIZE[self.dtype]
        if 0 not in shape:
            yield from self.span.ranges((first * strides[0] if shape else 0) * itemsize, extent(shape, strides) * itemsize)

    def _picked(self, rows: slice | None) -> tuple[tuple[int, ...], int, int]:
        """The shape of the rows from the first to the last one, the first row, and the step."""
        if rows is None:
            return self.shape, 0, 1
        if not self.shape:
            raise problem(self.span.path, f"tensor '{short(self.name)}' is 0-dimensional and has no rows; read it without a slice")
        picked = range(*rows.indices(self.shape[0]))
        first, step = (min(picked[0], picked[-1]), picked.step) if picked else (0, 1)
        return (abs(picked[-1] - picked[0]) + 1 if picked else 0, *self.shape[1:]), first, step

    def _read(self, rows: slice | None) -> NDArray[np.generic]:
        shape, first, step = self._picked(rows)
        dtype, itemsize = numpy_dtype(self.dtype), ITEMSIZE[self.dtype]
        if 0 in shape:
            return np.empty(shape, dtype)
        strides = self.span.strides or c_strides(self.shape)
        start = first * strides[0] if shape else 0
        values = decode(self.span.fetch(start * itemsize, extent(shape, strides) * itemsize), dtype, self.span.flags)
        if self.span.strides is None:
            array = values.reshape(shape)
            return array if step == 1 else array[::step].copy()
        view: NDArray[np.generic] = np.lib.stride_tricks.as_strided(values, shape, [stride * itemsize for stride in strides])
        return (view if step == 1 else view[::step]).copy(order="C")


@contextmanager
def reading(tensor: StoredTensor) -> Iterator[None]:
    """Turn every error of the block, which reads bytes of a tensor, into one line that names it.

    Raises:
        CheckpointError: always of this kind.
    """
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        raise problem(tensor.span.path, f"tensor '{short(tensor.name)}' cannot be read: {error.strerror or error}") from error
    except Exception as error:  # any error of zlib, zipfile or numpy on damaged bytes becomes one line
        text = f"tensor '{short(tensor.name)}' cannot be read ({type(error).__name__}: {error}): the file is damaged; fetch it again"
        raise problem(tensor.span.path, text) from error


def decode(raw: NDArray[np.uint8], dtype: "np.dtype[np.generic]", flags: frozenset[Flag]) -> NDArray[np.generic]:
    """The values that bytes hold."""
    if dtype == np.bool_:
        return np.not_equal(raw, 0)
    if "big-endian" in flags and dtype.itemsize > 1:
        unit = dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize
        raw = raw.view(f"u{unit}").byteswap().view(np.uint8)
    values: NDArray[np.generic] = raw.view(dtype)
    if "conjugate" in flags:
        values = np.conjugate(values)
    if "log of minus" in flags:
        with np.errstate(invalid="ignore", divide="ignore"):  # a value that is not negative has no logarithm, which is reported as NaN
            return np.asarray(np.log(np.negative(values)), dtype)
    return np.negative(values) if "negative" in flags else values


@dataclass(frozen=True, slots=True)
class Stamp:
    """Used to detect that a file was changed: its size [bytes] and modification time [ns]."""

    size: int
    modified: int

    @classmethod
    def of(cls, status: os.stat_result | RemoteStatus) -> "Stamp":
        """The stamp of a file, from its status."""
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Contents:
    """What the reader of a container found. The names are final, but not their order. `unjoined`: see `Checkpoint`."""

    container: str
    tensors: Mapping[str, "AnyTensor"]
    config: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    files: Mapping[Location, Stamp] = field(default_factory=dict)
    unjoined: tuple[str, ...] = ()


class Described(Protocol):
    """The common description of every source of named tensors: its name in messages, and its configuration."""

    @property
    def path(self) -> Location | str: ...
    @property
    def config(self) -> Mapping[str, object]: ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An opened checkpoint: everything but the tensor bytes.

    Args:
        path: the path that was given: a file, an index or a folder.
        container: "safetensors", "torch zip", "torch legacy", "pickle", "npz", "flax msgpack", "equinox", "gguf", "onnx", "hdf5"; followed
            by " (sharded)" for several files; "torch distributed", "orbax"; followed by " (tensor-parallel ranks)" for the files of several
            ranks.
        size: bytes on disk, including all shards.
        tensors: by dotted name, in natural order ("blocks.10" after "blocks.2"); quantized and adapted weights are the weights they encode.
        config: config.json of the folder, or the file's own hyper_parameters, config or args; plain values only.
        notes: what was skipped or is unusual, in words.
        files: the files that hold the tensors, and their index, with their stamps at the time of opening.
        assembled: tensors are assembled from pieces in several files, which are for reading only; `write_changed` makes a new file.
        unjoined: names of tensors that were skipped because no rule says how their pieces are joined.
        traffic, revision: of a remote checkpoint, what was read until now, and the state of its store (a commit), if that has a name.
        partial: which part of a model this is ("tensor-parallel rank 0 of 2"); "" for a whole model.
    """

    path: Location
    container: str
    size: int
    tensors: Mapping[str, "AnyTensor"]
    config: Mapping[str, object]
    notes: tuple[str, ...]
    files: Mapping[Location, Stamp] = field(default_factory=dict)
    assembled: bool = False
    unjoined: tuple[str, ...] = ()
    partial: str = ""
    traffic: Traffic | None = None
    revision: str | None = None

    @property
    def transfer(self) -> Transfer | None:
        """What was read over the network until now; None of a local checkpoint."""
        return None if self.traffic is None else Transfer(self.traffic.bytes, self.traffic.requests, self.revision)
