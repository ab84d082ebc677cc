"""A search from its options to its folder: trials, fresh seeds, table, landscape and words.

config.toml                 what is searched, settings, environment
journal.log                 the study, unless a database has it
trial-0000, ...             metrics of the trials, whose tensors are not kept
baseline-seed1, trial-0007-seed1, ...    the runs with fresh seeds, which `ssmspec compare` reads
results.json, table.csv, README.md, landscape.png    when the search is finished
"""

import json
import shlex
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ssmspec.checkpoint.remote.path import without_secrets
from ssmspec.errors import INTERRUPTED, SsmspecError
from ssmspec.report.documents.document import to_json
from ssmspec.report.documents.search import search_csv, search_document
from ssmspec.report.documents.search_results import Confirmed, SearchSummary, SuggestedSetting
from ssmspec.report.tables.search import search_card
from ssmspec.training.engine.loop import Stopped
from ssmspec.training.engine.run_folder import CARD, CONFIG, RESULTS, discard_unstarted, new_folder, read_document, toml_text, write
from ssmspec.training.engine.sweep import KEYS, TABLE, sweep_title
from ssmspec.training.search.confirmation import chosen, confirmed, do_fresh, fresh_runs, fresh_seeds
from ssmspec.training.search.study import Search, create_study, load_study, outside, trial_rows
from ssmspec.training.search.suggested import suggested_setting
from ssmspec.training.search.together import together
from ssmspec.training.search.trials import do_trials

SCHEMA = "ssmspec.search/1"
LANDSCAPE = "landscape.png"
FEWEST_SEEDS = 2
OWN_OPTIONS = dict.fromkeys(("--search", "--trials", "--seeds", "--storage", "--jobs", "-j", "--out", "-o", "--alpha", "--beta"), 1)
OWN_OPTIONS |= dict.fromkeys(("--resume", "--force", "--json", "--no-pictures"), 0)


class Interrupted(SsmspecError):  # noqa: N818  (not an error: everything was saved)
    """A signal ended the search after everything was saved. The exit code is what a shell reports for the signal."""

    def __init__(self, done: str, folder: Path, code: int) -> None:
        super().__init__(f"stopped after {done}, which are saved in {folder}; continue with --resume")
        self.exit_code = code


def open_search(search: Search, text: str, note: Callable[[str], None], *, resume: bool, force: bool) -> SuggestedSetting:
    """Create the folder and the study of a search, or check that the folder belongs to this search.

    Args:
        text: the text of the ranges. note: receives lines about what the search begins with.
    Returns:
        What `suggest` says, as it was at the beginning.
    Raises:
        SsmspecError: the folder or the storage holds another search, or something else.
    """
    base = search.base
    own = {each.name: getattr(base.settings, each.name) for each in fields(base.settings)}
    head = {"schema": SCHEMA, "task": base.task, "preset": base.preset, "search": text, "closed_form": base.closed_form}
    head |= {"device": base.device, "threads": base.threads, "accumulate": base.accumulate, "precision": base.precision}
    if resume:
        return _found(search.folder, head, own)
    new_folder(search.folder, force=force, schema=SCHEMA)
    found = suggested_setting(base)
    document = json.dumps(to_plain(found))
    more = {"study": search.name, "command": without_secrets(base.command), "suggested": document}
    write(search.folder / CONFIG, toml_text(head | more, {"settings": own, "environment": base.environment}))
    try:
        create_study(search, found, force=force)
    except SsmspecError:
        discard_unstarted(search.folder)
        raise
    if found.reason:
        note(f"suggest has no values here: {found.reason}")
    for line in outside(search, found):
        note(line)
    return found


def to_plain(found: SuggestedSetting) -> dict[str, Any]:
    """A suggestion as JSON values."""
    return {each.name: getattr(found, each.name) for each in fields(found)}


def _found(folder: Path, head: dict[str, Any], own: dict[str, Any]) -> SuggestedSetting:
    document = read_document(folder, SCHEMA)
    wanted = tomllib.loads(toml_text(head, {"settings": own}))
    stored: dict[str, Any] = document | {f"setting {key}": value for key, value in document.get("settings", {}).items()}
    for key, value in (wanted | {f"setting {key}": value for key, value in wanted.pop("settings").items()}).items():
        if stored.get(key) != value:
            raise SsmspecError(f"{folder} holds a search with {key} {stored.get(key)!r}, not {value!r}; choose another folder with --out")
    try:
        values = json.loads(document["suggested"])
        alpha = values["alpha"]
        return SuggestedSetting(**values | {"alpha": None if alpha is None else (alpha[0], alpha[1]), "notes": tuple(values["notes"])})
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise SsmspecError(f"{folder / CONFIG} is damaged; start anew with --force, or in another folder with --out") from error


def run_search(
    search: Search, suggested: SuggestedSetting, text: str, seeds: int, note: Callable[[str], None], *, pictures: bool = True
) -> SearchSummary | None:
    """Do the trials that are missing and the runs with fresh seeds, and write everything.

    Args:
        text: the text of the ranges. seeds: number of fresh seeds. note: receives a line about each run after its end.
    Returns:
        None if other processes still work on trials, so that the last of them writes the results.
    Raises:
        SsmspecError: a run failed; the message names its folder. Interrupted: a signal ended the search, after saving.
    """
    with_others = search.jobs > 1
    try:
        study = load_study(search)
        if with_others:
            together(search, (), note)
        do_trials(search, note)
        trials = trial_rows(search, study)
        running = sum(trial.state == "running" for trial in trials)
        if running:
            note(f"no trial is left to begin, and {running} still run elsewhere; the last process writes the table, or --resume does later")
            return None
        pairs = chosen(trials, suggested, larger=search.base.kind.goal.larger)
        drawn = fresh_seeds(search, seeds)
        runs = fresh_runs(search, pairs, drawn)
        if with_others:
            together(search, runs, note)
        do_fresh(runs, note)
    except (Stopped, KeyboardInterrupt) as stop:
        finished = sum(trial.state != "running" for trial in trial_rows(search, load_study(search)))
        raise Interrupted(f"{finished} of {search.trials} trials", search.folder, getattr(stop, "exit_code", INTERRUPTED)) from stop
    found = confirmed(pairs, runs, trials)
    summary = _summary(search, text, trials, drawn, found, suggested)
    _write_results(search, summary, pictures=pictures)
    return summary


def _summary(
    search: Search, text: str, trials: Sequence[Any], seeds: Sequence[int], found: Sequence[Confirmed], suggested: SuggestedSetting
) -> SearchSummary:
    goal, base = search.base.kind.goal, search.base
    notes = [*suggested.notes, *outside(search, suggested)]
    if search.jobs > 1:
        notes.append(
            f"{search.jobs} processes drew trials from what the others had found by then: the search is recorded, and not repeatable"
        )
    notes += [f"trial {trial.number}: {trial.problem}" for trial in trials if trial.problem]
    notes.append(
        "the trials and the runs with fresh seeds are measured on held-out data of the task, from which the settings are chosen, too"
    )
    summary = SearchSummary(
        title=sweep_title(base),
        command=without_secrets(base.command),
        goal=goal.name,
        larger=goal.larger,
        space=text,
        seed=base.settings.seed,
        jobs=search.jobs,
        trials=trials,
        seeds=seeds,
        confirmed=found,
        suggested=suggested,
        best_command="",
        notes=notes,
    )
    return replace(summary, best_command=single_command(summary.command, summary.best))


def single_command(command: str, setting: Confirmed) -> str:
    """The command that trains once with a setting, from the command of the search."""
    words, kept = shlex.split(command), []
    while words:
        word = words.pop(0)
        name, equals, _ = word.partition("=")
        if name not in OWN_OPTIONS:
            kept.append(word)
        elif not equals:
            del words[: OWN_OPTIONS[name]]
    return shlex.join([*kept, "--alpha", f"{setting.alpha:.4g}", "--beta", f"{setting.beta:.4g}"])


def _write_results(search: Search, summary: SearchSummary, *, pictures: bool) -> None:
    from ssmspec.report.figures.search import landscape_figure
    from ssmspec.report.figures.style import save, styled

    folder, ranges = search.folder, search.space.ranges
    drawn = []
    if pictures:
        with styled():
            shown = {key: (ranges[key].low, ranges[key].high, ranges[key].log) for key in KEYS if key in ranges}
            figure = landscape_figure(summary, shown)
            drawn.append(save(figure, folder / LANDSCAPE))
    write(folder / TABLE, search_csv(summary))
    write(folder / RESULTS, to_json(search_document(summary)) + "\n")
    write(folder / CARD, search_card(summary, [path.name for path in drawn]))
