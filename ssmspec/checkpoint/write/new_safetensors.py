"""A safetensors file of all tensors of a checkpoint whose own files are for reading only: its tensors are spread over several of them."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ssmspec.checkpoint.derived import DerivedTensor, JoinedTensor, in_file
from ssmspec.checkpoint.formats.safetensors import METADATA
from ssmspec.checkpoint.tensors import ITEMSIZE, Checkpoint, StoredTensor, problem, short
from ssmspec.checkpoint.write.patches import cast_to_stored
from ssmspec.checkpoint.write.safetensors_header import CODES, header_bytes, plain_text
from ssmspec.checkpoint.write.splice import unchanged
from ssmspec.checkpoint.write.whole_folder import Destination
from ssmspec.errors import SsmspecError
from ssmspec.files.replacing import new_file
from ssmspec.files.writing import is_stream, look_up

AT_ONCE = 1 << 26  # bytes of a tensor that are held in memory
SUFFIX = ".safetensors"
SHOWN = 3


def find_new_file(checkpoint: Checkpoint, target: Path, *, replace: bool, in_place: bool) -> Destination:
    """Where the file is written.

    Raises:
        SsmspecError: a target that is no safetensors file, or exists; a checkpoint whose tensors are not all there.
    """
    what = f"{checkpoint.path} ({checkpoint.container}) is for reading only"
    if in_place or target.suffix.lower() != SUFFIX:
        raise SsmspecError(f"cannot write {target}: {what}; write a new file with -o NAME{SUFFIX}")
    if checkpoint.unjoined:
        names = ", ".join(short(name, 60) for name in checkpoint.unjoined[:SHOWN]) + (", ..." if len(checkpoint.unjoined) > SHOWN else "")
        text = f"{len(checkpoint.unjoined)} tensors ({names}) cannot be joined, so that the file would lack them"
        raise SsmspecError(f"cannot write {target}: {text}; convert the checkpoint to one file with its own tools first")
    without = [name for name, tensor in checkpoint.tensors.items() if isinstance(tensor, DerivedTensor) and not tensor.encoded]
    if without:
        text = f"{len(without)} tensors such as {short(without[0], 60)} are quantized in a form that is not dequantized"
        raise SsmspecError(
            f"cannot write {target}: {text}, so the file would lack them; retune the original checkpoint, and convert the result"
        )
    real, status = Path(os.path.realpath(target)), look_up(target)
    if status is None:
        return Destination(real, min(checkpoint.files).stat().st_mode & 0o777, is_new=True)
    if is_stream(status) or not stat.S_ISREG(status.st_mode):
        raise SsmspecError(f"cannot write {target}: it is not a regular file; name another")
    if any(os.path.samestat(status, path.stat()) for path in checkpoint.files if isinstance(path, Path)):
        raise SsmspecError(f"cannot write {target}: it is a part of the checkpoint itself; name another")
    if status.st_size and not replace:
        raise SsmspecError(f"cannot write {target}: it exists; name another, or use --force to replace it")
    if not os.access(real, os.W_OK):
        raise SsmspecError(f"cannot write {target}: it is write-protected; name another, or change its permissions")
    return Destination(real, status.st_mode & 0o777, is_new=False)


def write_new(
    checkpoint: Checkpoint,
    destination: Destination,
    changes: Mapping[str, NDArray[Any]],
    added: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str],
    *,
    reshaped: bool = False,
) -> tuple[str, ...]:
    """Writes every tensor as the files hold it, codes of quantized weights and adapters too, block by block; arguments of `write_changed`.

    With `reshaped`, changed values may have other shapes.

    Returns:
        A note on what such a file does not hold.
    Raises:
        CheckpointError: a tensor that safetensors cannot hold, values that a tensor cannot hold, or files that were changed meanwhile.
    """
    tensors = dict(in_file(list(checkpoint.tensors.values())))
    values = {
        _plain(checkpoint, name).name: cast_to_stored(_plain(checkpoint, name), array, checkpoint.path, reshaped=reshaped)
        for name, array in changes.items()
    }
    parts = {name: (values[name].shape if name in values else tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    for name, array in added.items():
        if name in parts:
            raise problem(checkpoint.path, f"'{short(name)}' cannot be added: there is such a tensor; change it instead")
        parts[name] = array.shape, array.dtype.name
    order = sorted(parts, key=lambda name: -ITEMSIZE.get(parts[name][1], 0))
    with new_file(destination.path, destination.mode, exclusive=destination.is_new) as out:
        out.write(_header(checkpoint, {name: parts[name] for name in order}, metadata))
        for name in order:
            new = added[name] if name in added else values.get(name)
            for block in _blocks(tensors[name]) if new is None else (new,):
                _append(out, block)
        for path, stamp in checkpoint.files.items():  # a server's answers are compared when they come
            if isinstance(path, Path):
                with unchanged(path, stamp):
                    pass
    return (
        "written as one safetensors file: it holds the tensors; optimizer state, settings and other files of the checkpoint are not in it",
    )


def _plain(checkpoint: Checkpoint, name: str) -> StoredTensor | JoinedTensor:
    tensor = checkpoint.tensors.get(name)
    if tensor is None:
        raise problem(checkpoint.path, f"no tensor '{short(name)}' to change")
    if isinstance(tensor, DerivedTensor):
        raise problem(checkpoint.path, f"tensor '{short(name)}' is {tensor.origin}, and cannot be replaced; give plain values")
    return tensor


def _header(checkpoint: Checkpoint, parts: Mapping[str, tuple[tuple[int, ...], str]], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {METADATA: {"format": "pt", **{plain_text(key): plain_text(value) for key, value in metadata.items()}}}
    position = 0
    for name, (shape, dtype) in parts.items():
        if dtype not in CODES:
            text = f"tensor '{short(name)}' has dtype {dtype}, which safetensors cannot hold ({', '.join(CODES)})"
            raise problem(checkpoint.path, text)
        end = position + int(np.prod(shape, dtype=object)) * ITEMSIZE[dtype]
        entries[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [position, end]}
        position = end
    return header_bytes(entries)


def _blocks(tensor: StoredTensor | JoinedTensor) -> Iterator[NDArray[Any]]:
    """The values in blocks of rows that fit into memory."""
    if not tensor.shape:
        yield tensor.read()
        return
    row = max(1, tensor.nbytes // max(1, tensor.shape[0]))
    height = max(1, AT_ONCE // row)
    for start in range(0, tensor.shape[0], height):
        yield tensor.read(slice(start, start + height))


def _append(out: IO[bytes], array: NDArray[Any]) -> None:
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    out.write(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data if little.size else b"")
