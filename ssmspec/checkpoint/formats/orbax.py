"""Folders of Orbax, the checkpoints of JAX: one zarr array for each tensor, in a folder of its own or all in one OCDBT database.

What describes an array (`.zarray`, `zarr.json`) is checked here before tensorstore, in another process, opens it: it allocates what it is
told. Sources: google/orbax, checkpoint/_src/metadata/tree.py (`_METADATA`: keys, use_ocdbt, use_zarr3), _src/serialization/
tensorstore_utils.py and type_handlers.py (names of arrays, ocdbt.process_0), _src/checkpoint_managers (step folders and their items);
zarr-specs, v2 and v3.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssmspec.checkpoint.derived import JoinedTensor
from ssmspec.checkpoint.formats.folders import load_json
from ssmspec.checkpoint.formats.json_text import parse_json
from ssmspec.checkpoint.formats.native import NativeProcess, NativeTensor, whole
from ssmspec.checkpoint.formats.tree import put_leaf
from ssmspec.checkpoint.naming import MAX_TENSORS, name_tree
from ssmspec.checkpoint.remote.path import Location, RemotePath, entries
from ssmspec.checkpoint.tensors import ITEMSIZE, MAX_DIMENSIONS, Contents, Stamp, problem, short

METADATA, MANIFEST, OF_STEP = "_METADATA", "manifest.ocdbt", "_CHECKPOINT_METADATA"
OF_PROCESS = re.compile(r"ocdbt\.process_\d+")
ZARR_2, ZARR_3 = ".zarray", "zarr.json"
ITEMS = ("default", "items", "state", "params", "model")  # what step folders call the model
STEP = re.compile(r"(?:[A-Za-z][\w-]*_)?\d{1,12}")
MOST_RATIO = 40_000  # of values to bytes in files: Zstandard makes at most 32768 bytes of one
LARGEST_CHUNK = 1 << 34  # bytes
SMALL = 1 << 20  # bytes that a chunk may have whatever the shape
MOST_TEXT = 1 << 16
COMPRESSORS = {None, "zstd", "blosc", "zlib", "gzip", "bz2"}
CODECS = {"bytes", "zstd", "gzip", "blosc", "crc32c", "sharding_indexed", "transpose"}
SHOWN = 4

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Described:
    """What the description of an array says, checked."""

    shape: Shape
    dtype: str
    driver: str


def is_orbax(folder: Location) -> bool:
    """Whether a folder holds one checkpoint of Orbax, directly or as the item of a step."""
    return item_of(folder) is not None


def item_of(folder: Location) -> Location | None:
    """The folder with the arrays: the folder itself, or the item in it that holds the model.

    Raises:
        CheckpointError: several items, of which none has a usual name.
    """
    names = {entry.name for entry in folder.iterdir()}
    if _has_arrays(folder, names):
        return folder
    usual = [folder / name for name in ITEMS if name in names]
    inside = usual if OF_STEP not in names else [entry for entry in entries(folder) if entry.is_dir()]
    found = [entry for entry in inside if entry.is_dir() and _has_arrays(entry, {each.name for each in entry.iterdir()})]
    best = next((entry for entry in usual if entry in found), None)
    if best is None and len(found) > 1:
        raise problem(folder, f"an Orbax checkpoint with {len(found)} items ({_some(found)}); name one of them")
    return best or next(iter(found), None)


def _has_arrays(folder: Location, names: set[str]) -> bool:
    if names & {METADATA, MANIFEST} or any(OF_PROCESS.fullmatch(name) for name in names):
        return True
    return "checkpoint" in names and next(folder.glob(f"*/{ZARR_2}"), None) is not None


def orbax_below(folder: Location) -> Location | None:
    """The only step in the folder of a run.

    Raises:
        CheckpointError: several steps.
    """
    steps = [entry for entry in entries(folder) if STEP.fullmatch(entry.name) and entry.is_dir() and is_orbax(entry)]
    if len(steps) > 1:
        raise problem(folder, f"a folder with {len(steps)} steps of Orbax ({_some(steps)}); name one of them")
    return steps[0] if steps else None


def _some(found: list[Location]) -> str:
    return ", ".join(short(entry.name, 60) for entry in found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")


def read_orbax(given: Location) -> tuple[Contents, int]:
    """Every tensor of a folder; optimizer state is skipped. Descriptions are read now, values when they are asked for.

    Raises:
        CheckpointError: remote, tensorstore is not installed, damaged descriptions, or one that its files cannot bear out.
    """
    folder = item_of(given)
    assert folder is not None
    if isinstance(folder, RemotePath):
        raise problem(given, "an Orbax checkpoint is read from a local folder only: --download fetches it")
    process = NativeProcess(folder, "orbax")
    metadata = _metadata(folder)
    base, ocdbt = _database(folder)
    texts = _in_database(process, base) if ocdbt else _in_folders(folder)
    if len(texts) > MAX_TENSORS:
        raise problem(folder, f"{len(texts)} arrays in one checkpoint; expected at most {MAX_TENSORS}")
    size = sum(_sizes(folder))
    whole_chunks = metadata.get("store_array_data_equal_to_fill_value") is True
    paths, root = _paths(metadata), dict[str, object]()
    skipped: list[str] = []
    for name, (ending, text) in texts.items():
        described = _described(folder, name, ending, text, size)
        if described is None:
            skipped.append(name)
            continue
        request = {"do": "array", "base": f"{base}{os.sep}", "ocdbt": ocdbt, "name": name, "driver": described.driver}
        request |= {"dtype": described.dtype, "whole": whole_chunks}
        leaf = whole(NativeTensor(name, described.shape, described.dtype, process, request))
        if not put_leaf(root, paths.get(name, tuple(name.split("."))), leaf):
            put_leaf(root, (name,), leaf)
    return _contents(folder, given, root, skipped, whole_chunks=whole_chunks), size


def _contents(folder: Path, given: Location, root: dict[str, object], skipped: list[str], *, whole_chunks: bool) -> Contents:
    named = name_tree(root, lambda text: problem(folder, text))
    tensors = {name: replace(leaf, name=name) for name, leaf in named.leaves.items() if isinstance(leaf, JoinedTensor)}
    notes = [f"the item {folder.name} of the step"] if folder != given else []
    if (folder / "checkpoint").is_file():
        notes.append("the small values in its file checkpoint were skipped")
    if skipped:
        notes.append(f"arrays of other dtypes were skipped: {len(skipped)}, such as {short(skipped[0], 60)}")
    if not whole_chunks:
        notes.append("written by an Orbax that does not store blocks of zeros: a block without a file is read as zeros")
    files: dict[Location, Stamp] = {path: Stamp.of(path.stat()) for name in (METADATA, MANIFEST) if (path := folder / name).is_file()}
    return Contents("orbax", tensors, named.config, (*notes, *named.notes), files)


def _metadata(folder: Path) -> Mapping[str, Any]:
    """What Orbax says of the tree; empty where an old version says nothing."""
    found = load_json(folder / METADATA) if (folder / METADATA).is_file() else {}
    if not isinstance(found, dict):
        raise problem(folder / METADATA, "is not a JSON object; fetch it again")
    return found


def _paths(metadata: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The keys that lead to every array, by the name that joins them."""
    tree = metadata.get("tree_metadata")
    found = {}
    for entry in tree.values() if isinstance(tree, dict) else ():
        told = entry.get("key_metadata") if isinstance(entry, dict) else None
        keys = [each.get("key") if isinstance(each, dict) else None for each in told] if isinstance(told, list) else []
        if keys and all(isinstance(key, str) and key for key in keys):
            found[".".join(map(str, keys))] = tuple(map(str, keys))
    return found


def _database(folder: Path) -> tuple[str, bool]:
    """The folder of the arrays as an absolute path, and whether it is a database.

    Raises:
        CheckpointError: databases of several processes that were not merged.
    """
    if (folder / MANIFEST).is_file():
        return str(folder.absolute()), True
    parts = [entry for entry in entries(folder) if OF_PROCESS.fullmatch(entry.name) and (entry / MANIFEST).is_file()]
    if len(parts) > 1:
        text = f"it has the parts of {len(parts)} processes and no {MANIFEST} of all: saving was not finished"
        raise problem(folder, f"{text}; give another step")
    return str((parts[0] if parts else folder).absolute()), bool(parts)


def _in_database(process: NativeProcess, base: str) -> dict[str, tuple[str, str]]:
    answer, _ = process.ask("the OCDBT database of the Orbax checkpoint", do="descriptions", base=f"{base}{os.sep}")
    return {key.rpartition("/")[0]: (key.rpartition("/")[2], text) for key, text in answer.items()}


def _in_folders(folder: Path) -> dict[str, tuple[str, str]]:
    found = {}
    for entry in entries(folder):
        for ending in (ZARR_2, ZARR_3) if entry.is_dir() else ():
            place = entry / ending
            if place.is_file():
                if place.stat().st_size > MOST_TEXT:
                    raise problem(folder, f"{entry.name}/{ending} has {place.stat().st_size} bytes, expected at most {MOST_TEXT}")
                found[entry.name] = (ending, place.read_text("utf-8", "replace"))
    return found


def _sizes(folder: Path) -> Iterator[int]:
    for place, _, names in os.walk(folder):
        for name in names:
            yield Path(place, name).lstat().st_size


def _described(folder: Location, name: str, ending: str, text: str, size: int) -> Described | None:
    """What the description of an array says; None of a dtype that is not read.

    Raises:
        CheckpointError: it is not that of an array, or its files are too small for so many values.
    """
    label = f"the description of tensor '{short(name)}'"
    try:
        found = parse_json(text.encode())
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
        shape, dtype, chunks = _zarr_2(found) if ending == ZARR_2 else _zarr_3(found)
    except (ValueError, json.JSONDecodeError) as error:
        raise problem(folder, f"{label} is damaged or of an unknown form: {error}; fetch it again") from error
    if dtype not in ITEMSIZE:
        return None
    nbytes, most = math.prod(shape) * ITEMSIZE[dtype], max((math.prod(chunk) for chunk in chunks), default=1) * ITEMSIZE[dtype]
    if nbytes > MOST_RATIO * size:
        raise problem(folder, f"{label} tells {nbytes} bytes of values, more than the {size} bytes of all files can hold; fetch it again")
    inside = all(len(chunk) == len(shape) and all(part <= axis for part, axis in zip(chunk, shape, strict=True)) for chunk in chunks)
    if most > LARGEST_CHUNK or (most > SMALL and not inside):
        raise problem(folder, f"{label} has blocks of {most} bytes for {nbytes} bytes of values; fetch it again")
    return Described(shape, dtype, "zarr" if ending == ZARR_2 else "zarr3")


def _zarr_2(found: Mapping[str, Any]) -> tuple[Shape, str, list[Shape]]:
    compressor = found.get("compressor")
    kind = compressor.get("id") if isinstance(compressor, dict) else compressor
    if found.get("zarr_format") != 2 or kind not in COMPRESSORS or found.get("filters") or found.get("order", "C") not in ("C", "F"):
        raise ValueError(f"zarr {found.get('zarr_format')} with compressor {kind!r}, expected zarr 2 without filters")
    dtype = found.get("dtype")
    if not isinstance(dtype, str):
        raise ValueError("a dtype that is not a name")
    return _shape(found.get("shape")), _plain_dtype(dtype), [_chunk(found.get("chunks"))]


def _zarr_3(found: Mapping[str, Any]) -> tuple[Shape, str, list[Shape]]:
    grid = found.get("chunk_grid")
    if found.get("zarr_format") != 3 or found.get("node_type") != "array" or not isinstance(grid, dict) or grid.get("name") != "regular":
        raise ValueError("not an array of zarr 3 with regular blocks")
    dtype = found.get("data_type")
    if not isinstance(dtype, str):
        raise ValueError("a data type that is not a name")
    return _shape(found.get("shape")), dtype, [_chunk(_of(grid, "chunk_shape")), *_inner(found.get("codecs"), 0)]


def _inner(codecs: object, depth: int) -> Iterator[Shape]:
    """The blocks within blocks."""
    if not isinstance(codecs, list) or depth > 2:
        raise ValueError("codecs that are not a list, or nested too deeply")
    for codec in codecs:
        name = codec.get("name") if isinstance(codec, dict) else codec
        if name not in CODECS:
            raise ValueError(f"the unknown codec {short(str(name), 40)!r}")
        if name == "sharding_indexed":
            yield _chunk(_of(codec, "chunk_shape"))
            yield from _inner(_of(codec, "codecs"), depth + 1)


def _of(holder: Mapping[str, Any], key: str) -> object:
    settings = holder.get("configuration")
    return settings.get(key) if isinstance(settings, dict) else None


def _shape(value: object) -> Shape:
    if not isinstance(value, list) or len(value) > MAX_DIMENSIONS or not all(type(n) is int and 0 <= n < 2**48 for n in value):
        raise ValueError(f"the shape {short(str(value), 60)}")
    return tuple(value)


def _chunk(value: object) -> Shape:
    shape = _shape(value)
    if 0 in shape:
        raise ValueError(f"blocks of shape {shape}")
    return shape


def _plain_dtype(text: str) -> str:
    """The name of a dtype that is written as NumPy does ("<f4"), or already is one ("bfloat16")."""
    match = re.fullmatch(r"[<>|]([fiucb])(\d{1,2})", text)
    if match is None:
        return text
    if text == "|b1":
        return "bool"
    return {"f": "float", "i": "int", "u": "uint", "c": "complex", "b": "?"}[match[1]] + str(8 * int(match[2]))
