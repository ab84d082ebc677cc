"""Folders in the layout of Hugging Face: the file that holds the weights, shards listed in an index, and config.json beside them.

Source: transformers, modeling_utils.py and utils/hub.py (get_checkpoint_shard_files: index with "weight_map": name -> shard).
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from ssmspec.checkpoint.derived import AnyTensor
from ssmspec.checkpoint.formats.foreign import ZERO, rank_file_in, refuse_folder
from ssmspec.checkpoint.formats.json_text import MAX_BYTES, parse_json
from ssmspec.checkpoint.remote.path import Location, RemotePath, entries
from ssmspec.checkpoint.tensors import Contents, Stamp, problem, short
from ssmspec.errors import CheckpointError

INDEX_SUFFIX = ".index.json"
PREFERRED = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")
SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".npz", ".msgpack")
NO_WEIGHTS = ("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scheduler.bin", "rng_state.pth")  # of the HF trainer

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
QUANTIZE_CONFIG = "quantize_config.json"  # of GPTQ before transformers kept it in config.json
BESIDE = (CONFIG, ADAPTER_CONFIG, QUANTIZE_CONFIG)

ReadFile = Callable[[Location], tuple[Contents, int]]
Needed = Callable[[Collection[str]], Collection[str]]  # of some names, those of tensors that are needed


def choose(folder: Location) -> tuple[Location, tuple[str, ...]]:
    """The file to open in a folder, and notes.

    Raises:
        CheckpointError: the folder holds no checkpoint, or several.
    """
    names = [entry.name for entry in folder.iterdir()]
    for name in PREFERRED:
        if name in names:
            beside = next((other for other in sorted(names) if other.startswith("adapter_model.")), None)
            return folder / name, (f"{beside} is not applied to {name}; merge it with peft",) if beside else ()
    refuse_folder(folder, below=not any(Path(name).suffix in SUFFIXES for name in names))
    rank_file = rank_file_in(names)
    if rank_file is not None:
        raise problem(folder, f"a checkpoint of DeepSpeed ZeRO with files such as {rank_file}: {ZERO}")
    found = [entry for entry in entries(folder) if entry.suffix in SUFFIXES and entry.name not in NO_WEIGHTS and entry.is_file()]
    indices = [entry for entry in entries(folder) if is_index(entry) and entry.is_file()]
    candidates = indices or found
    if len(candidates) == 1:
        return candidates[0], (f"the folder's only checkpoint: {candidates[0].name}",)
    if not candidates:
        looked = ", ".join((*PREFERRED, *("*" + suffix for suffix in SUFFIXES)))
        raise problem(folder, f"a folder without weights: looked for {looked}; name the file itself")
    listed = ", ".join(short(entry.name, 60) for entry in candidates[:8]) + (", ..." if len(candidates) > 8 else "")
    raise problem(folder, f"a folder with {len(candidates)} checkpoints ({listed}); name one of them")


def has_weights(folder: Location, besides: Collection[str] = ()) -> bool:
    """Whether a folder has files that may hold weights, besides those of the given names and what trainers put there."""
    names = (entry.name for entry in folder.iterdir() if entry.suffix in SUFFIXES and entry.is_file())
    return any(name not in NO_WEIGHTS and name not in besides and not name.startswith("rng_state_") for name in names)


def is_index(path: Location) -> bool:
    """Whether a file is the index of a sharded checkpoint, by its name."""
    return path.name.endswith(INDEX_SUFFIX)


def read_index(path: Location, read_file: ReadFile, needed: Needed | None = None) -> tuple[Contents, int]:
    """All shards of an index as one checkpoint; of one in a store only those that hold tensors that are needed.

    Raises:
        CheckpointError: there is no weight map, a shard is missing or outside the folder, or a shard disagrees with the map.
    """
    files = {path: Stamp.of(path.stat())}
    weight_map, total = _weight_map(path)
    every, unopened = weight_map, ""
    if isinstance(path, RemotePath):
        weight_map, unopened = _only_needed(weight_map, needed)
        path.store.begin([(path.parent / name).key for name in sorted(set(weight_map.values()))])
    shards: dict[str, Contents] = {}
    size = 0
    for name in sorted(set(weight_map.values())):
        if not (path.parent / name).is_file():
            raise problem(path, f"shard '{short(name)}' is missing from the folder; fetch all shards")
        shards[name], bytes_on_disk = read_file(path.parent / name)
        size += bytes_on_disk
    tensors: dict[str, AnyTensor] = {}
    for name, contents in shards.items():
        for tensor in contents.tensors.values():
            if every.get(tensor.name) != name:
                raise problem(
                    path, f"shard '{short(name)}' holds '{short(tensor.name)}', which the index does not assign to it; fetch both again"
                )
            tensors[tensor.name] = tensor
    for name in weight_map:
        if name not in tensors:
            raise problem(path, f"shard '{short(weight_map[name])}' lacks '{short(name)}', which the index assigns to it; fetch both again")
    first = next(iter(shards.values()))
    # if several shards have metadata, that of the first one is used, because `write_changed` adds its own there
    config = {key: value for contents in reversed(shards.values()) for key, value in contents.config.items()}
    notes = tuple(dict.fromkeys(note for contents in shards.values() for note in contents.notes))
    for contents in shards.values():
        files |= contents.files
    notes = (*notes, unopened) if unopened else notes
    return Contents(f"{first.container} (sharded)", tensors, config, notes, files), max(size, total) if unopened else size


def shards_of(path: Location) -> list[str]:
    """The names of the shards of an index. Raises as `read_index`."""
    return sorted(set(_weight_map(path)[0].values()))


def _only_needed(weight_map: dict[str, str], needed: Needed | None) -> tuple[dict[str, str], str]:
    """The part of the map whose shards hold needed tensors, all of it if none do, and what that leaves unopened, in words."""
    shards = {weight_map[name] for name in (needed(weight_map) if needed else ())} or set(weight_map.values())
    kept = {name: shard for name, shard in weight_map.items() if shard in shards}
    closed, others = len(set(weight_map.values())) - len(shards), len(weight_map) - len(kept)
    text = f"{closed} of {closed + len(shards)} shards ({others} tensors) were not opened"
    return kept, f"{text}: the index names no tensor of an SSM layer in them" if closed else ""


def _weight_map(path: Location) -> tuple[dict[str, str], int]:
    """Names of tensors to shards, and the bytes of all tensors, 0 if the index does not tell."""
    data = load_json(path)
    weight_map = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise problem(path, 'an index without a "weight_map" of tensor names to shard files; fetch it again')
    for shard in weight_map.values():
        if shard in ("", ".", "..") or "/" in shard or "\\" in shard or "\0" in shard:
            raise problem(path, f"shard '{short(shard)}' is not a plain file name in the index's own folder; not opened")
        if is_index(Path(shard)):
            raise problem(path, f"shard '{short(shard)}' is an index itself; expected a checkpoint file")
    told = data.get("metadata")
    total = told.get("total_size") if isinstance(told, dict) else None
    return weight_map, total if type(total) is int and total > 0 else 0


def read_config(path: Location, given: Location) -> tuple[dict[str, object], tuple[str, ...]]:
    """config.json beside the weights (only where the layout is that of a model folder), and a note if it cannot be used."""
    folder = path if path.is_dir() else path.parent
    if not (given != path or path.is_dir() or is_index(path) or path.name in PREFERRED):
        return {}, ()
    config, notes = _object(folder / CONFIG)
    quantized, more = _object(folder / QUANTIZE_CONFIG)
    return ({"quantization_config": quantized} if quantized else {}) | config, (*notes, *more)


def _object(path: Location) -> tuple[dict[str, object], tuple[str, ...]]:
    """A JSON object, empty where there is no such file, and a note if it cannot be used."""
    try:
        if not path.is_file():
            return {}, ()
        data = load_json(path)
    except (OSError, CheckpointError) as error:
        return {}, (f"{path.name} ignored: {short(' '.join(str(error).removeprefix(f'{path}: ').split()))}",)
    return (data, ()) if isinstance(data, dict) else ({}, (f"{path.name} ignored: it is not a JSON object",))


def adapter_config(path: Location) -> dict[str, Any] | None:
    """What peft says of an adapter beside the weights; None if there is nothing that can be read."""
    place = (path if path.is_dir() else path.parent) / ADAPTER_CONFIG
    try:
        data = load_json(place) if place.is_file() else None
    except (OSError, CheckpointError):
        return None
    return data if isinstance(data, dict) else None


def load_json(path: Location) -> Any:
    """The content of a small JSON file.

    Raises:
        CheckpointError: not a regular file, not valid JSON, or too large. OSError: it cannot be read.
    """
    if not path.is_file():  # opening a pipe would wait forever
        raise problem(path, "not a regular file; check the path")
    try:
        with path.open("rb") as file:
            return parse_json(file.read(MAX_BYTES + 1))
    except ValueError as error:
        raise problem(path, f"is not valid JSON ({error}); fetch it again") from error
