"""What was looked at to read a local checkpoint, so that the same can be looked at again: which bytes, which names, what was not there."""

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 1 << 22  # bytes hashed at a time

Looked = dict[str, dict[str, list[list[int]]]]
"""Kind of look ("read", "stat", "list") -> path, relative to that of the checkpoint -> ranges of bytes [first, behind the last]."""


class WatchedPath(type(Path())):  # type: ignore[misc]  # the Path of the system
    """A path that notes what is asked of it, and of all paths that are made from it, in `looked` of `watching`."""

    _watch: "tuple[str, Looked] | None" = None

    def _note(self, kind: str, ranges: "list[list[int]] | None" = None) -> None:
        if WatchedPath._watch is not None:
            start, looked = WatchedPath._watch
            looked[kind].setdefault(os.path.relpath(self, start), []).extend(ranges or [])

    def stat(self, **options: Any) -> os.stat_result:
        self._note("stat")
        return super().stat(**options)

    def exists(self, **options: Any) -> bool:
        self._note("stat")
        return super().exists(**options)

    def is_file(self, **options: Any) -> bool:
        self._note("stat")
        return super().is_file(**options)

    def is_dir(self, **options: Any) -> bool:
        self._note("stat")
        return super().is_dir(**options)

    def iterdir(self) -> "Iterator[WatchedPath]":
        self._note("list")
        return super().iterdir()

    def glob(self, pattern: str, **options: Any) -> "Iterator[WatchedPath]":
        self._note("list")
        return super().glob(pattern, **options)

    def open(self, mode: str = "r", buffering: int = -1, **options: Any) -> Any:
        if mode != "rb":
            self._note("read", [[0, os.stat(self).st_size]])  # noqa: PTH116
            return super().open(mode, buffering, **options)
        watched = _Watched(self, super().open("rb", buffering=0))
        return watched if buffering == 0 else io.BufferedReader(watched)


class _Watched(io.RawIOBase):
    def __init__(self, path: WatchedPath, file: io.FileIO) -> None:
        self._path, self._file = path, file
        path._note("read")

    def readinto(self, buffer: Any) -> int:
        start = self._file.tell()
        count = self._file.readinto(buffer) or 0
        self._path._note("read", [[start, start + count]])
        return count

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def fileno(self) -> int:
        return self._file.fileno()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


class watching:  # noqa: N801  (used like a function)
    """A block in which the looks at a path are noted. `path`: the same, watched. `looked`: what was looked at, once the block has ended."""

    def __init__(self, path: Path) -> None:
        self.path, self.looked = WatchedPath(path), Looked(read={}, stat={}, list={})

    def __enter__(self) -> "watching":
        WatchedPath._watch = (str(self.path), self.looked)
        return self

    def __exit__(self, *error: object) -> None:
        WatchedPath._watch = None
        self.looked["read"] = {name: _joined(ranges) for name, ranges in self.looked["read"].items()}


def _joined(ranges: list[list[int]]) -> list[list[int]]:
    found: list[list[int]] = []
    for start, stop in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1][1] = max(found[-1][1], stop)
        else:
            found.append([start, stop])
    return found


def seen_again(path: Path, looked: Looked) -> str:
    """The SHA-256 of what these looks see now: sizes and kinds, names in folders, bytes that are read; also of the suffix of the path.

    It does not depend on the name of the path, which may be part of the names of files beside it.

    Raises:
        OSError: a file that was read is not there, or cannot be read.
    """
    own = os.path.join(os.pardir, path.name)  # noqa: PTH118
    told = {kind: sorted((name.replace(own, "*", 1), ranges) for name, ranges in names.items()) for kind, names in looked.items()}
    digest = hashlib.sha256(repr((path.suffix, sorted(told.items()))).encode(errors="surrogateescape"))
    for name in sorted(looked["stat"]):
        try:
            status = os.stat(os.path.normpath(path / name))  # noqa: PTH116
            digest.update(f"{status.st_mode & 0o170000} {status.st_size if status.st_mode & 0o100000 else 0};".encode())
        except OSError:
            digest.update(b"none;")
    for name in sorted(looked["list"]):
        digest.update("\0".join(sorted(os.listdir(os.path.normpath(path / name)))).encode(errors="surrogateescape"))  # noqa: PTH208
    for name, ranges in sorted(looked["read"].items()):
        with open(os.path.normpath(path / name), "rb", buffering=0) as file:  # noqa: PTH123
            digest.update(f"{os.fstat(file.fileno()).st_size};".encode())
            for start, stop in ranges:
                file.seek(start)
                while start < stop and (data := file.read(min(BLOCK, stop - start))):
                    digest.update(data)
                    start += len(data)
    return digest.hexdigest()
