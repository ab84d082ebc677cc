"""A run from its config to its folder: train or solve, then measure, compare and draw."""

import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.commands.compare import compare
from ssmspec.errors import SsmspecError
from ssmspec.files.reading import one_line
from ssmspec.files.replacing import remove_abandoned
from ssmspec.report.documents.document import to_json
from ssmspec.report.documents.train import Measure, RunSummary, run_document
from ssmspec.report.tables.train import run_card
from ssmspec.report.training_progress import TrainingProgress
from ssmspec.statistics import HEADLINES
from ssmspec.training.engine.loop import new_state, train
from ssmspec.training.engine.processes import SharedError, Team, joined, local_device, processes
from ssmspec.training.engine.record import Measured, checkpoints_of, read_measures, read_metrics
from ssmspec.training.engine.run_folder import CARD, FINAL, INITIAL, MEASURES, METRICS, RESULTS, START, STATE, RunConfig, write
from ssmspec.training.engine.state import load_state, read_start, write_checkpoint
from ssmspec.training.engine.step import ALONE, Stepper
from ssmspec.training.task import Outcome, Problem
from ssmspec.version import __version__

Watch = Callable[[int, Problem], None]


def _unwatched(done: int, problem: Problem) -> None:
    """The watch of a run that nobody watches."""


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished run: what a report says about it, and what the pictures of a sweep are made from."""

    summary: RunSummary
    outcome: Outcome


def environment() -> dict[str, Any]:
    """The environment of a run, as far as it may change the last bits of a result."""
    return {
        "ssmspec": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processes": processes(),
    }


def checked_device(name: str) -> str:
    """The name of a device, after a check that it can be used.

    Raises:
        SsmspecError: the name is not a device, or the device is not available.
    """
    try:
        torch.zeros(1, device=local_device(name))
    except (RuntimeError, AssertionError, NotImplementedError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SsmspecError(f"the device {name!r} cannot be used here ({reason[:100]}); choose cpu, or one that torch finds") from error
    return name


def all_threads() -> int:
    """The number of threads that torch would use by default."""
    return torch.get_num_threads()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """A block with this many threads per operator of torch. The last bits of results depend on this number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_problem(config: RunConfig, folder: Path) -> Problem:
    """The problem of a run before its first step. It does not depend on earlier draws from torch's generator.

    Raises:
        SsmspecError: memory is too small for the settings.
    """
    torch.manual_seed(config.settings.seed)
    start = read_start(folder / START, config.start["sha256"]) if config.start else None
    with enough_memory():
        return config.kind.problem(config.settings, torch.device(local_device(checked_device(config.device))), start)


@contextmanager
def enough_memory() -> Iterator[None]:
    """A block that allocates as much memory as the settings require.

    Raises:
        SsmspecError: memory is too small.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = one_line(str(error), 200)
        if isinstance(error, RuntimeError) and "allocate" not in text:  # the wording of torch
            raise
        raise SsmspecError(f"out of memory ({text or 'no more'}); choose smaller settings") from error


def run(config: RunConfig, folder: Path, *, pictures: bool = True, note: Callable[[str], None] = lambda text: None) -> FinishedRun:
    """Train from the present state of the folder to the end, or solve, and write everything.

    Args:
        config: config of a folder that already holds it. pictures: whether to write PNGs and a card as well.
        note: receives lines of text to show before the first step.
    Raises:
        SsmspecError: a file is damaged or cannot be written, or the loss is not finite. Stopped: a signal ended the run, after saving.
    """
    with conditions(config):
        return _finish(config, *_work(config, folder, ALONE, note, pictures=pictures), folder, pictures=pictures)


def run_together(
    prepare: Callable[[], RunConfig], folder: Path, *, pictures: bool = True, note: Callable[[str], None] = lambda text: None
) -> FinishedRun | None:
    """Call `run` in all processes that torchrun started, or only in this one.

    Args:
        prepare: creates the folder, in the first process, and returns its config.
    Returns:
        None in all processes but the first, even if the run ends for a reason that the first one reports.
    Raises:
        SsmspecError: as `run`; or another process is gone, or ends for a different reason.
    """
    with joined() as team:
        try:
            config = team.from_first(prepare)
            with conditions(config):
                problem, seconds = _work(config, folder, team, note, pictures=pictures)
        except SharedError:
            if team.first:
                raise
            return None
    if not team.first:
        return None
    with conditions(config):
        return _finish(config, problem, seconds, folder, pictures=pictures)


def final_measures(config: RunConfig, folder: Path, watch: Watch) -> list[Measure]:
    """Train as `run` does, without pictures and results, and return the final measures.

    Args:
        watch: is called after every step with the number of steps done and the problem. What it raises ends the run.
    Raises:
        SsmspecError, Stopped: as `run`.
    """
    with conditions(config):
        _work(config, folder, ALONE, lambda text: None, pictures=False, watch=watch)
    return read_measures(folder / MEASURES)[0 if config.closed_form else config.settings.steps]


@contextmanager
def conditions(config: RunConfig) -> Iterator[None]:
    """A block with the threads of a run, which leaves the state of torch's generator alone."""
    with torch.random.fork_rng(devices=[]), torch_threads(config.threads):
        yield


def _work(
    config: RunConfig, folder: Path, team: Team, note: Callable[[str], None], *, pictures: bool, watch: Watch = _unwatched
) -> tuple[Problem, float]:
    if team.first:
        remove_abandoned(folder)
    problem = make_problem(config, folder)
    if team.first:
        for line in problem.opening():
            note(line)
    with enough_memory():
        if config.closed_form:
            return problem, _solve(config, problem, folder)
        return problem, _train(config, problem, folder, team, watch, follow=pictures)


def _finish(config: RunConfig, problem: Problem, seconds: float, folder: Path, *, pictures: bool) -> FinishedRun:
    summary = _summary(config, problem, folder, seconds)
    write(folder / RESULTS, to_json(run_document(summary)) + "\n")
    if pictures:
        names = [path.name for path in _pictures(problem, summary, folder)]
        checkpoints = [path.name for path in checkpoints_of(folder, config.settings.steps)]
        write(folder / CARD, run_card(summary, names, checkpoints))
    return FinishedRun(summary, Outcome(config.settings, problem, tuple(summary.measures)))


def _train(config: RunConfig, problem: Problem, folder: Path, team: Team, watch: Watch, *, follow: bool) -> float:
    settings = config.settings
    state = new_state(problem, settings)
    load_state(folder / STATE, state, team)
    if state.step > settings.steps:
        raise SharedError(
            f"{folder / STATE} is at step {state.step}, beyond the {settings.steps} steps of the run; start anew with --force"
        )
    with closing(Stepper(problem, state, settings, accumulate=config.accumulate, precision=config.precision, team=team)) as stepper:
        if not team.first:
            return train(stepper, folder, lambda done, loss, seconds: None, follow=follow)
        with TrainingProgress(config.task, state.step, settings.steps) as progress:

            def after_step(done: int, loss: float, seconds: float) -> None:
                progress(done, loss, seconds)
                watch(done, problem)

            return train(stepper, folder, after_step, follow=follow)


def _solve(config: RunConfig, problem: Problem, folder: Path) -> float:
    solve = config.kind.solve
    if solve is None:
        raise SsmspecError(f"{config.task} has no closed form; leave --closed-form out")
    write_checkpoint(folder / INITIAL, problem)
    solve(problem)
    write_checkpoint(folder / FINAL, problem)
    Measured(folder / MEASURES).take(0, problem)
    return 0.0


def _summary(config: RunConfig, problem: Problem, folder: Path, seconds: float) -> RunSummary:
    settings: Mapping[str, Any] = asdict(config.settings)
    found = compare(folder / INITIAL, folder / FINAL, AnalysisOptions())
    title = f"{config.task}: {config.kind.title}"
    steps = 0 if config.closed_form else config.settings.steps
    return RunSummary(title, config.command, settings, read_measures(folder / MEASURES)[steps], found, seconds, steps)


def _pictures(problem: Problem, summary: RunSummary, folder: Path) -> list[Path]:
    from ssmspec.report.figures.compare import plot_comparison
    from ssmspec.report.figures.history import plot_history
    from ssmspec.report.figures.style import save, styled
    from ssmspec.report.figures.training import learning_figure, loss_figure, spectra_figure

    few = AnalysisOptions(statistics=HEADLINES)
    analyses = [analyze(path, few) for path in checkpoints_of(folder, int(str(summary.settings["steps"])))]
    usable = [analysis for analysis in analyses if all(layer.curve is not None for layer in analysis.layers)]
    written = []
    with styled():
        if usable:
            curves = {Path(each.path).stem: [layer.curve.median for layer in each.layers if layer.curve] for each in usable}
            names = [layer.name for layer in usable[0].layers]
            written.append(save(spectra_figure(curves, usable[0].grid.values, problem.marks(), names), folder / "spectra.png"))
        written += plot_comparison(summary.comparison, folder)
        written.append(plot_history(analyses, folder))
        lines = read_metrics(folder / METRICS)
        if lines:
            figure = loss_figure([line["step"] for line in lines], [line["loss"] for line in lines], summary.title.partition(":")[0])
            written.append(save(figure, folder / "loss.png"))
        measured = read_measures(folder / MEASURES)
        if any(measure.baseline is not None for measure in summary.measures) and summary.steps:
            written.append(save(learning_figure(measured), folder / "learning.png"))
        written += problem.pictures(folder, summary.measures)
    return written
