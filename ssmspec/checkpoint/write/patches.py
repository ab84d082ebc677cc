"""Compute the bytes that change for new values: the inverse of StoredTensor.read, also for shared, strided or flagged tensors."""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmspec.checkpoint.derived import DerivedTensor, NamedTensor, in_file
from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import ITEMSIZE, Checkpoint, Span, StoredTensor, c_strides, numpy_dtype, problem, short

Home = tuple[Location, str | None]  # a file, or a deflated member of one


@dataclass(frozen=True, slots=True)
class Patch:
    """New bytes of tensor `name` (or of several tensors, including `name`), at byte `offset` of the file or of the inflated `member`."""

    name: str
    path: Location
    member: str | None
    offset: int
    data: NDArray[np.uint8]

    @property
    def stop(self) -> int:
        """The byte after the last one."""
        return self.offset + len(self.data)


@dataclass(frozen=True, slots=True)
class _Edit:
    """A tensor and its new values in stored form: in C order, with the byte order and flags of the file."""

    tensor: StoredTensor
    raw: NDArray[np.uint8]

    @property
    def start(self) -> int:
        return self.tensor.span.offset

    @property
    def stop(self) -> int:
        return self.tensor.span.offset + self.tensor.span.nbytes


def make_patches(checkpoint: Checkpoint, changes: Mapping[str, NDArray[Any]]) -> tuple[list[Patch], tuple[str, ...]]:
    """Disjoint patches that give tensors new values, and a note for every other tensor that changes with them.

    Args:
        checkpoint: only the bytes between the elements of strided tensors are read from it.
        changes: tensor name -> values as StoredTensor.read returns them, in the stored dtype or one that can be cast to it.
    Raises:
        CheckpointError: an unknown name, another shape, values that the stored dtype cannot hold, bytes that cannot be replaced, or two
            contradicting changes of tensors that share bytes.
    """
    patches: list[Patch] = []
    groups: dict[Home, list[_Edit]] = {}
    for name, values in changes.items():
        tensor = find_stored(checkpoint, name)
        edit = _Edit(tensor, stored_bytes(tensor, values))
        if tensor.span.chunks:
            patches += _in_chunks(edit)
        elif edit.raw.size:
            groups.setdefault((tensor.span.path, tensor.span.member), []).append(edit)
    shared = {home: [_patch(cluster) for cluster in _clusters(edits)] for home, edits in groups.items()}
    notes = _also_changed(checkpoint, changes.keys(), shared)
    return [*patches, *(patch for group in shared.values() for patch in group)], tuple(notes)


def find_stored(checkpoint: Checkpoint, name: str) -> StoredTensor:
    """A tensor whose bytes can be replaced.

    Raises:
        CheckpointError: there is none of that name, or it is made of others.
    """
    if name not in checkpoint.tensors:
        near = get_close_matches(name, checkpoint.tensors, 3) or list(checkpoint.tensors)[:3]
        raise problem(checkpoint.path, f"no tensor is named '{short(name)}'; there are {', '.join(short(other) for other in near)}")
    tensor = checkpoint.tensors[name]
    if isinstance(tensor, StoredTensor):
        return tensor
    text = f"is {tensor.origin}" if isinstance(tensor, DerivedTensor) else "is stored in pieces"
    raise problem(checkpoint.path, f"tensor '{short(name)}' {text}, and cannot be replaced there; give a checkpoint with plain tensors")


def stored_bytes(tensor: StoredTensor, values: NDArray[Any], *, reshaped: bool = False) -> NDArray[np.uint8]:
    """The values in the stored form of the tensor's elements, in C order; with `reshaped`, their shape may differ.

    Raises:
        CheckpointError: another shape, or values that the stored dtype cannot hold: overflow, fractions in integers, complex numbers.
    """
    array: NDArray[Any] = cast_to_stored(tensor, values, tensor.span.path, reshaped=reshaped)
    if tensor.span.data is not None:
        text = f"tensor '{short(tensor.name)}' is a NumPy array inside a pickle, where it cannot be replaced; save it with numpy.savez"
        raise problem(tensor.span.path, text)
    flags = tensor.span.flags
    array = np.negative(array) if "negative" in flags else array
    array = np.conjugate(array) if "conjugate" in flags else array
    raw: NDArray[np.uint8] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    if "big-endian" in flags and array.dtype.itemsize > 1:
        unit = array.dtype.itemsize // 2 if array.dtype.kind == "c" else array.dtype.itemsize
        raw = raw.view(f"u{unit}").byteswap().view(np.uint8)
    return raw


def cast_to_stored(tensor: NamedTensor, values: NDArray[Any], path: Location, *, reshaped: bool = False) -> NDArray[Any]:
    """The values in the dtype of a tensor; with `reshaped`, their shape may differ.

    Raises:
        CheckpointError: another shape, or values that the stored dtype cannot hold: overflow, fractions in integers, complex numbers.
    """
    array: NDArray[Any] = np.asarray(values)
    label, wanted = f"tensor '{short(tensor.name)}'", numpy_dtype(tensor.dtype)
    if array.shape != tensor.shape and not reshaped:
        raise problem(path, f"{label} has shape {tensor.shape}, but its new values have {array.shape}; give values of the same shape")
    if array.dtype == wanted:
        return array
    if array.dtype.kind not in "biufc" and array.dtype.name not in ITEMSIZE:
        raise problem(path, f"{label}: the new values have type {array.dtype}; expected numbers")
    if array.dtype.kind == "c" and wanted.kind != "c":
        raise problem(path, f"{label} is stored as {tensor.dtype}, but its new values are complex; give real values")
    with np.errstate(all="ignore"):
        cast = array.astype(wanted)
        lost = cast.astype(array.dtype) != array if wanted.kind in "biu" else np.isfinite(array) & ~np.isfinite(cast)
    if np.any(lost):
        example = array[lost].flat[0]
        raise problem(path, f"{label} is stored as {tensor.dtype}, which cannot hold the new value {example}; nothing was written")
    return cast


def _clusters(edits: Iterable[_Edit]) -> Iterator[list[_Edit]]:
    """Groups of edits whose bytes may overlap."""
    cluster: list[_Edit] = []
    for edit in sorted(edits, key=lambda edit: edit.start):
        if cluster and edit.start >= max(other.stop for other in cluster):
            yield cluster
            cluster = []
        cluster.append(edit)
    if cluster:
        yield cluster


def _in_chunks(edit: _Edit) -> Iterator[Patch]:
    start, tensor = 0, edit.tensor
    for offset, nbytes in tensor.span.chunks:
        yield Patch(tensor.name, tensor.span.path, None, offset, edit.raw[start : start + nbytes])
        start += nbytes


def _patch(cluster: Sequence[_Edit]) -> Patch:
    tensor = cluster[0].tensor
    if len(cluster) == 1 and tensor.span.strides is None:
        return Patch(tensor.name, tensor.span.path, tensor.span.member, tensor.span.offset, cluster[0].raw)
    return _image(cluster)


def _image(cluster: Sequence[_Edit]) -> Patch:
    """All bytes from the first to the last changed one; the bytes between the elements stay as they are."""
    first, start, stop = cluster[0].tensor, cluster[0].start, max(edit.stop for edit in cluster)
    span = Span(first.span.path, start, stop - start, member=first.span.member)
    image: NDArray[np.uint8] = StoredTensor(first.name, (stop - start,), "uint8", span).read().view(np.uint8)
    views = [_elements(image, edit, start) for edit in cluster]
    for edit, view in zip(cluster, views, strict=True):
        view[...] = edit.raw.view(view.dtype).reshape(view.shape)
    for edit, view in zip(cluster, views, strict=True):
        if view.tobytes() != edit.raw.tobytes():
            names = " and ".join(f"'{short(other.tensor.name)}'" for other in cluster[:4])
            text = f"the new values of {names} contradict each other: their elements share stored bytes; change only one of them"
            if len(cluster) == 1:
                text = f"elements of {names} share stored bytes (expanded or overlapping) and cannot get different values"
            raise problem(span.path, text)
    return Patch(first.name, span.path, span.member, start, image)


def _elements(image: NDArray[np.uint8], edit: _Edit, start: int) -> NDArray[np.void]:
    """A writable view of a tensor's elements in an image that begins at byte `start`."""
    tensor, itemsize = edit.tensor, ITEMSIZE[edit.tensor.dtype]
    strides = [stride * itemsize for stride in tensor.span.strides or c_strides(tensor.shape)]
    return np.ndarray(tensor.shape, np.dtype((np.void, itemsize)), image.data, edit.start - start, strides)


def _also_changed(checkpoint: Checkpoint, changed: Collection[str], patches: Mapping[Home, Sequence[Patch]]) -> Iterator[str]:
    """A note for every other tensor whose bytes a patch may change; the patches of a home are disjoint and sorted."""
    offsets = {home: [patch.offset for patch in group] for home, group in patches.items()}
    own = {checkpoint.tensors[name].name for name in changed}
    for name, tensor in in_file(list(checkpoint.tensors.values())):
        if not isinstance(tensor, StoredTensor):
            continue
        span, home = tensor.span, (tensor.span.path, tensor.span.member)
        if name in own or home not in patches or span.data is not None or span.chunks or not span.nbytes:
            continue
        last = bisect_left(offsets[home], span.offset + span.nbytes) - 1
        if last >= 0 and patches[home][last].stop > span.offset:
            yield f"'{name}' shares stored bytes with '{patches[home][last].name}': where they overlap, it changes too"
