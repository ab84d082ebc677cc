"""The run folder: what is in it, how a run stops, goes on and fails."""

import json
import random
import signal
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from small_runs import DENOISE, TINY

from ssmspec import analyze
from ssmspec.errors import SsmspecError
from ssmspec.report.training_progress import TrainingProgress
from ssmspec.training.folder import RunConfig, new_folder, read_config, write_config
from ssmspec.training.loop import Stopped, read_metrics
from ssmspec.training.run import environment, run

QUICK = replace(TINY, length=64, step=0.09, tones=(1.0, 8.0), steps=60, batch=4)


def config(settings=QUICK, task: str = "waves", **changes) -> RunConfig:
    plain = {"device": "cpu", "threads": 1, "closed_form": False, "command": "ssmspec train", "environment": environment()}
    return RunConfig(task=task, preset="small", settings=settings, **(plain | changes))


def started(folder: Path, settings=QUICK, **changes) -> RunConfig:
    made = config(settings, **changes)
    new_folder(folder, force=False)
    write_config(folder, made)
    return made


def finished(folder: Path, settings=QUICK, *, pictures: bool = False, **changes):
    return run(started(folder, settings, **changes), folder, pictures=pictures)


def test_a_finished_run_has_all_files_and_its_checkpoints_can_be_analyzed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    finished(folder, replace(QUICK, beta=0.5), pictures=True)
    names = {path.name for path in folder.iterdir()}
    pictures = {"errors.png", "history.png", "initial-final.layer.png", "learning.png", "loss.png", "spectra.png"}
    checkpoints = {"initial.safetensors", "step-15.safetensors", "step-30.safetensors", "step-45.safetensors", "final.safetensors"}
    assert names == {"config.toml", "metrics.jsonl", "resume.state", "results.json", "README.md"} | pictures | checkpoints
    layers = {name: analyze(folder / name).layers[0] for name in checkpoints}
    assert {(layer.family, layer.copies, layer.modes, layer.beta_range, layer.beta_convention) for layer in layers.values()} == {
        ("s4d", 8, 4, (0.5, 0.5), "paper")
    }
    slopes = {layer.statistics["bias_slope"].median for layer in layers.values()}
    assert len(slopes) == 5
    card = (folder / "README.md").read_text()
    assert all(name in card for name in pictures | checkpoints | {"bias_slope", "pole_movement", "error_8"})
    results = json.loads((folder / "results.json").read_text())
    assert set(results["measures"]) == {"error_1", "error_8"}


def test_config_is_enough_to_repeat_the_run(tmp_path: Path) -> None:
    finished(tmp_path / "one", replace(QUICK, alpha=2.5, beta_convention="causal", beta=0.3, theta_ref=0.1, seed=7))
    again = read_config(tmp_path / "one")
    write_config_in(tmp_path / "two", again)
    run(again, tmp_path / "two", pictures=False)
    assert (tmp_path / "one/final.safetensors").read_bytes() == (tmp_path / "two/final.safetensors").read_bytes()
    written = tomllib.loads((tmp_path / "one/config.toml").read_text())
    assert written["settings"]["seed"] == 7
    assert written["environment"]["torch"] == torch.__version__


def write_config_in(folder: Path, settings: RunConfig) -> None:
    folder.mkdir()
    write_config(folder, settings)


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    for seed in (0, 1):
        finished(tmp_path / str(seed), replace(QUICK, seed=seed))
    assert (tmp_path / "0/final.safetensors").read_bytes() != (tmp_path / "1/final.safetensors").read_bytes()


def test_metrics_have_a_line_per_step(tmp_path: Path) -> None:
    finished(tmp_path / "run")
    lines = read_metrics(tmp_path / "run/metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 61))
    assert lines[0]["lr"] == pytest.approx(1e-2)
    assert lines[-1]["lr"] < 1e-4
    assert lines[-1]["loss"] < lines[0]["loss"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_run_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    finished(tmp_path / "whole")
    made = started(tmp_path / "run")

    def interrupt(self: TrainingProgress, done: int, loss: float, seconds: float) -> None:
        if done == 37:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "__call__", interrupt)
        with pytest.raises(Stopped, match=rf"stopped by {number.name} after 37 of 60 steps, which are saved; --resume goes on") as stop:
            run(made, tmp_path / "run", pictures=False)
    assert stop.value.code == 128 + number
    assert signal.getsignal(number) is before
    assert not (tmp_path / "run/final.safetensors").exists()
    assert len(read_metrics(tmp_path / "run/metrics.jsonl")) == 37
    run(made, tmp_path / "run", pictures=False)
    for name in ("final.safetensors", "step-45.safetensors", "initial.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def losses(folder: Path) -> list[tuple[float, float]]:
    return [(line["step"], line["loss"]) for line in read_metrics(folder / "metrics.jsonl")]


def test_runs_that_are_killed_at_random_steps_end_as_if_they_had_not(tmp_path: Path) -> None:
    settings = {"waves": replace(QUICK, steps=400), "denoise": replace(DENOISE, rows=16, columns=8, modes=3, crops=9, steps=400)}
    for task, each in settings.items():
        finished(tmp_path / f"{task}-whole", each, task=task)
        started(tmp_path / task, each, task=task)
    delays = [f"{random.Random(attempt).uniform(0.05, 0.4):.3f}" for attempt in range(5)]
    script = str(Path(__file__).with_name("kill_and_resume.py"))
    command = [sys.executable, script, ",".join(delays), *(str(tmp_path / task) for task in settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert min(map(int, done.stdout.split())) >= 1
    for task in settings:
        one, other = tmp_path / task, tmp_path / f"{task}-whole"
        assert (one / "final.safetensors").read_bytes() == (other / "final.safetensors").read_bytes()
        assert losses(one) == losses(other)
        assert not [path.name for path in one.iterdir() if path.name.endswith(".partial")]


def test_a_loss_that_is_not_finite_names_the_step_and_the_layer(tmp_path: Path) -> None:
    with pytest.raises(SsmspecError, match=r"the loss is (nan|inf) in step 2: .*layer \S+.* start again with a smaller --lr"):
        finished(tmp_path / "run", replace(QUICK, lr=1e30))


def test_a_layer_with_values_that_are_not_finite_is_named() -> None:
    from small_runs import problem_of

    from ssmspec.training.loop import culprit

    model = problem_of("waves", QUICK).model
    with torch.no_grad():
        model.layer.kernel.A_imag[0, 0] = float("nan")
    assert culprit(model) == "layer layer.kernel has values in A_imag that are not finite"


def test_a_finished_run_resumes_to_the_same_results(tmp_path: Path) -> None:
    first = finished(tmp_path / "run").summary
    again = run(read_config(tmp_path / "run"), tmp_path / "run", pictures=False).summary
    assert again.measures == first.measures


def test_a_damaged_state_is_an_error(tmp_path: Path) -> None:
    finished(tmp_path / "run")
    state = tmp_path / "run/resume.state"
    state.write_bytes(state.read_bytes()[:200])
    with pytest.raises(SsmspecError, match=r"resume\.state is damaged"):
        run(read_config(tmp_path / "run"), tmp_path / "run", pictures=False)


def test_a_state_of_another_model_is_an_error(tmp_path: Path) -> None:
    finished(tmp_path / "run")
    with pytest.raises(SsmspecError, match=r"resume\.state is damaged"):
        run(config(replace(QUICK, channels=3)), tmp_path / "run", pictures=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[:15], "is damaged"),
        (lambda text: text.replace('task = "waves"', 'task = "sums"'), "task 'sums' is unknown"),
        (lambda text: text.replace("steps = 60", 'steps = "many"'), "steps is 'many'; expected int"),
        (lambda text: text.replace("steps = 60\n", ""), "settings lack steps"),
        (lambda text: text.replace("alpha = 1.0", "alpha = nan"), "alpha is nan"),
        (lambda text: text.replace("ssmspec.run/1", "other/1"), "is of schema 'other/1', expected ssmspec.run/1"),
        (lambda text: text.replace("threads = 1\n", ""), "'threads' is missing"),
    ],
)
def test_a_damaged_config_is_an_error(tmp_path: Path, change, reason: str) -> None:
    started(tmp_path / "run")
    file = tmp_path / "run/config.toml"
    file.write_text(change(file.read_text()))
    with pytest.raises(SsmspecError, match=reason):
        read_config(tmp_path / "run")


def test_beta_is_in_the_metadata_and_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        finished(tmp_path / name, replace(DENOISE, rows=16, columns=8, modes=3, crops=2, steps=3, beta=0.5), task="denoise")
    first, second = (tmp_path / name / "initial.safetensors" for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    with safe_open(first, "numpy") as file:
        found = json.loads(file.metadata()["ssmspec"])["sobolev"]
    assert found == {"layer": {"beta": 0.5, "convention": "angular", "theta_ref": DENOISE.theta_ref}}


def test_closed_form_leaves_a_run_without_steps(tmp_path: Path) -> None:
    settings = replace(DENOISE, rows=16, columns=8, modes=3, crops=3)
    solved = finished(tmp_path / "run", settings, task="denoise", closed_form=True, pictures=True)
    trained = finished(tmp_path / "trained", settings, task="denoise")
    errors = [{m.name: m.value for m in each.summary.measures}["clean_error"] for each in (solved, trained)]
    assert solved.summary.steps == 0
    assert 0 < errors[0] < errors[1]
    assert (tmp_path / "run/images.png").exists()
    assert not (tmp_path / "run/loss.png").exists()
