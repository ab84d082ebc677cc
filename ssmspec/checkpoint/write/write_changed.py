"""write_changed: write a checkpoint with new values for some of its tensors, in its original container."""

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ssmspec.checkpoint.formats.folders import NO_WEIGHTS, SUFFIXES, is_index, load_json
from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import Checkpoint, Stamp, problem, short
from ssmspec.checkpoint.write.new_safetensors import find_new_file, write_new
from ssmspec.checkpoint.write.patches import Patch, make_patches
from ssmspec.checkpoint.write.safetensors_header import write_with_header
from ssmspec.checkpoint.write.splice import Splice, unchanged
from ssmspec.checkpoint.write.whole_folder import Destination, restore_previous, write_folder
from ssmspec.checkpoint.write.zip_patch import write_zip
from ssmspec.errors import SsmspecError
from ssmspec.files.replacing import new_file
from ssmspec.files.writing import is_stream, look_up

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(slots=True)
class _Edit:
    """The changes to one file."""

    patches: list[Patch] = field(default_factory=list)
    added: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


def write_changed(
    checkpoint: Checkpoint,
    target: Path | str,
    changes: Mapping[str, NDArray[Any]],
    *,
    added: Mapping[str, NDArray[Any]] = NOTHING,
    metadata: Mapping[str, str] = NOTHING,
    replace: bool = False,
    in_place: bool = False,
) -> tuple[str, ...]:
    """Writes the checkpoint with new values for some tensors. All other bytes stay the same, and nothing in it is executed.

    Even if the process is killed, the target is either unchanged or the complete new checkpoint. For a folder this holds if Linux can
    exchange two names atomically; elsewhere the old folder may remain as ".<name>.<8 characters>.previous", and the next call restores it.
    The input is not changed unless it is the target. A checkpoint that was opened as a folder, or through the index in it, is written as a
    folder with all its other files. One whose tensors are spread over several files is written as a new safetensors file.

    Args:
        checkpoint: as returned by `open_checkpoint`.
        target: the file or folder to write; a symbolic link is followed.
        changes: tensor name -> all its values, as StoredTensor.read returns them; in the stored dtype or one that can be cast to it.
        added: new tensors, in their own dtype; for safetensors only.
        metadata: merged into the __metadata__ of a safetensors file (for shards, of the first one); ignored for other containers.
        replace: whether the target may be another existing file or folder, which is lost.
        in_place: whether the target may be the checkpoint itself.
    Returns:
        notes: tensors that also change because they share stored bytes with changed ones; files of a folder that keep the old weights.
    Raises:
        CheckpointError: a name, shape or value that cannot be stored, or the checkpoint was changed since it was opened.
        SsmspecError: the target exists, is not writable, or is not a file or folder as required; or the disk is full.
    """
    for path, stamp in checkpoint.files.items():
        if isinstance(path, Path):
            with unchanged(path, stamp):
                pass
    destination = find_destination(checkpoint, target, replace=replace, in_place=in_place)
    try:
        if checkpoint.assembled:
            return write_new(checkpoint, destination, changes, {name: np.asarray(array) for name, array in added.items()}, metadata)
        source = source_of(checkpoint)
        patches, notes = make_patches(checkpoint, changes)
        edits = _edits(checkpoint, patches, {name: np.asarray(array) for name, array in added.items()}, metadata)
        _write(checkpoint, source, destination, edits)
    except OSError as error:
        raise problem(error.filename or Path(target), error.strerror or str(error)) from error
    return (*notes, *old_weights(source, checkpoint))


def find_destination(checkpoint: Checkpoint, target: Path | str, *, replace: bool, in_place: bool) -> Destination:
    """Where `write_changed` would write with these arguments; raises the same errors about the target, before any work is done."""
    if checkpoint.assembled:
        return find_new_file(checkpoint, Path(target), replace=replace, in_place=in_place)
    source = source_of(checkpoint)
    given = source if Path(target) == checkpoint.path else Path(target)
    try:
        return _check_target(given, source, replace=replace, in_place=in_place)
    except OSError as error:
        raise problem(error.filename or given, error.strerror or str(error)) from error


def source_of(checkpoint: Checkpoint) -> Path:
    """The file that is copied, or the folder."""
    place = checkpoint.path.parent if is_index(checkpoint.path) else checkpoint.path
    assert isinstance(place, Path)  # a remote checkpoint is for reading only
    return place


def old_weights(source: Path, checkpoint: Checkpoint) -> Iterator[str]:
    """A line for every other file of a folder that may hold the same weights."""
    for path in sorted(source.iterdir()) if source.is_dir() else ():
        if path.suffix in SUFFIXES and path.name not in NO_WEIGHTS and path not in checkpoint.files:
            yield f"'{path.name}' in the folder was not changed; if it holds the same weights, it still has the old values"


def _write(checkpoint: Checkpoint, source: Path, destination: Destination, edits: Mapping[Location, _Edit]) -> None:
    if source.is_dir():
        jobs = {path: partial(_write_edited, path, checkpoint.files[path], edit) for path, edit in edits.items()}
        write_folder(source, destination, {**jobs, **_index_job(checkpoint, edits)})
    else:
        with new_file(destination.path, destination.mode, exclusive=destination.is_new) as out:
            _write_edited(source, checkpoint.files[source], edits.get(source, _Edit()), out)


def _edits(
    checkpoint: Checkpoint, patches: list[Patch], added: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> dict[Location, _Edit]:
    edits: dict[Location, _Edit] = {}
    for patch in patches:
        edits.setdefault(patch.path, _Edit()).patches.append(patch)
    safe = checkpoint.container.startswith("safetensors")
    for name in added:
        if not safe:
            text = f"'{short(name)}' cannot be added to a {checkpoint.container} file without rewriting it; save it as safetensors first"
            raise problem(checkpoint.path, text)
        if name in checkpoint.tensors:
            raise problem(checkpoint.path, f"'{short(name)}' cannot be added: this tensor already exists; change it instead")
    first = min(path for path in checkpoint.files if not is_index(path))
    if safe and added:
        edits.setdefault(min(edits, default=first), _Edit()).added = added
    if safe and metadata:
        edits.setdefault(first, _Edit()).metadata = metadata
    return edits


def _write_edited(path: Location, stamp: Stamp, edit: _Edit, out: IO[bytes]) -> None:
    with unchanged(path, stamp) as source:
        splice = Splice(path, source, out)
        if edit.patches and source.read(2) == b"PK":
            write_zip(splice, stamp.size, edit.patches)
            return
        if edit.added or edit.metadata:
            write_with_header(splice, stamp.size, edit.added, edit.metadata)
        else:
            splice.through(stamp.size)
        for patch in edit.patches:
            splice.patch(patch.offset, patch.data.data)


def _index_job(checkpoint: Checkpoint, edits: Mapping[Location, _Edit]) -> dict[Location, Callable[[IO[bytes]], None]]:
    """The function that rewrites the index, if there is one and tensors are added."""
    path = next((path for path in checkpoint.files if is_index(path)), None)
    places = {name: file.name for file, edit in edits.items() for name in edit.added}
    if not places or path is None:
        return {}
    index = load_json(path)
    index["weight_map"] = {**index["weight_map"], **places}
    total = index["metadata"].get("total_size") if isinstance(index.get("metadata"), dict) else None
    if type(total) is int:
        index["metadata"]["total_size"] = total + sum(array.nbytes for edit in edits.values() for array in edit.added.values())
    text = json.dumps(index, indent=2) + "\n"  # as transformers writes it

    def write(out: IO[bytes]) -> None:
        out.write(text.encode("ascii"))

    return {path: write}


def _check_target(target: Path, source: Path, *, replace: bool, in_place: bool) -> Destination:
    """Where to write, after checking that nothing is lost except what the user allowed."""
    if str(target) == "-":
        raise SsmspecError("cannot write '-': a checkpoint cannot be written to standard output; name a file")
    of_source, real = source.stat(), Path(os.path.realpath(target))
    folder = stat.S_ISDIR(of_source.st_mode)
    if folder:
        restore_previous(real)
    status = look_up(target)
    if folder:
        _refuse_nesting(target, real, Path(os.path.realpath(source)))
    if status is None:
        if folder and real.suffix in SUFFIXES:
            raise SsmspecError(f"cannot write {target}: the checkpoint is a folder and must be written as one; name a folder")
        return Destination(real, of_source.st_mode & 0o777, is_new=True)
    if is_stream(status) or not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise SsmspecError(f"cannot write {target}: it is a device, a pipe or standard output; name a {'folder' if folder else 'file'}")
    if stat.S_ISDIR(status.st_mode) != folder:
        kinds = ("a file; name a folder, because the checkpoint is one") if folder else ("a folder; name a file")
        raise SsmspecError(f"cannot write {target}: it is {kinds}")
    if os.path.samestat(status, of_source):
        if not in_place:
            raise SsmspecError(f"cannot write {target}: it is the checkpoint itself; name another, or use --in-place")
    elif not replace and (any(real.iterdir()) if folder else status.st_size):
        raise SsmspecError(f"cannot write {target}: it exists; name another, or use --force to replace it")
    if not os.access(real, os.W_OK):
        raise SsmspecError(f"cannot write {target}: it is write-protected; name another, or change its permissions")
    return Destination(real, status.st_mode & 0o777, is_new=False)


def _refuse_nesting(target: Path, real: Path, source: Path) -> None:
    if source in real.parents:
        raise SsmspecError(f"cannot write {target}: it is inside the checkpoint's own folder; name a folder elsewhere")
    if real in source.parents:
        raise SsmspecError(f"cannot write {target}: the checkpoint's own folder is inside it; name a folder elsewhere")
