"""The command `analyze`."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
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
from ssmspec.cli.spreading import Spreading, outcomes
from ssmspec.cli.terminal import complain, echo, message, tell_pictures
from ssmspec.errors import SsmspecError

if TYPE_CHECKING:
    from ssmspec.commands.each_file import AnalyzeFile
    from ssmspec.parallel.workplace import Workplace
    from ssmspec.report.documents.rendering import Rendered, Rendering
    from ssmspec.statistics import CheckpointAnalysis


KEPT = 1 << 20  # characters of a document that are held in memory before it goes to a temporary file


@command("analyze model.safetensors", "analyze runs/*.safetensors --csv bias.csv", "analyze hf://state-spaces/mamba2-2.7b --json")
@takes(spreading=Spreading, reading=Reading)
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
    spreading: Spreading,
    reading: Reading,
) -> None:
    """Show what every layer does to every frequency, and its frequency bias.

    Prints one table per checkpoint: median and 5..95 % range over the copies of each layer, and a sparkline of median |H|.
    """
    from ssmspec.commands.analyze import AnalysisOptions
    from ssmspec.commands.each_file import AnalyzeFile
    from ssmspec.files.writing import Kind, refuse_precious
    from ssmspec.report.documents.rendering import Rendering
    from ssmspec.statistics import HEADLINES, STATISTICS

    check_sample_rate(sample_rate)
    for table in (csv, copies):
        if table is not None:
            refuse_precious(table, Kind.table)
    place = spreading.place(threads)
    options = AnalysisOptions(
        layers=tuple(layer or ()),
        family=family,
        read=reading.options(),
        backend=backend,
        points=points,
        threads=thread_number(threads) if place.alone else place.threads,
        with_skip=with_skip,
        horizon=horizon,
        statistics=chosen_statistics(statistics, tuple(STATISTICS) if as_json or csv or copies else HEADLINES),
    )
    paths = [reading.given(path) for path in expand(checkpoints)]
    rendering = Rendering(
        json=as_json,
        several=len(paths) > 1,
        table=not as_json,
        csv=csv is not None,
        copies=copies is not None,
        plot=plot,
        sample_rate=sample_rate,
    )
    shown = HEADLINES if statistics is None else tuple(options.chosen)
    with _Results(rendering, shown=shown, statistics=tuple(options.chosen), csv=csv, copies=copies) as results:
        stems = [""] * len(paths) if plot is None else _stems(paths)
        codes = _analyze_all(list(zip(paths, stems, strict=True)), AnalyzeFile(options, rendering), place, results.take)
        results.write()
    if codes:
        raise typer.Exit(codes[0] if len(set(codes)) == 1 else 2)


def _analyze_all(
    items: list[tuple[str, str]], task: "AnalyzeFile[Rendered]", place: "Workplace", take: "Callable[[Rendered], None]"
) -> list[int]:
    """Analyze the files, each with a stem for its pictures, and keep no result. Returns the exit codes.

    A file that fails is reported, and the rest are done. A file without a usable layer is shown before it is reported.
    """
    from ssmspec.commands.each_file import Failure

    codes = []
    with closing(outcomes(task if len(items) > 1 else task.run, items, place, lambda item: item[0])) as results:
        for found in results:
            if isinstance(found, Failure):
                complain(found.text)
                codes.append(found.exit_code)
                continue
            take(found)
            if found.problem:
                complain(" ".join(f"{found.path}: {found.problem}".split()))
                codes.append(SsmspecError.exit_code)
            del found  # before the next one comes
    return codes


class _Results:
    """What is made of analyses. Tables are printed at once. Documents wait for the last analysis, in temporary files if large.

    Args:
        rendering: what each of them brings. shown: statistics that are columns of the table. statistics: all that are computed.
        csv, copies: tables to write.
    """

    def __init__(
        self, rendering: "Rendering", *, shown: Sequence[str], statistics: Sequence[str], csv: Path | None, copies: Path | None
    ) -> None:
        from ssmspec.report.documents.analyze import CSV_COLUMNS, copies_columns
        from ssmspec.report.documents.document import csv_text

        self.rendering, self.shown = rendering, shown
        self.tables = {kind: path for kind, path in (("csv", csv), ("copies", copies)) if path is not None}
        self.open_files = ExitStack()
        self.waiting = {kind: self.open_files.enter_context(_waiting_text()) for kind in (*self.tables, "json")}
        for kind, columns in (("csv", CSV_COLUMNS), ("copies", copies_columns(statistics))):
            if kind in self.tables:
                self.waiting[kind].write(csv_text([columns]))
        self.count = 0
        self.pictures: list[Sequence[Path]] = []
        self.explained: dict[str, None] = {}

    def __enter__(self) -> "_Results":
        return self

    def __exit__(self, *error: object) -> None:
        self.open_files.close()

    def take(self, found: "Rendered") -> None:
        """Add what was made of one checkpoint."""
        if found.json is not None:
            before = ("[\n" if not self.count else ",\n") if self.rendering.several else ""
            self.waiting["json"].write(before + found.json)
        if found.table is not None:
            self._show(found.table)
        for kind, text in (("csv", found.csv), ("copies", found.copies)):
            if text is not None:
                self.waiting[kind].write(text)
        if found.pictures is not None:
            self.pictures.append(found.pictures)
        self.count += 1

    def _show(self, analysis: "CheckpointAnalysis") -> None:
        from ssmspec.report.tables.analyze import analysis_table, shown_columns
        from ssmspec.report.tables.parts import console

        output = console()
        unicode = output.encoding.lower().startswith("utf")
        output.print(analysis_table(analysis, columns=self.shown, unicode=unicode, legend=not self.rendering.several), highlight=False)
        output.print()
        self.explained |= dict.fromkeys(shown_columns(analysis, self.shown))

    def write(self) -> None:
        """Write the documents, or the legend of several tables, and report which files were written."""
        from ssmspec.files.writing import Kind, whole_file

        if not self.count:
            return
        if self.rendering.several and self.rendering.table:
            from ssmspec.report.tables.analyze import legend_lines
            from ssmspec.report.tables.parts import console, plain

            console().print(*map(plain, legend_lines(self.explained)), sep="\n", highlight=False)
        if self.rendering.json:
            for line in _rewound(self.waiting["json"]):
                echo(line, end="")
            echo("\n]" if self.rendering.several else "")
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


def _stems(paths: Sequence[str]) -> list[str]:
    """What the names of the pictures of each checkpoint begin with; no two are equal, also where case does not count."""
    from ssmspec.checkpoint.remote.path import is_address, stem_in
    from ssmspec.report.figures.style import safe_names

    stems: dict[str, str] = {}
    for path in paths:
        stem = stem_in(path)
        if stem in stems.values() and not is_address(path):
            stem = f"{Path(path).resolve().parent.name}.{Path(path).name}"
        [stem] = safe_names([stem], taken=set(stems))
        while stem.casefold() in stems:  # the same checkpoint twice
            stem += "+"
        stems[stem.casefold()] = stem
    return list(stems.values())
