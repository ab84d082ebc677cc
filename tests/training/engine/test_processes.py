"""A run with several processes, or with batches in several parts, equals the run of one process with whole batches."""

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import preloaded
import pytest
import torch
from locations import HANG
from quick_runs import QUICK, finished, losses, started
from small_runs import DENOISE, problem_of

from ssmspec.errors import SsmspecError
from ssmspec.training.engine.loop import new_state
from ssmspec.training.engine.processes import Team, command_line, local_device, processes
from ssmspec.training.engine.record import read_metrics
from ssmspec.training.engine.run import run
from ssmspec.training.engine.run_folder import read_config
from ssmspec.training.engine.step import NotFiniteError, Stepper, shares
from ssmspec.training.task import changed
from ssmspec.training.tasks import TASKS

LITTLE = replace(DENOISE, rows=16, columns=8, modes=3, crops=9, steps=60, batch=7)
UNEVEN = replace(QUICK, batch=5)
SETTINGS: dict[str, Any] = {"waves": UNEVEN, "denoise": LITTLE}
SEQUENCES = {"d_model": 4, "n_layers": 1, "d_state": 4, "steps": 60, "batch": 7}
SAME = 1e-5  # relative: sums of float32 in another order, through 60 steps


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Any]]]:
    """A folder of runs, and the outcome of every process of every job. All start from one process, since loading torch takes longest."""
    place = tmp_path_factory.mktemp("together")
    jobs: dict[str, dict[str, Any]] = {}
    for task, settings in SETTINGS.items():
        for name, accumulate in ((task, 1), (f"{task} in parts", 2)):
            started(place / name, settings, task=task, accumulate=accumulate)
            jobs[name] = {"folder": str(place / name)}
    np.save(place / "x.npy", np.random.default_rng(0).standard_normal((40, 30)))
    np.save(place / "y.npy", np.arange(40) % 2)
    own = changed(TASKS["classify"].preset("small"), {"data": str(place / "x.npy"), "target": str(place / "y.npy"), **SEQUENCES})
    started(place / "classify", TASKS["classify"].prepare(own), task="classify")
    jobs["classify"] = {"folder": str(place / "classify")}
    for name, settings in {"few examples": replace(UNEVEN, batch=1), "not finite": replace(UNEVEN, lr=1e30)}.items():
        started(place / name, settings)
        jobs[name] = {"folder": str(place / name)}
    for name, kind in {"stopped": "TERM", "killed": "KILL", "silent": "STOP", "failed": "error"}.items():
        started(place / name, UNEVEN)
        jobs[name] = {"folder": str(place / name), "event": {"rank": 1, "step": 20, "kind": kind}}
    jobs["silent"]["timeout"] = 15
    jobs["stopped, resumed"] = {"folder": str(place / "stopped")}
    jobs["killed, resumed by three"] = {"folder": str(place / "killed"), "count": 3}
    (place / "jobs.json").write_text(json.dumps([{"count": 2} | job for job in jobs.values()]))
    done = preloaded.run(Path(__file__).with_name("together.py"), place / "jobs.json")
    assert (done.returncode, done.stderr) == (0, "")
    return place, dict(zip(jobs, json.loads(done.stdout), strict=True))


def close(one: Path, other: Path) -> bool:
    (steps, first), (_, second) = (zip(*losses(folder), strict=True) for folder in (one, other))
    assert list(steps) == list(range(1, 61))
    return first == pytest.approx(second, rel=SAME)


@pytest.mark.parametrize("task", SETTINGS)
def test_two_processes_have_the_loss_curve_of_one(outcomes, tmp_path: Path, task: str) -> None:
    place, ends = outcomes
    whole = finished(tmp_path / "whole", SETTINGS[task], task=task)
    for name in (task, f"{task} in parts"):
        assert ends[name] == ["finished", "quiet"]
        assert close(place / name, tmp_path / "whole")
        found = json.loads((place / name / "results.json").read_text())["measures"]
        for measure in whole.summary.measures:
            assert found[measure.name]["value"] == pytest.approx(measure.value, rel=1e-4, abs=1e-5)


def test_sequences_with_their_targets_are_divided_together(outcomes, tmp_path: Path) -> None:
    place, ends = outcomes
    finished(tmp_path / "whole", read_config(place / "classify").settings, task="classify")
    assert ends["classify"] == ["finished", "quiet"]
    assert close(place / "classify", tmp_path / "whole")


def test_more_processes_than_examples_do_no_harm(outcomes, tmp_path: Path) -> None:
    place, ends = outcomes
    finished(tmp_path / "whole", replace(UNEVEN, batch=1))
    assert ends["few examples"] == ["finished", "quiet"]
    assert close(place / "few examples", tmp_path / "whole")


def test_a_signal_to_any_process_saves_and_the_run_goes_on_bit_for_bit(outcomes) -> None:
    place, ends = outcomes
    first, second = ends["stopped"]
    assert first == f"stopped by SIGTERM after 21 of 60 steps, which are saved in {place / 'stopped'}; continue with --resume [143]"
    assert (second, ends["stopped, resumed"]) == ("quiet", ["finished", "quiet"])
    assert losses(place / "stopped") == losses(place / "waves")
    for name in ("final.safetensors", "step-45.safetensors"):
        assert (place / "stopped" / name).read_bytes() == (place / "waves" / name).read_bytes()


def test_a_process_that_dies_ends_the_others_with_a_line_and_others_resume(outcomes) -> None:
    place, ends = outcomes
    line, dead = ends["killed"]
    assert dead == -9
    assert line.startswith("rank 0 of 2: lost contact with another process in step 20 (")
    assert line.endswith("); start all of them again with --resume, which continues from the last saved state [2]")
    assert ends["killed, resumed by three"] == ["finished", "quiet", "quiet"]
    assert close(place / "killed", place / "waves")


def test_a_process_that_does_not_answer_is_waited_for_so_long_and_no_longer(outcomes) -> None:
    _, ends = outcomes
    line, _ = ends["silent"]
    assert line.startswith("rank 0 of 2: lost contact with another process in step 20 (Timed out waiting 15000ms")


def test_every_process_has_one_line_for_what_only_it_knows(outcomes) -> None:
    _, ends = outcomes
    first, second = ends["failed"]
    assert second == "rank 1 of 2: something is wrong here [2]"
    assert first.startswith("rank 0 of 2: lost contact with another process in step 20 (")


def test_what_all_know_is_said_by_the_first(outcomes) -> None:
    _, ends = outcomes
    first, second = ends["not finite"]
    assert first.startswith("the loss is nan in step 2: ")
    assert second == "quiet"


@pytest.mark.parametrize("task", SETTINGS)
@pytest.mark.parametrize("parts", [3, 100])
def test_a_batch_in_parts_has_the_same_loss_curve(task: str, parts: int) -> None:
    curves = []
    for accumulate in (1, parts):
        problem = problem_of(task, SETTINGS[task])
        step = Stepper(problem, new_state(problem, SETTINGS[task]), SETTINGS[task], accumulate=accumulate)
        curves.append([step()[0] for _ in range(60)])
    assert curves[0] == pytest.approx(curves[1], rel=SAME)


@pytest.mark.parametrize("size", [1, 2, 5, 16])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("accumulate", [1, 3, 20])
def test_shares_are_all_of_the_batch_once(size: int, count: int, accumulate: int) -> None:
    batch = (torch.arange(size), 10 * torch.arange(size).reshape(size, 1))
    found = [shares(batch, Team(rank, count), accumulate) for rank in range(count)]
    counted = [part for each in found for part, weight in each if weight]
    assert torch.cat([numbers for numbers, _ in counted]).tolist() == list(range(size))
    assert all((10 * numbers).tolist() == values[:, 0].tolist() for numbers, values in counted)
    assert math.isclose(sum(weight for each in found for _, weight in each), 1)
    assert all(weight == len(part[0]) / size for each in found for part, weight in each if weight)
    assert all(1 <= len(each) <= accumulate for each in found)
    lengths = [len(numbers) for each in found for (numbers, _), _ in each]
    assert len(found[0]) > 1 or count > 1 or lengths == [size]


def test_a_part_with_a_loss_that_is_not_finite_stops_before_the_parameters_move() -> None:
    class Spoiled:
        """The second example has no loss."""

        def __init__(self) -> None:
            self.model = torch.nn.Linear(1, 1)

        def draw(self, step: int, generator: torch.Generator) -> torch.Tensor:
            return torch.tensor([[1.0], [math.nan], [2.0]])

        def loss(self, batch: torch.Tensor) -> torch.Tensor:
            return self.model(batch).square().mean()

    problem: Any = Spoiled()
    before = problem.model.weight.detach().clone()
    step = Stepper(problem, new_state(problem, UNEVEN), UNEVEN, accumulate=3)
    with pytest.raises(NotFiniteError, match="the loss is nan in step 1: all parameters are finite"):
        step()
    assert torch.equal(problem.model.weight, before)


def test_the_command_and_the_device_of_a_process_are_those_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/x/__main__.py", "train", "waves", "--out", "a b"])
    assert (processes(), command_line()) == (1, "ssmspec train waves --out 'a b'")
    assert [local_device(name) for name in ("cpu", "cuda", "cuda:3")] == ["cpu", "cuda", "cuda:3"]
    for name, value in {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    assert command_line() == "torchrun --nnodes 2 --nproc-per-node 4 -m ssmspec train waves --out 'a b'"
    assert [local_device(name) for name in ("cpu", "cuda")] == ["cpu", "cuda:2"]
    with pytest.raises(SsmspecError, match="the device is cuda:3 for 8 processes; give cuda"):
        local_device("cuda:3")
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(SsmspecError, match="WORLD_SIZE is 'many' in the environment"):
        processes()


def test_a_run_goes_on_with_its_parts_and_its_seconds(tmp_path: Path) -> None:
    made = started(tmp_path / "run", replace(UNEVEN, steps=10), accumulate=2)
    first = run(made, tmp_path / "run", pictures=False).summary.seconds
    again = run(made, tmp_path / "run", pictures=False).summary.seconds
    assert first == again == read_metrics(tmp_path / "run/metrics.jsonl")[-1]["seconds"] > 0


class Typed:
    """`torchrun ...` as a user types it. It loads torch three times, so the tests of every day use forks."""

    def __init__(self, words: list[str], folder: Path) -> None:
        command = [sys.executable, "-m", "torch.distributed.run", *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)
        self.pid, self.poll, self.send_signal = self.process.pid, self.process.poll, self.process.send_signal

    def wait(self) -> subprocess.CompletedProcess[str]:
        out, err = self.process.communicate(timeout=HANG)
        return subprocess.CompletedProcess([], self.process.returncode, out, err)


def forked(words: list[str], folder: Path) -> preloaded.Forked:
    """`torchrun ...` with two processes."""
    return preloaded.start(Path(__file__).with_name("torchrun.py"), 2, *words, cwd=folder)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds a worker through /proc")
@pytest.mark.parametrize("torchrun", [forked, pytest.param(Typed, marks=pytest.mark.nightly)])
def test_torchrun_trains_stops_and_notices_a_death(tmp_path: Path, torchrun: Any) -> None:
    """As it is typed: stopped by a signal, resumed, one process killed, resumed by one alone.

    The steps are many, so that a signal arrives before the last one however busy the machine is.
    """
    arguments = ["train", "waves", "--set", "length=64", "--set", "step=0.09", "--set", "tones=[1, 8]", "--steps", "2000"]
    together = ["torchrun", "--nproc-per-node", "2", "-m", "ssmspec"]

    def begun(*more: str) -> Any:
        return torchrun([*together[1:], *arguments, "--out", "run", *more], tmp_path)

    def saved() -> int:
        state = tmp_path / "run/resume.state"
        return torch.load(state, weights_only=True)["step"] if state.exists() else 0

    def until(step: int, process: Any) -> None:
        while process.poll() is None and saved() < step:
            time.sleep(0.01)

    process = begun()
    until(100, process)
    process.send_signal(signal.SIGTERM)
    done = process.wait()
    ours = [line for line in done.stderr.splitlines() if line.startswith("ssmspec: ")]
    assert ours == [f"ssmspec: stopped by SIGTERM after {saved()} of 2000 steps, which are saved in run; continue with --resume"]
    assert done.stdout == ""

    process = begun("--resume")
    until(saved() + 100, process)
    _, second = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(second), signal.SIGKILL)
    done = process.wait()
    ours = [line for line in done.stderr.splitlines() if line.startswith("ssmspec: ")]
    assert done.returncode == 1
    assert len(ours) == 1
    assert ours[0].startswith("ssmspec: rank 0 of 2: lost contact with another process in step ")

    made = read_config(tmp_path / "run")
    assert (made.command, made.environment["processes"]) == (shlex.join([*together, *arguments, "--out", "run"]), 2)
    assert run(made, tmp_path / "run", pictures=False).summary.steps == 2000
    assert [step for step, _ in losses(tmp_path / "run")] == list(range(1, 2001))
