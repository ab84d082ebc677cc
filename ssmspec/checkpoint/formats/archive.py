"""Zip archives, with limits on their size: find the bytes of a member in the file, and read small members.

Source: PKWARE APPNOTE 6.3, 4.3.7 (local file header); encryption is bit 0 of the flags (4.4.4).
"""

import io
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from ssmspec.checkpoint.remote.path import Location, RemotePath
from ssmspec.checkpoint.tensors import LOCAL_HEADER, MOST_EXTRA, after_local_header, problem, short

BOMB_SIZE = 64 * 2**20  # bytes; a deflated member larger than this ...
BOMB_RATIO = 200  # ... must not be this many times its compressed size: weights deflate by 1 to 20
MOST_HEADER = 1 << 17  # bytes that a local header, with its name and extra field, may take
TAIL = 48 * 1024  # bytes at the end that are read first in a store; the directory of 600 tensors takes 35 kB
FIRST = 256  # bytes of a member that tell what it is; most headers of arrays have 128
INFLATED = 4096  # compressed bytes that zipfile reads at least
MAX_DIRECTORY = 32 * 2**20  # bytes; 100 000 tensors need a quarter of it


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes of a member. If stored, `offset` is a position in the file; if deflated, `member` is its name and `offset` is 0.

    Of a file in a store, where every read is a request, `home` is that of `Span`, and `offset` is 0, too.
    """

    offset: int
    nbytes: int
    member: str | None
    home: tuple[int, int] | None = None


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

    def __init__(self, path: Location, file: BinaryIO, size: int, start: int = 0) -> None:
        self.path, self._file, self._size, self._start = path, file, size, start
        self._store = path.store if isinstance(path, RemotePath) else None
        if self._store is not None and isinstance(path, RemotePath):
            self._store.prefetch([(path.key, start + max(0, size - TAIL), start + size)])
        try:
            self._zip = zipfile.ZipFile(_Bounded(file, start, size))
        except zipfile.BadZipFile as error:
            raise problem(path, f"truncated or damaged zip file ({error}); fetch it again") from error
        self._members = {info.filename: info for info in self._zip.infolist()}
        if len(self._members) != len(self._zip.infolist()):
            raise problem(path, "two members of this zip file have the same name, so its content is ambiguous; write it again")
        self.names = list(self._members)
        self._begins = sorted(info.header_offset for info in self._members.values()) if self._store else []

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
            return Place(0, info.file_size, name, self._home(info) if self._store else None)
        if info.compress_type != zipfile.ZIP_STORED:
            raise problem(self.path, f"{label} has compression method {info.compress_type}, expected stored or deflated; write it again")
        if self._store:
            if info.compress_size != info.file_size or info.header_offset + LOCAL_HEADER + info.file_size > self._size:
                raise problem(self.path, f"{label} reaches beyond the end of the file: it is truncated or damaged; fetch it again")
            return Place(0, info.file_size, None, self._home(info))
        offset = after_local_header(self.path, self._file, self._start + info.header_offset) - self._start
        if info.compress_size != info.file_size or offset + info.file_size > self._size:
            raise problem(self.path, f"{label} reaches beyond the end of the file: it is truncated or damaged; fetch it again")
        return Place(self._start + offset, info.file_size, None)

    def _home(self, info: zipfile.ZipInfo) -> tuple[int, int]:
        """Where the local header of a member begins, and by what byte its data have ended."""
        begin = info.header_offset
        after = bisect_right(self._begins, begin)
        last = min(self._begins[after] if after < len(self._begins) else self._size, begin + MOST_HEADER + info.compress_size)
        return self._start + begin, self._start + last

    def prefetch(self, names: Iterable[str], *, heads: bool = False) -> None:
        """Reads members of a file in a store, or only their beginnings, close ones in one request."""
        if self._store is not None and isinstance(self.path, RemotePath):
            infos = [self._members[name] for name in names if name in self._members]
            limits = [MOST_EXTRA + (FIRST if info.compress_type == zipfile.ZIP_STORED else INFLATED) if heads else None for info in infos]
            homes = [self._home(info) for info in infos]
            ends = [last if limit is None else min(last, first + limit) for (first, last), limit in zip(homes, limits, strict=True)]
            self._store.prefetch([(self.path.key, first, end) for (first, _), end in zip(homes, ends, strict=True)])

    def head(self, name: str, limit: int, complete: Callable[[bytes], bool]) -> bytes:
        """The first bytes of a member, at most `limit`; of a file in a store only a few, where they are complete."""
        few = self.read(name, FIRST) if self._store is not None else b""
        return few if few and complete(few) else self.read(name, limit)

    def _data(self, place: Place) -> int:
        """The byte of the file where the data of a stored member begin."""
        return place.offset if place.home is None else after_local_header(self.path, self._file, place.home[0])

    def read(self, name: str, limit: int) -> bytes:
        """The first bytes of a member, at most `limit`. CRCs of stored members are not checked, because torch can write files
        without them (torch.serialization.set_crc32_options)."""
        place = self.place(name)
        count = min(limit, place.nbytes)
        if place.member is None:
            self._file.seek(self._data(place))
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
        if self._store is not None:
            yield io.BytesIO(self.read(name, limit)), place.nbytes
            return
        with self.path.open("rb") as file:
            file.seek(place.offset)
            yield file, place.nbytes
