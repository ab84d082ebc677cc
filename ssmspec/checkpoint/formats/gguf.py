"""GGUF, the container of llama.cpp: key-value metadata, tensor descriptions, aligned data. Metadata are walked, within bounds.

SSM layers get the names that their models have in safetensors, by `general.architecture`: `ssm_a` alone says nothing, since gated
delta nets (Qwen3-Next, Kimi) use it too. `ssm_a` is -exp(A_log) in float32; A_log is computed when it is read. Quantized weights have a
shape and no values. Sources: ggml-org/ggml, docs/gguf.md; gguf-py/gguf/constants.py (GGML_QUANT_SIZES, TENSOR_NAMES); llama.cpp,
convert_hf_to_gguf.py (MambaModel, Mamba2Model, JambaModel, FalconH1Model, GraniteHybridModel, NemotronHModel).
"""

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from ssmspec.checkpoint.derived import AnyTensor, DerivedTensor
from ssmspec.checkpoint.naming import MAX_TENSORS
from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import Contents, Flag, Span, StoredTensor, problem, short

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_DIMENSIONS = 4
MOST_PAIRS = 100_000
MOST_STRINGS = 4_000_000  # of all arrays together; a vocabulary has a quarter of a million
MOST_KEPT = 4096  # bytes of a text that is kept
MOST_ALIGNMENT = 1 << 20
NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
PLAIN = {0: "float32", 1: "float16", 24: "int8", 25: "int16", 26: "int32", 27: "int64", 28: "float64", 30: "bfloat16"}
SIZES = {**dict.fromkeys((0, 26), 4), **dict.fromkeys((1, 25, 30), 2), 24: 1, 27: 8, 28: 8}
QUANTIZED = {  # code: name, values of a block, bytes of a block
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
MAMBA_1 = {"mamba": "backbone.layers.{}.mixer", "jamba": "model.layers.{}.mamba"}
MAMBA_2 = {
    "mamba2": "backbone.layers.{}.mixer",
    "falcon-h1": "model.layers.{}.mamba",
    "granitehybrid": "model.layers.{}.mamba",
    "nemotron_h": "backbone.layers.{}.mixer",
    "nemotron_h_moe": "backbone.layers.{}.mixer",
}
BLOCK = re.compile(r"blk\.(\d{1,6})\.(ssm_\w+(?:\.\w+)?)")
ROLES = {
    "ssm_a": "A_log",
    "ssm_d": "D",
    "ssm_conv1d.weight": "conv1d.weight",
    "ssm_conv1d.bias": "conv1d.bias",
    "ssm_in.weight": "in_proj.weight",
    "ssm_in.bias": "in_proj.bias",
    "ssm_out.weight": "out_proj.weight",
    "ssm_out.bias": "out_proj.bias",
    "ssm_norm.weight": "norm.weight",
    "ssm_x.weight": "x_proj.weight",
    "ssm_dt.weight": "dt_proj.weight",
    "ssm_dt.bias": "dt_proj.bias",
    "ssm_dt_norm.weight": "dt_layernorm.weight",
    "ssm_b_norm.weight": "b_layernorm.weight",
    "ssm_c_norm.weight": "c_layernorm.weight",
}
FLAT = ("ssm_a", "ssm_d", "ssm_norm.weight")  # of Mamba-2: (heads, 1), and a norm by groups
Value = int | float | bool | str | None


@dataclass(frozen=True, slots=True)
class _Described:
    """One tensor: its shape with the slowest axis first, the code of its type, and its place in the data."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes in the file. Raises ValueError: an unknown type, or rows that are no whole blocks."""
        count = math.prod(self.shape)
        if self.kind in PLAIN:
            return count * SIZES[self.kind]
        if self.kind not in QUANTIZED:
            raise ValueError(f"tensor '{short(self.name)}' has the unknown type {self.kind}")
        _, values, size = QUANTIZED[self.kind]
        if self.shape and self.shape[-1] % values:
            raise ValueError(f"tensor '{short(self.name)}' has rows of {self.shape[-1]} values, which are no blocks of {values}")
        return count // values * size


def read_gguf(path: Location, size: int) -> Contents:
    """Reads metadata and tensor descriptions; data stay in the file.

    Raises:
        CheckpointError: damaged, truncated, big-endian or of version 1, or something beyond the bounds.
    """
    with path.open("rb") as file:
        walker = _Walker(file, size)
        try:
            metadata, described = walker.header()
            alignment = metadata.get("general.alignment", 32)
            if type(alignment) is not int or not 0 < alignment <= MOST_ALIGNMENT or alignment & (alignment - 1):
                raise ValueError(f"general.alignment is {alignment}, expected a power of two up to {MOST_ALIGNMENT}")
            base = -(-walker.at // alignment) * alignment
            for each in described:
                if each.offset % alignment or base + each.offset + each.nbytes > size:
                    raise ValueError(
                        f"tensor '{short(each.name)}' at {each.offset} with {each.nbytes} bytes is not aligned, or ends behind the file"
                    )
        except (ValueError, struct.error) as error:
            raise problem(path, f"a GGUF file that is damaged: {error} (byte {walker.at}); fetch it again") from error
    return _contents(path, metadata, described, base)


class _Walker:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.at, self.strings = file, size, 0, 0

    def take(self, count: int) -> bytes:
        if count > self.size - self.at:
            raise ValueError(f"{count} bytes are expected, {self.size - self.at} are left")
        data = self.file.read(count)
        if len(data) != count:
            raise ValueError("truncated")
        self.at += count
        return data

    def skip(self, count: int) -> None:
        if count > self.size - self.at:
            raise ValueError(f"{count} bytes are expected, {self.size - self.at} are left")
        self.at += count
        self.file.seek(self.at)

    def number(self, code: str) -> int | float | bool:
        value: int | float | bool = struct.unpack(code, self.take(struct.calcsize(code)))[0]
        return value

    def count(self) -> int:
        return int(self.number("<Q"))

    def text(self) -> str:
        count = self.count()
        if count > MOST_KEPT:
            self.skip(count)
            return ""
        return self.take(count).decode("utf-8", "replace")

    def header(self) -> tuple[dict[str, Value], list[_Described]]:
        if self.take(4) != MAGIC:
            raise ValueError("no magic")
        version = int(self.number("<I"))
        if version not in VERSIONS:
            raise ValueError(f"version {version}, expected little-endian {' or '.join(map(str, VERSIONS))}")
        tensors, pairs = self.count(), self.count()
        if tensors > min(MAX_TENSORS, self.size // 24) or pairs > min(MOST_PAIRS, self.size // 12):
            raise ValueError(f"{tensors} tensors and {pairs} pairs, more than fit into {self.size} bytes or than any model has")
        metadata: dict[str, Value] = {}
        for _ in range(pairs):
            key = self.text()
            metadata[key] = self.value(int(self.number("<I")))
        described = [self.description() for _ in range(tensors)]
        if len({each.name for each in described}) != tensors:
            raise ValueError("two tensors have one name")
        return metadata, described

    def value(self, kind: int, depth: int = 0) -> Value:
        """A value of the metadata; arrays are walked and not kept."""
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind == STRING:
            return self.text()
        if kind != ARRAY or depth > 2:
            raise ValueError(f"a value of the unknown type {kind}" if kind != ARRAY else "arrays nested too deeply")
        inner, count = int(self.number("<I")), self.count()
        if inner in NUMBERS:
            self.skip(count * struct.calcsize(NUMBERS[inner]))
            return None
        self.strings += count
        if count > (self.size - self.at) // 8 or self.strings > MOST_STRINGS:
            raise ValueError(f"an array of {count} texts, more than fit into the file or than any vocabulary has")
        for _ in range(count):
            if inner == STRING:
                self.skip_text()
            else:
                self.value(inner, depth + 1)
        return None

    def skip_text(self) -> None:
        count = int.from_bytes(self.take(8), "little")
        if count < MOST_KEPT:
            self.take(count)  # reading on is faster than seeking
        else:
            self.skip(count)

    def description(self) -> _Described:
        name = self.text()
        dimensions = int(self.number("<I"))
        if not name or dimensions > MOST_DIMENSIONS:
            raise ValueError(f"tensor '{short(name)}' of {dimensions} dimensions, expected a name and at most {MOST_DIMENSIONS}")
        shape = tuple(self.count() for _ in range(dimensions))[::-1]
        return _Described(name, shape, int(self.number("<I")), self.count())


def _contents(path: Location, metadata: Mapping[str, Value], described: list[_Described], base: int) -> Contents:
    architecture = str(metadata.get("general.architecture", ""))
    tensors: dict[str, AnyTensor] = {}
    for each in described:
        name, shape, flags = _in_the_model(each, architecture)
        if name in tensors:
            raise problem(path, f"two tensors would be called '{short(name)}'; write the file again")
        tensors[name] = _tensor(path, each, base, (name, shape, flags))
    groups = metadata.get(f"{architecture}.ssm.group_count")
    config: dict[str, object] = {"n_groups": groups} if architecture in MAMBA_2 and type(groups) is int else {}
    known = architecture in MAMBA_1 or architecture in MAMBA_2
    what = f"GGUF of the architecture {short(architecture, 40) or 'unknown'}"
    notes = [f"{what}: SSM tensors have the names of its safetensors" if known else f"{what}, whose names are kept"]
    kinds = sorted({QUANTIZED[each.kind][0] for each in described if each.kind in QUANTIZED})
    if kinds:
        notes.append(f"weights quantized as {', '.join(kinds)} are not dequantized")
    return Contents("gguf", tensors, config, tuple(notes))


def _in_the_model(each: _Described, architecture: str) -> tuple[str, tuple[int, ...], frozenset[Flag]]:
    """Name and shape that a tensor has in the model, and how its values are converted."""
    match = BLOCK.fullmatch(each.name)
    start = MAMBA_1.get(architecture) or MAMBA_2.get(architecture)
    role = ROLES.get(match[2]) if match else None
    if match is None or start is None or role is None:
        return each.name, each.shape, frozenset()
    shape = each.shape
    if role == "conv1d.weight" and len(shape) == 2:
        shape = (shape[0], 1, shape[1])
    if architecture in MAMBA_2:
        role = "dt_bias" if role == "dt_proj.bias" else role
        shape = (math.prod(shape),) if match[2] in FLAT else shape
    return f"{start.format(int(match[1]))}.{role}", shape, frozenset(("log of minus",) if role == "A_log" else ())


def _tensor(path: Location, each: _Described, base: int, found: tuple[str, tuple[int, ...], frozenset[Flag]]) -> AnyTensor:
    name, shape, flags = found
    if each.kind in PLAIN:
        return StoredTensor(name, shape, PLAIN[each.kind], Span(path, base + each.offset, each.nbytes, flags=flags))
    scheme = QUANTIZED[each.kind][0]
    return DerivedTensor(
        name, shape, path, f"quantized as {scheme}", (), refusal=f"quantized as {scheme} of GGUF, which is not dequantized"
    )
