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


def with_state_size(config: Mapping[str, Any], change: Change, place: str = "") -> tuple[dict[str, Any], list[str]]:
    """The same values with another state size, at any depth, and a line for every value that changed.

    A value is the state size if its key says so and it is the number of stored modes, or twice that.

    Args:
        place: what the lines put before a key.
    """
    result, lines = dict(config), []
    for key, value in config.items():
        if isinstance(value, Mapping):
            result[key], more = with_state_size(value, change, f"{place}{key}.")
            lines += more
        elif type(value) is int and (new := _new(key, value, change)) != value:
            result[key] = new
            lines.append(f"{place}{key} {value} -> {new}")
    return result, lines


def _new(key: str, value: int, change: Change) -> int:
    if key in KEYS and value in (change.before, 2 * change.before):
        return value // change.before * change.after
    return change.sets[1] if key in SETS and value == change.sets[0] else value
