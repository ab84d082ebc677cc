"""The size of the state in configurations: which keys mean it, and their values for another number of stored modes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEYS = (
    *("d_state", "state_size", "state_dim", "n_state", "ssm_size", "ssm_size_base", "ssm_dim", "ssm_state_size"),
    *("modes", "N", "d_hidden", "lru_dim", "state_features", "hidden_state_dim"),
)
"""Of state-spaces/s4, ssmspec, S5 (flax, torch, Equinox), LinOSS and ports of LRU."""
SETS = ("n_ssm",)


@dataclass(frozen=True, slots=True)
class Change:
    """Stored modes per copy before and after, and sets of tied poles before and after (equal where they stay)."""

    before: int
    after: int
    sets: tuple[int, int] = (0, 0)

    def new(self, key: str, value: int) -> int:
        """The new value of a key; the old one unless the key means the state size and the value is the number of modes, or twice that."""
        if key in KEYS and value in (self.before, 2 * self.before):
            return value // self.before * self.after
        return self.sets[1] if key in SETS and value == self.sets[0] else value


@dataclass(frozen=True, slots=True)
class Stated:
    """A value of a configuration that states the size of the state: its dotted key, and the value before and after."""

    key: str
    before: int
    after: int

    def __str__(self) -> str:
        return f"{self.key} {self.before} -> {self.after}"


def with_state_size(config: Mapping[str, Any], change: Change, prefix: str = "") -> tuple[dict[str, Any], list[Stated]]:
    """The same values with another state size, at any depth, and those that changed.

    Args:
        prefix: what dotted keys begin with.
    """
    result, found = dict(config), []
    for key, value in config.items():
        if isinstance(value, Mapping):
            result[key], more = with_state_size(value, change, f"{prefix}{key}.")
            found += more
        elif type(value) is int and (new := change.new(key, value)) != value:
            result[key] = new
            found.append(Stated(f"{prefix}{key}", value, new))
    return result, found
