"""Results by name that are computed when they are first asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

Found = TypeVar("Found")


class OnDemand(Mapping[str, Found], Generic[Found]):
    """A mapping whose values a function computes, each once. A copy, pickled or not, is a dictionary of all values.

    Args:
        names: the keys, in order.
        compute: the value of a name.
    """

    def __init__(self, names: Iterable[str], compute: Callable[[str], Found]) -> None:
        self._names = dict.fromkeys(names)
        self._compute = compute
        self._found: dict[str, Found] = {}

    def __getitem__(self, name: str) -> Found:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._found:
            self._found[name] = self._compute(name)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __repr__(self) -> str:
        waiting = len(self._names) - len(self._found)
        return f"<{self._found!r} and {waiting} more on demand>" if waiting else repr(self._found)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)
