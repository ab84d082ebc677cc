"""The command `analyze`."""

import tempfile
import textwrap
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmspec.cli.app import command
from ssmspec.cli.options import (
    AsJson,
    Backend,
    FamilyName,
    Horizon,
    LayerNames,
    Points,
    Reading,
    SampleRate,
    StatisticNames,
    Threads,
    WithSkip,
    check_sample_rate,
    chosen_statistics,
    expand,
    takes,
    thread_number,
)
from ssmspec.cli.terminal import complain, echo, message, tell_pictures
from ssmspec.errors import SsmspecError

if TYPE_CHECKING:
    from ssmspec.commands.analyze import AnalysisOptions
    from ssmspec.statistics import CheckpointAnalysis


KEPT = 1 << 20  # characters of a document that are held in memory before it goes to a temporary file


@command("analyze model.safetensors", "analyze runs/*.safetensors --csv bias.csv", "analyze hf://state-spaces/mamba2-2.7b --json")
@takes(reading=Reading)
def analyze(
    checkpoints: Annotated[list[str], typer.Argument(metavar="CKPT...", help="Files, folders, globs or addresses.", show_default=False)],
    as_json: AsJson = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the statistics to this CSV file.")] = None,
    copies: Annotated[
        Path | None, typer.Option("--copies", help="Write the statistics of each copy to this CSV file (rad/sample, samples).")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write PNG pictures into this folder.")] = None,
    statistics: StatisticNames = None,
    layer: LayerNames = None,
    sample_rate: SampleRate = None,
    points: Points = 1024,
    with_skip: WithSkip = False,
    horizon: Horizon = None,
    backend: Backend = None,
    threads: Threads = None,
    family: FamilyName = None,
    *,
    reading: Reading,
) -> None:
    """Show what every layer does to every frequency, and its frequency bias.

    Prints one table per checkpoint: median and 5..95 % range over the copies of each layer, and a sparkline of median |H|.
    """
    from ssmspec.commands.analyze import AnalysisOptions
    from ssmspec.files.writing import Kind, refuse_precious
    from ssmspec.statistics import HEADLINES, STATISTICS

    check_sample_rate(sample_rate)
    for table in (csv, copies):
        if table is not None:
            refuse_precious(table, Kind.table)
    options = AnalysisOptions(
        layers=tuple(layer or ()),
        family=family,
        read=reading.options(),
        backend=backend,
        points=points,
        threads=thread_number(threads),
        with_skip=with_skip,
        horizon=horizon,
        details="poles" if plot else None,
        statistics=chosen_statistics(statistics, tuple(STATISTICS) if as_json or csv or copies else HEADLINES),
    )
    paths = [reading.given(path) for path in expand(checkpoints)]
    shown = HEADLINES if statistics is None else tuple(options.chosen)
    with _Results(
        as_json=as_json, shown=shown, several=len(paths) > 1, csv=csv, copies=copies, plot=plot, sample_rate=sample_rate
    ) as results:
        codes = _analyze_all(paths, options, results.take)
        results.write()
    if codes:
        raise typer.Exit(codes[0] if len(set(codes)) == 1 else 2)


def _analyze_all(paths: list[str], options: "AnalysisOptions", take: Callable[["CheckpointAnalysis"], None]) -> list[int]:
    """Analyze the files one by one and keep no result. A file that fails is reported, and the rest are done. Returns the exit codes.

    A file without a usable layer is shown before it is reported.
    """
    from ssmspec.commands.analyze import analyze as run
    from ssmspec.report.progress import LayerProgress

    codes = []
    for path in paths:
        try:
            with LayerProgress() as progress:
                analysis = run(path, options, progress=progress)
        except SsmspecError as error:
            if len(paths) == 1:
                raise
            complain(" ".join(str(error).split()))
            codes.append(error.exit_code)
            continue
        take(analysis)
        if analysis.problem:
            complain(" ".join(f"{path}: {analysis.problem}".split()))
            codes.append(SsmspecError.exit_code)
    return codes


class _Results:
    """What is made of analyses. Tables and pictures are written at once. Documents wait for the last analysis, in temporary files if large.

    Args:
        shown: statistics that are columns of the table. several: more than one checkpoint was named, so JSON is an array.
        csv, copies: tables to write. plot: folder for pictures. as_json, sample_rate: the options of the same name.
    """

    def __init__(
        self,
        *,
        as_json: bool,
        shown: Sequence[str],
        several: bool,
        csv: Path | None,
        copies: Path | None,
        plot: Path | None,
        sample_rate: float | None,
    ) -> None:
        self.as_json, self.shown, self.several, self.plot, self.sample_rate = as_json, shown, several, plot, sample_rate
        self.tables = {kind: path for kind, path in (("csv", csv), ("copies", copies)) if path is not None}
        self.open_files = ExitStack()
        waiting = (*self.tables, "json") if as_json else self.tables
        self.waiting = {kind: self.open_files.enter_context(_waiting_text()) for kind in waiting}
        self.count = 0
        self.stems: set[str] = set()
        self.pictures: list[list[Path]] = []
        self.explained: dict[str, None] = {}

    def __enter__(self) -> "_Results":
        return self

    def __exit__(self, *error: object) -> None:
        self.open_files.close()

    def take(self, analysis: "CheckpointAnalysis") -> None:
        """Add one analysis."""
        from ssmspec.report.documents.analyze import analysis_document, copies_csv, to_csv
        from ssmspec.report.documents.document import to_json

        physical = _physical(analysis, self.sample_rate)
        if self.as_json:
            text = to_json(analysis_document(physical, sample_rate=self.sample_rate))
            before = ("[\n" if not self.count else ",\n") if self.several else ""
            self.waiting["json"].write(before + (textwrap.indent(text, "  ") if self.several else text))
        else:
            self._show(physical)
        if "csv" in self.tables:
            self.waiting["csv"].write(to_csv(physical, header=not self.count))
        if "copies" in self.tables:
            self.waiting["copies"].write(copies_csv(analysis, header=not self.count))
        if self.plot is not None:
            self.pictures.append(_write_pictures(self.plot, analysis, self.stems, self.sample_rate))
        self.count += 1

    def _show(self, analysis: "CheckpointAnalysis") -> None:
        from ssmspec.report.tables.analyze import analysis_table, shown_columns
        from ssmspec.report.tables.parts import console

        output = console()
        unicode = output.encoding.lower().startswith("utf")
        output.print(analysis_table(analysis, columns=self.shown, unicode=unicode, legend=not self.several), highlight=False)
        output.print()
        self.explained |= dict.fromkeys(shown_columns(analysis, self.shown))

    def write(self) -> None:
        """Write the documents, or the legend of several tables, and report which files were written."""
        from ssmspec.files.writing import Kind, whole_file

        if not self.count:
            return
        if self.several and not self.as_json:
            from ssmspec.report.tables.analyze import legend_lines
            from ssmspec.report.tables.parts import console, plain

            console().print(*map(plain, legend_lines(self.explained)), sep="\n", highlight=False)
        if self.as_json:
            for line in _rewound(self.waiting["json"]):
                echo(line, end="")
            echo("\n]" if self.several else "")
        for kind, path in self.tables.items():
            with whole_file(path, Kind.table) as file:
                file.writelines(line.encode(errors="backslashreplace") for line in _rewound(self.waiting[kind]))
            message(f"wrote {path}")
        for written in self.pictures:
            tell_pictures(written)


def _waiting_text() -> "tempfile.SpooledTemporaryFile[str]":
    return tempfile.SpooledTemporaryFile(KEPT, "w+", encoding="utf-8", errors="surrogatepass", newline="")


def _rewound(file: "tempfile.SpooledTemporaryFile[str]") -> "tempfile.SpooledTemporaryFile[str]":
    file.seek(0)
    return file


def _physical(analysis: "CheckpointAnalysis", sample_rate: float | None) -> "CheckpointAnalysis":
    from ssmspec.report.units import in_physical_units

    return analysis if sample_rate is None else in_physical_units(analysis, sample_rate)


def _write_pictures(folder: Path, analysis: "CheckpointAnalysis", stems: set[str], sample_rate: float | None) -> list[Path]:
    """Draw all pictures of an analysis, under a stem that is not among `stems` and is added to them. Returns the paths."""
    from ssmspec.checkpoint.remote.path import is_address, stem_in
    from ssmspec.report.figures.analyze import plot_analysis
    from ssmspec.report.figures.style import safe_names

    stem = stem_in(analysis.path)
    if stem in stems and not is_address(analysis.path):
        stem = f"{Path(analysis.path).resolve().parent.name}.{Path(analysis.path).name}"
    [stem] = safe_names([stem], taken=stems)
    while stem.casefold() in stems:  # the same checkpoint twice
        stem += "+"
    stems.add(stem.casefold())
    return plot_analysis(analysis, folder, stem, sample_rate=sample_rate)
