"""Copy a file with some parts replaced; all other bytes are copied unchanged and are not kept in memory."""

import errno
import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO

from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import Stamp, problem

CHUNK = 1 << 22  # bytes in memory at once
CALL = 1 << 26  # bytes that the system copies in one call; an interrupt is handled between two calls
NOT_HERE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ETXTBSY)
"""Error codes of copy_file_range and lseek when they are not supported; plain reading and writing is then used, or reports the error."""


@contextmanager
def unchanged(path: Location, stamp: Stamp) -> Iterator[BinaryIO]:
    """The file, opened for reading; refused if it does not match its stamp before and after the block.

    Raises:
        CheckpointError: the file was changed between the time of the stamp and the end of the block, or cannot be opened.
    """
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise problem(path, f"cannot be read: {error.strerror or error}") from error
    with file:
        _require(path, file, stamp)
        yield file
        _require(path, file, stamp)


def _require(path: Location, file: BinaryIO, stamp: Stamp) -> None:
    if Stamp.of(os.fstat(file.fileno())) != stamp:
        raise problem(path, "it was changed while ssmspec was working on it; run again when nothing writes to it")


class Splice:
    """Copies `source` to `out`, starting at the first byte. Both are open, and `out` is empty.

    `position` is the next byte of the source to be copied.
    """

    def __init__(self, path: Location, source: BinaryIO, out: IO[bytes]) -> None:
        self.path, self.source, self.out, self.position = path, source, out, 0
        self._starts, self._shifts = [0], [0]

    def through(self, stop: int) -> None:
        """Copies the source up to byte `stop`; holes of a sparse file stay holes.

        Raises:
            CheckpointError: the source ends earlier.
            OSError: for example, the disk is full.
        """
        at = self.out.seek(0, os.SEEK_END)
        self._starts.append(self.position)
        self._shifts.append(at - self.position)
        self.out.truncate(at + stop - self.position)
        for first, last in _data(self.source.fileno(), self.position, stop):
            self._copy(first, last, at + first - self.position)
        self.position = stop

    def append(self, data: bytes | memoryview) -> None:
        """Writes new bytes after what has been copied so far."""
        self.out.seek(0, os.SEEK_END)
        self.out.write(data)

    def skip(self, stop: int) -> None:
        """Skips the source up to byte `stop`."""
        self.position = stop

    def moved(self, offset: int) -> int:
        """The position in the copy of a copied byte of the source."""
        return offset + self._shifts[bisect_right(self._starts, offset) - 1]

    def patch(self, offset: int, data: bytes | memoryview) -> None:
        """Overwrites copied bytes; `offset` is their position in the source."""
        self.out.seek(self.moved(offset))
        self.out.write(data)

    def copied(self, offset: int, count: int) -> bytes:
        """Bytes of the copy; `offset` is their position in the source."""
        self.out.seek(self.moved(offset))
        return self.out.read(count)

    def _copy(self, first: int, last: int, at: int) -> None:
        done = _copy_in_kernel(self.source.fileno(), self.out.fileno(), (first, last), at)
        self.source.seek(first + done)
        self.out.seek(at + done)
        left = last - first - done
        while left:
            data = self.source.read(min(CHUNK, left))
            if not data:
                text = "it ended while it was being copied, so it was truncated or changed; run again when nothing writes to it"
                raise problem(self.path, text)
            self.out.write(data)
            left -= len(data)
        self.out.flush()


def _copy_in_kernel(source: int, out: int, span: tuple[int, int], at: int) -> int:
    """Copies a span with copy_file_range, sharing blocks if the file system can; returns the bytes copied, fewer if not supported."""
    first, last = span
    if not hasattr(os, "copy_file_range"):
        return 0
    position = first
    try:
        while position < last:
            copied = os.copy_file_range(source, out, min(CALL, last - position), position, at + position - first)
            if not copied:
                break
            position += copied
    except OSError as error:
        if error.errno not in NOT_HERE:
            raise
    return position - first


def _data(source: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The ranges between two bytes that are not holes."""
    status = os.fstat(source)
    if not hasattr(os, "SEEK_DATA") or status.st_blocks * 512 >= status.st_size:
        yield start, stop
        return
    while start < stop:
        try:
            first = os.lseek(source, start, os.SEEK_DATA)
            last = os.lseek(source, first, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:  # ENXIO: nothing but a hole follows
                yield start, stop
            return
        if first >= stop:
            return
        yield first, min(last, stop)
        start = last
