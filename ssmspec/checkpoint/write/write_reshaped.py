"""write_reshaped: write a checkpoint in which some tensors have other shapes, in its original container where that can be done."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from ssmspec.checkpoint.formats.eqx import stream_spans
from ssmspec.checkpoint.formats.flax_msgpack import array_starts, array_value
from ssmspec.checkpoint.formats.folders import is_index, load_json
from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import ITEMSIZE, Checkpoint, Stamp, StoredTensor, problem, short
from ssmspec.checkpoint.write.new_safetensors import find_new_file, write_new
from ssmspec.checkpoint.write.patches import cast_to_stored, find_stored, stored_bytes
from ssmspec.checkpoint.write.safetensors_header import write_with_header
from ssmspec.checkpoint.write.splice import Splice, unchanged
from ssmspec.checkpoint.write.torch_settings import New, TorchSetting
from ssmspec.checkpoint.write.whole_folder import Destination, write_folder
from ssmspec.checkpoint.write.write_changed import find_destination, old_weights, source_of
from ssmspec.checkpoint.write.zip_anew import Replaced, npy_stream, settings_inside, write_npz_anew, write_torch_anew
from ssmspec.files.replacing import new_file

Job = Callable[[IO[bytes]], None]
KINDS = ("safetensors", "npz", "torch zip", "flax msgpack", "equinox")


def reshapes(checkpoint: Checkpoint) -> bool:
    """Whether the container of a checkpoint can be written with other shapes; otherwise the result is a new safetensors file."""
    return not checkpoint.assembled and checkpoint.container.removesuffix(" (sharded)") in KINDS


def find_reshaped(checkpoint: Checkpoint, target: Path, *, replace: bool, in_place: bool) -> Destination:
    """Where `write_reshaped` would write; raises the same errors about the target, before any work is done."""
    if reshapes(checkpoint):
        return find_destination(checkpoint, target, replace=replace, in_place=in_place)
    return find_new_file(checkpoint, target, replace=replace, in_place=in_place)


def write_reshaped(
    checkpoint: Checkpoint,
    target: Path,
    changes: Mapping[str, NDArray[Any]],
    *,
    metadata: Mapping[str, str],
    texts: Mapping[Path, bytes],
    line: bytes | None = None,
    new_setting: New | None = None,
    replace: bool = False,
    in_place: bool = False,
) -> tuple[str, ...]:
    """Writes the checkpoint with new values, of any shape, for some of its tensors. All other values stay the same.

    As with `write_changed`, the target is either unchanged or complete, and nothing in the checkpoint is executed.

    Args:
        checkpoint, target, metadata, replace, in_place: as for `write_changed`.
        changes: tensor name -> all its values, in the stored dtype or one that can be cast to it.
        texts: new contents of small files of a folder, by their path in the source. line: the new line of JSON of an Equinox file.
        new_setting: for a file of torch.save, the new value of an integer of its configuration, of the key and the old value.
    Returns:
        notes: what a new safetensors file lacks; files of a folder that keep the old weights.
    Raises:
        CheckpointError: a name or value that cannot be stored, or the checkpoint was changed since it was opened.
        SsmspecError: the target exists, is not writable, or is not a file or folder as required; or the disk is full.
    """
    destination = find_reshaped(checkpoint, target, replace=replace, in_place=in_place)
    try:
        for path, stamp in checkpoint.files.items():
            if isinstance(path, Path):
                with unchanged(path, stamp):
                    pass
        if not reshapes(checkpoint):
            return write_new(checkpoint, destination, changes, {}, metadata, reshaped=True)
        _write(checkpoint, source_of(checkpoint), destination, _jobs(checkpoint, changes, metadata, texts, line, new_setting))
    except OSError as error:
        raise problem(error.filename or target, error.strerror or str(error)) from error
    return tuple(old_weights(source_of(checkpoint), checkpoint))


def settings_in_file(checkpoint: Checkpoint, new_setting: New) -> list[TorchSetting]:
    """What `write_reshaped` would change in the configuration inside a file of torch.save; none in other files.

    Raises:
        CheckpointError: the checkpoint was changed since it was opened.
    """
    if not reshapes(checkpoint) or checkpoint.container != "torch zip":
        return []
    (path,) = [path for path in checkpoint.files if not is_index(path)][:1]
    with unchanged(path, checkpoint.files[path]) as source:
        return settings_inside(source, new_setting)


def _write(checkpoint: Checkpoint, source: Path, destination: Destination, jobs: Mapping[Location, Job]) -> None:
    if source.is_dir():
        write_folder(source, destination, jobs)
        return
    with new_file(destination.path, destination.mode, exclusive=destination.is_new) as out:
        jobs[source](out)


def _jobs(
    checkpoint: Checkpoint,
    changes: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str],
    texts: Mapping[Path, bytes],
    line: bytes | None,
    new_setting: New | None,
) -> dict[Location, Job]:
    kind = checkpoint.container.removesuffix(" (sharded)")
    replaced: dict[Location, Replaced] = {}
    for name, values in changes.items():
        tensor = find_stored(checkpoint, name)
        replaced.setdefault(tensor.span.path, []).append((tensor, cast_to_stored(tensor, values, checkpoint.path, reshaped=True)))
    first = min(path for path in checkpoint.files if not is_index(path))
    if metadata and kind == "safetensors":
        replaced.setdefault(first, [])
    jobs: dict[Location, Job] = {
        path: partial(_write_file, kind, path, checkpoint.files[path], tensors, metadata if path == first else {}, line, new_setting)
        for path, tensors in replaced.items()
    }
    jobs |= {path: partial(_write_text, text) for path, text in texts.items()}
    index = next((path for path in checkpoint.files if is_index(path)), None)
    if index is not None:
        jobs[index] = partial(_write_text, _index(index, replaced))
    return jobs


def _write_text(text: bytes, out: IO[bytes]) -> None:
    out.write(text)


def _index(path: Location, replaced: Mapping[Location, Replaced]) -> bytes:
    """The index with the new number of bytes."""
    index = load_json(path)
    total = index["metadata"].get("total_size") if isinstance(index.get("metadata"), dict) else None
    if type(total) is int:
        pairs = [pair for tensors in replaced.values() for pair in tensors]
        index["metadata"]["total_size"] = total + sum(values.size * ITEMSIZE[tensor.dtype] - tensor.nbytes for tensor, values in pairs)
    return (json.dumps(index, indent=2) + "\n").encode("ascii")


def _write_file(
    kind: str,
    path: Location,
    stamp: Stamp,
    replaced: Replaced,
    metadata: Mapping[str, str],
    line: bytes | None,
    new_setting: New | None,
    out: IO[bytes],
) -> None:
    with unchanged(path, stamp) as source:
        if kind == "npz":
            write_npz_anew(path, source, out, replaced)
        elif kind == "torch zip":
            write_torch_anew(path, source, out, replaced, new_setting)
        else:
            splice = Splice(path, source, out)
            if kind == "safetensors":
                new = {tensor.name: values for tensor, values in replaced}
                write_with_header(splice, stamp.size, {}, metadata, new)
            else:
                _splice(splice, stamp.size, _streams(path, stamp.size, replaced, kind, line))


def _splice(splice: Splice, size: int, pieces: Mapping[tuple[int, int], bytes]) -> None:
    """Copies a file with other bytes in place of some spans."""
    for (start, stop), new in sorted(pieces.items()):
        splice.through(start)
        splice.append(new)
        splice.skip(stop)
    splice.through(size)


def _streams(path: Location, size: int, replaced: Replaced, kind: str, line: bytes | None) -> dict[tuple[int, int], bytes]:
    """New bytes by the span that they take the place of, of flax and Equinox files."""
    pieces: dict[tuple[int, int], bytes] = {}
    if kind == "flax msgpack":
        starts = array_starts(path, size)
        for tensor, values in replaced:
            span = _plain(tensor)
            data = stored_bytes(tensor, values, reshaped=True).tobytes()
            pieces[starts[span[0]], span[1]] = array_value(values.shape, tensor.dtype, data)
        return pieces
    end, spans = stream_spans(path, size)
    if line is not None and end:
        pieces[0, end] = line
    for tensor, values in replaced:
        pieces[spans[tensor.span.offset]] = npy_stream(tensor, values)
    return pieces


def _plain(tensor: StoredTensor) -> tuple[int, int]:
    """The bytes of a tensor that is stored in one piece.

    Raises:
        CheckpointError: it is stored in chunks.
    """
    if tensor.span.chunks:
        text = f"tensor '{short(tensor.name)}' is stored in chunks of 1 GiB, which cannot be written with another shape"
        raise problem(tensor.span.path, f"{text}; save the checkpoint in another format")
    return tensor.span.offset, tensor.span.offset + tensor.span.nbytes
