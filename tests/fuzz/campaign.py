"""Numbered trials: each damages or distorts a checkpoint by its number and gives it to one command."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from guard import assert_clean, command

FIRST = int(os.environ.get("SSMSPEC_FUZZ_FIRST", "0"))  # another start makes other trials

Arguments = Sequence[object]
Line = Callable[[Path, Path, Path], Arguments]  # the spoiled checkpoint, the whole one, a folder to write to


@dataclass(frozen=True, slots=True)
class Trial:
    """One command, and the names of which a message must have one."""

    label: str
    arguments: Arguments
    names: tuple[str, ...]


def parts(first: int, count: int, into: int) -> list[range]:
    """The numbers of trials, in parts that are tests of their own."""
    step = count // into
    return [range(FIRST + start, FIRST + start + step) for start in range(first, first + count, step)]


def survive(numbers: range, make: Callable[[int, Path], Trial], folder: Path) -> Counter[int]:
    """Do every trial in its own folder, and count the exit codes.

    Raises:
        AssertionError: the trial, the command and what went wrong.
    """
    codes: Counter[int] = Counter()
    for number in numbers:
        place = folder / str(number)
        place.mkdir()
        trial = make(number, place)
        try:
            outcome = command(place, *trial.arguments)
            assert_clean(outcome, *trial.names)
        except BaseException as error:
            raise AssertionError(f"{number}, {trial.label}: ssmspec {' '.join(map(str, trial.arguments))}: {error!r}") from error
        codes[outcome.code] += 1
        assert [file.name for file in place.rglob(".*") if file.name != ".metadata"] == []
        shutil.rmtree(place)
    return codes
