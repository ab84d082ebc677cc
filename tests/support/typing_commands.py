"""The result of a command that is typed in this process; the fixture is `typed`."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Typed:
    """Exit code, stdout and stderr."""

    code: int
    out: str
    err: str


Type = Callable[..., Typed]
