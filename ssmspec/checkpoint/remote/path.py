"""Addresses as paths: what the readers of containers do with a `pathlib.Path`, for files that are elsewhere."""

import io
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, overload

if TYPE_CHECKING:
    from ssmspec.checkpoint.remote.store import Store

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
SECRETS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+://)(?:[^\s/@'\"]*@)?(?P<rest>[^\s?'\"]*)(?:\?[^\s'\"]+)?")
AT_ONCE = 1 << 25  # bytes of one read, so of one request


def is_address(text: object) -> bool:
    """Whether a text names a file by scheme and place, as in https://host/file, rather than by a local path."""
    return isinstance(text, str) and ADDRESS.match(text) is not None


def without_secrets(text: str) -> str:
    """The text, its addresses without passwords, and without what follows a question mark, such as a signature."""
    return SECRETS.sub(lambda match: match["scheme"] + match["rest"], text)


def title_of(given: Path | str) -> str:
    """The name of a checkpoint, for titles: the last part of its path or address."""
    if isinstance(given, str) and is_address(given):
        return given.partition("://")[2].partition("?")[0].rstrip("/").rpartition("/")[2].partition("@")[0]
    path = Path(given)
    return path.name or path.resolve().name


def stem_in(given: str) -> str:
    """The name of a checkpoint without its suffix."""
    title = title_of(given) if is_address(given) else Path(given).name
    return Path(title).stem or title


def stem_of(given: Path | str) -> str:
    """What the names of files made from a checkpoint begin with: its name without suffix, of a local one that of what a link leads to."""
    if isinstance(given, str) and is_address(given):
        return Path(title_of(given)).stem
    path = Path(given)
    return path.resolve().stem or path.name


@dataclass(frozen=True, slots=True)
class RemoteStatus:
    """The parts of `os.stat_result` that readers look at. What tells versions of a file apart is compared at every request instead."""

    st_mode: int
    st_size: int
    st_mtime_ns: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class RemotePath:
    """A file or folder of a store; `key` is its path there. Methods are those of `pathlib.Path`.

    Errors of the network are CheckpointError, always one line; a file that is not there is FileNotFoundError.
    """

    store: "Store"
    key: str

    def __str__(self) -> str:
        return self.store.shown(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self.store is other.store and self.key == other.key

    def __hash__(self) -> int:
        return hash((id(self.store), self.key))

    def __lt__(self, other: "RemotePath") -> bool:
        return self.key < other.key

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(self.store, f"{self.key}/{name}" if self.key else name)

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2] or self.store.root_name

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def parent(self) -> "RemotePath":
        return RemotePath(self.store, self.key.rpartition("/")[0])

    @property
    def parents(self) -> "tuple[RemotePath, ...]":
        above = [self.parent]
        while above[-1].key:
            above.append(above[-1].parent)
        return tuple(above)

    def with_name(self, name: str) -> "RemotePath":
        return self.parent / name

    def relative_to(self, folder: "RemotePath") -> str:
        return self.key.removeprefix(f"{folder.key}/" if folder.key else "")

    def absolute(self) -> "RemotePath":
        return self

    def is_file(self) -> bool:
        return self.store.kind(self.key) == "file"

    def is_dir(self) -> bool:
        return self.store.kind(self.key) == "folder"

    def exists(self) -> bool:
        return self.store.kind(self.key) is not None

    def iterdir(self) -> "Iterator[RemotePath]":
        return (self / name for name in self.store.names(self.key))

    def glob(self, pattern: str) -> "Iterator[RemotePath]":
        """Entries one or two levels below, for patterns of that many parts."""
        first, _, rest = pattern.partition("/")
        for entry in self.iterdir():
            if fnmatchcase(entry.name, first):
                if not rest:
                    yield entry
                elif entry.is_dir():
                    yield from entry.glob(rest)

    def stat(self) -> RemoteStatus:
        kind = self.store.kind(self.key)
        if kind is None:
            raise FileNotFoundError(2, "no such file or folder", str(self))
        return RemoteStatus(stat.S_IFDIR | 0o755, 0) if kind == "folder" else RemoteStatus(stat.S_IFREG | 0o644, self.store.size(self.key))

    @overload
    def open(self, mode: Literal["rb"] = "rb") -> io.BufferedReader: ...
    @overload
    def open(self, mode: Literal["rb"], buffering: Literal[0]) -> io.FileIO: ...
    def open(self, mode: Literal["rb"] = "rb", buffering: int = -1) -> io.BufferedReader | io.FileIO:
        """The file for reading; bytes are requested when they are read."""
        handle = _Handle(self, self.stat().st_size)
        return cast(io.FileIO, handle) if buffering == 0 else io.BufferedReader(handle)

    def read_bytes(self) -> bytes:
        with self.open() as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self.read_bytes().decode(encoding, errors)


class _Handle(io.RawIOBase):
    def __init__(self, path: RemotePath, size: int) -> None:
        self._path, self._size, self._at = path, size, 0

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = max(0, min(len(buffer), AT_ONCE, self._size - self._at))
        if count:
            buffer[:count] = self._path.store.file(self._path.key).read(self._at, count)
            self._at += count
        return count

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


Location = Path | RemotePath
"""Where the bytes of a checkpoint are; readers of containers use either alike."""


def entries(folder: Location) -> list[Location]:
    """What is in a folder, by name."""
    return sorted(folder.iterdir(), key=lambda entry: entry.name)
