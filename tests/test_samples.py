"""The committed sample checkpoints are readable, match their README, and can be made again with their commands."""

import json
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from locations import SAMPLES
from matplotlib.image import imread
from program import Type
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors
from small_runs import WAVES, problem_of

from ssmspec.checkpoint import open_checkpoint
from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.families import ReadOptions

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
    options = AnalysisOptions(read=ReadOptions(assume={"s5_clip": "true"} if family == "s5" else {}))  # it was trained with clip_eigs
    found = analyze(SAMPLES / name, options)
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


TONES = ("1", "8", "64", "512")
LEARNED, SPREAD_OF_ERRORS, SPREAD_OF_SLOPES = 0.07, 0.05, 0.2
"""A tone is learned whose error is below the first; runs from other seeds differ by less than the others, see docs/reproduction.md."""


def errors_in(row: str) -> list[float]:
    return [float(part) for part in row.split(", ")]


@pytest.mark.parametrize(("name", "beta"), [("waves_biased.safetensors", 0.0), ("waves_tuned.safetensors", 1.0)])
def test_the_table_of_the_readme_has_the_errors_of_every_trained_file(name: str, beta: float) -> None:
    problem = problem_of("waves", replace(WAVES, beta=beta))
    problem.model.load_state_dict(load_tensors(SAMPLES / name))
    (errors,) = (row[3] for row in ROWS if row[0] == f"`{name}`")
    assert problem.errors().tolist() == pytest.approx(errors_in(errors), abs=0.001)


@pytest.mark.slow
@pytest.mark.usefixtures("blank_pictures")
def test_the_commands_in_the_readme_still_make_the_waves_samples(typed: Type, tmp_path: Path) -> None:
    """Before training and without it they are the same files. Training amplifies rounding, so that its weights are those of a processor;
    what another one must come to, as another seed does, is what the samples show: which tones are learned, and that the bias stays."""
    shutil.copy(SAMPLES / "waves_biased.safetensors", tmp_path)
    words: list[str] = []
    for name, command, source, errors, slope in ROWS:
        if command != "the same":
            words = shlex.split(command.strip("`"))[1:]
            assert typed(*words).code == 0
        made, trained = tmp_path / words[-1] / source.strip("`"), source == "`final.safetensors`"
        ours, stored = load_file(made), load_file(SAMPLES / name.strip("`"))
        assert {tensor: values.shape for tensor, values in ours.items()} == {tensor: values.shape for tensor, values in stored.items()}
        if not trained:
            for tensor, values in stored.items():
                np.testing.assert_allclose(ours[tensor], values, rtol=1e-6, atol=1e-6, err_msg=f"{name}: {tensor}")
            continue
        measures = json.loads((made.parent / "results.json").read_text())["measures"]
        found, wanted = [measures[f"error_{tone}"]["value"] for tone in TONES], errors_in(errors)
        assert [error < LEARNED for error in found] == [error < LEARNED for error in wanted]
        assert found == pytest.approx(wanted, abs=SPREAD_OF_ERRORS)
        assert analyze(made).layers[0].statistics["bias_slope"].median == pytest.approx(float(slope), abs=SPREAD_OF_SLOPES)


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
