"""npz: a zip of .npy members, each with its own header.

Source: numpy/lib/format.py (the .npy format, versions 1.0 and 2.0).
"""

import io
import math
import warnings
from dataclasses import replace

import numpy as np

from ssmspec.checkpoint.formats.archive import Archive, Place
from ssmspec.checkpoint.formats.tree import fortran_strides
from ssmspec.checkpoint.naming import final_names
from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import ITEMSIZE, MAX_DIMENSIONS, Contents, Flag, Span, StoredTensor, extent, problem, short

HEAD = 65_536  # bytes of a member that are read to find its header; numpy itself refuses headers above 10 000
SUFFIX = ".npy"
MAX_ARRAYS = 50_000  # per file; each has its own header, which takes about 0.1 ms


def read_npz(path: Location, archive: Archive) -> Contents:
    """Reads the headers of all members; arrays that are not plain numbers are skipped with a note.

    Raises:
        CheckpointError: a damaged header, or one that declares more bytes than the member has.
    """
    if len(archive.names) > MAX_ARRAYS:
        raise problem(path, f"{len(archive.names)} members in one file; expected at most {MAX_ARRAYS} arrays")
    archive.prefetch((member for member in archive.names if member.endswith(SUFFIX)), heads=True)
    found: dict[tuple[str, ...], StoredTensor] = {}
    skipped: list[str] = []
    for member in archive.names:
        tensor = _member(path, archive, member) if member.endswith(SUFFIX) else None
        if tensor is None:
            skipped.append(short(member, 60))
        else:
            found[tuple(member.removesuffix(SUFFIX).split("/"))] = tensor
    names = final_names(list(found), lambda text: problem(path, text))
    tensors = {name: replace(tensor, name=name) for name, tensor in zip(names, found.values(), strict=True)}
    note = f"{len(skipped)} members are not numeric arrays: {', '.join(skipped[:5])}{', ...' if len(skipped) > 5 else ''}"
    return Contents("npz", tensors, notes=(note,) if skipped else ())


def _member(path: Location, archive: Archive, member: str) -> StoredTensor | None:
    label = f"npz member '{short(member)}'"
    try:
        shape, fortran, dtype, start = npy_header(archive.head(member, HEAD, _has_header))
    except ValueError as error:
        raise problem(path, f"{label} has no valid .npy header ({error}); write the file again") from error
    if dtype.hasobject or dtype.name not in ITEMSIZE:
        return None
    if len(shape) > MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
        raise problem(path, f"{label} has shape {short(str(shape), 60)}, expected at most {MAX_DIMENSIONS} non-negative integers")
    place = archive.place(member)
    nbytes = math.prod(shape) * ITEMSIZE[dtype.name]
    if start + nbytes != place.nbytes:
        raise problem(path, f"{label} has {place.nbytes - start} bytes of data, but shape and dtype need {nbytes}; fetch the file again")
    return StoredTensor("", shape, dtype.name, _span(path, place, start, shape, (fortran, dtype)))


def _has_header(head: bytes) -> bool:
    try:
        npy_header(head)
    except ValueError:
        return False
    return True


def _span(path: Location, place: Place, start: int, shape: tuple[int, ...], order: tuple[bool, "np.dtype[np.generic]"]) -> Span:
    fortran, dtype = order
    flags: frozenset[Flag] = frozenset({"big-endian"} if dtype.str[0] == ">" else ())
    strides = fortran_strides(shape) if fortran and len(shape) > 1 else None
    nbytes = (extent(shape, strides) if strides else math.prod(shape)) * dtype.itemsize
    return Span(path, place.offset + start, nbytes, strides, flags, place.member, home=place.home)


def npy_header(head: bytes) -> tuple[tuple[int, ...], bool, "np.dtype[np.generic]", int]:
    """Shape, Fortran order, dtype and length of the .npy header at the beginning of `head`.

    Raises:
        ValueError: the header is not valid.
    """
    file = io.BytesIO(head)
    version = np.lib.format.read_magic(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns about headers written by Python 2, which are equally valid
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"version {version}, expected (1, 0) or (2, 0)")
    return shape, fortran, dtype, file.tell()
