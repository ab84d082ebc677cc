"""The command `compare`: two checkpoints side by side, or the history of many."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmspec.cli.app import command
from ssmspec.cli.options import AsJson, Backend, FamilyName, LayerNames, Points, Reading, Threads, takes, thread_number
from ssmspec.cli.spreading import Spreading, outcomes
from ssmspec.cli.terminal import complain, echo, message, tell_pictures
from ssmspec.errors import SsmspecError

if TYPE_CHECKING:
    from ssmspec.commands.analyze import AnalysisOptions
    from ssmspec.parallel.workplace import Workplace
    from ssmspec.statistics.changes import CheckpointComparison


@command("compare before.safetensors after.safetensors", "compare runs/waves --csv history.csv")
@takes(spreading=Spreading, reading=Reading)
def compare(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="BEFORE AFTER", help="Two checkpoints to compare; or more, or a folder of them, for a history.", show_default=False
        ),
    ],
    as_json: AsJson = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write all results to this CSV file.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write PNG pictures into this folder.")] = None,
    by_order: Annotated[bool, typer.Option("--by-order", help="Pair layers by their order instead of their names.")] = False,
    fail_above: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-above", help="METRIC=VALUE: exit 1 if a distance, or the absolute change of a statistic, exceeds VALUE in any layer."
        ),
    ] = None,
    layer: LayerNames = None,
    points: Points = 1024,
    backend: Backend = None,
    threads: Threads = None,
    family: FamilyName = None,
    *,
    spreading: Spreading,
    reading: Reading,
) -> None:
    """Show what changed between two checkpoints, or over the checkpoints of a run.

    Layers are matched by name. The verdict compares the change of the frequency bias with the change that training alone usually causes.
    """
    from ssmspec.commands.analyze import AnalysisOptions
    from ssmspec.files.writing import Kind, refuse_precious
    from ssmspec.report.tables.compare import SHOWN_STATISTICS
    from ssmspec.statistics import HEADLINES, STATISTICS

    if csv is not None:
        refuse_precious(csv, Kind.table)
    place = spreading.place(threads)
    options = AnalysisOptions(
        layers=tuple(layer or ()),
        family=family,
        read=reading.options(),
        backend=backend,
        points=points,
        threads=thread_number(threads) if place.alone else place.threads,
    )
    limits = _limits(fail_above or ())
    paths = _steps([reading.given(path) for path in checkpoints])
    everything = as_json or csv is not None
    if len(paths) == 2 and len(checkpoints) != 1:
        if not everything:
            options = replace(
                options, statistics=tuple(dict.fromkeys((*SHOWN_STATISTICS, *(name for name in limits if name in STATISTICS))))
            )
        _compare_two(paths, options, by_order, as_json, csv, plot, limits)
        return
    if limits or by_order:
        raise SsmspecError("--fail-above and --by-order apply to two checkpoints; leave them out for a history")
    _history(paths, replace(options, statistics=tuple(STATISTICS) if everything else HEADLINES), place, as_json, csv, plot)


def _steps(checkpoints: Sequence[str]) -> Sequence[Path | str]:
    from ssmspec.checkpoint.remote.path import is_address
    from ssmspec.commands.compare import checkpoints_in

    paths: Sequence[Path | str] = checkpoints
    if len(checkpoints) == 1 and not is_address(checkpoints[0]) and Path(checkpoints[0]).is_dir():
        paths = checkpoints_in(Path(checkpoints[0]))
    if len(paths) < 2:
        raise SsmspecError(f"{paths[0]} is one checkpoint; give two to compare, or a folder of several for a history")
    return paths


def _limits(texts: Sequence[str]) -> dict[str, float]:
    from ssmspec.statistics import STATISTICS
    from ssmspec.statistics.distances import DISTANCES

    limits = {}
    for text in texts:
        metric, _, value = text.partition("=")
        if metric not in STATISTICS and metric not in DISTANCES:
            raise SsmspecError(f"--fail-above {text}: {metric!r} is unknown; choose one of {', '.join([*DISTANCES, *STATISTICS])}")
        try:
            limits[metric] = float(value)
        except ValueError:
            raise SsmspecError(f"--fail-above {text}: expected METRIC=NUMBER") from None
    return limits


def _compare_two(
    paths: Sequence[Path | str],
    options: "AnalysisOptions",
    by_order: bool,
    as_json: bool,
    csv: Path | None,
    plot: Path | None,
    limits: dict[str, float],
) -> None:
    from ssmspec.commands.compare import compare as run
    from ssmspec.report.documents.compare import comparison_csv, comparison_document
    from ssmspec.report.documents.document import read_document, to_json
    from ssmspec.report.progress import LayerProgress
    from ssmspec.report.tables.compare import comparison_table
    from ssmspec.report.tables.parts import console

    with LayerProgress() as progress:
        found = run(paths[0], paths[1], options, by_order=by_order, progress=progress)
    if as_json:
        echo(to_json(comparison_document(found) | read_document(progress.opened)))
    else:
        console().print(comparison_table(found, progress.opened), highlight=False)
    if csv is not None:
        _write(csv, comparison_csv(found))
    if plot is not None:
        from ssmspec.report.quick_import import import_quickly

        import_quickly()
        from ssmspec.report.figures.compare import plot_comparison

        tell_pictures(plot_comparison(found, plot))
    excesses = _excesses(found, limits)
    for line in excesses:
        complain(line)
    if excesses:
        raise typer.Exit(1)


def _excesses(found: "CheckpointComparison", limits: dict[str, float]) -> list[str]:
    """One line per layer and metric above its limit. A metric without a value counts too, since it cannot be shown to be below."""
    lines = []
    for layer in found.layers:
        for metric, limit in limits.items():
            value = layer.distances[metric].median if metric in layer.distances else layer.change[metric]
            if value is None:
                lines.append(f"{layer.name}: {metric} has no value, so it cannot be shown to be below {limit:g}")
            elif abs(value) > limit:
                lines.append(f"{layer.name}: {metric} is {value:.4g}, above {limit:g}")
    return lines


def _history(
    paths: Sequence[Path | str], options: "AnalysisOptions", place: "Workplace", as_json: bool, csv: Path | None, plot: Path | None
) -> None:
    from ssmspec.commands.compare import as_history
    from ssmspec.commands.each_file import Failure, HistoryFile
    from ssmspec.report.documents.compare import history_csv, history_document
    from ssmspec.report.documents.document import read_document, to_json
    from ssmspec.report.tables.compare import history_table
    from ssmspec.report.tables.parts import console

    analyses, opened = [], []
    with closing(outcomes(HistoryFile(replace(options, files=len(paths))), paths, place)) as results:
        for each in results:
            if isinstance(each, Failure):
                raise each.error()
            analyses.append(each[0])
            opened += each[1]
    found = as_history(paths, analyses)
    if as_json:
        echo(to_json(history_document(found) | read_document(opened)))
    else:
        console().print(history_table(found, opened), highlight=False)
    if csv is not None:
        _write(csv, history_csv(found))
    if plot is not None:
        from ssmspec.report.quick_import import import_quickly

        import_quickly()
        from ssmspec.report.figures.history import plot_history

        message(f"wrote {plot_history(found, plot)}")


def _write(path: Path, text: str) -> None:
    from ssmspec.files.writing import Kind, whole_file

    with whole_file(path, Kind.table) as file:
        file.write(text.encode(errors="backslashreplace"))
    message(f"wrote {path}")
