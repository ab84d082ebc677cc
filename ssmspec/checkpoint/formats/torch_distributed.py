"""Folders of torch.distributed.checkpoint (DCP): `.metadata`, a pickle that says which piece of which tensor is where, and `.distcp` files.

The pickle is read by the inert unpickler, never by torch, whose own reader runs whatever the pickle names. Each piece is a small torch
file of one tensor, or an entry of a safetensors file that begins where the metadata says; they are looked at when their tensor is read.
Source: torch/distributed/checkpoint/metadata.py, filesystem.py (_StorageInfo, _write_item, SerializationFormat), hf_storage.py
(DCP_SHARDING_INFO); Megatron-LM, core/dist_checkpointing (common.pt beside it).
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from numpy.typing import NDArray

from ssmspec.checkpoint.derived import AnyTensor, JoinedTensor, Piece
from ssmspec.checkpoint.formats.archive import Archive
from ssmspec.checkpoint.formats.folders import ReadFile, has_weights
from ssmspec.checkpoint.formats.json_text import parse_json
from ssmspec.checkpoint.formats.rebuild import TORCH_DTYPES
from ssmspec.checkpoint.formats.safetensors import METADATA, read_header, tensor_at
from ssmspec.checkpoint.formats.torch_files import load_pickle, read_torch_zip, root_pickle
from ssmspec.checkpoint.formats.tree import Global, Placeholder, put_leaf
from ssmspec.checkpoint.formats.unpickler import BoundedReader
from ssmspec.checkpoint.naming import MAX_TENSORS, final_names, name_tree
from ssmspec.checkpoint.remote.path import Location, entries
from ssmspec.checkpoint.tensor_parallel import join_parts
from ssmspec.checkpoint.tensors import MAX_DIMENSIONS, Contents, Stamp, StoredTensor, problem, short
from ssmspec.errors import CheckpointError

NAME, SUFFIX = ".metadata", ".distcp"
OF_A_RANK = re.compile(r"__\d+\.metadata")  # written without collectives, one per rank
SHARD = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
SHARDING = "DCP_SHARDING_INFO"
BESIDE = ("common.pt", "meta.pt")  # not tensors: of Megatron, of Lightning
MAX_PIECES = 200_000  # of all tensors of a folder
SHOWN = 4

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StoredPiece:
    """One piece of a tensor: where the small file that holds it begins, and how long it is.

    Args:
        name: of the tensor. shape, dtype: of the piece. path, offset, length: of the small file, or of the safetensors file and the data.
    """

    name: str
    shape: Shape
    dtype: str
    path: Location
    offset: int
    length: int

    @property
    def whole_range(self) -> tuple[Location, int, int]:
        """The bytes of the small file; all that is read is in them, except of data behind a safetensors header."""
        return self.path, self.offset, self.offset + self.length

    def read(self, rows: slice | None = None) -> NDArray[Any]:
        """The values; arguments and errors as those of `StoredTensor.read`."""
        return self._stored().read(rows)

    def _stored(self) -> StoredTensor:
        label = f"the piece of tensor '{short(self.name)}' at byte {self.offset}"
        try:
            found = self._locate()
        except OSError as error:
            raise problem(self.path, f"{label} cannot be read: {error.strerror or error}") from error
        if (found.shape, found.dtype) != (self.shape, self.dtype):
            have, want = f"{found.shape} {found.dtype}", f"{self.shape} {self.dtype}"
            raise problem(
                self.path, f"{label} is {have}, the metadata says {want}: they are of different checkpoints; fetch all files again"
            )
        return found

    def _locate(self) -> StoredTensor:
        size = self.path.stat().st_size
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.offset)
            head = file.read(2)
            if head == b"PK":
                archive = Archive(self.path, file, self.length, self.offset)
                pickle_name = root_pickle(archive.names)
                if pickle_name is None:
                    raise problem(self.path, f"the piece of tensor '{short(self.name)}' holds no data.pkl; fetch the file again")
                contents = read_torch_zip(self.path, archive, pickle_name)
                found = [tensor for tensor in contents.tensors.values() if isinstance(tensor, StoredTensor)]
                if len(found) != 1:
                    raise problem(self.path, f"the piece of tensor '{short(self.name)}' holds {len(found)} tensors, expected one")
                return found[0]
        try:
            header, base = read_header(self.path, size, start=self.offset)
            return tensor_at(self.path, self.name, header[self.name], base, size)
        except (CheckpointError, KeyError) as error:
            text = f"no piece of tensor '{short(self.name)}' is at byte {self.offset}, where the metadata has it"
            raise problem(self.path, f"{text}; fetch all files of the folder again") from error


def is_distributed(folder: Location) -> bool:
    """Whether a folder is such a checkpoint, by the names in it; `.metadata` beside weights of another kind may be anything."""
    if not _metadata_files(folder):
        return bool(_shards(folder))
    return any(entry.suffix == SUFFIX for entry in folder.iterdir()) or not has_weights(folder, besides=BESIDE)


def distributed_below(folder: Location) -> Location | None:
    """The only subfolder that is such a checkpoint of a model, as accelerate, NeMo and Megatron nest it.

    Raises:
        CheckpointError: several.
    """
    inside = [entry for entry in entries(folder) if entry.is_dir() and not entry.name.startswith(("optimizer", "."))]
    found = [entry for entry in inside if is_distributed(entry)]
    if len(found) > 1:
        names = ", ".join(short(entry.name, 60) for entry in found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
        raise problem(folder, f"a folder with {len(found)} checkpoints of torch.distributed ({names}); name one of them")
    return found[0] if found else None


def _metadata_files(folder: Location) -> list[Location]:
    if (folder / NAME).is_file():
        return [folder / NAME]
    return [entry for entry in entries(folder) if OF_A_RANK.fullmatch(entry.name) and entry.is_file()]


def _shards(folder: Location) -> list[Location]:
    return [entry for entry in entries(folder) if SHARD.fullmatch(entry.name) and entry.is_file()]


def read_distributed(folder: Location, read_file: ReadFile) -> tuple[Contents, int]:
    """Every tensor of a folder, whole; optimizer state is skipped.

    Raises:
        CheckpointError: damaged or contradictory metadata, files that are missing or too short, pieces that do not fill a tensor.
    """
    files: dict[Location, Stamp] = {}
    metadata = _metadata_files(folder)
    if not metadata:
        return _read_shards(folder, _shards(folder), read_file)
    found = _Found(folder)
    for path in metadata:
        status = path.stat()
        files[path] = Stamp.of(status)
        with path.open("rb") as file:
            found.add(path, load_pickle(path, BoundedReader(file, status.st_size)))
    tree = found.tree()
    named = name_tree(tree, lambda text: problem(metadata[0], text))
    tensors = {name: replace(leaf, name=name) for name, leaf in named.leaves.items() if isinstance(leaf, JoinedTensor)}
    size = 0
    config: dict[str, object] = {}
    pieces = (piece.tensor for tensor in tensors.values() for piece in tensor.pieces)
    for path in sorted({piece.path for piece in pieces if isinstance(piece, StoredPiece)}):
        files[path] = found.stamp(path)
        size += files[path].size
    for name in BESIDE:
        if (folder / name).is_file():
            beside, _ = read_file(folder / name)
            config = {**beside.config, **config}
    joined = join_parts(tensors, folder)
    return Contents("torch distributed", joined, config, named.notes, files), size


class _Found:
    """What metadata files say, put together."""

    def __init__(self, folder: Location) -> None:
        self.folder = folder
        self.tensors: dict[str, tuple[Shape, str, dict[Shape, Shape]]] = {}  # size, dtype, offset -> size of every piece
        self.places: dict[tuple[str, Shape | None], tuple[str, int, int]] = {}
        self.paths: dict[str, tuple[str, ...]] = {}
        self.others: list[str] = []
        self.pieces = 0
        self.ends: dict[str, int] = {}  # the last byte that is needed of every file

    def add(self, path: Location, root: object) -> None:
        """The content of one pickle."""
        state = _state(root)
        entries, places = state.get("state_dict_metadata"), state.get("storage_data")
        if not isinstance(entries, dict) or not isinstance(places, dict):
            raise problem(
                path, "not metadata of torch.distributed.checkpoint: it lacks state_dict_metadata or storage_data; fetch it again"
            )
        if len(entries) > MAX_TENSORS:
            raise problem(path, f"{len(entries)} entries in one checkpoint; expected at most {MAX_TENSORS}")
        for name, entry in entries.items():
            self._entry(path, name, entry)
        for index, info in places.items():
            self._place(path, index, info)
        flattened = state.get("planner_data")
        for name, keys in flattened.items() if isinstance(flattened, dict) else ():
            if isinstance(name, str) and isinstance(keys, tuple) and keys and all(isinstance(key, str | int) for key in keys):
                self.paths[name] = tuple(map(str, keys))

    def _entry(self, path: Location, name: object, entry: object) -> None:
        if not isinstance(name, str):
            raise problem(path, f"an entry whose name is a {type(name).__name__}, expected text; fetch it again")
        fields = _state(entry)
        if "size" not in fields or "chunks" not in fields:
            self.others.append(name)
            return
        size, chunks = _shape(fields["size"]), fields["chunks"]
        dtype = _dtype(fields.get("properties"))
        if dtype is None:
            self.others.append(name)
            return
        if size is None or not isinstance(chunks, list):
            raise problem(path, f"tensor '{short(name)}' has no size of non-negative integers: the metadata is damaged; fetch it again")
        self.pieces += len(chunks)
        if self.pieces > MAX_PIECES:
            raise problem(path, f"more than {MAX_PIECES} pieces of tensors; expected a checkpoint with fewer")
        known = self.tensors.setdefault(name, (size, dtype, {}))
        if known[:2] != (size, dtype):
            raise problem(path, f"tensor '{short(name)}' has size {size} here and {known[0]} in another file; fetch the folder again")
        for chunk in chunks:
            offsets, sizes = (_shape(_state(chunk).get(key)) for key in ("offsets", "sizes"))
            if offsets is None or sizes is None or not _is_inside(offsets, sizes, size):
                text = f"a piece of tensor '{short(name)}' is at {offsets} with size {sizes}"
                raise problem(path, f"{text}, outside of {size}: the metadata is damaged; fetch it again")
            known[2][offsets] = sizes

    def _place(self, path: Location, index: object, info: object) -> None:
        key, place = _state(index), _state(info)
        name, offset = key.get("fqn"), key.get("offset")
        file, start, length = (place.get(field) for field in ("relative_path", "offset", "length"))
        if not isinstance(name, str) or not isinstance(file, str) or not _is_natural(start) or not _is_natural(length):
            raise problem(path, "a place of a tensor without name, file, offset and length: the metadata is damaged; fetch it again")
        if place.get("transform_descriptors"):
            kinds = short(str(place["transform_descriptors"]), 60)
            raise problem(path, f"tensor '{short(name)}' is stored through {kinds}: save the checkpoint again without this extension")
        self.places[name, _shape(offset)] = (file, start, length)
        self.ends[file] = max(self.ends.get(file, 0), start + length)

    def tree(self) -> dict[str, object]:
        """The tensors nested as they were in the state dict, as far as the metadata says how, and what is none."""
        root: dict[str, object] = {}
        for name in (*self.tensors, *self.others):
            path = self.paths.get(name, (name,))
            leaf = self._tensor(name) if name in self.tensors else None
            if not put_leaf(root, path, leaf):
                put_leaf(root, (name,), leaf)
        return root

    def _tensor(self, name: str) -> JoinedTensor:
        size, dtype, chunks = self.tensors[name]
        pieces = []
        for offsets, sizes in chunks.items():
            place = self.places.get((name, offsets)) or (self.places.get((name, None)) if len(chunks) == 1 else None)
            if place is None:
                raise problem(self.folder / NAME, f"no file is named for the piece of tensor '{short(name)}' at {offsets}; fetch it again")
            piece = StoredPiece(name, sizes, dtype, self._file(place[0]), place[1], place[2])
            pieces.append(Piece(piece, (0,) * len(size), sizes, offsets))
        filled = sum(math.prod(piece.size) for piece in pieces)
        if filled != math.prod(size):
            text = f"the pieces of tensor '{short(name)}' hold {filled} values, its size {size} needs {math.prod(size)}"
            raise problem(self.folder / NAME, f"{text}: pieces are missing or twice there; fetch it again")
        return JoinedTensor(name, size, dtype, self.folder, tuple(pieces))

    def _file(self, name: str) -> Location:
        if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise problem(self.folder / NAME, f"file '{short(name)}' is not a plain name in the folder; not opened")
        return self.folder / name

    def stamp(self, path: Location) -> Stamp:
        """What a file is now, which has to hold all that the metadata places there.

        Raises:
            CheckpointError: it is missing, or too short.
        """
        if not path.is_file():
            raise problem(self.folder, f"file '{short(path.name)}' is missing, which the metadata names; fetch all files of the folder")
        found = Stamp.of(path.stat())
        if self.ends[path.name] > found.size:
            raise problem(path, f"truncated: it should have {self.ends[path.name]} bytes and has {found.size}; fetch it again")
        return found


def _state(value: object) -> Mapping[str, Any]:
    """The fields of a pickled dataclass."""
    return value.state if isinstance(value, Placeholder) and isinstance(value.state, dict) else {}


def _is_natural(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 2**62


def _shape(value: object) -> Shape | None:
    """Non-negative integers, or nothing."""
    good = isinstance(value, tuple | list) and len(value) <= MAX_DIMENSIONS and all(map(_is_natural, value))
    return tuple(value) if good and isinstance(value, tuple | list) else None


def _is_inside(offsets: Shape, sizes: Shape, whole: Shape) -> bool:
    return len(offsets) == len(sizes) == len(whole) and all(
        first + count <= size for first, count, size in zip(offsets, sizes, whole, strict=True)
    )


def _dtype(properties: object) -> str | None:
    """The dtype of TensorProperties, whose state is a tuple, of old ones a dict."""
    state = properties.state if isinstance(properties, Placeholder) else None
    found = state[0] if isinstance(state, tuple) and state else state.get("dtype") if isinstance(state, dict) else None
    return TORCH_DTYPES.get(found.name) if isinstance(found, Global) else None


def _read_shards(folder: Location, paths: list[Location], read_file: ReadFile) -> tuple[Contents, int]:
    """safetensors files of single ranks, whose own metadata say where their pieces belong."""
    boxes: dict[str, list[tuple[AnyTensor, Shape]]] = {}
    files: dict[Location, Stamp] = {}
    size = 0
    for path in paths:
        contents, nbytes = read_file(path)
        size, files = size + nbytes, {**files, **contents.files}
        for name, offset in _offsets(path, contents):
            boxes.setdefault(name, []).append((contents.tensors[name], offset))
    tensors = {name: _joined(folder, name, parts) for name, parts in boxes.items()}
    names = final_names([(name,) for name in tensors], lambda text: problem(folder, text))
    named = {new: replace(tensor, name=new) for new, tensor in zip(names, tensors.values(), strict=True)}
    return Contents("torch distributed (safetensors)", join_parts(named, folder), {}, (), files), size


def _offsets(path: Location, contents: Contents) -> Iterator[tuple[str, Shape]]:
    told = contents.config.get(METADATA)
    text = told.get(SHARDING) if isinstance(told, dict) else None
    try:
        sharding = parse_json(text.encode()) if isinstance(text, str) else None
    except (ValueError, json.JSONDecodeError):
        sharding = None
    for name, tensor in contents.tensors.items():
        entry = sharding.get(name) if isinstance(sharding, dict) else None
        offsets = entry.get("saved_offsets") if isinstance(entry, dict) else None
        offset = _shape(offsets)
        if offset is None or len(offset) != len(tensor.shape):
            raise problem(path, f"{SHARDING} in its metadata says not where tensor '{short(name)}' belongs; save the checkpoint again")
        yield name, offset


def _joined(folder: Location, name: str, parts: list[tuple[AnyTensor, Shape]]) -> JoinedTensor:
    first = parts[0][0]
    size = tuple(max(tensor.shape[axis] + offset[axis] for tensor, offset in parts) for axis in range(len(first.shape)))
    if any(tensor.dtype != first.dtype for tensor, _ in parts) or sum(math.prod(tensor.shape) for tensor, _ in parts) != math.prod(size):
        raise problem(folder, f"the pieces of tensor '{short(name)}' do not fill its shape {size}; fetch all shards")
    pieces = tuple(Piece(tensor, (0,) * len(size), tensor.shape, offset) for tensor, offset in parts)
    return JoinedTensor(name, size, first.dtype, folder, pieces)
