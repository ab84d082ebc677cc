"""What all stores have in common: files whose ranges are fetched once, and errors that become one line."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from fsspec.callbacks import Callback

from ssmspec.checkpoint.remote.failures import explained
from ssmspec.checkpoint.remote.ranges import Held, Range, joined
from ssmspec.checkpoint.remote.traffic import Traffic
from ssmspec.errors import CheckpointError

FIRST = 1 << 15  # bytes of the first read of a file
AHEAD = 1 << 17  # bytes; limit of what is read ahead of a walk through a file
KEPT = 1 << 22  # bytes; larger reads are handed on and not kept
AT_ONCE = 8  # requests in flight

Kind = Literal["file", "folder"]
Wanted = tuple[str, int, int]  # key, first byte, byte after the last


class _Counted(Callback):  # type: ignore[misc]
    """What filesystems call with the bytes of each piece of a file that they copy."""

    def __init__(self, traffic: Traffic, name: str) -> None:
        super().__init__()
        self._traffic, self._name = traffic, name

    def relative_update(self, inc: int = 1) -> None:
        self._traffic.add(self._name, inc)


def ranges_of(fs: Any, paths: Sequence[str], starts: Sequence[int], stops: Sequence[int]) -> list[bytes]:
    """The bytes of ranges by a filesystem of fsspec; may raise anything.

    Older versions of fsspec (2025.3) return errors among the bytes, whatever they are told.
    """
    at_once = {"batch_size": AT_ONCE} if fs.async_impl else {}
    found: list[bytes | BaseException] = fs.cat_ranges(list(paths), list(starts), list(stops), on_error="raise", **at_once)
    for part in found:
        if isinstance(part, BaseException):
            raise part
    return [part for part in found if not isinstance(part, BaseException)]


class RangedFile:
    """A file of a store: every byte range is fetched once."""

    def __init__(self, store: "Store", key: str, size: int) -> None:
        self.store, self.key, self.size = store, key, size
        self.held = Held()
        self._last, self._ahead = -1, FIRST

    def read(self, start: int, count: int) -> bytes:
        """Bytes of the file. A reader that walks through it gets more with every request, one that jumps exactly what it asks for."""
        stop = min(start + count, self.size)
        missing = self.held.missing(start, stop)
        if not missing:
            return self.held.take(start, stop)
        if len(missing) == 1 and missing[0][0] == self._last:
            end = min(self.size, max(stop, self._last + self._ahead))
            self._ahead = min(2 * self._ahead, AHEAD)
        else:
            end, self._ahead = stop, FIRST
        self._last = end
        wanted = self.held.missing(missing[0][0], end)
        data = self.store.fetch([(self.key, first, last) for first, last in wanted])
        if end - start > KEPT and wanted == [(start, stop)]:
            return data[0]
        for (first, _), part in zip(wanted, data, strict=True):
            self.held.add(first, part)
        return self.held.take(start, stop)


class Store(ABC):
    """A place that has files by key.

    Args:
        traffic: what was read. revision: what the store calls the state that is read (a commit), where it has such a name.
        root_name: the name of what has the key "".
    """

    revision: str | None = None
    root_name = ""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self._files: dict[str, RangedFile] = {}

    @abstractmethod
    def shown(self, key: str) -> str:
        """The address of a key, without credentials."""

    @abstractmethod
    def kind(self, key: str) -> Kind | None:
        """What a key is; None if nothing is there. Raises CheckpointError."""

    def is_folder(self, key: str) -> bool:
        """Whether a key is a folder, without reading the file that it is otherwise."""
        return self.kind(key) == "folder"

    @abstractmethod
    def version(self, key: str) -> tuple[str, int | None]:
        """What the store says of the version of a file ("" if nothing), and its bytes; may raise anything."""

    @abstractmethod
    def names(self, key: str) -> list[str]:
        """The names in a folder. Raises CheckpointError."""

    def plain_name(self, name: str) -> str:
        """A name as it is in the folder that is served; addresses may have characters in another form."""
        return name

    @abstractmethod
    def size(self, key: str) -> int:
        """Bytes of a file. Raises CheckpointError."""

    @abstractmethod
    def begin(self, keys: Sequence[str]) -> None:
        """Looks up files and reads their first bytes, all at once. Raises CheckpointError."""

    @abstractmethod
    def _copy(self, key: str, target: str, callback: Callback) -> None:
        """Copies the whole of a file to a local one; may raise anything."""

    def fetch_whole(self, key: str, target: str, size: int | None) -> None:
        """Copies the whole of a file, of so many bytes if that is known, to a local one; may raise anything."""
        self.traffic.expect(size or 0)
        self._copy(key, target, _Counted(self.traffic, key.rpartition("/")[2]))

    @abstractmethod
    def _get(self, wanted: Sequence[Wanted]) -> list[bytes]:
        """The bytes of ranges, all at once; may raise anything."""

    def file(self, key: str) -> RangedFile:
        """The file of a key."""
        if key not in self._files:
            self._files[key] = RangedFile(self, key, self.size(key))
        return self._files[key]

    def fetch(self, wanted: Sequence[Wanted]) -> list[bytes]:
        """The bytes of ranges of one or several files, of the lengths that were asked for.

        Raises:
            CheckpointError: not all of them arrived as they should.
        """
        self.traffic.expect(sum(stop - start for _, start, stop in wanted))
        try:
            data = self._get(wanted)
        except CheckpointError:
            raise
        except Exception as error:  # whatever a client raises is one line to the user
            raise explained(self.shown(wanted[0][0]), error) from error
        for (key, start, stop), part in zip(wanted, data, strict=True):
            if len(part) != stop - start:
                text = f"{len(part)} bytes came for the {stop - start} from byte {start} on"
                raise explained(self.shown(key), OSError(f"{text}; try again, or use --download"))
        return data

    def prefetch(self, wanted: Iterable[Wanted]) -> None:
        """Reads what is not held yet of ranges of any files, close ones in one request."""
        by_file: dict[str, list[Range]] = {}
        for key, start, stop in wanted:
            by_file.setdefault(key, []).extend(self.file(key).held.missing(start, min(stop, self.file(key).size)))
        requests = [(key, first, last) for key, ranges in by_file.items() for first, last in joined(ranges)]
        if requests:
            for (key, first, _), data in zip(requests, self.fetch(requests), strict=True):
                self.file(key).held.add(first, data)
