"""Valid checkpoints with contents that no one would train: absurd shapes, dtypes, values and names, in every container."""

import io
import json
import math
import struct
import zipfile
from collections.abc import Callable, Mapping

import ml_dtypes
import msgpack
import numpy as np

Generator = np.random.Generator
Tensors = dict[str, np.ndarray]
Change = Callable[[Tensors, str, Generator], None]

DTYPES = (
    *("float64", "float32", "float16", "complex64", "complex128", "bool"),
    *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
)
SPECIAL = (
    *(np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e-45, 1e-38, 1e-30, -1e-30, 1e30, -1e30, 3.4e38, -3.4e38),
    *(88.0, 89.0, -88.0, -104.0, 709.0, 710.0, -746.0, np.pi, 1e-6, 1e6, 0.5, 2.0),
)
ODD_NAMES = (
    "",
    ".",
    "..",
    "a..b",
    ".x",
    "x.",
    "\n",
    "\x1b[2J",
    "\u202e",
    "é" * 50,
    "n" * 1999,
    "a\0b",
    "a/b",
    "0",
    "-1",
    "__metadata__.x",
    "𝕊",
)
MOST = 40_000  # values of a tensor: the rest of the work is the analysis of large layers


def distort(tensors: Mapping[str, np.ndarray], generator: Generator) -> Tensors:
    """One to three changes of some tensors; the result may be empty."""
    changed = dict(tensors)
    for _ in range(int(generator.integers(1, 4))):
        if changed:
            kinds = list(CHANGES.values())
            kinds[generator.integers(len(kinds))](changed, list(changed)[generator.integers(len(changed))], generator)
    return {name: array for name, array in changed.items() if array.size <= MOST}


def _cast(tensors: Tensors, name: str, generator: Generator) -> None:
    dtype = np.dtype(ml_dtypes.bfloat16) if generator.integers(8) == 0 else np.dtype(str(generator.choice(DTYPES)))
    with np.errstate(all="ignore"):
        values = tensors[name].real if tensors[name].dtype.kind == "c" and dtype.kind != "c" else tensors[name]
        tensors[name] = values.astype(dtype)


def _lie(tensors: Tensors, name: str, generator: Generator) -> None:
    """The same bytes under another dtype of the same size."""
    array = tensors[name]
    others = [dtype for dtype in DTYPES if dtype != "bool" and np.dtype(dtype).itemsize == array.dtype.itemsize]
    if others:
        tensors[name] = np.ascontiguousarray(array).view(others[generator.integers(len(others))]).reshape(array.shape)


def _reshape(tensors: Tensors, name: str, generator: Generator) -> None:
    array = tensors[name]
    ways: tuple[Callable[[], np.ndarray], ...] = (
        array.ravel,
        lambda: array.transpose(generator.permutation(array.ndim)),
        lambda: array[..., None],
        lambda: array[None],
        lambda: array[:0] if array.ndim else array,
        lambda: array.ravel()[:1].reshape(()) if array.size else array,
        lambda: array[:1] if array.ndim else array,
        lambda: array[..., :1] if array.ndim else array,
        lambda: np.concatenate([array, array]) if array.ndim else array,
        lambda: np.repeat(array, 3, axis=-1) if array.ndim else array,
        lambda: array.reshape(*array.shape, *(1,) * (20 - array.ndim)),
    )
    tensors[name] = ways[generator.integers(len(ways))]()


def _resize(tensors: Tensors, name: str, generator: Generator) -> None:
    """One size of the layer becomes another one wherever it occurs, so that shapes still agree."""
    if not tensors[name].ndim:
        return
    old = int(generator.choice(tensors[name].shape))
    new = int(generator.choice([0, 1, 2, 3, 5, 64]))
    for other, array in list(tensors.items()):
        shape = tuple(new if size == old else size for size in array.shape)
        if math.prod(shape) <= MOST:
            tensors[other] = np.resize(array, shape) if array.size else np.zeros(shape, array.dtype)


def _special(tensors: Tensors, name: str, generator: Generator) -> None:
    array = tensors[name].copy()
    value = SPECIAL[generator.integers(len(SPECIAL))]
    flat = array.reshape(-1)
    with np.errstate(all="ignore"):
        if array.dtype.kind == "c" and generator.integers(2):
            value = complex(value, SPECIAL[generator.integers(len(SPECIAL))])
        if array.dtype.kind in "iub":
            value = int(value) % 128 if np.isfinite(value) else 127
        if generator.integers(2):
            flat[...] = value
        elif flat.size:
            flat[generator.integers(flat.size)] = value
    tensors[name] = array


def _scale(tensors: Tensors, name: str, generator: Generator) -> None:
    with np.errstate(all="ignore"):
        factor = tensors[name].dtype.type(generator.choice([-1, 0.1, 3, 30, 1e4])) if tensors[name].dtype.kind in "fc" else 1
        tensors[name] = tensors[name] * factor


def _equal(tensors: Tensors, name: str, generator: Generator) -> None:
    """All entries along the last axis are the first: poles coincide."""
    array = tensors[name]
    if array.ndim and array.size:
        tensors[name] = np.broadcast_to(array[..., :1], array.shape).copy()


def _drop(tensors: Tensors, name: str, generator: Generator) -> None:
    del tensors[name]


def _rename(tensors: Tensors, name: str, generator: Generator) -> None:
    array, odd = tensors.pop(name), ODD_NAMES[generator.integers(len(ODD_NAMES))]
    ways = (odd, f"{odd}.{name}", f"{name}.{odd}", name.rpartition(".")[2], f"module.{name}", name.upper())
    tensors[ways[generator.integers(len(ways))]] = array


def _exchange(tensors: Tensors, name: str, generator: Generator) -> None:
    other = list(tensors)[generator.integers(len(tensors))]
    tensors[name], tensors[other] = tensors[other], tensors[name]


def _twice(tensors: Tensors, name: str, generator: Generator) -> None:
    """Store every tensor under one more prefix, with all of them shared."""
    for other, array in list(tensors.items()):
        tensors[f"twin.{other}"] = array


CHANGES: Mapping[str, Change] = {
    "cast": _cast,
    "lie": _lie,
    "reshape": _reshape,
    "resize": _resize,
    "special values": _special,
    "special values again": _special,
    "scale": _scale,
    "equal": _equal,
    "drop": _drop,
    "rename": _rename,
    "exchange": _exchange,
    "twice": _twice,
}


def safetensors(tensors: Tensors) -> bytes:
    """As the library writes it, but with any names and shapes. Dtypes that it lacks are skipped."""
    codes = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "complex64": "C64", "bool": "BOOL"}
    codes |= {f"{sign}int{bits}": f"{sign.upper() or 'I'}{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
    header, data = {}, b""
    for name, array in tensors.items():
        if array.dtype.name in codes:
            raw = np.ascontiguousarray(array).tobytes()
            header[name] = {"dtype": codes[array.dtype.name], "shape": array.shape, "data_offsets": [len(data), len(data) + len(raw)]}
            data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def npz(tensors: Tensors, compression: int = zipfile.ZIP_STORED) -> bytes:
    """As numpy.savez writes it. Names that a zip file cannot hold are skipped."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, array in tensors.items():
            if "\0" not in name:
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    return buffer.getvalue()


def deflated(tensors: Tensors) -> bytes:
    """As numpy.savez_compressed writes it."""
    return npz(tensors, zipfile.ZIP_DEFLATED)


def flax(tensors: Tensors) -> bytes:
    """As flax writes a tree. A name whose parent is already a tensor is skipped."""
    tree: dict[str, object] = {}
    for name, array in tensors.items():
        *parents, leaf = name.split(".")
        branch: object = tree
        for parent in parents:
            branch = branch.setdefault(parent, {}) if isinstance(branch, dict) else None
        if isinstance(branch, dict):
            branch[leaf] = msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))
    return msgpack.packb({"params": tree})


def torch_zip(tensors: Tensors, **options: bool) -> bytes:
    """As torch.save writes it. Dtypes that torch lacks are skipped."""
    import torch

    kept = {name: array for name, array in tensors.items() if array.dtype.name not in ("uint16", "uint32", "uint64", "bfloat16")}
    buffer = io.BytesIO()
    torch.save({"model": {name: torch.from_numpy(np.array(array)) for name, array in kept.items()}}, buffer, **options)
    return buffer.getvalue()


def torch_legacy(tensors: Tensors) -> bytes:
    """As torch wrote it before 1.6."""
    return torch_zip(tensors, _use_new_zipfile_serialization=False)


CONTAINERS: Mapping[str, tuple[str, Callable[[Tensors], bytes]]] = {
    "safetensors": (".safetensors", safetensors),
    "npz": (".npz", npz),
    "npz deflated": (".npz", deflated),
    "flax": (".msgpack", flax),
    "torch zip": (".pt", torch_zip),
    "torch legacy": (".pth", torch_legacy),
}
"""Container -> suffix of its files, and what writes it."""
