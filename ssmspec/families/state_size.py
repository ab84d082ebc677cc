"""The size of the state in configurations: which keys mean it, and their values for another number of stored modes."""

from collections.abc import Mapping
from typing import Any

KEYS = (
    *("d_state", "state_size", "state_dim", "n_state", "ssm_size", "ssm_size_base", "ssm_dim", "ssm_state_size"),
    *("modes", "N", "d_hidden", "lru_dim", "state_features", "hidden_state_dim"),
)
"""Of state-spaces/s4, ssmspec, S5 (flax, torch, Equinox), LinOSS and ports of LRU."""


def with_state_size(config: Mapping[str, Any], before: int, after: int) -> tuple[dict[str, Any], list[str]]:
    """The same values with another state size, at any depth, and a line for every value that changed.

    A value is the state size if its key says so and it is the number of stored modes, or twice that.

    Args:
        before, after: stored modes per copy.
    """
    return _changed(config, before, after, "")


def _changed(config: Mapping[str, Any], before: int, after: int, place: str) -> tuple[dict[str, Any], list[str]]:
    result, lines = dict(config), []
    for key, value in config.items():
        if isinstance(value, Mapping):
            result[key], more = _changed(value, before, after, f"{place}{key}.")
            lines += more
        elif key in KEYS and type(value) is int and value in (before, 2 * before):
            result[key] = value // before * after
            lines.append(f"{place}{key} {value} -> {result[key]}")
    return result, lines
