"""`ssmspec train TASK --search` as it is typed. Most searches here are simulated: their runs are formulas of alpha and beta."""

import csv
import io
import json
import math
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from program import Type
from searching import SPACE, WAVES, simulate, valley

from ssmspec.parallel import workplace
from ssmspec.report.documents.document import schema
from ssmspec.report.training_progress import TrainingProgress
from ssmspec.training.search import together

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.usefixtures("blank_pictures")


def search(typed: Type, folder: str, *more: object, trials: int = 16) -> Any:
    """A search of `waves`, and its document, which fits the schema."""
    done = typed(*WAVES, "--search", SPACE, "--trials", trials, "--seeds", 2, "--out", folder, "--json", *more)
    assert done.code == 0, done.err
    document = json.loads(done.out)
    jsonschema.validate(document, schema("search-1"))
    return document


# --- what is typed ---

MISTAKES = {
    "key": (["--search", "gamma=1..2"], "'gamma=1..2' is not understood; expected \"alpha=log:0.1..100 beta=-2..2\""),
    "twice": (["--search", "alpha=1..2 alpha=1..3"], "'alpha=1..3' is not understood"),
    "empty": (["--search", " "], "--search is empty; expected"),
    "no range": (["--search", "alpha=1,2"], "'alpha=1,2' is no range; expected alpha=LOW..HIGH or alpha=log:LOW..HIGH"),
    "number": (["--search", "alpha=1..two"], "'two' is not a number"),
    "no end": (["--search", "alpha=1.."], "'' is not a number"),
    "order": (["--search", "beta=2..-2"], "'beta=2..-2' is no range, since 2 is not below -2"),
    "equal": (["--search", "beta=2..2"], "since 2 is not below 2"),
    "logarithm": (["--search", "beta=log:-2..2"], "'beta=log:-2..2' begins at -2; a logarithm needs numbers above 0"),
    "logarithm of zero": (["--search", "alpha=log:0..2"], "begins at 0; a logarithm needs numbers above 0"),
    "negative alpha": (["--search", "alpha=-1..2"], "begins at -1; alpha needs numbers of at least 0"),
    "sweep": (["--search", SPACE, "--sweep", "alpha=1"], "--sweep runs settings that you name and --search draws them"),
    "one seed": (["--search", SPACE, "--seeds", "1"], "--seeds is 1; a search needs at least 2 fresh seeds"),
    "trials": (["--trials", "3"], "--trials needs --search"),
    "storage": (["--storage", "sqlite:///a.db"], "--storage needs --search"),
    "jobs": (["--jobs", "2"], "--jobs needs --sweep or --search; one run uses --threads"),
    "seeds": (["--seeds", "2"], "--seeds needs --sweep or --search"),
    "no address": (["--search", SPACE, "--storage", "a.db"], "--storage 'a.db' is no address; expected one such as postgresql://"),
    "unknown database": (["--search", SPACE, "--storage", "abacus://me:secret@host/db"], "the storage abacus://host/db cannot be used"),
    "sqlite": (["--search", SPACE, "--storage", "sqlite:///a.db", "--jobs", "2"], "SQLite locks its whole file for every write"),
    "nothing": (["--search", SPACE, "--resume"], "waves-search holds no run to resume"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line_and_leave_no_folder(typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    simulate(monkeypatch)
    arguments, text = MISTAKES[case]
    done = typed(*WAVES, *arguments)
    assert done.code == 2
    assert text in done.err
    assert "secret" not in done.err
    assert done.err.startswith("ssmspec: ")
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_range_is_searched_from_end_to_end_and_may_have_pi(typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(monkeypatch)
    done = typed(*WAVES, "--beta", 0.5, "--search", "alpha=log:pi/3..10*pi", "--trials", 20, "--json", "--out", "s")
    document = json.loads(done.out)
    drawn = [trial for trial in document["trials"] if not trial["origin"]]
    assert {trial["beta"] for trial in drawn} == {0.5}
    assert all(math.pi / 3 <= trial["alpha"] <= 10 * math.pi for trial in drawn)
    assert min(trial["alpha"] for trial in drawn) < 3
    assert max(trial["alpha"] for trial in drawn) > 10
    assert "baseline (alpha 1, beta 0) lies outside of the ranges" in done.err  # beta is 0.5 there
    assert document["confirmed"][0]["name"] == "baseline"
    assert document["confirmed"][0]["searched"] is None


def test_without_optuna_the_extra_is_named(typed: Type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = typed(*WAVES, "--search", SPACE)
    assert (done.code, done.err) == (2, "ssmspec: --search needs optuna, which is not installed; type: pip install 'ssmspec[search]'\n")
    assert list(tmp_path.iterdir()) == []


# --- trials ---


def test_one_process_repeats_the_search_of_a_seed(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(monkeypatch)
    first, again, other = (search(typed, folder, *more)["trials"] for folder, more in (("a", ()), ("b", ()), ("c", ("--seed", 7))))
    assert first == again
    drawn = [[(trial["alpha"], trial["beta"]) for trial in trials if not trial["origin"]] for trials in (first, other)]
    assert not set(drawn[0]) & set(drawn[1])


def test_a_search_that_was_interrupted_goes_on_as_if_it_had_not_been(typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(monkeypatch)
    whole = search(typed, "whole")["trials"]
    simulated = simulate(monkeypatch)
    simulated.interrupt_at = 9
    done = typed(*WAVES, "--search", SPACE, "--trials", 16, "--seeds", 2, "--out", "parts")
    assert (done.code, done.out) == (130, "")
    assert done.err.splitlines()[-1] == "ssmspec: stopped after 9 of 16 trials, which are saved in parts; continue with --resume"
    refused = typed(*WAVES, "--search", SPACE, "--trials", 16, "--seeds", 2, "--out", "parts")
    assert "parts already holds a run; continue it with --resume" in refused.err
    simulated.interrupt_at = None
    assert search(typed, "parts", "--resume")["trials"] == whole
    begun = [call for call in simulated.calls if call[2] == 0]
    assert begun[9] == begun[10]  # the interrupted one, again


def test_more_trials_may_be_added_and_fewer_change_nothing(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = simulate(monkeypatch)
    few, whole = search(typed, "few", trials=8), search(typed, "whole", trials=16)
    simulated.calls.clear()
    assert search(typed, "few", "--resume", trials=8) == few | {"command": search(typed, "few", "--resume", trials=8)["command"]}
    assert simulated.calls == []
    assert search(typed, "few", "--resume", trials=16)["trials"] == whole["trials"]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--search", "alpha=1..2"], "holds a search with search 'alpha=log:0.1..100 beta=-2..2', not 'alpha=1..2'"),
        (["--search", SPACE, "--lr", "0.5"], "holds a search with setting lr 0.01, not 0.5; choose another folder with --out"),
        (["--search", SPACE, "--threads", "2"], "holds a search with threads 1, not 2"),
        (["--sweep", "alpha=1"], "has the schema 'ssmspec.search/1', expected ssmspec.sweep/1"),
    ],
)
def test_another_search_is_not_continued(typed: Type, monkeypatch: pytest.MonkeyPatch, more: list[str], text: str) -> None:
    simulate(monkeypatch)
    search(typed, "s", trials=3)
    done = typed(*WAVES, *more, "--out", "s", "--resume")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert text in done.err


def test_force_begins_anew_and_removes_what_the_search_wrote(typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(monkeypatch)
    search(typed, "s", trials=12)
    (tmp_path / "s/notes.txt").write_text("mine")
    assert len(search(typed, "s", "--force", trials=3)["trials"]) == 3
    assert (tmp_path / "s/notes.txt").read_text() == "mine"
    assert not (tmp_path / "s/trial-0011").exists()


def test_the_pruner_stops_bad_trials_after_a_third_and_never_an_enqueued_one(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    """All enqueued settings have beta 0, where this formula is far worse than anywhere else."""
    simulate(monkeypatch, lambda settings, done: valley(settings, done) + (100 if settings.beta == 0 else 0))
    trials = search(typed, "s", trials=40)["trials"]
    enqueued = [trial for trial in trials if trial["origin"]]
    assert [trial["number"] for trial in enqueued] == list(range(len(enqueued)))
    assert enqueued[0]["origin"] == "baseline"
    assert (enqueued[0]["alpha"], enqueued[0]["beta"]) == (1, 0)
    assert {trial["origin"] for trial in enqueued[1:]} == {"suggest", "suggest, lowest alpha", "suggest, highest alpha"}
    assert {trial["state"] for trial in enqueued} == {"complete"}
    stopped = [trial for trial in trials if trial["state"] == "stopped early"]
    assert stopped
    assert all(8 <= trial["steps"] < 24 for trial in stopped)  # of 24 steps


def test_a_loss_that_is_not_finite_is_a_result(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverges(settings: Any, done: float) -> float:
        return math.nan if settings.beta <= 0 else valley(settings, done)

    simulate(monkeypatch, diverges, diverges)
    document = search(typed, "s", trials=20)
    bad = [trial for trial in document["trials"] if trial["beta"] <= 0]
    assert {trial["state"] for trial in bad if trial["origin"]} == {"failed"}
    assert {trial["state"] for trial in bad if not trial["origin"]} == {"stopped early"}  # which the sampler ranks last
    assert {trial["problem"] for trial in bad} == {"the loss is nan in step 3"}
    assert document["confirmed"][0]["mean"] is None
    assert document["verdict"][0] == "The loss of the baseline is not finite, so no gain over it is known."
    assert f"trial {bad[0]['number']}: the loss is nan in step 3" in document["notes"]


# --- processes that are gone ---


def orphan(folder: Path, owner: str, deaths: int = 0) -> int:
    """A trial that a process began and did not end."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / "journal.log")))
    study = optuna.load_study(study_name=folder.name, storage=storage)
    trial = study.ask()
    trial.set_user_attr("owner", owner)
    trial.set_user_attr("deaths", deaths)
    trial.suggest_float("alpha", 0.1, 100, log=True)
    trial.suggest_float("beta", -2, 2)
    return trial.number


def gone() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_the_trial_of_a_process_that_is_gone_is_done_again_but_not_forever(
    typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(monkeypatch)
    search(typed, "s", trials=6)
    here = socket.gethostname()
    left, killer = orphan(tmp_path / "s", f"{here}:{gone()}"), orphan(tmp_path / "s", f"{here}:{gone()}", 1)
    states = {trial["number"]: trial for trial in search(typed, "s", "--resume", trials=9)["trials"]}
    assert states[left]["state"] in ("complete", "stopped early")
    assert (states[killer]["state"], states[killer]["problem"]) == ("failed", "its process ended 2 times without a word")
    elsewhere = orphan(tmp_path / "s", "another-machine:1")
    done = typed(*WAVES, "--search", SPACE, "--trials", 10, "--seeds", 2, "--out", "s", "--resume", "--json")
    assert (done.code, done.out, elsewhere) == (0, "", 9)
    assert "no trial is left to begin, and 1 still run elsewhere" in done.err
    (tmp_path / "s/trial-0009").mkdir()
    os.utime(tmp_path / "s/trial-0009", (1, 1))  # silent since 1970
    assert len(search(typed, "s", "--resume", trials=10)["trials"]) == 10


def test_a_damaged_journal_is_one_line(typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(monkeypatch)
    search(typed, "s", trials=3)
    (tmp_path / "s/journal.log").write_text("{}\nno JSON\n" * 3)
    done = typed(*WAVES, "--search", SPACE, "--trials", 4, "--seeds", 2, "--out", "s", "--resume")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "journal.log cannot be used" in done.err


def test_a_database_keeps_the_study_and_is_told_apart_by_the_folder(typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(monkeypatch)
    storage = ["--storage", "sqlite:///studies.db"]
    first = search(typed, "s", *storage, trials=5)
    assert not (tmp_path / "s/journal.log").exists()
    assert search(typed, "journal", trials=5)["trials"] == first["trials"]
    more = search(typed, "s", *storage, "--resume", trials=6)["trials"]
    assert more[:5] == first["trials"]
    lost = typed(*WAVES, "--search", SPACE, "--trials", 6, "--out", "other/s", *storage)
    assert "studies.db has a search 's' already; continue it with --resume, or replace it with --force" in lost.err


# --- fresh seeds ---


def test_only_runs_with_fresh_seeds_count(typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the search, small alphas win; with fresh seeds, large ones do. The seeds add -0.01 and 0.01 to a value."""

    def fresh(settings: Any, done: float) -> float:
        return 10 - math.log10(settings.alpha) + 0.01 * (2 * settings.seed - 9)

    simulated = simulate(monkeypatch, lambda settings, done: 5 + math.log10(settings.alpha), fresh)
    document = search(typed, "s", "--seed", 3, trials=20)
    assert document["seeds"] == [4, 5]
    assert {call[2] for call in simulated.calls[:20]} == {3}
    assert {call[2] for call in simulated.calls[20:]} == {4, 5}
    complete = sorted((trial["value"], trial["number"]) for trial in document["trials"] if trial["state"] == "complete")
    names = [each["name"] for each in document["confirmed"]]
    assert names[:2] == ["baseline", "suggest"]
    assert names[2:] == [f"trial {number}" for value, number in complete[:5]]
    for each in document["confirmed"]:
        level = 10 - math.log10(each["alpha"])
        assert each["values"] == pytest.approx([level - 0.01, level + 0.01])
        assert each["mean"] == pytest.approx(level)
        assert each["spread"] == pytest.approx(0.01 * math.sqrt(2))  # of two values 0.02 apart
        if each["name"] != "baseline":
            assert each["gain"] == pytest.approx(math.log10(each["alpha"]))
            assert each["gain_spread"] == pytest.approx(0.02)
            assert each["exceeds"] == (math.log10(each["alpha"]) > 0.02)
    best = max(document["confirmed"], key=lambda each: each["alpha"])
    assert document["best"] == best["name"]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "s/table.csv").read_text())))
    assert len(rows) == 20 + 2 * len(names)
    assert {row["seed"] for row in rows if row["origin"] == "fresh seed"} == {"4", "5"}


def test_the_command_for_the_best_setting_trains_with_it(typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shlex

    simulate(monkeypatch)
    document = search(typed, "s", trials=20)
    words = shlex.split(document["best_command"])
    best = next(each for each in document["confirmed"] if each["name"] == document["best"])
    assert words == ["ssmspec", *map(str, WAVES), "--alpha", f"{best['alpha']:g}", "--beta", f"{best['beta']:g}"]


# --- with training ---


def test_a_search_trains_says_what_it_found_and_draws_the_landscape(typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ssmspec.training.search import confirmation

    monkeypatch.setattr(confirmation, "BEST", 1)
    stopped = []

    def stop(self: TrainingProgress, done: int, loss: float, seconds: float) -> None:
        if done == 10 and not stopped:
            stopped.append(done)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(TrainingProgress, "__call__", stop)
    arguments = [*WAVES, "--search", SPACE, "--trials", 3, "--seeds", 2, "--out", "s"]
    done = typed(*arguments)
    assert (done.code, done.out) == (130, "")
    assert "stopped after 0 of 3 trials, which are saved in s; continue with --resume" in done.err
    done = typed(*arguments, "--resume")
    assert done.code == 0, done.err
    assert "3 trials of alpha=log:0.1..100 beta=-2..2, seed 0: 3 complete" in done.out
    assert "runs with the fresh seeds 1, 2, which no trial had" in done.out
    assert "Tuning alpha and beta" in done.out
    assert "suggest has alpha" in done.out
    assert done.out.splitlines()[-1].startswith("ssmspec train waves --steps 24")
    names = {path.name for path in (tmp_path / "s").iterdir()}
    assert {"results.json", "table.csv", "README.md", "landscape.png", "baseline-seed1", "suggest-seed2"} <= names
    assert {path.name for path in (tmp_path / "s/trial-0000").iterdir()} == {"config.toml", "metrics.jsonl", "measures.jsonl"}
    assert (tmp_path / "s/baseline-seed1/final.safetensors").exists()
    single = typed(*WAVES, "--seed", 2, "--out", "single", "--json")
    document = json.loads((tmp_path / "s/results.json").read_text())
    errors = [measure["value"] for measure in json.loads(single.out)["measures"].values()]
    assert document["confirmed"][0]["values"][1] == pytest.approx(sum(errors) / len(errors), abs=1e-12)


def test_jobs_times_threads_never_exceed_the_cores(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workplace, "cores", lambda: 3)
    simulate(monkeypatch)
    done = typed(*WAVES, "--search", SPACE, "--trials", 2, "--jobs", 4, "--threads", 2, "--json")
    assert "--jobs 4: 1 at a time with --threads 2, because there are 3 cores" in done.err
    assert json.loads(done.out)["jobs"] == 1


def test_several_processes_share_the_trials(typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They get the trials from the journal, and their lines go through this process. The runs with fresh seeds are simulated here."""
    monkeypatch.setattr(workplace, "cores", lambda: 2)
    whole = together.together
    monkeypatch.setattr(
        "ssmspec.training.search.conduct.together", lambda search, fresh, note: None if fresh else whole(search, fresh, note)
    )
    simulated = simulate(monkeypatch)
    document = search(typed, "s", "--jobs", 2, trials=4)
    assert [trial["number"] for trial in document["trials"]] == list(range(4))
    assert {trial["state"] for trial in document["trials"]} <= {"complete", "stopped early"}
    assert not document["repeatable"]
    assert "2 processes drew trials" in " ".join(document["notes"])
    assert {call[2] for call in simulated.calls} == {1, 2}
    owners = (tmp_path / "s/journal.log").read_text()
    assert f":{os.getpid()}" not in owners
