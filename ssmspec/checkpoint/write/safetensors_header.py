"""Write safetensors files with a new header: added tensors and merged metadata; the bytes of all other tensors are copied unchanged."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ssmspec.checkpoint.formats.safetensors import DTYPES, METADATA, read_header
from ssmspec.checkpoint.tensors import ITEMSIZE, problem, short
from ssmspec.checkpoint.write.splice import Splice

CODES = {name: code for code, name in DTYPES.items()}
ALIGNMENT = 8  # bytes; the header is padded with spaces so that the tensors begin at a multiple


@dataclass(frozen=True, slots=True)
class _Part:
    """A tensor in the order of the new file: `stop` is where it ends in the source (0 if it is not there), `data` its new content."""

    name: str
    itemsize: int
    nbytes: int
    stop: int = 0
    data: bytes | None = None


def write_with_header(
    splice: Splice,
    size: int,
    added: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str],
    replaced: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Copies a file of `size` bytes with a new header. Added tensors are sorted in by decreasing element size.

    Tensors that are replaced stay in their place in the order; their dtype must be the stored one, their shape may be another.

    Every tensor therefore stays at a multiple of its element size, as the libraries that write the format do.

    Raises:
        CheckpointError: an added tensor has a dtype that the format does not support.
        OSError: for example, the disk is full.
    """
    header, base = read_header(splice.path, size)
    merged = {**header.pop(METADATA, {}), **{plain_text(key): plain_text(value) for key, value in metadata.items()}}
    new = replaced or {}
    for name, array in new.items():
        header[name]["shape"] = list(array.shape)
    parts = [
        _old_part(name, entry, base, new.get(name)) for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    ]
    for name, array in added.items():
        header[name] = {"dtype": _code(splice, name, array), "shape": list(array.shape)}
        place = max((index + 1 for index, part in enumerate(parts) if part.itemsize >= array.dtype.itemsize), default=0)
        parts.insert(place, _Part(name, array.dtype.itemsize, array.nbytes, data=_little_endian(array)))
    position = 0
    for part in parts:
        header[part.name]["data_offsets"] = [position, position + part.nbytes]
        position += part.nbytes
    splice.append(header_bytes({METADATA: merged, **header} if merged else header))
    splice.skip(base)
    _append_parts(splice, parts)


def _old_part(name: str, entry: Mapping[str, Any], base: int, new: NDArray[Any] | None) -> _Part:
    start, stop = entry["data_offsets"]
    data = None if new is None else _little_endian(new)
    return _Part(name, ITEMSIZE[DTYPES[entry["dtype"]]], stop - start if data is None else len(data), base + stop, data)


def _append_parts(splice: Splice, parts: Sequence[_Part]) -> None:
    stop = splice.position
    for part in parts:
        if part.data is None:
            stop = part.stop
        else:
            splice.through(stop)
            splice.append(part.data)
            stop = part.stop or stop
            splice.skip(stop)
    splice.through(stop)


def plain_text(text: str) -> str:
    """Text that can be encoded as UTF-8; file names sometimes cannot."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _code(splice: Splice, name: str, array: NDArray[Any]) -> str:
    code = CODES.get(array.dtype.name)
    if code is None:
        text = f"tensor '{short(name)}' of dtype {array.dtype} cannot be added: safetensors stores {', '.join(CODES)}; convert it"
        raise problem(splice.path, text)
    return code


def _little_endian(array: NDArray[Any]) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def header_bytes(header: Mapping[str, Any]) -> bytes:
    """The length of a header and the header, padded."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
