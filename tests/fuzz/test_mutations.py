"""Damaged bytes of every sample checkpoint, through the commands that read checkpoints: a result, or one line with the file's name."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bases import BASES
from guard import assert_clean, command
from mutations import mutate

DEFAULT, NIGHTLY = 2_000, 20_000
FIRST = int(os.environ.get("SSMSPEC_FUZZ_FIRST", "0"))  # another start makes other damage
PARTS = 8

Arguments = Sequence[object]
Line = Callable[[Path, Path, Path], Arguments]  # the damaged checkpoint, the whole one, a folder to write to

LINES: Mapping[str, Line] = {
    "inspect": lambda x, whole, out: ("inspect", x),
    "check": lambda x, whole, out: ("check", x),
    "retune step": lambda x, whole, out: ("retune", x, "--step-scale", "1.5", "--force", "-o", out / f"r{x.suffix}"),
    "inspect json": lambda x, whole, out: ("inspect", x, "--json"),
    "response": lambda x, whole, out: ("response", x, "--layer", "0", "--points", "32", "-o", out / "h.npz"),
    "check junit": lambda x, whole, out: ("check", x, "--format", "junit"),
    "suggest map": lambda x, whole, out: ("inspect", x, "--suggest-map"),
    "analyze": lambda x, whole, out: ("analyze", x, "--points", "32", "--csv", out / "t.csv", "--copies", out / "c.csv"),
    "impulse": lambda x, whole, out: ("impulse", x, "--layer", "0", "--length", "8", "-o", out / "k.npz"),
    "check strict": lambda x, whole, out: ("check", x, "--strict", "--discretization", "bilinear"),
    "retune in place": lambda x, whole, out: ("retune", x, "--beta", "0.5", "--in-place"),
    "inspect again": lambda x, whole, out: ("inspect", x),
    "compare": lambda x, whole, out: ("compare", whole, x, "--points", "32"),
}


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The undamaged checkpoints; every command was used once, as the first time it imports modules and loads compiled code."""
    spent = BASES["s4d_trained.safetensors"].write(tmp_path_factory.mktemp("spent"))
    for line in LINES.values():
        assert command(spent.parent, *line(spent, spent, spent.parent), watched=False).code in (0, 3)
    assert command(spent.parent, "analyze", spent, "--backend", "cpu", watched=False).code == 0
    return {name: base.write(tmp_path_factory.mktemp("whole")) for name, base in BASES.items()}


def survive(numbers: range, wholes: Mapping[str, Path], folder: Path) -> dict[int, int]:
    """Does the damage of every number, and counts the exit codes."""
    codes = dict.fromkeys((0, 1, 2, 3), 0)
    everything = [data for base in BASES.values() for data in base.files.values()]
    for number in numbers:
        name, base = list(BASES.items())[number % len(BASES)]
        generator = np.random.default_rng(number)
        damaged = base.damaged[generator.integers(len(base.damaged))]
        bad = mutate(base.files[damaged], everything, generator)
        place, out = folder / str(number), folder / str(number) / "out"
        out.mkdir(parents=True)
        path = replace(base, files={**base.files, damaged: bad}).write(place)
        arguments = list(LINES.values())[number // len(BASES) % len(LINES)](path, wholes[name], out)
        try:
            outcome = command(place, *arguments)
            assert_clean(outcome, path.name, Path(damaged).name)
        except BaseException as error:
            raise AssertionError(f"damage {number} of {name}: ssmspec {' '.join(map(str, arguments))}: {error!r}") from error
        codes[outcome.code] += 1
        assert [file.name for file in place.rglob(".*")] == []
        shutil.rmtree(place)
    return codes


def parts(first: int, count: int) -> list[range]:
    step = count // PARTS
    return [range(FIRST + start, FIRST + start + step) for start in range(first, first + count, step)]


@pytest.mark.parametrize("numbers", parts(0, DEFAULT), ids=str)
def test_damage_is_one_line_or_none(numbers: range, wholes: Mapping[str, Path], tmp_path: Path) -> None:
    codes = survive(numbers, wholes, tmp_path)
    assert codes[0] > len(numbers) // 20, codes  # some damage is in the numbers, and reaches all that is behind the readers
    assert codes[2] > len(numbers) // 4, codes


@pytest.mark.nightly
@pytest.mark.parametrize("numbers", parts(DEFAULT, NIGHTLY), ids=str)
def test_ten_times_the_damage_is_one_line_or_none(numbers: range, wholes: Mapping[str, Path], tmp_path: Path) -> None:
    survive(numbers, wholes, tmp_path)
