"""Zip archives, with limits on their size: find the bytes of a member in the file, and read small members.

Source: PKWARE APPNOTE 6.3, 4.3.7 (local file header); encryption is bit 0 of the flags (4.4.4).
"""

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ssmspec.checkpoint.tensors import problem, short

BOMB_SIZE = 64 * 2**20  # bytes; a deflated member larger than this ...
BOMB_RATIO = 200  # ... must not be this many times its compressed size: weights deflate by 1 to 20
LOCAL_HEADER = 30  # bytes before the name
MAX_DIRECTORY = 32 * 2**20  # bytes; 100 000 tensors need a quarter of it


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes of a member. If stored, `offset` is a position in the file; if deflated, `member` is its name and `offset` is 0."""

    offset: int
    nbytes: int
    member: str | None


class _Bounded(io.RawIOBase):
    """`size` bytes of a file from `start` on, as a file for zipfile, with a limit: zipfile reads the whole directory at once and creates an
    object of 1 kB per entry."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def read(self, size: int = -1) -> bytes:
        if size > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"a directory of {size} bytes, expected at most {MAX_DIRECTORY}")
        left = max(0, self._size - self._at)
        self._file.seek(self._start + self._at)
        data = self._file.read(left if size < 0 else min(size, left))
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        if self._at < 0:
            raise OSError(f"a position {-self._at} bytes before the beginning")
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


class Archive:
    """A zip file whose directory has been read.

    Args:
        path, file: the file, and the same opened. start, size: the bytes of it that are the archive.
    Raises:
        CheckpointError: the directory is not readable, or two members have the same name.
    """

    def __init__(self, path: Path, file: BinaryIO, size: int, start: int = 0) -> None:
        self.path, self._file, self._size, self._start = path, file, size, start
        try:
            self._zip = zipfile.ZipFile(_Bounded(file, start, size))
        except zipfile.BadZipFile as error:
            raise problem(path, f"truncated or damaged zip file ({error}); fetch it again") from error
        self._members = {info.filename: info for info in self._zip.infolist()}
        if len(self._members) != len(self._zip.infolist()):
            raise problem(path, "two members of this zip file have the same name, so its content is ambiguous; write it again")
        self.names = list(self._members)

    def place(self, name: str) -> Place:
        """Where the bytes of a member are; refuses encrypted, truncated and suspiciously compressed members."""
        info, label = self._members.get(name), f"zip member '{short(name)}'"
        if info is None:
            raise problem(self.path, f"{label} is missing: the file is incomplete; fetch it again")
        if info.flag_bits & 0x1:
            raise problem(self.path, f"{label} is encrypted; decrypt the archive first")
        if info.compress_type == zipfile.ZIP_DEFLATED:
            if info.file_size > BOMB_SIZE and info.file_size > BOMB_RATIO * info.compress_size:
                raise problem(self.path, f"{label} would grow from {info.compress_size} to {info.file_size} bytes (zip bomb); not read")
            if self._start:
                raise problem(self.path, f"{label} is compressed inside of a larger file; save the checkpoint again without compression")
            return Place(0, info.file_size, name)
        if info.compress_type != zipfile.ZIP_STORED:
            raise problem(self.path, f"{label} has compression method {info.compress_type}, expected stored or deflated; write it again")
        self._file.seek(self._start + info.header_offset)
        header = self._file.read(LOCAL_HEADER)
        if len(header) != LOCAL_HEADER or header[:4] != b"PK\x03\x04":
            raise problem(self.path, f"{label} has no header where the directory says: the file is damaged; fetch it again")
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        offset = info.header_offset + LOCAL_HEADER + lengths
        if info.compress_size != info.file_size or offset + info.file_size > self._size:
            raise problem(self.path, f"{label} reaches beyond the end of the file: it is truncated or damaged; fetch it again")
        return Place(self._start + offset, info.file_size, None)

    def read(self, name: str, limit: int) -> bytes:
        """The first bytes of a member, at most `limit`. CRCs of stored members are not checked, because torch can write files
        without them (torch.serialization.set_crc32_options)."""
        place = self.place(name)
        count = min(limit, place.nbytes)
        if place.member is None:
            self._file.seek(place.offset)
            return self._file.read(count)
        try:
            with self._zip.open(name) as member:
                return member.read(count)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise problem(
                self.path, f"zip member '{short(name)}' cannot be inflated ({error}): the file is damaged; fetch it again"
            ) from error

    @contextmanager
    def stream(self, name: str, limit: int) -> Iterator[tuple[BinaryIO, int]]:
        """A stream for reading a member of at most `limit` bytes in small pieces from its beginning, and the number of its bytes."""
        place = self.place(name)
        if place.nbytes > limit:
            raise problem(self.path, f"zip member '{short(name)}' has {place.nbytes} bytes, expected at most {limit}; not read")
        if place.member is not None:
            with self._zip.open(name) as member:
                yield io.BufferedReader(member), place.nbytes  # type: ignore[type-var]  # zipfile itself reads single bytes slowly
            return
        with self.path.open("rb") as file:
            file.seek(place.offset)
            yield file, place.nbytes
