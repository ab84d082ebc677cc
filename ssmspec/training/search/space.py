"""The space of a search: a range of alpha, of beta, or of both."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssmspec.errors import SsmspecError
from ssmspec.training.engine.sweep import KEYS, Pair, parse_number

LOG = "log:"
WANTED = '"alpha=log:0.1..100 beta=-2..2", or one of the two'


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, drawn uniformly in the number or in its logarithm."""

    low: float
    high: float
    log: bool = False

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Space:
    """The ranges that are searched, by key. A key without a range keeps the value of the settings.

    Args:
        ranges: of alpha, beta or both. settings: settings of the task.
    """

    ranges: Mapping[str, Range]
    settings: Any

    def __contains__(self, pair: Pair) -> bool:
        """Whether the search could draw this pair of alpha and beta."""
        named = dict(zip(KEYS, pair, strict=True))
        return all(
            value in self.ranges[key] if key in self.ranges else value == getattr(self.settings, key) for key, value in named.items()
        )

    def pair(self, drawn: Mapping[str, float]) -> Pair:
        """The pair of a trial, to four digits, so that tables show exactly what was trained."""
        alpha, beta = (float(f"{drawn[key]:.4g}") if key in drawn else getattr(self.settings, key) for key in KEYS)
        return alpha, beta


def parse_space(text: str, settings: object) -> Space:
    """The space of "alpha=log:0.1..100 beta=-2..2".

    Args:
        settings: settings of the task.
    Raises:
        SsmspecError: a key is unknown or given twice, a range has no two numbers in order, or its numbers are not possible for the key.
    """
    ranges: dict[str, Range] = {}
    for part in text.split():
        key, equals, numbers = part.partition("=")
        if not equals or key not in KEYS or key in ranges:
            raise SsmspecError(f"--search {text!r}: {part!r} is not understood; expected {WANTED}")
        ranges[key] = _range(text, part, key, numbers)
    if not ranges:
        raise SsmspecError(f"--search is empty; expected {WANTED}")
    return Space(ranges, settings)


def _range(text: str, part: str, key: str, numbers: str) -> Range:
    log = numbers.startswith(LOG)
    low, dots, high = numbers.removeprefix(LOG).partition("..")
    if not dots:
        raise SsmspecError(f"--search {text!r}: {part!r} is no range; expected {key}=LOW..HIGH or {key}={LOG}LOW..HIGH")
    found = Range(parse_number(low), parse_number(high), log)
    if not found.low < found.high:
        raise SsmspecError(f"--search {text!r}: {part!r} is no range, since {low} is not below {high}; expected {key}=LOW..HIGH")
    least = "above 0" if log else "of at least 0"
    if (log and found.low <= 0) or (key == "alpha" and found.low < 0):
        reason = "a logarithm" if log else "alpha"
        raise SsmspecError(f"--search {text!r}: {part!r} begins at {low}; {reason} needs numbers {least}")
    return found
