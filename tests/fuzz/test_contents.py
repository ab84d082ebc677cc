"""Checkpoints of every family with absurd contents, in every container, through the commands that compute: a result, or one line."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from campaign import Line, Trial, parts, survive
from contents import CONTAINERS, Tensors, distort
from factories import FACTORIES, make
from guard import command

Make = Callable[[int, Path], Trial]


def retune(*options: str) -> Line:
    return lambda x, whole, out: ("retune", x, *options, "--force", "-o", out / f"r{x.suffix}")


BAKE = ("--beta", "0.5", "--beta-convention", "causal", "--theta-ref", "0.1", "--bake", "--max-bake-error", "1")
LINES: Mapping[str, Line] = {
    "check": lambda x, whole, out: ("check", x),
    "analyze": lambda x, whole, out: ("analyze", x, "--points", "64"),
    "response": lambda x, whole, out: ("response", x, "--layer", "0", "--points", "32", "-o", out / "h.npz"),
    "impulse": lambda x, whole, out: ("impulse", x, "--layer", "0", "--length", "8", "-o", out / "k.npz"),
    "retune step": retune("--step-scale", "1.5"),
    "suggest map": lambda x, whole, out: ("inspect", x, "--suggest-map"),
    "compare": lambda x, whole, out: ("compare", whole, x, "--points", "16"),
    "compare json": lambda x, whole, out: ("compare", x, whole, "--points", "16", "--json", "--csv", out / "t.csv"),
    "retune alpha": retune("--alpha", "1.5", "--preserve-gain"),
    "tables": lambda x, whole, out: ("analyze", x, "--json", "--csv", out / "t.csv", "--copies", out / "c.csv", "--points", "64"),
    "retune beta": retune("--beta", "1", "--json"),
    "retune start": retune("--reinit", "s4d-lin"),
    "bilinear": lambda x, whole, out: ("check", x, "--assume", "discretization=bilinear", "--format", "json"),
    "inspect": lambda x, whole, out: ("inspect", x),
    "diagonalize": lambda x, whole, out: ("retune", x, "--diagonalize", "--alpha", "2", "--dry-run"),
    "bake": retune(*BAKE),
    "residues": lambda x, whole, out: ("analyze", x, "--residues", "rms", "--points", "32", "--with-skip"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Tensors, list[str]]]:
    """Two layers of every family and something else, and what must be said with them; every command was used once."""
    spent = tmp_path_factory.mktemp("spent")
    found = {}
    for name in FACTORIES:
        example = make(name)
        tensors = {**example.under("layers.0"), **make(name).under("layers.1"), "head.weight": np.ones((3, 4), np.float32)}
        found[name] = (tensors, [str(example.length)] if example.length else [])
    suffix, write = CONTAINERS["safetensors"]
    path = spent / f"x{suffix}"
    path.write_bytes(write(found["s4d"][0]))
    for line in LINES.values():
        assert command(spent, *line(path, path, spent), watched=False).code in (0, 3)
    return found


@pytest.fixture(scope="module")
def distorted(models: dict[str, tuple[Tensors, list[str]]]) -> Make:
    """Makes the trial of a number."""

    def make_trial(number: int, place: Path) -> Trial:
        generator = np.random.default_rng(number)
        name, (tensors, length) = list(models.items())[number % len(models)]
        suffix, write = list(CONTAINERS.values())[number // len(models) % len(CONTAINERS)]
        whole, path, out = place / f"whole{suffix}", place / f"x{suffix}", place / "out"
        whole.write_bytes(write(tensors))
        path.write_bytes(write(distort(tensors, generator)))
        out.mkdir()
        arguments = list(list(LINES.values())[generator.integers(len(LINES))](path, whole, out))
        if length and arguments[0] != "inspect":
            arguments += ["--kernel-length" if arguments[0] == "impulse" else "--length", *length]
        return Trial(name, arguments, (path.name,))

    return make_trial


@pytest.mark.parametrize("numbers", parts(0, 160, 2), ids=str)
def test_absurd_contents_are_a_result_or_one_line(numbers: range, distorted: Make, tmp_path: Path) -> None:
    codes = survive(numbers, distorted, tmp_path)
    assert codes[0] > len(numbers) // 3, codes
    assert codes[2], codes
    assert codes[3], codes


@pytest.mark.nightly
@pytest.mark.parametrize("numbers", parts(160, 8_000, 8), ids=str)
def test_more_absurd_contents_are_a_result_or_one_line(numbers: range, distorted: Make, tmp_path: Path) -> None:
    survive(numbers, distorted, tmp_path)
