"""bitsandbytes: codes of 4 bits (nf4, fp4) or 8 bits in blocks, each with the largest magnitude of its block.

    value = quant_map[code] absmax[block],     absmax = nested_quant_map[code] nested_absmax[block] + nested_offset  (double quantization)

Codes, two in a byte and the high half first, follow the rows of the weight; blocks do, too, and may cross rows.
Source: bitsandbytes, functional.py (QuantState.as_dict and from_dict, quantize_4bit, dequantize_blockwise), nn/modules.py (Params4bit).
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssmspec.checkpoint.derived import DerivedTensor
from ssmspec.checkpoint.formats.json_text import parse_json
from ssmspec.checkpoint.quantized.stored import (
    MAX_SMALL,
    UNKNOWN_MATRIX,
    FloatArray,
    Quantized,
    Stored,
    UnknownSchemeError,
    nibbles,
    numbers,
    require_dtype,
    require_shape,
    whole_number,
)
from ssmspec.checkpoint.tensors import ITEMSIZE, short

STATES = {".quant_state.bitsandbytes__nf4": "nf4", ".quant_state.bitsandbytes__fp4": "fp4"}
BLOCKS = (64, 128, 256, 512, 1024, 2048, 4096)  # that the library quantizes with
CODES_8 = 256  # entries of the table of a code of 8 bits


@dataclass(frozen=True, slots=True)
class _State:
    """What quant_state says: shape of the weight, elements per block, and for a nested absmax its own block and the offset."""

    shape: tuple[int, ...]
    block: int
    nested_block: int = 0
    offset: float = 0.0


def blockwise(weight: Quantized, codes: Stored) -> DerivedTensor:
    """The weight of codes that have an absmax beside them."""
    absmax, table = weight.beside(".absmax"), weight.beside(".quant_map")
    nested = weight.beside(".nested_absmax"), weight.beside(".nested_quant_map")
    found = [(kind, tensor) for suffix, kind in STATES.items() if (tensor := weight.beside(suffix)) is not None]
    kind = found[0][0] if found else "4 or 8 bit"
    origin, encoded = f"bitsandbytes {kind}", (codes, absmax, table, *nested, *(tensor for _, tensor in found))
    shape: tuple[int, ...] = UNKNOWN_MATRIX
    try:
        if absmax is None or table is None:
            raise UnknownSchemeError(f"it lacks {'absmax' if absmax is None else 'quant_map'}")
        if len(found) > 1:
            raise UnknownSchemeError("it has several quant_state tensors")
        if not found and table.shape == (CODES_8,):
            origin, state = "bitsandbytes 8 bit in blocks", _State(codes.shape, _block_of(codes, absmax))
        elif not found:
            raise UnknownSchemeError("it lacks quant_state, which holds its shape")
        else:
            state = _parse(found[0][1], kind)
        shape = state.shape
        rows = _reader(state, codes, table, _absmax(state, absmax, nested))
    except UnknownSchemeError as error:
        return weight.refused(origin, str(error), encoded, shape)
    double = ", nested absmax" if state.nested_block else ""
    return weight.made(f"{origin} (blocks of {state.block}{double})", shape, encoded, rows)


def _parse(tensor: Stored, kind: str) -> _State:
    """The JSON text that is stored as bytes."""
    label = f"its {tensor.name.rpartition('.quant_state.')[1].strip('.')}"
    if tensor.dtype not in ("uint8", "int8") or math.prod(tensor.shape) > MAX_SMALL:
        raise UnknownSchemeError(f"{label} cannot be decoded (shape {tensor.shape}, dtype {tensor.dtype}, expected a short text as uint8)")
    try:
        state = parse_json(tensor.read().tobytes())
    except (ValueError, json.JSONDecodeError) as error:
        raise UnknownSchemeError(f"{label} cannot be decoded (not valid JSON: {short(str(error), 60)})") from error
    if not isinstance(state, dict) or state.get("quant_type") != kind:
        raise UnknownSchemeError(f"{label} cannot be decoded (expected a JSON object of quant_type {kind})")
    shape = state.get("shape")
    if not isinstance(shape, list) or not shape or len(shape) > 8:
        raise UnknownSchemeError(f"{label} cannot be decoded (its shape reads {short(str(shape), 40)})")
    sizes = tuple(whole_number(size, f"a size in {label}") for size in shape)
    block = whole_number(state.get("blocksize"), f"blocksize in {label}")
    if "nested_blocksize" not in state:
        return _State(sizes, block)
    offset = state.get("nested_offset")
    if not isinstance(offset, int | float) or not math.isfinite(offset):
        raise UnknownSchemeError(f"nested_offset in {label} reads {short(str(offset), 40)}, expected a number")
    return _State(sizes, block, whole_number(state["nested_blocksize"], f"nested_blocksize in {label}"), float(offset))


def _block_of(codes: Stored, absmax: Stored) -> int:
    """The elements per block of a weight without quant_state, from the number of blocks."""
    count = math.prod(codes.shape)
    fitting = [block for block in BLOCKS if (-(-count // block),) == absmax.shape]
    if not fitting:
        raise UnknownSchemeError(f"absmax has shape {absmax.shape}, which fits no usual block of {count} codes")
    return fitting[-1]


def _absmax(state: _State, absmax: Stored, nested: tuple[Stored | None, Stored | None]) -> Callable[[int, int], FloatArray]:
    """The scales of blocks `first` to `last`."""
    blocks = -(-math.prod(state.shape) // state.block)
    if math.prod(absmax.shape) != blocks or len(absmax.shape) != 1:
        raise UnknownSchemeError(f"absmax has shape {absmax.shape}, expected ({blocks},)")
    if not state.nested_block:
        if any(tensor is not None for tensor in nested):
            raise UnknownSchemeError("it has a nested absmax, of which quant_state says nothing")
        if not absmax.dtype.startswith(("float", "bfloat")):
            raise UnknownSchemeError(f"absmax has dtype {absmax.dtype}, expected floats")
        return lambda first, last: numbers(absmax, slice(first, last))
    scales, table = nested
    if scales is None or table is None:
        raise UnknownSchemeError(f"it lacks {'nested_absmax' if scales is None else 'nested_quant_map'}")
    require_dtype(absmax, "uint8")
    require_shape(table, (CODES_8,))
    require_shape(scales, (-(-blocks // state.nested_block),))

    def read(first: int, last: int) -> FloatArray:
        code = absmax.read(slice(first, last))
        factors = numbers(scales)[np.arange(first, last) // state.nested_block]
        return numbers(table)[code] * factors + np.float32(state.offset)

    return read


def _reader(state: _State, codes: Stored, table: Stored, absmax: Callable[[int, int], FloatArray]) -> Callable[[int, int], FloatArray]:
    per_byte = 1 if table.shape == (CODES_8,) else 2
    require_shape(table, (CODES_8 if per_byte == 1 else 16,))
    count, inner = math.prod(state.shape), math.prod(state.shape[1:])
    nbytes = math.prod(codes.shape) * ITEMSIZE[codes.dtype]
    if nbytes != -(-count // per_byte):
        raise UnknownSchemeError(f"{short(codes.name)} holds {nbytes} bytes, a weight of shape {state.shape} needs {-(-count // per_byte)}")

    def rows(first: int, last: int) -> FloatArray:
        start, stop = first * inner, last * inner
        if start == stop:
            return np.empty((0, *state.shape[1:]), np.float32)
        begin = start // per_byte
        data = _bytes(codes, begin, -(-stop // per_byte))
        code = nibbles(data, high_first=True) if per_byte == 2 else data
        code = code[start - begin * per_byte : stop - begin * per_byte]
        block = np.arange(start, stop) // state.block
        scales = absmax(int(block[0]), int(block[-1]) + 1)
        return (numbers(table)[code] * scales[block - block[0]]).reshape(last - first, *state.shape[1:])

    return rows


def _bytes(codes: Stored, begin: int, end: int) -> NDArray[np.uint8]:
    """Stored bytes from `begin` to `end`; whatever dtype they are stored as (quant_storage)."""
    shape, itemsize = codes.shape, ITEMSIZE[codes.dtype]
    row = itemsize * math.prod(shape[1:])
    if not shape or not row:
        return codes.read().reshape(-1).view(np.uint8)[begin:end]
    first = begin // row
    data = codes.read(slice(first, -(-end // row))).reshape(-1).view(np.uint8)
    return data[begin - first * row : end - first * row]
