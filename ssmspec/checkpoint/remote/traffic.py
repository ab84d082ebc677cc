"""How much was read over the network, and who wants to know while it happens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Listener = Callable[[str, int], None]
_listeners: list[Listener] = []


@dataclass(slots=True)
class Traffic:
    """What one checkpoint has cost: bytes of bodies that arrived, and requests, repeated ones included."""

    bytes: int = 0
    requests: int = 0

    def add(self, name: str, count: int) -> None:
        """Counts bytes of a file and tells the listeners."""
        self.bytes += count
        for listener in tuple(_listeners):
            listener(name, self.bytes)


@dataclass(frozen=True, slots=True)
class Transfer:
    """What was read of a remote checkpoint: bytes, in how many requests, and the state of its store (a commit), if that has a name."""

    bytes: int
    requests: int
    revision: str | None


@contextmanager
def told_of_bytes(listener: Listener) -> Iterator[None]:
    """Within the block, the listener is called with (name of the file, bytes read of its checkpoint so far)."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
