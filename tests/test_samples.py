"""The committed sample checkpoints are readable, match their README, and can be made again with their commands."""

import json
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from locations import SAMPLES
from matplotlib.image import imread
from safetensors.numpy import load_file
from typing_commands import Type

from ssmspec.checkpoint import open_checkpoint
from ssmspec.commands.analyze import analyze

FILES = {
    **dict.fromkeys(
        (f"waves_{name}.safetensors" for name in ("biased_initial", "biased", "tuned_initial", "tuned", "retuned")), ("s4d", 1)
    ),
    "s4d_initial.safetensors": ("s4d", 2),
    "s4d_trained.safetensors": ("s4d", 2),
    "s4_dplr_trained.pt": ("s4-dplr", 2),
    "s5_trained.msgpack": ("s5", 2),
    "lru_trained.npz": ("lru", 2),
    "mamba1_trained.safetensors": ("mamba-1", 2),
    "mamba2_trained": ("mamba-2", 2),
}


@pytest.mark.parametrize("name", FILES)
def test_sample_is_read_as_its_family(name: str) -> None:
    family, layers = FILES[name]
    found = analyze(SAMPLES / name)
    assert [layer.family for layer in found.layers] == [family] * layers
    for layer in found.layers:
        assert layer.problem is None
        assert all(summary.median is not None or summary.reason for summary in layer.statistics.values())
        assert layer.statistics["bias_slope"].median is not None


@pytest.mark.parametrize("name", FILES)
def test_sample_is_small(name: str) -> None:
    assert open_checkpoint(SAMPLES / name).size < 60_000


ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in (SAMPLES / "README.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| `waves_")
]


def test_the_table_of_the_readme_has_the_bias_of_every_file() -> None:
    assert [name.strip("`") for name, *_ in ROWS] == [name for name in FILES if name.startswith("waves_")]
    for name, *_, slope in ROWS:
        assert analyze(SAMPLES / name.strip("`")).layers[0].statistics["bias_slope"].median == pytest.approx(float(slope), abs=0.005)


@pytest.mark.slow
def test_the_commands_in_the_readme_still_make_the_waves_samples(typed: Type, tmp_path: Path) -> None:
    """Other code paths of torch on the same processor move the poles by 0.009 rad/unit, and the other parameters by 0.001."""
    shutil.copy(SAMPLES / "waves_biased.safetensors", tmp_path)
    words: list[str] = []
    for name, command, source, errors, _ in ROWS:
        if command != "the same":
            words = shlex.split(command.strip("`"))[1:]
            assert typed(*words).code == 0
        made, trained = tmp_path / words[-1] / source.strip("`"), source == "`final.safetensors`"
        ours, stored = load_file(made), load_file(SAMPLES / name.strip("`"))
        assert set(ours) == set(stored)
        for tensor, values in stored.items():
            allowed = (0.1 if tensor.endswith("A_imag") else 0.02) if trained else 1e-6
            np.testing.assert_allclose(ours[tensor], values, rtol=1e-6, atol=allowed, err_msg=f"{name}: {tensor}")
        if trained:
            measures = json.loads((made.parent / "results.json").read_text())["measures"].values()
            assert [each["value"] for each in measures] == pytest.approx([float(part) for part in errors.split(", ")], abs=0.005)


@pytest.mark.slow
def test_the_command_in_the_readme_still_makes_the_s4d_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Same torch, any machine: rounding differences of 1e-12 grow to 1e-9 in the poles over the training, far below this bound."""
    monkeypatch.syspath_prepend(str(SAMPLES))
    try:
        from make import as_float32, train_family

        state = as_float32(train_family("s4d", seed=0).model.state_dict())
    finally:
        for name in ("make", "models", "s5", "inits", "training", "containers"):
            sys.modules.pop(name, None)
    stored = open_checkpoint(SAMPLES / "s4d_trained.safetensors").tensors
    assert set(stored) == set(state)
    for name in stored:
        if name.endswith(("log_A_real", "A_imag", "log_dt")):
            np.testing.assert_allclose(state[name].numpy(), stored[name].read(), rtol=1e-4, atol=1e-4)


def test_the_picture_of_the_readme_is_what_its_command_draws(typed: Type, tmp_path: Path) -> None:
    """Anti-aliasing may differ between versions of matplotlib; another curve changes more."""
    pair = [SAMPLES / f"waves_{name}.safetensors" for name in ("biased", "retuned")]
    assert typed("plot", "compare", *pair, "-o", tmp_path / "retuned.png").code == 0
    drawn, stored = (imread(path) for path in (tmp_path / "retuned.png", SAMPLES.parent / "docs" / "waves_retuned.png"))
    assert drawn.shape == stored.shape
    assert np.abs(drawn - stored).mean() < 0.01
