"""ONNX: the initializers of a graph, where they have the names of a model's tensors. The protocol buffer is walked; data stay in the file.

Sources: onnx/onnx.proto (ModelProto.graph, GraphProto.initializer, TensorProto); onnx/docs/ExternalData.md; protobuf.dev, Encoding.
"""

import math
import re
from collections.abc import Iterator
from typing import BinaryIO

from ssmspec.checkpoint.naming import MAX_TENSORS, check_names
from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import ITEMSIZE, MAX_DIMENSIONS, Contents, Span, StoredTensor, problem, short

SUFFIX = ".onnx"
GRAPH, INITIALIZER = 7, 5  # fields of ModelProto, of GraphProto
DIMS, DATA_TYPE, FLOATS, NAME, RAW, DOUBLES, EXTERNAL = 1, 2, 4, 8, 9, 10, 13  # fields of TensorProto
TYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}
TYPES |= {12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16"}
VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5  # kinds of values
ANONYMOUS = re.compile(r"onnx::.*|/.*|val_\d+|_val_\d+|const.*|\d+", re.IGNORECASE)
MOST_TEXT = 4096
ADVICE = "export it again with do_constant_folding=False, or give the weights it was exported from"
SHOWN = 3

Field = tuple[int, int, int, int]  # number, kind, and the bytes of the value; of a varint the value and 0


def read_onnx(path: Location, size: int) -> Contents:
    """Reads the descriptions of all initializers; those without a tensor's name, or of another form, are skipped with a note.

    Raises:
        CheckpointError: no ONNX graph, a damaged one, or one in which no initializer has a name of its own.
    """
    tensors: dict[str, StoredTensor] = {}
    anonymous: list[str] = []
    skipped: list[str] = []
    with path.open("rb") as file:
        walker = _Walker(file)
        try:
            for name, tensor in _initializers(path, walker, size):
                if ANONYMOUS.fullmatch(name):
                    anonymous.append(name)
                elif tensor is None or name in tensors:
                    skipped.append(name)
                else:
                    tensors[name] = tensor
                if len(tensors) + len(anonymous) + len(skipped) > MAX_TENSORS:
                    raise ValueError(f"more than {MAX_TENSORS} initializers")
        except ValueError as error:
            raise problem(path, f"no ONNX graph, or a damaged one: {error}; fetch it again") from error
    if anonymous and not tensors:
        shown = ", ".join(short(name, 40) for name in anonymous[:SHOWN])
        raise problem(path, f"an ONNX graph whose {len(anonymous)} initializers ({shown}) have no names of tensors: {ADVICE}")
    check_names(tensors, lambda text: problem(path, text))
    notes = (
        [f"initializers without names of tensors were skipped: {len(anonymous)}, such as {short(anonymous[0], 40)}"] if anonymous else []
    )
    notes += [f"initializers of another form were skipped: {len(skipped)}, such as {short(skipped[0], 40)}"] if skipped else []
    return Contents("onnx", tensors, notes=tuple(notes))


def _initializers(path: Location, walker: "_Walker", size: int) -> Iterator[tuple[str, StoredTensor | None]]:
    graphs = [(begin, end) for number, kind, begin, end in walker.fields(0, size) if (number, kind) == (GRAPH, BYTES)]
    if not graphs:
        raise ValueError("it has none")
    for begin, end in graphs:
        for number, kind, start, stop in walker.fields(begin, end):
            if (number, kind) == (INITIALIZER, BYTES):
                yield _tensor(path, walker, start, stop)


def _tensor(path: Location, walker: "_Walker", start: int, stop: int) -> tuple[str, StoredTensor | None]:
    """Name and tensor; None where its values are not plain bytes."""
    shape: list[int] = []
    name, code, data = "", 0, None
    external: dict[str, str] = {}
    for number, kind, first, last in list(walker.fields(start, stop)):
        if number == DIMS:
            shape += [first] if kind == VARINT else walker.varints(first, last)
        elif (number, kind) == (DATA_TYPE, VARINT):
            code = first
        elif (number, kind) == (NAME, BYTES):
            name = walker.text(first, last)
        elif number in (RAW, FLOATS, DOUBLES) and kind == BYTES and last > first:
            data = None if data is not None else (first, last)
        elif (number, kind) == (EXTERNAL, BYTES):
            entry = {field: walker.text(a, b) for field, wire, a, b in list(walker.fields(first, last)) if wire == BYTES}
            external[entry.get(1, "")] = entry.get(2, "")
    if code not in TYPES or len(shape) > MAX_DIMENSIONS:
        return name, None
    nbytes = math.prod(shape) * ITEMSIZE[TYPES[code]]
    span = _beside(path, name, external, nbytes) if external else None
    if data is not None and data[1] - data[0] == nbytes:
        span = Span(path, data[0], nbytes)
    if span is None and not nbytes:
        span = Span(path, 0, 0)
    return name, None if span is None else StoredTensor(name, tuple(shape), TYPES[code], span)


def _beside(path: Location, name: str, told: dict[str, str], nbytes: int) -> Span:
    """Data in a file of its own, beside the graph.

    Raises:
        CheckpointError: not a plain name, a file that is missing, or bytes outside of it.
    """
    place, offset = told.get("location", ""), told.get("offset") or "0"
    if place in ("", ".", "..") or "/" in place or "\\" in place or "\0" in place:
        raise problem(
            path, f"external data '{short(place)}' of '{short(name)}' is not a plain file name in the graph's own folder; not opened"
        )
    file = path.parent / place
    if not file.is_file():
        raise problem(path, f"external data '{short(place)}' is missing from the folder; fetch it, too")
    if not offset.isdigit() or len(offset) > 18 or int(offset) + nbytes > file.stat().st_size:
        raise problem(path, f"'{short(name)}' reaches beyond the end of '{short(place)}'; fetch both again")
    return Span(file, int(offset), nbytes)


class _Walker:
    """Reads fields of a protocol buffer, each within its bounds."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def fields(self, start: int, stop: int) -> Iterator[Field]:
        at = start
        while at < stop:
            tag, at = self._varint(at, stop)
            number, kind = tag >> 3, tag & 7
            if not number:
                raise ValueError(f"a field without number at byte {at}")
            if kind == VARINT:
                value, at = self._varint(at, stop)
                yield number, kind, value, 0
                continue
            if kind == BYTES:
                length, at = self._varint(at, stop)
            elif kind in (FIXED_32, FIXED_64):
                length = 4 if kind == FIXED_32 else 8
            else:
                raise ValueError(f"a field of the unknown kind {kind} at byte {at}")
            if at + length > stop:
                raise ValueError(f"a field at byte {at} reaches beyond its end")
            yield number, kind, at, at + length
            at += length

    def _varint(self, at: int, stop: int) -> tuple[int, int]:
        self.file.seek(at)
        data = self.file.read(min(10, stop - at))
        value = 0
        for index, byte in enumerate(data):
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value & (2**64 - 1), at + index + 1
        raise ValueError(f"a number at byte {at} has no end")

    def varints(self, start: int, stop: int) -> list[int]:
        found: list[int] = []
        while start < stop and len(found) <= MAX_DIMENSIONS:
            value, start = self._varint(start, stop)
            found.append(value)
        return found

    def text(self, start: int, stop: int) -> str:
        if stop - start > MOST_TEXT:
            raise ValueError(f"a text of {stop - start} bytes at byte {start}")
        self.file.seek(start)
        return self.file.read(stop - start).decode("utf-8", "replace")
