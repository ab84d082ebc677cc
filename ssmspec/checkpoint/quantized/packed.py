"""Codes packed into 32-bit words: GPTQ, AWQ, and pack-quantized of compressed-tensors.

    GPTQ: W[o, i] = scales[g_idx[i], o] (code[i, o] - zero[g_idx[i], o] - 1)    words hold rows i; the stored zero is one less (v1; not v2)
    AWQ:  W[o, i] = scales[i // group, o] (code[i, o] - zero[i // group, o])    words hold columns o in the order 0 2 4 6 1 3 5 7
    pack-quantized: W[o, i] = weight_scale[o, g] (code[o, i] - zero[o, g])      words hold columns i; codes and zeros plus 2^(bits - 1)

Sources: AutoGPTQ, nn_modules/qlinear/qlinear_cuda.py; GPTQModel, utils/model.py (v1 and v2); AutoAWQ, utils/packing_utils.py;
compressed-tensors, compressors/pack_quantized.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmspec.checkpoint.derived import DerivedTensor
from ssmspec.checkpoint.quantized.stored import (
    UNKNOWN_MATRIX,
    FloatArray,
    Quantized,
    Stored,
    UnknownSchemeError,
    numbers,
    require_dtype,
    require_shape,
    unpack,
    whole_number,
)

BITS = (2, 4, 8)  # 3 bits cross words in an order of their own
AWQ_PLACES = np.array([0, 4, 1, 5, 2, 6, 3, 7])  # where in a word the columns 0 to 7 are
GPTQ_FORMATS = {"gptq": 1, "gptq_v1": 1, "gptq_v2": 0}  # what is added to a stored zero


def words(weight: Quantized, packed: Stored) -> DerivedTensor:
    """The weight of `qweight`, `qzeros` and `scales`: GPTQ, or AWQ where the words lie along the outputs."""
    zeros, scales, groups = weight.inside("qzeros"), weight.inside("scales"), weight.inside("g_idx")
    encoded = (packed, zeros, scales, groups)
    method = str(weight.settings.get("quant_method", "")).lower()
    matrices = scales is not None and len(packed.shape) == len(scales.shape) == 2
    awq = method == "awq" or (matrices and scales is not None and packed.shape[1] != scales.shape[1])
    origin, shape = ("AWQ" if awq else "GPTQ"), UNKNOWN_MATRIX
    try:
        if zeros is None or scales is None:
            raise UnknownSchemeError(f"it lacks {'qzeros' if zeros is None else 'scales'}")
        for tensor in (packed, zeros):
            require_dtype(tensor, "int32", "uint32")
        if not matrices or len(zeros.shape) != 2 or 0 in (*packed.shape, *scales.shape):
            raise UnknownSchemeError(f"qweight has shape {packed.shape}, scales {scales.shape}, qzeros {zeros.shape}; expected matrices")
        if awq:
            shape = scales.shape[1], packed.shape[0]
            return _awq(weight, packed, zeros, scales)
        shape = scales.shape[1], (UNKNOWN_MATRIX[0] if groups is None else math.prod(groups.shape))
        return _gptq(weight, packed, zeros, scales, groups)
    except UnknownSchemeError as error:
        return weight.refused(origin, str(error), encoded, shape)


def _gptq(weight: Quantized, packed: Stored, zeros: Stored, scales: Stored, groups: Stored | None) -> DerivedTensor:
    name = str(weight.settings.get("checkpoint_format") or "gptq").lower()
    if name not in GPTQ_FORMATS:
        raise UnknownSchemeError(f"its checkpoint_format is {name}, whose order of codes is not known")
    count, outputs = scales.shape
    inputs, bits = _gptq_sizes(weight, packed, zeros, outputs, groups)
    require_shape(zeros, (count, -(-outputs * bits // 32)))
    if groups is None and inputs % count:
        raise UnknownSchemeError(f"{count} groups do not divide {inputs} inputs, and there is no g_idx")

    def rows(first: int, last: int) -> FloatArray:
        columns = slice(first, last)
        code = unpack(packed.read()[:, columns], bits, 0)[:inputs].astype(np.float32)
        zero = unpack(zeros.read(), bits, 1)[:, columns].astype(np.float32) + GPTQ_FORMATS[name]
        of_input = np.arange(inputs) // (inputs // count) if groups is None else _group_of(groups, count)
        values: FloatArray = numbers(scales)[of_input, columns] * (code - zero[of_input])
        return np.ascontiguousarray(values.T)

    told = "zeros stored less one" if GPTQ_FORMATS[name] else "v2"
    return weight.made(f"GPTQ {bits} bit ({told}, {count} groups)", (outputs, inputs), (packed, zeros, scales, groups), rows)


def _gptq_sizes(weight: Quantized, packed: Stored, zeros: Stored, outputs: int, groups: Stored | None) -> tuple[int, int]:
    """Inputs and bits: as configured, else from the number of inputs in g_idx, else from the words of zeros."""
    told = weight.settings.get("bits")
    if type(told) is int:
        bits = told
    elif groups is not None:
        bits = 32 * packed.shape[0] // max(1, math.prod(groups.shape))
    else:
        bits = 32 * zeros.shape[1] // outputs
    if bits not in BITS:
        raise UnknownSchemeError(f"its codes have {bits} bits, expected 2, 4 or 8")
    inputs = packed.shape[0] * 32 // bits
    if groups is not None:
        stored = math.prod(groups.shape)
        if not inputs - 32 // bits < stored <= inputs:
            raise UnknownSchemeError(f"g_idx names {stored} inputs, and {packed.shape[0]} rows of words hold {inputs}")
        inputs = stored
    return inputs, bits


def _group_of(groups: Stored, count: int) -> NDArray[np.int64]:
    numbers_of = groups.read().reshape(-1).astype(np.int64)
    if not ((numbers_of >= 0) & (numbers_of < count)).all():
        raise ValueError(f"g_idx names a group beyond {count}")
    return numbers_of


def _awq(weight: Quantized, packed: Stored, zeros: Stored, scales: Stored) -> DerivedTensor:
    version, bits = str(weight.settings.get("version") or "gemm").lower(), weight.settings.get("bits", 4)
    if version != "gemm" or bits != 4:
        raise UnknownSchemeError(f"version {version} of {bits} bits: only gemm of 4 bits has a known order")
    (inputs, columns), (count, outputs) = packed.shape, scales.shape
    if outputs != 8 * columns or inputs % count:
        raise UnknownSchemeError(f"qweight has shape {packed.shape}, scales {scales.shape}: expected 8 outputs in a word, and groups alike")
    require_shape(zeros, (count, columns))

    def rows(first: int, last: int) -> FloatArray:
        part = slice(first // 8, -(-last // 8))
        inner = slice(first - 8 * part.start, last - 8 * part.start)
        code, zero = (_in_order(tensor.read()[:, part])[:, inner] for tensor in (packed, zeros))
        repeat = inputs // count
        values: FloatArray = (code - np.repeat(zero, repeat, axis=0)) * np.repeat(numbers(scales)[:, first:last], repeat, axis=0)
        return np.ascontiguousarray(values.T)

    return weight.made(f"AWQ 4 bit (groups of {inputs // count})", (outputs, inputs), (packed, zeros, scales), rows)


def _in_order(packed: NDArray[Any]) -> FloatArray:
    """Codes (rows, 8 columns) in the order of the outputs."""
    codes = unpack(packed, 4, 1).reshape(len(packed), -1, 8)[:, :, AWQ_PLACES]
    return codes.reshape(len(packed), -1).astype(np.float32)


def pack_quantized(weight: Quantized, packed: Stored) -> DerivedTensor:
    """The weight of `weight_packed` words, `weight_scale` and `weight_shape`."""
    scale, zero, size, groups = (weight.beside(suffix) for suffix in ("_scale", "_zero_point", "_shape", "_g_idx"))
    encoded, shape = (packed, scale, zero, size, groups), UNKNOWN_MATRIX
    try:
        if scale is None or size is None:
            raise UnknownSchemeError(f"it lacks {'weight_scale' if scale is None else 'weight_shape'}")
        require_shape(size, (2,))
        require_dtype(size, "int64", "int32")
        outputs, inputs = (whole_number(value, "a size in weight_shape") for value in size.read().tolist())
        shape = outputs, inputs
        bits = next((bits for bits in BITS if packed.shape == (outputs, -(-inputs * bits // 32))), 0)
        if not bits:
            raise UnknownSchemeError(f"weight_packed has shape {packed.shape}, which holds no {outputs} x {inputs} codes of 2, 4 or 8 bits")
        return _pack_quantized(weight, packed, (outputs, inputs, bits), (scale, zero, size, groups))
    except UnknownSchemeError as error:
        return weight.refused("compressed-tensors pack-quantized", str(error), encoded, shape)


def _pack_quantized(
    weight: Quantized,
    packed: Stored,
    sizes: tuple[int, int, int],
    companions: tuple[Stored, Stored | None, Stored, Stored | None],
) -> DerivedTensor:
    (outputs, inputs, bits), (scale, zero, size, groups) = sizes, companions
    count = scale.shape[1] if len(scale.shape) == 2 else 1
    if math.prod(scale.shape) not in (1, outputs * count) or not count or (groups is None and inputs % count):
        raise UnknownSchemeError(f"weight_scale has shape {scale.shape}, expected one scale, or {outputs} x groups that divide {inputs}")
    if zero is not None:
        require_dtype(zero, "int32")
        require_shape(zero, (-(-outputs * bits // 32), count))
    if groups is not None:
        require_shape(groups, (inputs,))
    middle = 1 << (bits - 1)
    own = math.prod(scale.shape) > 1

    def rows(first: int, last: int) -> FloatArray:
        part = slice(first, last)
        code = unpack(packed.read(part), bits, 1)[:, :inputs].astype(np.float32) - middle
        of_input = np.arange(inputs) // (inputs // count) if groups is None else _group_of(groups, count)
        if zero is not None:
            code = code - (unpack(zero.read(), bits, 0)[:outputs][part].astype(np.float32) - middle)[:, of_input]
        scales = numbers(scale, part).reshape(-1, count)[:, of_input] if own else numbers(scale).reshape(1, 1)
        return code * scales

    origin = f"compressed-tensors pack-quantized {bits} bit ({count} groups)"
    return weight.made(origin, (outputs, inputs), (packed, scale, zero, size, groups), rows)
