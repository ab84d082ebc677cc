"""safetensors: 8 bytes header length, a JSON header, tensor bytes.

Source: https://github.com/huggingface/safetensors README, "Format" (no holes, no overlaps, header <= 100 MB).
"""

import math
from typing import Any

from ssmspec.checkpoint.formats.json_text import MAX_BYTES, parse_json
from ssmspec.checkpoint.naming import check_names
from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import ITEMSIZE, MAX_DIMENSIONS, Contents, Span, StoredTensor, problem, short

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "BOOL": "bool",
    **{f"{sign}{bits}": f"{name}{bits}" for sign, name in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)},
}
METADATA = "__metadata__"


def read_safetensors(path: Location, size: int) -> Contents:
    """Reads the header only.

    Raises:
        CheckpointError: truncated, too long, not JSON, entries of the wrong type, or bytes outside the file, overlapping or unclaimed.
    """
    header, base = read_header(path, size)
    metadata = header.pop(METADATA, None)
    if metadata is not None and not (isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())):
        raise problem(path, f"safetensors {METADATA} must map names to strings; write the file again")
    check_names(header, lambda text: problem(path, text))
    tensors = {name: tensor_at(path, name, entry, base, size) for name, entry in header.items()}
    _check_layout(path, tensors, base, size)
    return Contents("safetensors", tensors, {METADATA: metadata} if metadata else {})


def read_header(path: Location, size: int, start: int = 0) -> tuple[dict[str, Any], int]:
    """The header, with unchecked entries, and the byte where the tensors begin.

    Args:
        path, size: the file. start: where in it the safetensors data begin.
    Raises:
        CheckpointError: there is no header, or it is truncated, too long or not a JSON object.
    """
    with path.open("rb") as file:
        file.seek(start)
        length = int.from_bytes(file.read(8), "little")
        if size < start + 8 or length > MAX_BYTES:
            raise problem(path, f"not a safetensors file: the header length is {length}, expected at most {MAX_BYTES} bytes")
        end = start + 8 + length
        if end > size:
            raise problem(path, f"truncated safetensors: the header ends at byte {end}, but the file has {size}; fetch it again")
        try:
            header = parse_json(file.read(length))
        except ValueError as error:
            raise problem(path, f"the safetensors header is not valid JSON ({error}); fetch the file again") from error
    if not isinstance(header, dict):
        raise problem(path, f"the safetensors header is a JSON {type(header).__name__}, expected an object; fetch the file again")
    return header, end


def tensor_at(path: Location, name: str, entry: object, base: int, size: int) -> StoredTensor:
    """The tensor of an entry of the header, its bytes counted from `base`.

    Raises:
        CheckpointError: an entry of another form, or bytes outside the file.
    """
    label = f"safetensors entry '{short(name)}'"
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise problem(path, f"{label} needs dtype, shape and data_offsets; fetch the file again")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise problem(path, f"{label} has dtype {short(str(dtype), 40)}, expected one of {', '.join(DTYPES)}; convert it")
    if not _naturals(shape) or len(shape) > MAX_DIMENSIONS:
        raise problem(path, f"{label} has shape {short(str(shape), 60)}, expected at most {MAX_DIMENSIONS} non-negative integers")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise problem(path, f"{label} has data_offsets {short(str(offsets), 60)}, expected two integers, 0 <= begin <= end")
    begin, end = offsets
    if base + end > size:
        raise problem(path, f"truncated safetensors: {label} ends at byte {base + end}, but the file has {size}; fetch it again")
    expected = math.prod(shape) * ITEMSIZE[DTYPES[dtype]]
    if end - begin != expected:
        raise problem(path, f"{label} has {end - begin} bytes, but shape {short(str(shape), 60)} and dtype {dtype} need {expected}")
    return StoredTensor(name, tuple(shape), DTYPES[dtype], Span(path, base + begin, end - begin))


def _naturals(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_layout(path: Location, tensors: dict[str, StoredTensor], base: int, size: int) -> None:
    position = base
    for tensor in sorted(tensors.values(), key=lambda t: (t.span.offset, t.span.nbytes)):
        if tensor.span.offset < position:
            raise problem(path, f"safetensors entry '{short(tensor.name)}' overlaps the one before it; write the file again")
        if tensor.span.offset > position:
            raise problem(path, f"safetensors entry '{short(tensor.name)}' leaves unclaimed bytes before it; write the file again")
        position += tensor.span.nbytes
    if position != size:
        raise problem(path, f"overlong safetensors: the last tensor ends at byte {position}, but the file has {size}; fetch it again")
