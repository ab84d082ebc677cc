"""open_checkpoint: recognizes a file by its content and calls the reader of its container; folders and shards are in folders.py."""

import codecs
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import replace

from ssmspec.checkpoint.derived import AnyTensor
from ssmspec.checkpoint.formats.archive import Archive
from ssmspec.checkpoint.formats.eqx import NPY, is_equinox, read_equinox
from ssmspec.checkpoint.formats.flax_msgpack import read_flax
from ssmspec.checkpoint.formats.folders import Needed, adapter_config, choose, has_weights, is_index, read_config, read_index
from ssmspec.checkpoint.formats.foreign import refuse_file, refuse_names
from ssmspec.checkpoint.formats.gguf import MAGIC, read_gguf
from ssmspec.checkpoint.formats.hdf5 import MAGIC as HDF5
from ssmspec.checkpoint.formats.hdf5 import read_hdf5
from ssmspec.checkpoint.formats.npz import read_npz
from ssmspec.checkpoint.formats.onnx_graph import SUFFIX, read_onnx
from ssmspec.checkpoint.formats.orbax import is_orbax, orbax_below, read_orbax
from ssmspec.checkpoint.formats.rank_folders import alone, latest_step, ranks_in, read_ranks
from ssmspec.checkpoint.formats.safetensors import read_safetensors
from ssmspec.checkpoint.formats.torch_distributed import NAME as DISTRIBUTED
from ssmspec.checkpoint.formats.torch_distributed import SUFFIX as DISTCP
from ssmspec.checkpoint.formats.torch_distributed import distributed_below, is_distributed, read_distributed
from ssmspec.checkpoint.formats.torch_files import read_pickle, read_torch_legacy, read_torch_zip, root_pickle
from ssmspec.checkpoint.naming import natural_key, without_inner_wrappers
from ssmspec.checkpoint.remote.path import Location, RemotePath, RemoteStatus
from ssmspec.checkpoint.remote.places import hint, location_of
from ssmspec.checkpoint.remote.traffic import Opened, note_opened
from ssmspec.checkpoint.tensor_parallel import GROUPS
from ssmspec.checkpoint.tensors import Checkpoint, Contents, Stamp, problem, short
from ssmspec.errors import CheckpointError

KNOWN = (
    "safetensors, torch (.pt, .pth, .ckpt, .bin), npz, flax msgpack, Equinox (.eqx), GGUF, ONNX, HDF5, a folder with such a file, or one of"
    " torch.distributed.checkpoint, of Orbax or of tensor-parallel ranks"
)
CODES = ("int", "uint", "float8")  # dtypes that quantized weights may have
READ_ONLY = ("gguf", "onnx", "hdf5")  # containers that are never written
MAX_NESTED = 4  # folders of a run, a step, a model
HEAD = 4096  # bytes read to recognize a container

TORCH_MAGICS = (b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", b"L119547037146038801333356L")  # 0x1950a86a20f9469cfc6c pickled
TAR_MEMBERS = (b"pickle", b"tensors", b"storages", b"sys_info")  # torch before 0.1.11

FOREIGN = (
    (b"version https://git-lfs", "a git-lfs pointer, not the weights: run 'git lfs pull' or download the file itself"),
    (NPY, "bare .npy data, an array without a name: save it with numpy.savez, under the name of the tensor"),
    (b"\x1f\x8b", "gzip data: unpack it first"),
    (b"BZh", "bzip2 data: unpack it first"),
    (b"\xfd7zXZ\x00", "xz data: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "zstd data: unpack it first"),
)


def is_folder_checkpoint(folder: Location) -> bool:
    """Whether the files of a folder make up one checkpoint: of torch.distributed, of Orbax, or of tensor-parallel ranks.

    Raises:
        OSError: the folder cannot be read.
    """
    return is_distributed(folder) or is_orbax(folder) or bool(ranks_in(folder))


def open_checkpoint(path: Location | str, needed: Needed | None = None) -> Checkpoint:
    """Opens a checkpoint: reads headers, pickles and directories, but no tensor bytes. Nothing in the file is executed.

    Args:
        path: a file of any known container, a "*.index.json" of shards, or a folder that holds one checkpoint; or an address of one.
        needed: chooses the names of tensors that are needed; remote shards without one are not opened. By default all are.
    Returns:
        the named tensors, which can be read one by one; container, configuration and notes.
    Raises:
        CheckpointError: the file is missing, unreadable, damaged, of an unknown container, ambiguous, or has no tensors; always one line.
    """
    given = path
    try:
        given = location_of(path)
        checkpoint = _open(given, needed)
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise problem(error.filename or given, f"no such file or folder; check the path{hint(path)}") from error
    except OSError as error:
        raise problem(given, f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damaged files must never cause a traceback, whatever a decoder raises
        raise problem(
            given, f"damaged or not what it claims to be ({type(error).__name__}: {short(str(error))}); fetch it again"
        ) from error
    if checkpoint.traffic is not None:
        note_opened(Opened(str(checkpoint.path), checkpoint.size, checkpoint.traffic, checkpoint.revision))
    if not checkpoint.tensors:
        seen = f" ({'; '.join(checkpoint.notes)})" if checkpoint.notes else ""
        raise problem(given, f"a readable {checkpoint.container} file without tensors{seen}; give the file that holds the weights")
    return checkpoint


def _open(given: Location, needed: Needed | None) -> Checkpoint:
    path, notes = place_of(given)
    ranks = ranks_in(path) if path.is_dir() else []
    assembled = bool(ranks) or path.is_dir()
    if ranks:
        contents, size = read_ranks(path, ranks, _read_file)
    elif assembled:
        contents, size = read_distributed(path, _read_file) if is_distributed(path) else read_orbax(path)
    elif is_index(path):
        contents, size = read_index(path, _read_file, needed)
    else:
        contents, size = _read_file(path)
    refuse_names(given, contents.tensors)
    told, more = read_config(path, given)
    config = {**contents.config, **told}
    partial = "" if assembled else alone(given, path, config)
    if partial:
        more = (*more, f"{partial}: every layer is a part of one; give the folder of all ranks")
        config = {key: value for key, value in config.items() if key not in GROUPS}  # of the whole model
    tensors, how = _as_in_the_model(contents, config, path)
    in_order = {name: tensors[name] for name in sorted(tensors, key=natural_key)}
    return Checkpoint(
        path=given,
        container=contents.container,
        size=size,
        tensors=in_order,
        config=config,
        notes=(*notes, *contents.notes, *more, *how),
        files=contents.files,
        assembled=assembled or isinstance(given, RemotePath) or contents.container in READ_ONLY,
        traffic=given.store.traffic if isinstance(given, RemotePath) else None,
        revision=given.store.revision if isinstance(given, RemotePath) else None,
        unjoined=contents.unjoined,
        partial=partial,
    )


def place_of(given: Location) -> tuple[Location, tuple[str, ...]]:
    """The file to open, or the folder whose files make up one checkpoint, and notes.

    Raises:
        CheckpointError: a folder of a format that is not read, without weights, or with several checkpoints.
    """
    notes: tuple[str, ...] = ()
    folder = given.parent if given.name == DISTRIBUTED and given.is_file() else given
    while folder.is_dir() and len(notes) < MAX_NESTED:
        if is_folder_checkpoint(folder):
            return folder, notes
        inner = None if has_weights(folder) else latest_step(folder) or distributed_below(folder) or orbax_below(folder)
        if inner is None:
            path, more = choose(folder)
            return path, (*notes, *more)
        notes = (*notes, f"the checkpoint in {inner.name}")
        folder = inner
    return folder, notes


def _as_in_the_model(contents: Contents, config: Mapping[str, object], path: Location) -> tuple[dict[str, AnyTensor], tuple[str, ...]]:
    """The tensors that the model has: quantized weights dequantized, adapters added, both where they are read; and notes on them."""
    tensors = {new: contents.tensors[name] for new, name in without_inner_wrappers(contents.tensors).items()}
    notes: tuple[str, ...] = ()
    if any(tensor.dtype.startswith(CODES) or name.endswith(".absmax") for name, tensor in tensors.items()):
        from ssmspec.checkpoint.quantized import dequantizable  # seldom needed

        tensors, notes = dequantizable(tensors, config, path)
    if not any("lora_" in name for name in tensors):
        return tensors, notes
    from ssmspec.checkpoint.adapters import merged, refuse_alone, settings_in  # likewise

    beside = adapter_config(path)
    refuse_alone(tensors, beside, path)
    tensors, more = merged(tensors, settings_in(config, beside), path)
    return tensors, (*notes, *more)


def _read_file(path: Location) -> tuple[Contents, int]:
    status = path.stat()
    return replace(_read(path, status), files={path: Stamp.of(status)}), status.st_size


def _read(path: Location, status: os.stat_result | RemoteStatus) -> Contents:
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a socket, pipe or device"
        raise problem(path, f"{kind}, expected a regular file; give a checkpoint file")
    size = status.st_size
    if path.suffix == DISTCP:
        raise problem(path, "a part of a checkpoint of torch.distributed: give the folder that it is in")
    if not size:
        raise problem(path, "an empty file (0 bytes); fetch it again")
    with path.open("rb", buffering=0) as file:  # unbuffered: an archive is read at many places, a few bytes each
        head = file.read(HEAD)
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return _read_zip(path, Archive(path, file, size))
    return _read_plain(path, head, size)


def _read_zip(path: Location, archive: Archive) -> Contents:
    pickle_name = root_pickle(archive.names)
    if pickle_name is not None:
        return read_torch_zip(path, archive, pickle_name)
    if any(name.endswith(".npy") for name in archive.names):
        return read_npz(path, archive)
    seen = ", ".join(short(name, 40) for name in archive.names[:3]) or "nothing"
    raise problem(path, f"a zip file with {seen}, expected data.pkl (torch) or .npy members (npz); unpack it if the weights are inside")


def _read_plain(path: Location, head: bytes, size: int) -> Contents:
    if any(magic in head[:40] for magic in TORCH_MAGICS):
        return read_torch_legacy(path, size)
    if head.startswith(NPY) and is_equinox(path, head, size):
        return read_equinox(path, size)
    refuse_file(path, head)
    if head.startswith(MAGIC):
        return read_gguf(path, size)
    if head.startswith(HDF5):
        return read_hdf5(path, size)
    for magic, text in FOREIGN:
        if head.startswith(magic):
            raise problem(path, text)
    if path.suffix.lower() == SUFFIX:  # a protocol buffer has no magic
        return read_onnx(path, size)
    if path.suffix == ".safetensors" or (head[8:9] == b"{" and head[4:8] == bytes(4)):
        return read_safetensors(path, size)
    if head[257:262] == b"ustar":
        old = any(head[start : start + 100].rstrip(b"\0") in TAR_MEMBERS for start in range(0, HEAD, 512))
        raise problem(
            path, "torch's oldest (tar) format: load it with torch 1.x and save it with torch.save" if old else "a tar archive: unpack it"
        )
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return read_pickle(path, size)
    if head[:1] and (0x81 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF)):
        return read_flax(path, size)
    if is_equinox(path, head, size):
        return read_equinox(path, size)
    raise problem(path, _describe(path, head))


def _describe(path: Location, head: bytes) -> str:
    if head.lstrip()[:1] == b"<":
        return f"an HTML or XML page, probably a failed download; expected {KNOWN}"
    if _is_json(head):
        return f"JSON text, not weights; expected {KNOWN}"
    if _is_text(head):
        first_line = head.partition(b"\n")[0]
        return f"a text file ('{short(first_line.decode('utf-8', 'replace'), 40)}'); expected {KNOWN}"
    return f"an unknown container (starts with {head[:8].hex(' ')}); expected {KNOWN}"


def _is_text(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # incremental, because the last character may be incomplete
    except UnicodeDecodeError:
        return False
    return all(byte >= 0x20 or byte in b"\t\r\n" for byte in head)


def _is_json(head: bytes) -> bool:
    try:
        json.loads(head)
    except (ValueError, RecursionError):
        return head.lstrip()[:1] == b"{" and b'"' in head
    return True
