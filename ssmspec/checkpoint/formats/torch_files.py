"""torch.save files, new (zip) and legacy, and bare pickles of arrays: read without torch and without executing anything in them.

Sources: torch/serialization.py (_load, _legacy_load, _legacy_save), torch/csrc/serialization.cpp (legacy storages: count, data).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from ssmspec.checkpoint.formats.archive import Archive
from ssmspec.checkpoint.formats.foreign import refuse_rank_file
from ssmspec.checkpoint.formats.tree import NumpyArray, StorageRef, TensorRef
from ssmspec.checkpoint.formats.unpickler import MAX_PICKLE, BoundedReader, unpickle
from ssmspec.checkpoint.naming import Named, name_tree
from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import ITEMSIZE, MAX_DIMENSIONS, Contents, Flag, Span, StoredTensor, c_strides, extent, problem, short
from ssmspec.errors import CheckpointError

MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py, MAGIC_NUMBER
PROTOCOL = 1001
MAX_EXPANDED = 64 * 2**20  # bytes; limit for tensors that repeat their storage (expand) and are larger than the file


@dataclass(frozen=True, slots=True)
class Region:
    """The bytes of one storage in its file (or in the inflated zip member)."""

    offset: int
    nbytes: int
    member: str | None = None
    big_endian: bool = False
    home: tuple[int, int] | None = None


def root_pickle(names: list[str]) -> str | None:
    """The member of a torch zip that holds the pickle: "<anything>/data.pkl", outermost."""
    pickles = sorted((name for name in names if name == "data.pkl" or name.endswith("/data.pkl")), key=lambda name: name.count("/"))
    return pickles[0] if pickles else None


def read_torch_zip(path: Location, archive: Archive, pickle_name: str) -> Contents:
    """Reads the pickle and the directory; storages stay in the file.

    Raises:
        CheckpointError: damaged pickle, missing or too short storages, tensors outside their storage.
    """
    prefix = pickle_name.removesuffix("data.pkl")
    archive.prefetch([pickle_name, f"{prefix}byteorder"])
    order = archive.read(prefix + "byteorder", 16).strip() if prefix + "byteorder" in archive.names else b"little"
    if order not in (b"little", b"big"):
        raise problem(path, f"byte order is {order!r}, expected 'little' or 'big'; fetch the file again")
    with archive.stream(pickle_name, MAX_PICKLE) as (member, length):
        root = load_pickle(path, BoundedReader(member, length))
    refuse_rank_file(path, root)

    def region(storage: StorageRef) -> Region:
        place = archive.place(f"{prefix}data/{storage.key}")
        return Region(place.offset, place.nbytes, place.member, order == b"big", place.home)

    named = name_tree(root, lambda text: problem(path, text))
    script = prefix + "constants.pkl" in archive.names
    notes = ("a TorchScript archive: tensors have the names of its attributes",) if script else ()
    return _contents(path, "torch zip", named, region, notes)


def read_torch_legacy(path: Location, size: int) -> Contents:
    """Reads the pickles and the element count before each storage.

    Raises:
        CheckpointError: as for the zip format; also storages that extend past the end of the file.
    """
    with path.open("rb") as file:
        reader = BoundedReader(file, size)
        if (magic := load_pickle(path, reader)) != MAGIC or (protocol := load_pickle(path, reader)) != PROTOCOL:
            text = "magic number" if magic != MAGIC else f"protocol {protocol}, expected {PROTOCOL}"
            raise problem(path, f"legacy torch file with unknown {text}; save it again with torch.save")
        load_pickle(path, reader)  # sys_info is ignored: storages are always little-endian
        dtypes: dict[str, str] = {}
        root = load_pickle(path, reader, dtypes)
        refuse_rank_file(path, root)
        keys = load_pickle(path, reader)
        regions, end = _legacy_regions(path, file, size, keys, dtypes)

    def region(storage: StorageRef) -> Region:
        if storage.key not in regions:
            raise problem(path, f"storage '{short(storage.key)}' is missing: the file is incomplete; fetch it again")
        return regions[storage.key]

    notes = (f"{size - end} bytes after the first saved object were not read",) if end < size else ()
    named = name_tree(root, lambda text: problem(path, text))
    return _contents(path, "torch legacy", named, region, notes)


def read_pickle(path: Location, size: int) -> Contents:
    """A bare pickle of named numpy (or jax) arrays; the arrays are kept in memory."""
    if size > MAX_PICKLE:
        raise problem(path, f"a bare pickle of {size} bytes, expected at most {MAX_PICKLE}; save the arrays with numpy.savez")
    with path.open("rb") as file:
        root = load_pickle(path, BoundedReader(file, size))
    named = name_tree(root, lambda text: problem(path, text))
    if not named.leaves and b"_load_from_bytes" in path.read_bytes():
        raise problem(path, "torch tensors inside a bare pickle, which only torch can decode; load it in torch and save it with torch.save")

    def region(storage: StorageRef) -> Region:
        raise problem(path, "a bare pickle that refers to torch storages outside the file; save it again with torch.save")

    return _contents(path, "pickle", named, region, ())


def load_pickle(path: Location, reader: BoundedReader, storages: dict[str, str] | None = None) -> object:
    """One pickle, as plain containers and placeholders.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        return unpickle(reader, storages)
    except (CheckpointError, OSError, MemoryError):
        raise
    except Exception as error:  # pickletools and the machine raise a dozen kinds of errors for damaged bytes
        text = f"the pickle inside is damaged ({type(error).__name__}: {short(str(error))}); fetch the file again"
        raise problem(path, text) from error


def _contents(path: Location, container: str, named: Named, region: Callable[[StorageRef], Region], notes: tuple[str, ...]) -> Contents:
    tensors: dict[str, StoredTensor] = {}
    regions: dict[str, Region] = {}
    for name, leaf in named.leaves.items():
        if isinstance(leaf, NumpyArray):
            tensors[name] = leaf.stored(name, path)
        elif isinstance(leaf, TensorRef):
            if leaf.storage.key not in regions:
                regions[leaf.storage.key] = region(leaf.storage)
            tensors[name] = _place(path, name, leaf, regions[leaf.storage.key])
    return Contents(container, tensors, named.config, (*named.notes, *notes))


def _place(path: Location, name: str, ref: TensorRef, region: Region) -> StoredTensor:
    """The tensor in its storage, with the same bounds check as in torch (at::native::checkInBoundsForStorage)."""
    label, itemsize, storage = f"tensor '{short(name)}'", ITEMSIZE[ref.dtype], ref.storage
    if len(ref.shape) != len(ref.strides) or len(ref.shape) > MAX_DIMENSIONS or min((*ref.shape, *ref.strides, ref.offset)) < 0:
        text = f"{label} has shape {ref.shape}, strides {ref.strides}, offset {ref.offset}"
        raise problem(path, f"{text}; expected non-negative values, and one stride for each of at most {MAX_DIMENSIONS} dimensions")
    first_byte = storage.first * ITEMSIZE[storage.dtype]
    owned = storage.numel * ITEMSIZE[storage.dtype]
    if first_byte + owned > region.nbytes:
        raise problem(
            path, f"the storage of {label} should have {first_byte + owned} bytes, but the file has {region.nbytes}; fetch it again"
        )
    strides = None if _is_contiguous(ref.shape, ref.strides) else ref.strides
    nbytes = extent(ref.shape, ref.strides) * itemsize
    start = ref.offset * itemsize
    if nbytes and start + nbytes > owned:
        raise problem(path, f"{label} reaches byte {start + nbytes} of a storage of {owned}; the file is damaged, fetch it again")
    flags: frozenset[Flag] = ref.flags | ({"big-endian"} if region.big_endian else frozenset())
    span = Span(path, region.offset + first_byte + (start if nbytes else 0), nbytes, strides, flags, region.member, home=region.home)
    tensor = StoredTensor(name, ref.shape, ref.dtype, span)
    if tensor.nbytes > max(MAX_EXPANDED, 8 * nbytes):
        raise problem(path, f"{label} of shape {ref.shape} repeats {nbytes} stored bytes into {tensor.nbytes}; save it after .contiguous()")
    return tensor


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    return 0 in shape or all(n == 1 or have == want for n, have, want in zip(shape, strides, c_strides(shape), strict=True))


def _legacy_regions(path: Location, file: BinaryIO, size: int, keys: object, dtypes: dict[str, str]) -> tuple[dict[str, Region], int]:
    if not isinstance(keys, list) or not all(isinstance(key, str | int) for key in keys):
        raise problem(path, "legacy torch file without its list of storages: truncated or damaged; fetch it again")
    regions: dict[str, Region] = {}
    position = file.tell()
    for key in map(str, keys):
        if key not in dtypes:
            raise problem(path, f"storage '{short(key)}' does not belong to any object of the file: it is damaged; fetch it again")
        file.seek(position)
        head = file.read(8)
        count = int.from_bytes(head, "little", signed=True)
        nbytes = count * ITEMSIZE[dtypes[key]]
        position += 8
        if len(head) < 8 or count < 0 or position + nbytes > size:
            raise problem(path, f"truncated legacy torch file: storage '{short(key)}' extends past the end of the file; fetch it again")
        regions[key] = Region(position, nbytes)
        position += nbytes
    return regions, position
