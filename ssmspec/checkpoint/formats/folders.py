"""Folders in the layout of Hugging Face: the file that holds the weights, shards listed in an index, and config.json beside them.

Source: transformers, modeling_utils.py and utils/hub.py (get_checkpoint_shard_files: index with "weight_map": name -> shard).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssmspec.checkpoint.formats.json_text import MAX_BYTES, parse_json
from ssmspec.checkpoint.tensors import Contents, Stamp, StoredTensor, problem, short
from ssmspec.errors import CheckpointError

INDEX_SUFFIX = ".index.json"
PREFERRED = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")
SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".npz", ".msgpack")
NO_WEIGHTS = ("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scheduler.bin", "rng_state.pth")  # of the HF trainer

ReadFile = Callable[[Path], tuple[Contents, int]]


def choose(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The file to open in a folder, and notes.

    Raises:
        CheckpointError: the folder holds no checkpoint, or several.
    """
    for name in PREFERRED:
        if (folder / name).exists():
            return folder / name, ()
    found = sorted(entry for entry in folder.iterdir() if entry.suffix in SUFFIXES and entry.name not in NO_WEIGHTS and entry.is_file())
    indices = sorted(entry for entry in folder.iterdir() if is_index(entry) and entry.is_file())
    candidates = indices or found
    if len(candidates) == 1:
        return candidates[0], (f"the folder's only checkpoint: {candidates[0].name}",)
    if not candidates:
        looked = ", ".join((*PREFERRED, *("*" + suffix for suffix in SUFFIXES)))
        raise problem(folder, f"a folder without weights: looked for {looked}; name the file itself")
    names = ", ".join(short(entry.name, 60) for entry in candidates[:8]) + (", ..." if len(candidates) > 8 else "")
    raise problem(folder, f"a folder with {len(candidates)} checkpoints ({names}); name one of them")


def is_index(path: Path) -> bool:
    """Whether a file is the index of a sharded checkpoint, by its name."""
    return path.name.endswith(INDEX_SUFFIX)


def read_index(path: Path, read_file: ReadFile) -> tuple[Contents, int]:
    """All shards of an index as one checkpoint.

    Raises:
        CheckpointError: there is no weight map, a shard is missing or outside the folder, or a shard disagrees with the map.
    """
    files = {path: Stamp.of(path.stat())}
    weight_map = _weight_map(path)
    shards: dict[str, Contents] = {}
    size = 0
    for name in sorted(set(weight_map.values())):
        if not (path.parent / name).is_file():
            raise problem(path, f"shard '{short(name)}' is missing from the folder; fetch all shards")
        shards[name], bytes_on_disk = read_file(path.parent / name)
        size += bytes_on_disk
    tensors: dict[str, StoredTensor] = {}
    for name, contents in shards.items():
        for tensor in contents.tensors.values():
            if weight_map.get(tensor.name) != name:
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
    return Contents(f"{first.container} (sharded)", tensors, config, notes, files), size


def _weight_map(path: Path) -> dict[str, str]:
    data = load_json(path)
    weight_map = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise problem(path, 'an index without a "weight_map" of tensor names to shard files; fetch it again')
    for shard in weight_map.values():
        if shard in ("", ".", "..") or "/" in shard or "\\" in shard or "\0" in shard:
            raise problem(path, f"shard '{short(shard)}' is not a plain file name in the index's own folder; not opened")
        if is_index(Path(shard)):
            raise problem(path, f"shard '{short(shard)}' is an index itself; expected a checkpoint file")
    return weight_map


def read_config(path: Path, given: Path) -> tuple[dict[str, object], tuple[str, ...]]:
    """config.json beside the weights (only in the layout of a model folder), and a note if it cannot be used."""
    config = path.parent / "config.json"
    if not (given != path or is_index(path) or path.name in PREFERRED) or not config.is_file():
        return {}, ()
    try:
        data = load_json(config)
    except (OSError, CheckpointError) as error:
        return {}, (f"config.json ignored: {short(' '.join(str(error).removeprefix(f'{config}: ').split()))}",)
    return (data, ()) if isinstance(data, dict) else ({}, ("config.json ignored: it is not a JSON object",))


def load_json(path: Path) -> Any:
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
