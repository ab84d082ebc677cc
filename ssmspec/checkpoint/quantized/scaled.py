"""Codes with a scale: fp8 and int8 with one scale, one per row or one per block, NVFP4 and MXFP4 with scales of small blocks.

    value = (code - zero point) scale

Sources: transformers, integrations/finegrained_fp8.py (weight_scale_inv multiplies, blocks of weight_block_size) and fbgemm_fp8;
bitsandbytes, nn/modules.py and functional.py, int8_vectorwise_dequant (SCB / 127); compressed-tensors, quantization/lifecycle/forward.py,
compressors/nvfp4 and mxfp4; NVIDIA Model Optimizer, NVFP4 (weight_scale, weight_scale_2); OCP Microscaling Formats 1.0 (E2M1, E8M0).
"""

import math

import numpy as np

from ssmspec.checkpoint.derived import DerivedTensor
from ssmspec.checkpoint.quantized.stored import (
    UNKNOWN_MATRIX,
    FloatArray,
    Quantized,
    Stored,
    UnknownSchemeError,
    nibbles,
    numbers,
    require_dtype,
    require_shape,
)

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
BLOCK = 128  # of DeepSeek and of transformers, where no configuration says otherwise
NVFP4_BLOCK, MX_BLOCK = 16, 32
BLOCKS = (16, 32, 64, 128, 256, 512)  # sizes that a block may have whose scales do not divide an axis evenly
ROW_FORMAT = 0  # of bitsandbytes' weight_format; the others are layouts of one GPU generation

SCALES = ("_scale_inv", "_scale")  # behind the name of the weight
MODULE_SCALES = ("scale_weight", "qscale_weight", "scale")  # in its module: of ComfyUI, Mistral and DeepSeek's own code


def fp8(weight: Quantized, codes: Stored) -> DerivedTensor | None:
    """A float8 weight with its scale; None without any: then its values are what is stored."""
    found = [tensor for suffix in SCALES if (tensor := weight.beside(suffix)) is not None]
    found += [tensor for own in MODULE_SCALES if (tensor := weight.inside(own)) is not None]
    others = unexplained(weight, (codes, *found))
    if not found and not others:
        return None
    origin = f"{codes.dtype} with {_own(weight, found[0] if found else others[0])}"
    try:
        if len(found) != 1 or others:
            names = ", ".join(_own(weight, tensor) for tensor in (*found, *others))
            raise UnknownSchemeError(f"no known scheme has the scales {names}")
        grid = _Grid.of(weight, codes.shape, found[0])
    except UnknownSchemeError as error:
        return weight.refused(origin, str(error), (codes, *found, *others), codes.shape)
    scale = found[0]

    def rows(first: int, last: int) -> FloatArray:
        values = codes.read(slice(first, last)).astype(np.float32)
        return grid.times(values, scale, first, last)

    return weight.made(f"{origin} ({grid.words})", codes.shape, (codes, scale), rows)


def int8(weight: Quantized, codes: Stored) -> DerivedTensor:
    """Signed bytes: LLM.int8 of bitsandbytes (SCB) or compressed-tensors' int-quantized (weight_scale, weight_zero_point)."""
    vector, layout = weight.inside("SCB"), weight.inside("weight_format")
    scale, zero = weight.beside("_scale"), weight.beside("_zero_point")
    companions = (codes, vector, layout, scale, zero)
    others = unexplained(weight, companions)
    origin = "bitsandbytes int8 with SCB" if vector is not None else "int8 with weight_scale" if scale is not None else "int8"
    try:
        if others or (vector is None) == (scale is None):
            beside = [tensor for tensor in companions[1:] if tensor is not None]
            names = ", ".join(_own(weight, tensor) for tensor in (*beside, *others))
            raise UnknownSchemeError(f"no known scheme has {names} beside it" if names else "it has no scale")
        if vector is not None:
            return _llm_int8(weight, codes, vector, layout)
        assert scale is not None
        return _affine(weight, codes, scale, zero)
    except UnknownSchemeError as error:
        return weight.refused(origin, str(error), (*companions, *others), codes.shape)


def _llm_int8(weight: Quantized, codes: Stored, vector: Stored, layout: Stored | None) -> DerivedTensor:
    if layout is not None and layout.read().reshape(-1).tolist() != [ROW_FORMAT]:
        raise UnknownSchemeError("weight_format is not that of rows: its bytes are in the order of one kind of GPU")
    require_shape(vector, codes.shape[:1])

    def rows(first: int, last: int) -> FloatArray:
        values: FloatArray = codes.read(slice(first, last)).astype(np.float32)
        return values * (numbers(vector, slice(first, last)) / np.float32(127)).reshape(-1, *(1,) * (values.ndim - 1))

    return weight.made("bitsandbytes int8 with SCB", codes.shape, (codes, vector, layout), rows)


def _affine(weight: Quantized, codes: Stored, scale: Stored, zero: Stored | None) -> DerivedTensor:
    grid = _Grid.of(weight, codes.shape, scale)
    if zero is not None:
        require_shape(zero, scale.shape)
        require_dtype(zero, "int8", "int16", "int32", "int64")

    def rows(first: int, last: int) -> FloatArray:
        values: FloatArray = codes.read(slice(first, last)).astype(np.float32)
        if zero is not None:
            values = values - grid.spread(zero.read().astype(np.float32), values.shape, first, last)
        return grid.times(values, scale, first, last)

    return weight.made(f"int8 with weight_scale ({grid.words})", codes.shape, (codes, scale, zero), rows)


def fp4(weight: Quantized, codes: Stored) -> DerivedTensor:
    """Two E2M1 codes in a byte, the low half first: NVFP4 with both of its scales, MXFP4 with its exponents."""
    scale = weight.beside("_scale")
    factor, divisor = weight.beside("_scale_2"), weight.beside("_global_scale")
    companions = (codes, scale, factor, divisor)
    others = unexplained(weight, companions)
    shape = (*codes.shape[:-1], 2 * codes.shape[-1]) if codes.shape else ()
    micro = scale is not None and factor is None and divisor is None and scale.dtype in ("uint8", "float8_e8m0fnu")
    origin = "MXFP4" if micro else "NVFP4" if scale is not None and scale.dtype.startswith("float8") else f"{codes.dtype} codes"
    try:
        if others:
            raise UnknownSchemeError(f"no known scheme has {', '.join(_own(weight, tensor) for tensor in others)} beside it")
        if scale is None or len(shape) != 2:
            raise UnknownSchemeError("it has no scale" if scale is None else f"its codes have shape {codes.shape}, expected a matrix")
        if not micro and (scale.dtype != "float8_e4m3fn" or (factor is None) == (divisor is None)):
            raise UnknownSchemeError("NVFP4 needs weight_scale in float8_e4m3fn, and weight_scale_2 or weight_global_scale")
        block = MX_BLOCK if micro else NVFP4_BLOCK
        require_shape(scale, (shape[0], -(-shape[1] // block)))
        for tensor in (factor, divisor):
            if tensor is not None and math.prod(tensor.shape) != 1:
                raise UnknownSchemeError(f"{tensor.name} has shape {tensor.shape}, expected one number")
    except UnknownSchemeError as error:
        known = shape if origin != f"{codes.dtype} codes" else UNKNOWN_MATRIX
        return weight.refused(origin, str(error), (*companions, *others), known)

    def rows(first: int, last: int) -> FloatArray:
        values = E2M1[nibbles(codes.read(slice(first, last)).view(np.uint8), high_first=False)]
        scales = powers(scale, slice(first, last)) if micro else numbers(scale, slice(first, last))
        if factor is not None:
            scales = scales * numbers(factor).reshape(())
        if divisor is not None:
            scales = scales / numbers(divisor).reshape(())
        return values * np.repeat(scales, block, axis=1)[:, : shape[1]]

    words = "" if micro else f" with weight_scale and {'weight_scale_2' if factor is not None else 'weight_global_scale'}"
    return weight.made(f"{origin}{words} (blocks of {block})", shape, companions, rows)


def powers(scale: Stored, rows: slice | None = None) -> FloatArray:
    """E8M0 exponents as numbers: 2^(code - 127); code 255 is NaN."""
    if scale.dtype == "float8_e8m0fnu":
        return numbers(scale, rows)
    code = scale.read(rows)
    result: FloatArray = np.where(code == 255, np.nan, np.exp2(code.astype(np.float32) - 127)).astype(np.float32)
    return result


class _Grid:
    """Which scale an element has: number (row // height, column // width) of a grid; axes behind the first count as columns."""

    def __init__(self, rows: int, columns: int, block: tuple[int, int], words: str, exponents: bool) -> None:
        self.rows, self.columns, self.block, self.words, self.exponents = rows, columns, block, words, exponents

    @classmethod
    def of(cls, weight: Quantized, shape: tuple[int, ...], scale: Stored) -> "_Grid":
        """The grid of a scale for codes of a shape.

        Raises:
            UnknownSchemeError: no grid fits, or the scales are no numbers.
        """
        if not shape or 0 in shape:
            raise UnknownSchemeError(f"its codes have shape {shape}, expected a matrix")
        out, inner = shape[0], math.prod(shape[1:])
        micro = scale.shape == (out, -(-inner // MX_BLOCK))
        exponents = scale.dtype == "uint8" and micro
        if micro and (exponents or scale.dtype == "float8_e8m0fnu"):
            return cls(out, scale.shape[1], (1, MX_BLOCK), f"exponents of blocks of {MX_BLOCK}", exponents)
        if not exponents and not scale.dtype.startswith(("float", "bfloat")):
            raise UnknownSchemeError(f"{scale.name} has dtype {scale.dtype}, expected floats")
        count = math.prod(scale.shape)
        if count == 1:
            return cls(1, 1, (out, inner), "one scale", exponents)
        if scale.shape in ((out,), (out, 1)) or (count == out and scale.shape[0] == out):
            return cls(out, 1, (1, inner), "a scale per row", exponents)
        if len(scale.shape) != 2:
            raise UnknownSchemeError(f"{scale.name} has shape {scale.shape}, which does not fit codes of shape {shape}")
        height, width = _block(weight, (out, inner), (scale.shape[0], scale.shape[1]), scale)
        return cls(scale.shape[0], scale.shape[1], (height, width), f"blocks of {height} x {width}", exponents)

    def times(self, values: FloatArray, scale: Stored, first: int, last: int) -> FloatArray:
        """Rows of codes multiplied by their scales."""
        factors = powers(scale) if self.exponents else numbers(scale)
        return values * self.spread(factors, values.shape, first, last)

    def spread(self, grid: FloatArray, shape: tuple[int, ...], first: int, last: int) -> FloatArray:
        """The entries of a grid for rows `first` to `last`, in a shape that broadcasts to that of the values."""
        table = grid.reshape(self.rows, self.columns)[np.arange(first, last) // self.block[0]]
        if self.columns == 1:
            return table.reshape(-1, *(1,) * (len(shape) - 1))
        inner = math.prod(shape[1:])
        return table[:, np.arange(inner) // self.block[1]].reshape(shape)


def _block(weight: Quantized, shape: tuple[int, int], scales: tuple[int, int], scale: Stored) -> tuple[int, int]:
    """Height and width of a block: as configured, else 128 x 128, else whatever divides the axes evenly."""
    told = weight.settings.get("weight_block_size")
    fits = [told] if isinstance(told, list) and len(told) == 2 and all(type(n) is int and n > 0 for n in told) else []
    fits += [[BLOCK, BLOCK]]
    for height, width in fits:
        if (-(-shape[0] // height), -(-shape[1] // width)) == scales:
            return height, width
    sizes = []
    for size, count in zip(shape, scales, strict=True):
        even = [size // count] if count and size % count == 0 else [n for n in BLOCKS if -(-size // n) == count]
        if not even:
            raise UnknownSchemeError(f"{scale.name} has shape {scale.shape}, which does not fit codes of shape {shape}")
        sizes.append(even[0])
    return sizes[0], sizes[1]


def unexplained(weight: Quantized, known: tuple[Stored | None, ...]) -> tuple[Stored, ...]:
    """Companions of a weight that seem to scale or shift it, besides the known ones."""
    names = {tensor.name for tensor in known if tensor is not None}
    found = []
    for own in COMPANIONS:
        for name in (f"{weight.name}_{own}", weight.module + own):
            tensor = weight.tensors.get(name)
            if tensor is not None and tensor.name not in names:
                names.add(tensor.name)
                found.append(tensor)
    return tuple(found)


COMPANIONS = (
    *("scale", "scale_inv", "scales", "scale_2", "global_scale", "zero_point", "zeros", "zero", "absmax", "codebook", "quantizer"),
    *("weight_scale", "weight_scale_inv", "weight_scales", "weight_scale_2", "weight_global_scale", "weight_zero_point", "weight_zeros"),
    *("SCB", "scale_weight", "qscale_weight", "qzeros", "quant_map"),
)


def _own(weight: Quantized, tensor: Stored) -> str:
    return tensor.name.removeprefix(weight.module)
