"""Quantized weights as published layouts store them, and their values, code by code in float64.

Every maker returns the tensors of one module (without its prefix) and the (outputs, inputs) values that the module computes with. Codes are
drawn, not fitted: what is tested is what a file means, and each value is found from its code by a loop over the elements.
"""

import json
from collections.abc import Callable

import numpy as np
import torch

Tensors = dict[str, torch.Tensor]
Made = tuple[Tensors, np.ndarray]

NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334),
    *(-0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""The table of nf4. Source: bitsandbytes, functional.py, get_4bit_type."""
FP4 = tuple(sign * value / 12 for sign in (1, -1) for value in (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0))
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # AutoAWQ, quantize: the column that nibble i of a word holds


def state_text(**entries: object) -> torch.Tensor:
    """quant_state: JSON as bytes."""
    return torch.tensor(list(json.dumps(entries).encode()), dtype=torch.uint8)


def bitsandbytes(rng: np.random.Generator, outputs: int, inputs: int, *, kind: str = "nf4", block: int = 64, nested: int = 0) -> Made:
    """4 bits: codes in pairs, the first of a pair in the high half, blocks over the flat weight; with `nested` absmax is quantized too."""
    count = outputs * inputs
    blocks = -(-count // block)
    table = np.array(NF4 if kind == "nf4" else FP4, np.float32)
    codes = rng.integers(0, 16, count)
    packed = np.zeros(-(-count // 2), np.uint8)
    for place, code in enumerate(codes):
        packed[place // 2] |= int(code) << (4 if place % 2 == 0 else 0)
    scales = rng.uniform(0.01, 2, blocks).astype(np.float32)
    state: dict[str, object] = {"quant_type": kind, "blocksize": block, "dtype": "bfloat16", "shape": [outputs, inputs]}
    tensors = {"weight": torch.from_numpy(packed)[:, None], "weight.quant_map": torch.from_numpy(table)}
    absmax = scales.astype(np.float64)
    if nested:
        of_scales, nested_table = rng.integers(0, 256, blocks), np.linspace(-1, 1, 256, dtype=np.float32)
        nested_scales = rng.uniform(0.1, 1, -(-blocks // nested)).astype(np.float32)
        offset = 1.25
        absmax = np.array([float(nested_table[c]) * float(nested_scales[j // nested]) + offset for j, c in enumerate(of_scales)])
        state |= {"nested_blocksize": nested, "nested_dtype": "float32", "nested_offset": offset}
        tensors |= {"weight.absmax": torch.from_numpy(of_scales.astype(np.uint8)), "weight.nested_absmax": torch.from_numpy(nested_scales)}
        tensors["weight.nested_quant_map"] = torch.from_numpy(nested_table)
    else:
        tensors["weight.absmax"] = torch.from_numpy(scales)
    tensors[f"weight.quant_state.bitsandbytes__{kind}"] = state_text(**state)
    values = [float(table[code]) * absmax[place // block] for place, code in enumerate(codes)]
    return tensors, np.array(values).reshape(outputs, inputs)


def bytes_in_blocks(rng: np.random.Generator, outputs: int, inputs: int, *, block: int = 64) -> Made:
    """8 bits in blocks with a table of 256 entries and no quant_state."""
    codes = rng.integers(0, 256, (outputs, inputs)).astype(np.uint8)
    table = np.sort(rng.uniform(-1, 1, 256)).astype(np.float32)
    absmax = rng.uniform(0.1, 2, -(-codes.size // block)).astype(np.float32)
    values = [float(table[code]) * float(absmax[place // block]) for place, code in enumerate(codes.reshape(-1))]
    tensors = {"weight": torch.from_numpy(codes), "weight.absmax": torch.from_numpy(absmax), "weight.quant_map": torch.from_numpy(table)}
    return tensors, np.array(values).reshape(outputs, inputs)


def llm_int8(rng: np.random.Generator, outputs: int, inputs: int) -> Made:
    """LLM.int8: rows of int8, and the largest magnitude of every row, which code 127 stands for."""
    codes = rng.integers(-127, 128, (outputs, inputs)).astype(np.int8)
    largest = rng.uniform(0.1, 3, outputs).astype(np.float32)
    values = np.array([[code * float(largest[row]) / 127 for code in codes[row].tolist()] for row in range(outputs)])
    return {
        "weight": torch.from_numpy(codes),
        "SCB": torch.from_numpy(largest),
        "weight_format": torch.tensor(0, dtype=torch.uint8),
    }, values


def fp8(
    rng: np.random.Generator, outputs: int, inputs: int, *, scale: str = "one", name: str = "weight_scale", dtype: str = "float8_e4m3fn"
) -> Made:
    """float8 with a scale that multiplies: "one" for all, one for every "row", or one for every block ("16x4")."""
    codes = torch.from_numpy(rng.standard_normal((outputs, inputs)) * 40).to(getattr(torch, dtype))
    height, width = (outputs, inputs) if scale == "one" else (1, inputs) if scale == "row" else tuple(map(int, scale.split("x")))
    grid = rng.uniform(0.001, 0.1, (-(-outputs // height), -(-inputs // width))).astype(np.float32)
    wide = codes.to(torch.float64).numpy()
    values = np.array([[wide[i, j] * float(grid[i // height, j // width]) for j in range(inputs)] for i in range(outputs)])
    stored = torch.from_numpy(grid)
    return {"weight": codes, name: stored.reshape(()) if scale == "one" else stored}, values


def int8_affine(rng: np.random.Generator, outputs: int, inputs: int, *, zero: bool = False) -> Made:
    """int-quantized of compressed-tensors: int8 with a scale per row, and a zero point."""
    codes = rng.integers(-128, 128, (outputs, inputs)).astype(np.int8)
    scales = rng.uniform(0.001, 0.1, (outputs, 1)).astype(np.float32)
    zeros = rng.integers(-20, 20, (outputs, 1)).astype(np.int8) if zero else np.zeros((outputs, 1), np.int8)
    values = np.array([[(int(c) - int(zeros[i, 0])) * float(scales[i, 0]) for c in codes[i]] for i in range(outputs)])
    tensors = {"weight": torch.from_numpy(codes), "weight_scale": torch.from_numpy(scales)}
    return tensors | ({"weight_zero_point": torch.from_numpy(zeros)} if zero else {}), values


def fp4(rng: np.random.Generator, outputs: int, inputs: int, *, layout: str) -> Made:
    """Two E2M1 codes in a byte, the first in the low half: "modelopt" and "compressed-tensors" NVFP4, "mx" MXFP4."""
    codes = rng.integers(0, 16, (outputs, inputs))
    packed = np.array([[int(row[2 * j]) | int(row[2 * j + 1]) << 4 for j in range(inputs // 2)] for row in codes], np.uint8)
    block = 32 if layout == "mx" else 16
    if layout == "mx":
        exponents = rng.integers(118, 130, (outputs, -(-inputs // block)))
        scales, stored = 2.0 ** (exponents - 127), torch.from_numpy(exponents.astype(np.uint8))
        name, others, factor = "weight_packed", {}, 1.0
    else:
        stored = torch.from_numpy(rng.uniform(1, 400, (outputs, inputs // block))).to(torch.float8_e4m3fn)
        scales, factor = stored.to(torch.float64).numpy(), 0.0078125
        name = "weight" if layout == "modelopt" else "weight_packed"
        others = {"weight_scale_2": torch.tensor(factor)} if layout == "modelopt" else {"weight_global_scale": torch.tensor([1 / factor])}
    signed = [value if code < 8 else -value for code in range(16) for value in [E2M1[code % 8]]]
    values = np.array([[signed[codes[i, j]] * scales[i, j // block] * factor for j in range(inputs)] for i in range(outputs)])
    return {name: torch.from_numpy(packed), "weight_scale": stored, **others}, values


def words(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes packed along axis 0, the first in the lowest bits, as AutoGPTQ's loop does it."""
    per_word = 32 // bits
    packed = np.zeros((-(-len(codes) // per_word), codes.shape[1]), np.uint32)
    for row in range(len(codes)):
        packed[row // per_word] |= codes[row].astype(np.uint32) << np.uint32(bits * (row % per_word))
    return packed.view(np.int32)


def gptq(
    rng: np.random.Generator, outputs: int, inputs: int, *, bits: int = 4, group: int = 8, shuffled: bool = False, less: int = 1
) -> Made:
    """GPTQ: words down the inputs; zeros stored less one in version 1 (`less`); with `shuffled`, g_idx of desc_act."""
    codes = rng.integers(0, 2**bits, (inputs, outputs))
    count = inputs // group
    zeros = rng.integers(1, 2**bits, (count, outputs))
    scales = torch.from_numpy(rng.uniform(0.001, 0.1, (count, outputs))).half()
    groups = np.arange(inputs) // group
    groups = rng.permutation(groups) if shuffled else groups
    wide = scales.double().numpy()
    values = np.array([[wide[groups[i], o] * (codes[i, o] - zeros[groups[i], o]) for i in range(inputs)] for o in range(outputs)])
    tensors = {"qweight": torch.from_numpy(words(codes, bits)), "scales": scales, "g_idx": torch.from_numpy(groups.astype(np.int32))}
    tensors["qzeros"] = torch.from_numpy(np.ascontiguousarray(words((zeros - less).T, bits).T))
    return tensors, values


def awq(rng: np.random.Generator, outputs: int, inputs: int, *, group: int = 8) -> Made:
    """AWQ (gemm): words along the outputs, nibble i of a word holds column AWQ_ORDER[i]; zeros as they are."""
    codes, zeros = rng.integers(0, 16, (inputs, outputs)), rng.integers(0, 16, (inputs // group, outputs))
    scales = torch.from_numpy(rng.uniform(0.001, 0.1, (inputs // group, outputs))).half()

    def pack(matrix: np.ndarray) -> torch.Tensor:
        packed = np.zeros((len(matrix), outputs // 8), np.uint32)
        for column in range(outputs // 8):
            for nibble in range(8):
                packed[:, column] |= matrix[:, 8 * column + AWQ_ORDER[nibble]].astype(np.uint32) << np.uint32(4 * nibble)
        return torch.from_numpy(packed.view(np.int32))

    wide = scales.double().numpy()
    values = np.array([[wide[i // group, o] * (codes[i, o] - zeros[i // group, o]) for i in range(inputs)] for o in range(outputs)])
    return {"qweight": pack(codes), "qzeros": pack(zeros), "scales": scales}, values


def pack_quantized(rng: np.random.Generator, outputs: int, inputs: int, *, bits: int = 4, group: int = 8, zero: bool = False) -> Made:
    """compressed-tensors: signed codes plus 2^(bits - 1), words along the inputs; zero points packed down the outputs."""
    middle, count = 2 ** (bits - 1), inputs // group
    codes = rng.integers(-middle, middle, (outputs, inputs))
    zeros = rng.integers(-middle, middle, (outputs, count)) if zero else np.zeros((outputs, count), int)
    scales = torch.from_numpy(rng.uniform(0.001, 0.1, (outputs, count))).bfloat16()
    wide = scales.double().numpy()
    values = np.array([[wide[o, i // group] * (codes[o, i] - zeros[o, i // group]) for i in range(inputs)] for o in range(outputs)])
    packed = np.ascontiguousarray(words((codes + middle).T, bits).T)
    tensors = {"weight_packed": torch.from_numpy(packed), "weight_scale": scales, "weight_shape": torch.tensor([outputs, inputs])}
    return tensors | ({"weight_zero_point": torch.from_numpy(words(zeros + middle, bits))} if zero else {}), values


SCHEMES: dict[str, Callable[[np.random.Generator, int, int], Made]] = {
    "nf4": bitsandbytes,
    "nf4 whose blocks cross rows": lambda rng, o, i: bitsandbytes(rng, o, i, block=128),
    "nf4 nested": lambda rng, o, i: bitsandbytes(rng, o, i, nested=4),
    "fp4": lambda rng, o, i: bitsandbytes(rng, o, i, kind="fp4"),
    "bitsandbytes 8 bit in blocks": bytes_in_blocks,
    "LLM.int8": llm_int8,
    "fp8": fp8,
    "fp8 e5m2 per row": lambda rng, o, i: fp8(rng, o, i, scale="row", dtype="float8_e5m2"),
    "fp8 in blocks": lambda rng, o, i: fp8(rng, o, i, scale="16x8", name="weight_scale_inv"),
    "int8": int8_affine,
    "int8 with zero points": lambda rng, o, i: int8_affine(rng, o, i, zero=True),
    "NVFP4 of Model Optimizer": lambda rng, o, i: fp4(rng, o, i, layout="modelopt"),
    "NVFP4 of compressed-tensors": lambda rng, o, i: fp4(rng, o, i, layout="compressed-tensors"),
    "MXFP4": lambda rng, o, i: fp4(rng, o, i, layout="mx"),
    "GPTQ 4 bit": gptq,
    "GPTQ 8 bit": lambda rng, o, i: gptq(rng, o, i, bits=8),
    "GPTQ 2 bit": lambda rng, o, i: gptq(rng, o, i, bits=2, group=16),
    "GPTQ with desc_act": lambda rng, o, i: gptq(rng, o, i, shuffled=True),
    "AWQ": awq,
    "pack-quantized 4 bit": pack_quantized,
    "pack-quantized 8 bit with zero points": lambda rng, o, i: pack_quantized(rng, o, i, bits=8, zero=True),
}
"""Every scheme that is dequantized; shapes are multiples of 32."""
