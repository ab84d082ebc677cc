"""The study of a search: the storage that its processes share, the settings that it begins with, and which trial is next.

Every trial is drawn by a sampler of its own, whose seed follows from the seed of the search and the number of the trial. So one process
draws the same trials every time, also if it was interrupted in between.
"""

import os
import socket
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssmspec.checkpoint.remote.path import without_secrets
from ssmspec.errors import SsmspecError, needed
from ssmspec.files.reading import one_line
from ssmspec.report.documents.search_results import BASELINE, SUGGEST, State, SuggestedSetting, TrialRow
from ssmspec.training.engine.run_folder import RunConfig
from ssmspec.training.engine.sweep import Pair
from ssmspec.training.search.space import Space

JOURNAL, ASKING = "journal.log", "journal.log.asking"
OWNER, ORIGIN, PROBLEM, STEPS, DEATHS = "owner", "origin", "problem", "steps", "deaths"  # attributes of a trial
RELEASED = "nobody"
MOST_DEATHS = 2  # of processes, after which a trial is not tried again
SILENCE = 3600.0  # seconds without a change in its folder, after which a trial of another machine is taken over
PARTS = 12  # of a run, at whose ends its measures are taken for the pruner
WARM_UP = 4  # of these parts, before which no trial is stopped
FINISHED = 10  # trials before any is stopped; fewer, such as the enqueued ones alone, are no yardstick
BASE: Pair = (1.0, 0.0)


@dataclass(frozen=True, slots=True)
class Search:
    """What a process must know to work on a search.

    Args:
        folder: folder of the search. base: settings of all trials, except alpha and beta. space: ranges that are searched.
        trials: number of trials. jobs: number of processes on this machine. storage: address of a database; None for a journal in the
            folder. name: name of the study in the storage.
    """

    folder: Path
    base: RunConfig
    space: Space
    trials: int
    jobs: int
    storage: str | None
    name: str


def check_storage(storage: str | None, jobs: int) -> None:
    """Refuse addresses of storages that cannot be shared by the processes of a search.

    Raises:
        SsmspecError: the text is no address, or that of an SQLite file for more than one process.
    """
    if storage is None:
        return
    if "://" not in storage:
        raise SsmspecError(f"--storage {storage!r} is no address; expected one such as postgresql://USER@HOST/DATABASE")
    if storage.startswith("sqlite") and jobs > 1:
        raise SsmspecError(
            f"--storage {without_secrets(storage)} with --jobs {jobs}: SQLite locks its whole file for every write, so processes time out, "
            "and on network drives its locks fail; leave --storage out (the journal in the folder is made for several processes), or give "
            "postgresql://"
        )


@contextmanager
def storage_errors(search: Search) -> Iterator[None]:
    """A block in which errors of the storage become one line, and warnings of Optuna are not shown.

    Raises:
        SsmspecError: the storage cannot be used, or the journal is damaged.
    """
    optuna = needed("optuna", "--search", "search")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    where = search.folder / JOURNAL if search.storage is None else without_secrets(search.storage)
    kinds = (optuna.exceptions.StorageInternalError, ImportError) if search.storage else (ValueError, KeyError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    except optuna.exceptions.DuplicatedStudyError as error:
        raise SsmspecError(
            f"{where} has a search {search.name!r} already; continue it with --resume, or replace it with --force"
        ) from error
    except (*kinds, OSError) as error:
        reason = without_secrets(one_line(str(error), 200))
        raise SsmspecError(
            f"the storage {where} cannot be used ({type(error).__name__}: {reason}); correct it, or leave --storage out"
        ) from error


def _storage(search: Search) -> Any:
    optuna = needed("optuna", "--search", "search")
    if search.storage is None:
        from optuna.storages.journal import JournalFileBackend

        return optuna.storages.JournalStorage(JournalFileBackend(str(search.folder / JOURNAL), _lock(search.folder / JOURNAL)))
    try:
        return optuna.storages.RDBStorage(search.storage)
    except SsmspecError:
        raise
    except Exception as error:  # whatever SQLAlchemy and the drivers of databases raise
        reason = without_secrets(one_line(str(error), 200))
        raise SsmspecError(
            f"the storage {without_secrets(search.storage)} cannot be used ({type(error).__name__}: {reason}); correct the address, or "
            "install the driver that it needs"
        ) from error


def _lock(path: Path) -> Any:
    from optuna.storages.journal import JournalFileOpenLock, JournalFileSymlinkLock

    return (JournalFileOpenLock if sys.platform == "win32" else JournalFileSymlinkLock)(str(path))


@contextmanager
def _asking(search: Search) -> Iterator[None]:
    """A block that one process at a time is in, so that trials are counted before the next one is begun."""
    path = search.folder / ASKING
    path.touch()
    lock = _lock(path)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def create_study(search: Search, suggested: SuggestedSetting, *, force: bool) -> None:
    """Make the study, and enqueue the baseline and the values of `suggest`.

    Args:
        force: whether a study of this name in a database is replaced.
    Raises:
        SsmspecError: the storage cannot be used, or has such a study.
    """
    optuna = needed("optuna", "--search", "search")
    with storage_errors(search):
        storage = _storage(search)
        if force and search.name in optuna.study.get_all_study_names(storage):
            optuna.delete_study(study_name=search.name, storage=storage)
        direction = "maximize" if search.base.kind.goal.larger else "minimize"
        study = optuna.create_study(study_name=search.name, storage=storage, direction=direction)
        for origin, pair in starts(suggested).items():
            if pair in search.space:
                drawn = {key: value for key, value in zip(("alpha", "beta"), pair, strict=True) if key in search.space.ranges}
                study.enqueue_trial(drawn, user_attrs={ORIGIN: origin})


def outside(search: Search, suggested: SuggestedSetting) -> list[str]:
    """A line about each of the first settings that the search cannot draw, so that it is no trial."""
    lines = []
    for origin, (alpha, beta) in starts(suggested).items():
        if (alpha, beta) not in search.space:
            again = "; it runs with fresh seeds all the same" if origin in (BASELINE, SUGGEST) else ""
            lines.append(f"{origin} (alpha {alpha:.4g}, beta {beta:.4g}) lies outside of the ranges, so it is no trial{again}")
    return lines


def starts(suggested: SuggestedSetting) -> dict[str, Pair]:
    """The pairs that a search begins with, by their origin. A pair that occurs twice has its first origin."""
    found = {BASELINE: BASE}
    if suggested.alpha is not None and suggested.middle is not None and suggested.beta is not None:
        found[SUGGEST] = (suggested.middle, suggested.beta)
        found[f"{SUGGEST}, lowest alpha"] = (suggested.alpha[0], suggested.beta)
        found[f"{SUGGEST}, highest alpha"] = (suggested.alpha[1], suggested.beta)
        if suggested.unadvised is not None:
            found[f"{SUGGEST}, beta that it does not advise"] = (suggested.middle, suggested.unadvised)
    kept: dict[str, Pair] = {}
    for origin, pair in found.items():
        if pair not in kept.values():
            kept[origin] = pair
    return kept


def load_study(search: Search) -> Any:
    """The study of a search.

    Raises:
        SsmspecError: the storage cannot be used, or has no such study.
    """
    optuna = needed("optuna", "--search", "search")
    pruner = optuna.pruners.MedianPruner(FINISHED, search.base.settings.steps * WARM_UP // PARTS)
    with storage_errors(search):
        storage = _storage(search)
        if search.name not in optuna.study.get_all_study_names(storage):
            raise SsmspecError(f"the storage of {search.folder} has no search {search.name!r}; start it anew with --force")
        return optuna.load_study(study_name=search.name, storage=storage, pruner=pruner)


def next_trial(search: Search, study: Any) -> Any:
    """The trial that this process does next, or None: one whose process is gone, or else a new one."""
    optuna = needed("optuna", "--search", "search")
    with storage_errors(search), _asking(search):
        while True:
            known = study.get_trials(deepcopy=False)
            left = next((each for each in known if _abandoned(each, search)), None)
            if left is None:
                started = sum(each.state.name != "WAITING" for each in known)
                if started >= search.trials:
                    return None
                study.sampler = _sampler(search, started)
                trial = study.ask()
            else:
                study.sampler = _sampler(search, left.number)
                trial = optuna.trial.Trial(study, left._trial_id)
                deaths = left.user_attrs.get(DEATHS, 0) + (left.user_attrs.get(OWNER, RELEASED) != RELEASED)
                trial.set_user_attr(DEATHS, deaths)
                if deaths >= MOST_DEATHS:
                    trial.set_user_attr(PROBLEM, f"its process ended {deaths} times without a word")
                    study.tell(trial, state=optuna.trial.TrialState.FAIL)
                    continue
            trial.set_user_attr(OWNER, _me())
            for key, each in search.space.ranges.items():
                trial.suggest_float(key, each.low, each.high, log=each.log)
            return trial


def _sampler(search: Search, number: int) -> Any:
    """The sampler of one trial. Where several processes draw, it keeps away from trials that still run."""
    optuna = needed("optuna", "--search", "search")
    seed = int(np.random.SeedSequence([search.base.settings.seed, number]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=seed, constant_liar=search.jobs > 1)


def _me() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _abandoned(trial: Any, search: Search) -> bool:
    """Whether a trial was begun, and nobody works on it."""
    if trial.state.name != "RUNNING":
        return False
    owner = trial.user_attrs.get(OWNER)
    if owner is None:  # its process ended between two lines of `next_trial`, or is there now, on a machine with a folder of its own
        return search.storage is None
    host, _, number = owner.rpartition(":")
    if owner == RELEASED:
        return True
    if host == socket.gethostname():
        return int(number) == os.getpid() or not _alive(int(number))
    place = trial_folder(search, trial.number)
    return place.is_dir() and time.time() - place.stat().st_mtime > SILENCE  # a saved state replaces a file, which changes the folder


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def trial_folder(search: Search, number: int) -> Path:
    """The folder of the run of a trial."""
    return search.folder / f"trial-{number:04d}"


def trial_rows(search: Search, study: Any) -> list[TrialRow]:
    """All trials that were begun, by number."""
    names: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "stopped early", "FAIL": "failed", "RUNNING": "running"}
    with storage_errors(search):
        trials: Sequence[Any] = study.get_trials(deepcopy=False)
    rows = []
    for each in trials:
        if each.state.name in names:
            steps = max(each.intermediate_values, default=0)
            value = each.intermediate_values.get(steps) if each.value is None else each.value
            steps = search.base.settings.steps if each.state.name == "COMPLETE" else each.user_attrs.get(STEPS, steps)
            alpha, beta = search.space.pair(each.params)
            attributes = (each.user_attrs.get(ORIGIN, ""), each.user_attrs.get(PROBLEM, ""))
            rows.append(TrialRow(each.number, alpha, beta, names[each.state.name], value, steps, *attributes))
    return rows
