"""How much was read over the network, and who wants to know: of every byte that comes, or of every remote checkpoint that is opened."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Listener = Callable[[str, int, int], None]
_listeners: list[Listener] = []
_records: list[list["Opened"]] = []


@dataclass(slots=True)
class Traffic:
    """What one checkpoint has cost: bytes of bodies that arrived, of how many asked for, and requests, repeated ones included."""

    bytes: int = 0
    expected: int = 0
    requests: int = 0

    def expect(self, count: int) -> None:
        """Notes that so many bytes are asked for."""
        self.expected += count

    def add(self, name: str, count: int) -> None:
        """Counts bytes of a file and tells the listeners."""
        self.bytes += count
        for listener in tuple(_listeners):
            listener(name, self.bytes, max(self.bytes, self.expected))


@dataclass(frozen=True, slots=True)
class Transfer:
    """What was read of a remote checkpoint: bytes, in how many requests, and the state of its store (a commit), if that has a name."""

    bytes: int
    requests: int
    revision: str | None


@dataclass(frozen=True, slots=True)
class Opened:
    """A remote checkpoint that was opened: its address, its bytes, and what was read of it until now."""

    path: str
    size: int
    traffic: Traffic
    revision: str | None

    @property
    def transfer(self) -> Transfer:
        return Transfer(self.traffic.bytes, self.traffic.requests, self.revision)


def note_opened(opened: Opened) -> None:
    """Tells those who record what is opened."""
    for record in _records:
        record.append(opened)


@contextmanager
def told_of_bytes(listener: Listener) -> Iterator[list[Opened]]:
    """Within the block, the listener is called with (name of the file, bytes read of its checkpoint so far, bytes asked for so far).

    Yields:
        the remote checkpoints that are opened within the block, a list that grows.
    """
    record: list[Opened] = []
    _listeners.append(listener)
    _records.append(record)
    try:
        yield record
    finally:
        _listeners.remove(listener)
        del _records[next(place for place, each in enumerate(_records) if each is record)]
