"""flax msgpack: nested maps whose arrays are extension values. They are parsed in the file; array data is located but not read.

Sources: https://github.com/msgpack/msgpack/blob/master/spec.md; flax/serialization.py (_MsgpackExtType, _ndarray_to_bytes, _chunk).
"""

import math
import struct
from dataclasses import replace
from typing import BinaryIO

from ssmspec.checkpoint.naming import name_tree
from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import ITEMSIZE, MAX_DIMENSIONS, Contents, Span, StoredTensor, problem, short

NDARRAY, COMPLEX, SCALAR = 1, 2, 3  # extension codes of flax
CHUNKED = "__msgpack_chunked_array__"  # flax splits arrays above 1 GiB
MAX_DEPTH = 200
MAX_VALUES = 2_000_000
MAX_TEXT = 64 * 2**20  # total bytes of names and other short texts
MAX_BYTES_KEPT = 4096  # longer text and binary values are neither names nor configuration

SIZED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
BYTES = (0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB)  # bin, and str for writers without use_bin_type
NUMBERS = {
    **{0xCA: ">f", 0xCB: ">d"},
    **dict(zip(range(0xCC, 0xD0), (">B", ">H", ">I", ">Q"), strict=True)),
    **dict(zip(range(0xD0, 0xD4), (">b", ">h", ">i", ">q"), strict=True)),
}
CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
DAMAGED = "msgpack data (flax?) that cannot be decoded completely"


def read_flax(path: Location, size: int) -> Contents:
    """Reads keys and array headers; array bytes stay in the file.

    Raises:
        CheckpointError: not msgpack, truncated, trailing bytes, nested too deeply, or an array that contradicts its own shape.
    """
    with path.open("rb") as file:
        walker = _Walker(path, file, size)
        try:
            root = walker.value(0)
        except (ValueError, struct.error) as error:
            raise problem(path, f"{DAMAGED}: {error} at byte {walker.at}; fetch it again") from error
    if walker.at != size:
        raise problem(path, f"{DAMAGED}: {size - walker.at} bytes follow its top-level value; fetch it again")
    named = name_tree(root, lambda text: problem(path, text))
    tensors = {name: replace(leaf, name=name) for name, leaf in named.leaves.items() if isinstance(leaf, StoredTensor)}
    return Contents("flax msgpack", tensors, named.config, named.notes)


def array_starts(path: Location, size: int) -> dict[int, int]:
    """Where the values begin that hold arrays, by the byte at which the data of each begin."""
    with path.open("rb") as file:
        walker = _Walker(path, file, size)
        walker.value(0)
    return walker.starts


def array_value(shape: tuple[int, ...], dtype: str, data: bytes) -> bytes:
    """An array as flax writes it: an extension value with msgpack of (shape, dtype name, bytes)."""
    sizes = b"".join(b"\xce" + size.to_bytes(4, "big") for size in shape)
    name = dtype.encode("ascii")
    inner = bytes((0x93, 0x90 | len(shape))) + sizes + bytes((0xA0 | len(name),)) + name + b"\xc6" + len(data).to_bytes(4, "big") + data
    return b"\xc9" + len(inner).to_bytes(4, "big") + bytes((NDARRAY,)) + inner


class _Walker:
    def __init__(self, path: Location, file: BinaryIO, size: int) -> None:
        self.path, self.file, self.size, self.at, self.values, self.text = path, file, size, 0, 0, 0
        self.starts: dict[int, int] = {}  # of the values that hold arrays, by where the data begin

    def take(self, count: int) -> bytes:
        if self.at + count > self.size:
            raise ValueError("truncated")
        self.at += count
        return self.file.read(count)

    def skip(self, count: int) -> None:
        if self.at + count > self.size:
            raise ValueError("truncated")
        self.at += count
        self.file.seek(self.at)

    def value(self, depth: int) -> object:
        """One value; containers recursively, arrays as StoredTensor."""
        self.values += 1
        start = self.at
        if depth > MAX_DEPTH or self.values > MAX_VALUES:
            raise ValueError(f"more than {MAX_DEPTH} nesting levels or {MAX_VALUES} values")
        code = self.take(1)[0]
        if code in CONSTANTS:
            return CONSTANTS[code]
        if code in NUMBERS:
            return struct.unpack(NUMBERS[code], self.take(struct.calcsize(NUMBERS[code])))[0]
        if code < 0x80 or code >= 0xE0:
            return code if code < 0x80 else code - 0x100
        found = self._sized(code, depth)
        if isinstance(found, StoredTensor) and not found.span.chunks:
            self.starts[found.span.offset] = start
        return found

    def _sized(self, code: int, depth: int) -> object:
        if code < 0xC0:
            kind, count = (0xDE, code & 0x0F) if code < 0x90 else (0xDC, code & 0x0F) if code < 0xA0 else (0xD9, code & 0x1F)
        elif 0xD4 <= code <= 0xD8:
            kind, count = 0xC7, 1 << (code - 0xD4)
        elif code in SIZED:
            kind, count = code, int.from_bytes(self.take(SIZED[code]), "big")
        else:
            raise ValueError(f"invalid code 0x{code:02x}")
        if kind in (0xDE, 0xDF):
            return self._map(count, depth)
        if kind in (0xDC, 0xDD):
            return [self.value(depth + 1) for _ in range(count)]
        if kind in (0xC7, 0xC8, 0xC9):
            return self._extension(count, depth)
        return self._text(count, binary=kind in (0xC4, 0xC5, 0xC6))

    def _text(self, count: int, *, binary: bool) -> object:
        if count > MAX_BYTES_KEPT:
            self.skip(count)
            return None
        self.text += count
        if self.text > MAX_TEXT:
            raise ValueError(f"more than {MAX_TEXT} bytes of text")
        data = self.take(count)
        return data if binary else data.decode("utf-8")

    def _map(self, count: int, depth: int) -> object:
        entries: dict[object, object] = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, str | int | bytes):
                raise ValueError(f"a key of type {type(key).__name__}")
            entries[key] = self.value(depth + 1)
        return self._joined(entries) if CHUNKED in entries else entries

    def _extension(self, count: int, depth: int) -> object:
        code = self.take(1)[0]
        end = self.at + count
        if code in (NDARRAY, SCALAR):
            array = self._array(end)
            if array is None:
                self.skip(end - self.at)
            return array.read().item() if array is not None and code == SCALAR and array.nbytes <= 16 and not array.shape else array
        if code == COMPLEX:
            parts = self.value(depth + 1)
            if self.at != end or not isinstance(parts, list) or len(parts) != 2:
                raise ValueError("a complex number that is not two floats")
            return complex(*parts)
        self.skip(count)
        return None

    def _array(self, end: int) -> StoredTensor | None:
        """An array, encoded as msgpack (shape, dtype name, bytes); None for dtypes that are not plain numbers."""
        if self.take(1)[0] != 0x93:
            raise ValueError("an array that is not (shape, dtype, bytes)")
        shape, name = self.value(0), self.value(0)
        name = name.decode("latin-1") if isinstance(name, bytes) else name
        if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("an array shape that is not a list of non-negative integers")
        if name not in ITEMSIZE:
            return None
        code = self.take(1)[0]
        if code in BYTES:
            nbytes = int.from_bytes(self.take(SIZED[code]), "big")
        elif 0xA0 <= code < 0xC0:
            nbytes = code & 0x1F
        else:
            raise ValueError("array bytes that are not binary")
        if nbytes != math.prod(shape) * ITEMSIZE[name] or self.at + nbytes != end:
            raise ValueError(f"an array of shape {short(str(shape), 60)} and dtype {name} with {nbytes} bytes")
        start = self.at
        self.skip(nbytes)
        return StoredTensor("", tuple(shape), name, Span(self.path, start, nbytes))

    def _joined(self, entries: dict[object, object]) -> StoredTensor:
        """An array that flax has split: {"shape": {"0": n, ...}, "chunks": {"0": 1-d array, ...}}."""
        shape, chunks = _sequence(entries.get("shape")), _sequence(entries.get("chunks"))
        parts = [chunk for chunk in chunks if isinstance(chunk, StoredTensor)]
        sizes = [n for n in shape if type(n) is int and n >= 0]
        if not parts or len(parts) != len(chunks) or len(sizes) != len(shape) or len({part.dtype for part in parts}) != 1:
            raise ValueError("a chunked array without matching chunks")
        nbytes = sum(part.nbytes for part in parts)
        if nbytes != math.prod(sizes) * ITEMSIZE[parts[0].dtype]:
            raise ValueError("a chunked array whose chunks do not fill its shape")
        pieces = tuple((part.span.offset, part.span.nbytes) for part in parts)
        return StoredTensor("", tuple(sizes), parts[0].dtype, Span(self.path, pieces[0][0], nbytes, chunks=pieces))


def _sequence(value: object) -> list[object]:
    """{"0": a, "1": b} or a list, as a list."""
    if isinstance(value, dict):
        return [value.get(str(index)) for index in range(len(value))]
    return value if isinstance(value, list) else []
