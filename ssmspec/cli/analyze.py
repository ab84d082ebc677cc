"""The command `analyze`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmspec.cli.app import app
from ssmspec.cli.options import (
    AsJson,
    Backend,
    FamilyName,
    LayerNames,
    Points,
    SampleRate,
    WithSkip,
    check_sample_rate,
    expand,
    reads_checkpoints,
)
from ssmspec.cli.run import echo, message, tell_pictures
from ssmspec.errors import SsmspecError

if TYPE_CHECKING:
    from ssmspec.analysis import AnalysisOptions
    from ssmspec.families import ReadOptions
    from ssmspec.statistics import CheckpointAnalysis


@app.command()
@reads_checkpoints()
def analyze(
    checkpoints: Annotated[list[str], typer.Argument(metavar="CKPT...", help="Checkpoint files, folders or globs.", show_default=False)],
    as_json: AsJson = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write all statistics to this file.")] = None,
    copies: Annotated[
        Path | None, typer.Option("--copies", help="Write the statistics of every single copy to this file (rad/sample, samples).")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write PNG pictures into this folder.")] = None,
    layer: LayerNames = None,
    sample_rate: SampleRate = None,
    points: Points = 1024,
    with_skip: WithSkip = False,
    backend: Backend = None,
    family: FamilyName = None,
    *,
    reading: "ReadOptions",
) -> None:
    """Show what every layer does to every frequency, and its frequency bias.

    Prints one table per checkpoint: median and 5..95 % range over the copies of each layer, and a sparkline of median |H|.
    """
    from ssmspec.analysis import AnalysisOptions
    from ssmspec.report.documents import copies_csv, to_csv
    from ssmspec.writing import Kind, refuse_precious

    check_sample_rate(sample_rate)
    for table in (csv, copies):
        if table is not None:
            refuse_precious(table, Kind.table)
    options = AnalysisOptions(
        layers=tuple(layer or ()),
        family=family,
        read=reading,
        backend=backend,
        points=points,
        with_skip=with_skip,
    )
    found, codes = _analyze_all(expand(checkpoints), options, None if as_json else lambda analysis: _show(analysis, sample_rate))
    if as_json and found:
        _print_json(found, sample_rate, several=len(found) + len(codes) > 1)
    if csv is not None and found:
        _write_table(csv, to_csv(_physical(analysis, sample_rate) for analysis in found))
    if copies is not None and found:
        _write_table(copies, copies_csv(found))
    if plot is not None:
        _write_pictures(plot, found, sample_rate)
    if codes:
        raise typer.Exit(codes[0] if len(set(codes)) == 1 else 2)


def _analyze_all(
    paths: list[str], options: "AnalysisOptions", show: Callable[["CheckpointAnalysis"], None] | None
) -> tuple[list["CheckpointAnalysis"], list[int]]:
    """Analyze one file after the other; a broken one is reported and the rest are done."""
    from ssmspec.analysis import analyze as run
    from ssmspec.report.progress import LayerProgress

    found, codes = [], []
    for path in paths:
        try:
            with LayerProgress(path) as progress:
                analysis = run(path, options, progress=progress)
        except SsmspecError as error:
            if len(paths) == 1:
                raise
            message(" ".join(str(error).split()))
            codes.append(error.exit_code)
            continue
        found.append(analysis)
        if show:
            show(analysis)
    return found, codes


def _physical(analysis: "CheckpointAnalysis", sample_rate: float | None) -> "CheckpointAnalysis":
    from ssmspec.report.units import in_physical_units

    return analysis if sample_rate is None else in_physical_units(analysis, sample_rate)


def _show(analysis: "CheckpointAnalysis", sample_rate: float | None) -> None:
    from ssmspec.report.tables import analysis_table, console

    output = console()
    output.print(analysis_table(_physical(analysis, sample_rate), unicode=output.encoding.lower().startswith("utf")), highlight=False)
    output.print()


def _print_json(found: list["CheckpointAnalysis"], sample_rate: float | None, *, several: bool) -> None:
    from ssmspec.report.documents import analysis_document, to_json

    documents = [analysis_document(_physical(analysis, sample_rate), sample_rate=sample_rate) for analysis in found]
    echo(to_json(documents if several else documents[0]))


def _write_table(path: Path, text: str) -> None:
    from ssmspec.writing import Kind, whole_file

    with whole_file(path, Kind.table) as file:
        file.write(text.encode(errors="backslashreplace"))
    message(f"wrote {path}")


def _write_pictures(folder: Path, found: list["CheckpointAnalysis"], sample_rate: float | None) -> None:
    from ssmspec.report.plots import plot_analysis, safe_names

    stems: set[str] = set()
    for analysis in found:
        path = Path(analysis.path)
        stem = path.stem or path.name
        if stem in stems:
            stem = f"{path.resolve().parent.name}.{path.name}"
        [stem] = safe_names([stem], taken=stems)
        while stem.casefold() in stems:  # the same checkpoint twice
            stem += "+"
        stems.add(stem.casefold())
        tell_pictures(plot_analysis(analysis, folder, stem, sample_rate=sample_rate))
