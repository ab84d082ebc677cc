"""Write a zip archive in which some members have other content of any length, as npz files and torch.save need it for other shapes."""

import shutil
import struct
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ssmspec.checkpoint.formats.torch_files import root_pickle
from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import ITEMSIZE, LOCAL_HEADER, StoredTensor, c_strides, problem, short
from ssmspec.checkpoint.write.patches import stored_bytes
from ssmspec.checkpoint.write.torch_pickle import Reference, Token, references, with_numbers
from ssmspec.checkpoint.write.torch_settings import New, TorchSetting, torch_settings

ALIGNMENT = 64  # bytes; torch maps storages into memory, and pads the header of every member for it
PADDING = 0x4246  # kind of the extra field that torch pads with, "FB"
ZIP64 = 20  # bytes of the field that zipfile adds for members of more than 2 GiB
Replaced = list[tuple[StoredTensor, NDArray[Any]]]


def write_npz_anew(path: Location, source: BinaryIO, out: IO[bytes], replaced: Replaced) -> None:
    """Copies an npz file with other arrays in some members."""
    archive = zipfile.ZipFile(source)
    members = [member for member, _ in _places(archive, source, replaced)]
    contents = {member: npy_stream(tensor, values) for (tensor, values), member in zip(replaced, members, strict=True)}
    _copy(path, archive, out, contents, alignment=1)


def npy_stream(tensor: StoredTensor, values: NDArray[Any]) -> bytes:
    """An array as numpy writes it; of bfloat16 as Equinox does, with two bytes of no type."""
    raw = stored_bytes(tensor, values, reshaped=True)
    kind = np.dtype("V2" if tensor.dtype == "bfloat16" else tensor.dtype)
    descr = kind.newbyteorder(">" if "big-endian" in tensor.span.flags else "<").str
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {tuple(values.shape)!r}, }}"
    header += " " * (-(11 + len(header)) % ALIGNMENT) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode("latin-1") + raw.tobytes()


def settings_inside(source: BinaryIO, new: New) -> list[TorchSetting]:
    """The integers of the configuration in a file of torch.save for which another value is wanted; see `torch_settings`."""
    archive = zipfile.ZipFile(source)
    name = root_pickle(archive.namelist())
    return [] if name is None else torch_settings(archive.read(name), new)


def write_torch_anew(path: Location, source: BinaryIO, out: IO[bytes], replaced: Replaced, new_setting: New | None = None) -> None:
    """Copies a file of torch.save in which some tensors have other shapes: their storages, and the numbers of the pickle that say so.

    Args:
        new_setting: the new value of an integer of the configuration, of its key and its old value.
    Raises:
        CheckpointError: a storage is shared with a tensor that stays as it is, or the pickle is not as torch.save writes it.
    """
    archive = zipfile.ZipFile(source)
    name = root_pickle(archive.namelist())
    if name is None or name.removesuffix("data.pkl") + "constants.pkl" in archive.namelist():
        raise problem(path, "a TorchScript archive, whose code has the old shapes; save its state_dict with torch.save")
    prefix = f"{name.removesuffix('data.pkl')}data/"
    pickle = archive.read(name)
    try:
        known = defaultdict(list)
        for reference in references(pickle):
            known[f"{prefix}{reference.key}"].append(reference)
    except (ValueError, IndexError) as error:
        raise problem(path, f"its pickle cannot be rewritten for other shapes ({error}); save its state_dict with torch.save") from error
    new: dict[str, dict[tuple[int, tuple[int, ...]], tuple[StoredTensor, NDArray[Any]]]] = defaultdict(dict)
    for (tensor, values), (member, offset) in zip(replaced, _places(archive, source, replaced), strict=True):
        new[member][offset // ITEMSIZE[tensor.dtype], tensor.shape] = (tensor, values)
    numbers: dict[Token, int] = {}
    contents: dict[str, bytes] = {}
    for member, tensors in new.items():
        numbers |= _numbers(path, member, known[member], tensors)
        contents[member] = b"".join(stored_bytes(tensor, values, reshaped=True).tobytes() for tensor, values in tensors.values())
    if new_setting is not None:
        numbers |= {setting.token: setting.after for setting in torch_settings(pickle, new_setting)}
    contents[name] = with_numbers(pickle, numbers)
    _copy(path, archive, out, contents, alignment=ALIGNMENT)


def _numbers(
    path: Location,
    member: str,
    known: list[Reference],
    tensors: Mapping[tuple[int, tuple[int, ...]], tuple[StoredTensor, NDArray[Any]]],
) -> dict[Token, int]:
    """New integers of the pickle for the tensors of one storage, which lie in it one after the other."""
    starts, total = {}, 0
    for place, (_, values) in tensors.items():
        starts[place] = total
        total += values.size
    numbers: dict[Token, int] = {}
    for reference in known:
        if reference.place not in tensors:
            names = ", ".join(short(tensor.name) for tensor, _ in list(tensors.values())[:2])
            raise problem(
                path, f"{names} shares its storage ({short(member)}) with a tensor that keeps its shape; clone both before torch.save"
            )
        shape = tensors[reference.place][1].shape
        numbers |= {reference.numel: total, reference.offset: starts[reference.place]}
        numbers |= dict(zip(reference.shape, shape, strict=True)) | dict(zip(reference.strides, c_strides(shape), strict=True))
    return numbers


def _places(archive: zipfile.ZipFile, source: BinaryIO, replaced: Replaced) -> list[tuple[str, int]]:
    """The member that holds each tensor, and the byte of its first element in it."""
    begins = {}
    for info in archive.infolist():
        source.seek(info.header_offset + 26)
        begins[info.filename] = info.header_offset + LOCAL_HEADER + sum(struct.unpack("<HH", source.read(4)))
    found = []
    for tensor, _ in replaced:
        span = tensor.span
        if span.member is not None:
            found.append((span.member, span.offset))
            continue
        inside = [info for info in archive.infolist() if begins[info.filename] <= span.offset < begins[info.filename] + info.compress_size]
        found.append((inside[0].filename, span.offset - begins[inside[0].filename]))
    return found


def _copy(path: Location, archive: zipfile.ZipFile, out: IO[bytes], contents: Mapping[str, bytes], *, alignment: int) -> None:
    try:
        with zipfile.ZipFile(out, "w") as copy:
            for info in archive.infolist():
                entry = zipfile.ZipInfo(info.filename, info.date_time)
                entry.compress_type, entry.external_attr = info.compress_type, info.external_attr
                entry.file_size = len(contents[info.filename]) if info.filename in contents else info.file_size
                if alignment > 1:
                    entry.extra = _padding(out.tell(), entry, alignment)
                with copy.open(entry, "w") as target:
                    if info.filename in contents:
                        target.write(contents[info.filename])
                        continue
                    with archive.open(info) as member:
                        shutil.copyfileobj(member, target, 1 << 22)
    except (zipfile.BadZipFile, EOFError) as error:
        raise problem(path, f"damaged zip file ({error}); fetch it again") from error


def _padding(at: int, entry: zipfile.ZipInfo, alignment: int) -> bytes:
    """An extra field after which the data of a member begin at a multiple of the alignment."""
    large = ZIP64 if entry.file_size * 1.05 > zipfile.ZIP64_LIMIT else 0
    begin = at + LOCAL_HEADER + len(entry.filename.encode("utf-8")) + large + 4
    count = -begin % alignment
    return struct.pack("<HH", PADDING, count) + b"Z" * count
