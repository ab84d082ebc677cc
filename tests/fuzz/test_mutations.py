"""Damaged bytes of every sample checkpoint, through the commands that read checkpoints: a result, or one line with the file's name."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bases import bases
from campaign import Line, Trial, parts, survive
from guard import command
from mutations import mutate

Make = Callable[[int, Path], Trial]

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
    "rms": lambda x, whole, out: ("analyze", x, "--residues", "rms", "--points", "32"),
    "check strict": lambda x, whole, out: ("check", x, "--strict", "--assume", "discretization=bilinear"),
    "retune in place": lambda x, whole, out: ("retune", x, "--beta", "0.5", "--in-place"),
    "compare": lambda x, whole, out: ("compare", whole, x, "--points", "32"),
}
COMPARING = ("retune step", "retune in place", "compare")  # these take longest: half as often as the others
TURN = [*LINES, *(name for name in LINES if name not in COMPARING)]


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The undamaged checkpoints; every command was used once, as the first time it imports modules and loads compiled code."""
    spent = bases()["s4d_trained.safetensors"].write(tmp_path_factory.mktemp("spent"))
    for line in LINES.values():
        assert command(spent.parent, *line(spent, spent, spent.parent), watched=False).code in (0, 3)
    assert command(spent.parent, "analyze", spent, "--backend", "cpu", watched=False).code == 0
    return {name: base.write(tmp_path_factory.mktemp("whole")) for name, base in bases().items()}


@pytest.fixture(scope="module")
def damaged(wholes: dict[str, Path]) -> Make:
    """Makes the trial of a number."""
    everything = [data for base in bases().values() for data in base.files.values()]

    def make(number: int, place: Path) -> Trial:
        name, base = list(bases().items())[number % len(bases())]
        generator = np.random.default_rng(number)
        file = base.damaged[generator.integers(len(base.damaged))]
        path = replace(base, files={**base.files, file: mutate(base.files[file], everything, generator)}).write(place)
        (place / "out").mkdir()
        line = LINES[TURN[number // len(bases()) % len(TURN)]]
        return Trial(name, line(path, wholes[name], place / "out"), (path.name, Path(file).name))

    return make


@pytest.mark.parametrize("numbers", parts(0, 2_000, 8), ids=str)
def test_damage_is_a_result_or_one_line(numbers: range, damaged: Make, tmp_path: Path) -> None:
    codes = survive(numbers, damaged, tmp_path)
    assert codes[0] > len(numbers) // 20, codes  # some damage is in the numbers, and reaches all that is behind the readers
    assert codes[2] > len(numbers) // 4, codes


@pytest.mark.nightly
@pytest.mark.parametrize("numbers", parts(2_000, 20_000, 20), ids=str)
def test_ten_times_the_damage_is_a_result_or_one_line(numbers: range, damaged: Make, tmp_path: Path) -> None:
    survive(numbers, damaged, tmp_path)
