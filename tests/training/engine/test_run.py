"""The run folder: what is in it, and how a run stops, resumes and fails."""

import errno
import json
import os
import re
import signal
import tomllib
from dataclasses import replace
from pathlib import Path

import preloaded
import pytest
import torch
from quick_runs import QUICK, config, finished, losses, started
from safetensors import safe_open
from small_runs import DENOISE, problem_of

from ssmspec.commands.analyze import analyze
from ssmspec.errors import SsmspecError
from ssmspec.report.training_progress import TrainingProgress
from ssmspec.training.engine import record
from ssmspec.training.engine.loop import Stopped, new_state
from ssmspec.training.engine.record import read_measures, read_metrics
from ssmspec.training.engine.run import run
from ssmspec.training.engine.run_folder import RunConfig, read_config, write_config
from ssmspec.training.engine.step import Stepper, culprit
from ssmspec.training.tasks.waves import Waves


@pytest.mark.usefixtures("blank_pictures")
def test_a_finished_run_has_all_files_and_its_checkpoints_can_be_analyzed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    finished(folder, replace(QUICK, beta=0.5), pictures=True)
    names = {path.name for path in folder.iterdir()}
    pictures = {"errors.png", "history.png", "initial-final.layer.png", "learning.png", "loss.png", "spectra.png"}
    checkpoints = {"initial.safetensors", "step-15.safetensors", "step-30.safetensors", "step-45.safetensors", "final.safetensors"}
    assert names == {"config.toml", "metrics.jsonl", "measures.jsonl", "resume.state", "results.json", "README.md"} | pictures | checkpoints
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


@pytest.mark.usefixtures("blank_pictures")
def test_the_model_is_measured_once_at_every_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    monkeypatch.setattr(Waves, "errors", counted(Waves.errors, steps))
    done = finished(tmp_path / "run", pictures=True)
    assert len(steps) == 5
    measured = read_measures(tmp_path / "run" / "measures.jsonl")
    assert list(measured) == [0, 15, 30, 45, 60]
    assert measured[60] == list(done.summary.measures)
    finished(tmp_path / "quiet", pictures=False)
    assert len(steps) == 6
    assert read_measures(tmp_path / "quiet" / "measures.jsonl") == {60: measured[60]}


def counted(function, calls: list[int]):
    def count(problem: Waves) -> torch.Tensor:
        calls.append(1)
        return function(problem)

    return count


@pytest.mark.usefixtures("blank_pictures")
def test_measures_of_a_run_that_was_stopped_are_those_of_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finished(whole, pictures=True)
    settings = started(cut)
    write_checkpoint = record.write_checkpoint
    monkeypatch.setattr(record, "write_checkpoint", stopping_at(write_checkpoint, "step-45.safetensors"))
    with pytest.raises(SsmspecError, match="no more"):
        run(settings, cut)
    monkeypatch.setattr(record, "write_checkpoint", write_checkpoint)
    run(settings, cut)
    assert (cut / "measures.jsonl").read_bytes() == (whole / "measures.jsonl").read_bytes()


def stopping_at(function, name: str):
    def stop(path: Path, problem: Waves) -> None:
        if path.name == name:
            raise SsmspecError("no more")
        function(path, problem)

    return stop


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


def test_the_schedule_is_the_cosine_of_torch_for_all_rates() -> None:
    settings = replace(QUICK, steps=9)
    problem = problem_of("waves", settings)
    step = Stepper(problem, new_state(problem, settings), settings)
    peer = torch.optim.SGD([{"params": [torch.zeros(1)], "lr": group["lr"]} for group in step.state.optimizer.param_groups])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(peer, settings.steps)
    for _ in range(settings.steps):
        step()
        assert [group["lr"] for group in step.state.optimizer.param_groups] == pytest.approx(schedule.get_last_lr())
        peer.step()
        schedule.step()
    assert len(schedule.get_last_lr()) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_the_run_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    finished(tmp_path / "whole")
    made = started(tmp_path / "run")

    def interrupt(self: TrainingProgress, done: int, loss: float, seconds: float) -> None:
        if done == 37:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "__call__", interrupt)
        with pytest.raises(
            Stopped, match=rf"stopped by {number.name} after 37 of 60 steps, which are saved in \S+; continue with --resume"
        ) as stop:
            run(made, tmp_path / "run", pictures=False)
    assert stop.value.exit_code == 128 + number
    assert signal.getsignal(number) is before
    assert not (tmp_path / "run/final.safetensors").exists()
    assert len(read_metrics(tmp_path / "run/metrics.jsonl")) == 37
    run(made, tmp_path / "run", pictures=False)
    for name in ("final.safetensors", "step-45.safetensors", "initial.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_signal_that_is_ignored_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As SIGHUP is under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(TrainingProgress, "__call__", lambda self, done, loss, seconds: signal.raise_signal(signal.SIGHUP))
        finished(tmp_path / "run", replace(QUICK, steps=3))
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(self: Stepper, stop: int = 0) -> tuple[float, int]:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError

    monkeypatch.setattr(Stepper, "__call__", twice)
    with pytest.raises(KeyboardInterrupt):
        finished(tmp_path / "run")


@pytest.mark.slow
def test_runs_that_are_killed_fifty_times_end_as_if_they_had_not(tmp_path: Path) -> None:
    settings = {"waves": replace(QUICK, steps=1200), "denoise": replace(DENOISE, rows=16, columns=8, modes=3, crops=9, steps=1200)}
    for task, each in settings.items():
        finished(tmp_path / f"{task}-whole", each, task=task)
        started(tmp_path / task, each, task=task)
    script = Path(__file__).with_name("kill_and_resume.py")
    done = preloaded.run(script, 60, 50, tmp_path / "waves", 10, tmp_path / "denoise")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "50 0\n10 0\n"
    for task in settings:
        one, other = tmp_path / task, tmp_path / f"{task}-whole"
        for name in ("final.safetensors", "step-0600.safetensors", "initial.safetensors"):
            assert (one / name).read_bytes() == (other / name).read_bytes()
        assert losses(one) == losses(other)
        assert not [path.name for path in one.iterdir() if path.name.endswith(".partial")]


@pytest.mark.parametrize("which", [1, 3, 8, 15, 17])
def test_a_disk_that_is_full_leaves_the_last_state_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    """At any time that something is to be on the disk: metrics, checkpoints, states, and the names of the files."""
    little = replace(QUICK, steps=4)
    finished(tmp_path / "whole", little)
    made, calls, sync = started(tmp_path / "run", little), 0, os.fsync

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls >= which:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SsmspecError) as failure:
            run(made, tmp_path / "run", pictures=False)
    state = tmp_path / "run/resume.state"
    done = torch.load(state, weights_only=True)["step"] if state.exists() else 0
    assert re.match(r"cannot write \S+/run/(metrics\.jsonl|\S+\.safetensors|resume\.state): No space left on device", str(failure.value))
    if which > 4:
        kept = re.search(r"; (\d) of 4 steps are saved; continue from there with --resume|; no step was saved", str(failure.value))
        assert kept is not None
        assert int(kept[1] or 0) in (done, done - 1)
    run(made, tmp_path / "run", pictures=False)
    assert (tmp_path / "run/final.safetensors").read_bytes() == (tmp_path / "whole/final.safetensors").read_bytes()
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_a_loss_that_is_not_finite_names_the_step_and_the_layer(tmp_path: Path) -> None:
    with pytest.raises(SsmspecError, match=r"the loss is (nan|inf) in step 2: .*layer \S+.* start again with a smaller --lr"):
        finished(tmp_path / "run", replace(QUICK, lr=1e30))


def test_a_layer_with_values_that_are_not_finite_is_named() -> None:
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
        (lambda text: text[:15], "is not valid TOML"),
        (lambda text: text.replace('task = "waves"', 'task = "sums"'), "task 'sums' is unknown"),
        (lambda text: text.replace("steps = 60", 'steps = "many"'), "steps is 'many'; expected int"),
        (lambda text: text.replace("steps = 60\n", ""), "settings lack steps"),
        (lambda text: text.replace("alpha = 1.0", "alpha = nan"), "alpha is nan"),
        (lambda text: text.replace("ssmspec.run/1", "other/1"), "has the schema 'other/1', expected ssmspec.run/1"),
        (lambda text: text.replace("threads = 1\n", ""), "'threads' is missing"),
        (lambda text: text.replace('"float32"', '"float8"'), "precision 'float8' is unknown; choose one of float32, bf16"),
        (lambda text: text.replace("accumulate = 1", "accumulate = 0"), "accumulate is 0; expected at least 1"),
    ],
)
def test_a_damaged_config_is_an_error(tmp_path: Path, change, reason: str) -> None:
    started(tmp_path / "run")
    file = tmp_path / "run/config.toml"
    file.write_text(change(file.read_text()))
    with pytest.raises(SsmspecError, match=reason):
        read_config(tmp_path / "run")


def test_a_device_that_is_not_here_any_more_is_an_error(tmp_path: Path) -> None:
    made = started(tmp_path / "run", device="abacus")
    with pytest.raises(SsmspecError, match="the device 'abacus' cannot be used here"):
        run(made, tmp_path / "run", pictures=False)


def test_out_of_memory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        SsmspecError, match="out of memory in step 1; process a batch in more parts with --accumulate, or use a smaller batch"
    ):
        finished(tmp_path / "run", replace(QUICK, batch=10**15))


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
