"""`ssmspec train` as it is typed."""

import csv
import io
import json
import shutil
import signal
from pathlib import Path

import pytest
from locations import SAMPLES
from program import Type
from small_runs import work_of_a_step

from ssmspec.report.training_progress import TrainingProgress
from ssmspec.training.engine.run_folder import RunConfig, read_config, write_config
from ssmspec.training.tasks import TASKS

pytestmark = pytest.mark.usefixtures("blank_pictures")
LITTLE = ["--steps", 12, "--set", "length=64", "--set", "step=0.09", "--set", "tones=[1, 8]", "--set", "batch=4"]


def begun(folder: Path) -> None:
    """A run of `waves` that was stopped before its first step."""
    folder.mkdir()
    task = TASKS["waves"]
    plain = {"device": "cpu", "threads": 1, "closed_form": False, "command": "ssmspec train waves", "environment": {}}
    write_config(folder, RunConfig(task=task.name, preset="small", settings=task.preset("small"), **plain))


def test_a_run_prints_its_figures_and_writes_its_folder(typed: Type, tmp_path: Path) -> None:
    done = typed("train", "waves", "--alpha", "10", "--beta", "0.5", *LITTLE)
    assert done.code == 0, done.err
    assert "error_8" in done.out
    assert "verdict: " in done.out
    folder = tmp_path / "waves-alpha10-beta0.5-seed0"
    assert f"wrote {folder.name}" in done.err
    assert "ssmspec train waves --alpha 10" in (folder / "config.toml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["waves", "denoise"])
def test_the_preset_small_takes_under_a_minute(typed: Type, task: str) -> None:
    """Of one thread; 5 to 7 s are usual. What is counted is no time, which is the machine's: 3e9 elements take 2.5 s of these."""
    assert typed("train", task).code == 0
    settings = TASKS[task].preset("small")
    work = work_of_a_step(task, settings)
    assert settings.steps * work.elements < 1e10
    assert settings.steps * work.calls < 1e6


def test_without_pictures_a_run_and_a_sweep_have_their_numbers_and_nothing_drawn(typed: Type, tmp_path: Path) -> None:
    for folder, more in (("run", ()), ("sweep", ("--sweep", "alpha=1,2"))):
        done = typed("train", "waves", *LITTLE, *more, "--no-pictures", "--out", folder)
        assert done.code == 0, done.err
        assert (tmp_path / folder / "results.json").exists()
        assert not list((tmp_path / folder).rglob("*.png"))


def test_a_sweep_has_a_run_per_setting_and_seed_and_a_table_with_spreads(typed: Type, tmp_path: Path) -> None:
    text = "alpha=1,pi beta=-1,1"
    done = typed("train", "waves", *LITTLE, "--sweep", text, "--seeds", 2, "--out", "sweep")
    assert done.code == 0, done.err
    assert "mean over 2 seeds +- sample standard deviation" in done.out
    rows = [line.split() for line in done.out.splitlines() if line.startswith(("1 ", "3.142 "))]
    assert [(row[0], row[1], row[3]) for row in rows] == [(a, b, "+-") for a in ("1", "3.142") for b in ("-1", "1")]
    names = {path.name for path in (tmp_path / "sweep").iterdir()}
    runs = {f"alpha{alpha}-beta{beta}-seed{seed}" for alpha in ("1", "3.14159") for beta in (-1, 1) for seed in (0, 1)}
    assert names == runs | {"config.toml", "errors.png", "table.csv", "results.json", "README.md"}
    table = list(csv.DictReader(io.StringIO((tmp_path / "sweep/table.csv").read_text())))
    assert {(row["alpha"], row["beta"], row["seed"]) for row in table if row["quantity"] == "error_8"} == {
        (alpha, beta, seed) for alpha in ("1.0", "3.141592653589793") for beta in ("-1.0", "1.0") for seed in "01"
    }
    again = typed("train", "waves", *LITTLE, "--sweep", text, "--seeds", 2, "--out", "sweep", "--resume")
    assert again.out == done.out


def test_denoise_draws_every_setting(typed: Type, tmp_path: Path) -> None:
    little = ["--set", "rows=16", "--set", "columns=8", "--set", "modes=3", "--set", "crops=2"]
    done = typed("train", "denoise", *little, "--sweep", "published", "--closed-form", "--out", "sweep")
    assert done.code == 0, done.err
    assert {"images.png", "ratios.png"} <= {path.name for path in (tmp_path / "sweep").iterdir()}
    assert len(list((tmp_path / "sweep").glob("alpha*"))) == 5


def test_resume_goes_on_with_the_settings_of_the_folder(typed: Type, tmp_path: Path) -> None:
    assert typed("train", "waves", *LITTLE, "--alpha", "2", "--out", "run").code == 0
    before = (tmp_path / "run/final.safetensors").read_bytes()
    (tmp_path / "run/resume.state").unlink()
    document = json.loads(typed("train", "waves", "--out", "run", "--resume", "--json").out)
    assert (tmp_path / "run/final.safetensors").read_bytes() == before
    assert document["schema"] == "ssmspec.train/1"
    assert (document["settings"]["tones"], document["settings"]["alpha"]) == ([1, 8], 2)
    assert set(document["comparison"]["layers"][0]["statistics"]["bias_slope"]) == {"before", "after", "change"}


def test_force_replaces_a_run_and_nothing_else(typed: Type, tmp_path: Path) -> None:
    begun(tmp_path / "run")
    for name in ("notes.txt", "step-99.safetensors"):
        (tmp_path / "run" / name).write_text("mine")
    retuned = ("waves_retuned.safetensors", "waves_retuned.safetensors.ssmspec.json")
    for name in retuned:  # written into the folder by another command
        shutil.copy(SAMPLES / name, tmp_path / "run")
    assert typed("train", "waves", *LITTLE, "--seed", 3, "--out", "run", "--force").code == 0
    assert all((tmp_path / "run" / name).exists() for name in retuned)
    assert (tmp_path / "run/notes.txt").read_text() == "mine"
    assert not (tmp_path / "run/step-99.safetensors").exists()
    assert "seed = 3" in (tmp_path / "run/config.toml").read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_says_so_in_one_line(typed: Type, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int) -> None:
    monkeypatch.setattr(TrainingProgress, "__call__", lambda self, done, loss, seconds: signal.raise_signal(number) if done == 5 else None)
    for folder, out, more in (("run", "run", []), ("sweep/alpha1-beta0-seed0", "sweep", ["--sweep", "alpha=1"])):
        done = typed("train", "waves", *LITTLE, "--out", out, *more)
        line = f"ssmspec: stopped by {number.name} after 5 of 12 steps, which are saved in {folder}; continue with --resume"
        assert (done.code, done.out, done.err.splitlines()[-1]) == (code, "", line)
        assert len(done.err.splitlines()) == 1 + bool(more)


def test_parts_and_precision_are_in_the_config(typed: Type, tmp_path: Path) -> None:
    assert typed("train", "waves", *LITTLE, "--accumulate", 3, "--precision", "bf16", "--out", "run").code == 0
    found = read_config(tmp_path / "run")
    assert (found.accumulate, found.precision, found.environment["processes"]) == (3, "bf16", 1)
    file = tmp_path / "run/config.toml"
    file.write_text(file.read_text().replace("processes = 1", "processes = 2"))
    again = typed("train", "waves", "--resume", "--accumulate", 3, "--out", "run")
    assert again.code == 0
    assert "the run was started in another environment, so its results may differ in their last bits: processes 2 -> 1" in again.err
    for option, value, before in (("--accumulate", "2", "3"), ("--precision", "float32", "bf16"), ("--threads", "2", "1")):
        done = typed("train", "waves", "--resume", option, value, "--out", "run")
        assert done.code == 2
        assert f"run holds a run with {option[2:]} {before}, not {value}; leave the option out" in done.err


def test_what_is_for_one_process_is_refused_under_torchrun(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for arguments in (["denoise", "--closed-form"], ["waves", "--sweep", "alpha=1"]):
        done = typed("train", *arguments)
        assert done.code == 2
        assert done.err == f"ssmspec: {arguments[1]} runs in one process; start it without torchrun\n"
    assert "cannot reach the other processes (" in typed("train", "waves").err


ERRORS = {
    "task": (["sums"], "task 'sums' is unknown; choose one of waves, denoise, regress, classify, forecast"),
    "preset": (["waves", "--preset", "huge"], "preset of waves 'huge' is unknown; choose one of small, paper"),
    "init": (["waves", "--init", "best"], "initialization 'best' is unknown; choose one of own, s4d-lin"),
    "device": (["waves", "--device", "abacus"], "the device 'abacus' cannot be used here"),
    "alpha": (["waves", "--alpha", "many"], "'many' is not a number"),
    "negative alpha": (["waves", "--alpha", "-1"], "alpha is -1.0; expected a finite number of at least 0"),
    "beta": (["waves", "--beta", "nan"], "beta is nan; expected a finite number"),
    "lr": (["waves", "--lr", "0"], "lr is 0.0; expected a finite positive number"),
    "knee missing": (["waves", "--beta-convention", "causal"], "angular and causal need a knee in rad/sample"),
    "knee in vain": (["waves", "--theta-ref", "0.1"], "angular and causal need a knee in rad/sample, the others take none"),
    "real poles": (["waves", "--init", "s4d-real", "--alpha", "2"], "alpha has no effect on s4d-real"),
    "setting": (["waves", "--set", "depth=3"], "setting 'depth' is unknown; choose one of alpha"),
    "setting type": (["waves", "--set", "batch=1.5"], "batch is 1.5; expected int"),
    "setting form": (["waves", "--set", "batch"], "--set batch: expected NAME=VALUE"),
    "tones": (["waves", "--set", "tones=[2000]"], "beyond pi"),
    "picture": (["denoise", "--set", 'pictures=["mandrill"]'], "picture 'mandrill' is unknown"),
    "sweep key": (["waves", "--sweep", "gamma=1"], "'gamma=1' is not understood"),
    "sweep number": (["waves", "--sweep", "alpha=1,two"], "'two' is not a number"),
    "sweep twice": (["waves", "--sweep", "alpha=1 alpha=2"], "'alpha=2' is not understood"),
    "sweep empty": (["waves", "--sweep", " "], "--sweep is empty"),
    "sweep values": (["waves", "--sweep", "alpha="], "'' is not a number"),
    "seeds": (["waves", "--seeds", "3"], "--seeds needs --sweep"),
    "closed form": (["waves", "--closed-form"], "waves has no closed form"),
    "precision": (["denoise", "--precision", "bf16"], "denoise runs in float32, not in bf16; leave --precision out"),
    "both": (["waves", "--resume", "--force"], "give one of them"),
    "resume nothing": (["waves", "--resume", "--out", "nowhere"], "nowhere holds no run to resume"),
    "file": (["waves", "--out", "file.txt"], "file.txt is a file; give a folder"),
    "foreign folder": (["waves", "--out", "foreign", "--force"], "foreign has files that do not belong to such a run"),
    "nan": (["waves", *LITTLE, "--lr", "1e30", "--out", "nan"], "in step 2: "),
}


@pytest.mark.parametrize("case", ERRORS)
def test_mistakes_are_one_line_and_exit_code_2(typed: Type, tmp_path: Path, case: str) -> None:
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/file.txt").write_text("x")
    arguments, text = ERRORS[case]
    done = typed("train", *arguments)
    assert done.code == 2
    assert text in done.err
    assert done.err.startswith("ssmspec: ")
    assert done.err.count("\n") == 1
    assert (tmp_path / "foreign/file.txt").read_text() == "x"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["waves"], "run already holds a run; continue it with --resume"),
        (["denoise", "--resume"], "run holds a run of the task waves, not denoise"),
        (["waves", "--resume", "--alpha", "3"], "run holds a run with alpha 1.0, not 3.0"),
        (["waves", "--sweep", "alpha=1", "--force"], "run has files that do not belong to such a run"),
        (["waves", "--sweep", "alpha=1", "--resume"], "has the schema 'ssmspec.run/1', expected ssmspec.sweep/1"),
    ],
)
def test_a_folder_of_another_run_is_left_alone(typed: Type, tmp_path: Path, arguments: list[object], text: str) -> None:
    begun(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    done = typed("train", *arguments, "--out", "run")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert text in done.err
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("-0.5", -0.5), ("1e-2", 0.01), ("pi", 3.141592653589793), ("10*pi", 31.41592653589793), ("-pi/2", -1.5707963267948966)],
)
def test_numbers_may_have_pi(text: str, value: float) -> None:
    from ssmspec.training.engine.sweep import parse_number

    assert parse_number(text) == pytest.approx(value)


def test_a_sweep_with_jobs_has_the_same_results(typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssmspec.parallel.workplace.cores", lambda: 2)
    found = []
    for jobs in (1, 2):
        done = typed("train", "waves", *LITTLE, "--sweep", "alpha=1,2,4", "--no-pictures", "--jobs", jobs, "--out", f"sweep{jobs}")
        assert done.code == 0, done.err
        table = csv.DictReader(io.StringIO((tmp_path / f"sweep{jobs}/table.csv").read_text()))
        checkpoints = {str(path.relative_to(f"sweep{jobs}")): path.read_bytes() for path in Path(f"sweep{jobs}").rglob("*.safetensors")}
        found.append((done.out, list(table), checkpoints))
        assert [line for line in done.err.splitlines() if "run 3 of 3: alpha4-beta0-seed0" in line]
    assert found[0] == found[1]
    assert len(found[0][2]) >= 6


def test_a_failed_run_of_a_sweep_does_not_stop_the_others(typed: Type, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    assert typed("train", "waves", *LITTLE, "--sweep", "alpha=1,2", "--no-pictures", "--out", "sweep").code == 0
    for place in ("alpha1-beta0-seed0", "alpha2-beta0-seed0"):
        (tmp_path / "sweep" / place / "results.json").unlink()
    (tmp_path / "sweep" / "alpha1-beta0-seed0" / "config.toml").write_text("nonsense")
    done = typed("train", "waves", *LITTLE, "--sweep", "alpha=1,2", "--no-pictures", "--out", "sweep", "--resume")
    assert done.code == 2
    assert "alpha1-beta0-seed0" in done.err
    assert (tmp_path / "sweep" / "alpha2-beta0-seed0" / "results.json").exists()


def test_jobs_need_a_sweep_and_leave_the_threads_of_a_run_as_they_are(monkeypatch: pytest.MonkeyPatch, typed: Type) -> None:
    from ssmspec.parallel.workplace import Workplace, fitting_jobs

    assert "--jobs needs --sweep" in typed("train", "waves", "--jobs", 2).err
    monkeypatch.setattr("ssmspec.parallel.workplace.cores", lambda: 8)
    assert fitting_jobs(2, 4) == Workplace(2, 4)
    assert (fitting_jobs(4, 3).jobs, fitting_jobs(4, 3).threads) == (2, 3)
    assert fitting_jobs(2, 16).jobs == 1
    assert fitting_jobs(4, 3).notes == ("--jobs 4: 2 at a time with --threads 3, because there are 8 cores",)
