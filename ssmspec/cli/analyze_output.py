"""The output of `analyze`: which tables there are, and what waits until all checkpoints are done."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from ssmspec.cli.options import chosen_statistics
from ssmspec.cli.terminal import echo, message, tell_pictures
from ssmspec.errors import SsmspecError

if TYPE_CHECKING:
    from ssmspec.report.documents.parquet import ParquetRows
    from ssmspec.report.documents.rendering import FileRow, Rendered, Rendering
    from ssmspec.statistics import CheckpointAnalysis

KEPT = 1 << 20  # characters of a document that are held in memory before it goes to a temporary file
MANY = 10  # more checkpoints than these are rows of one table


@dataclass(frozen=True, slots=True, kw_only=True)
class Tabling:
    """Many checkpoints in one table, and where results are kept."""

    PANEL: ClassVar[str] = "Many checkpoints"
    sort: Annotated[
        str | None,
        typer.Option("--sort", metavar="STATISTIC", help="One table, largest first; -STATISTIC: smallest first.", show_default=False),
    ] = None
    top: Annotated[int | None, typer.Option("--top", min=1, help="One table, with so many rows at most.", show_default=False)] = None
    parquet: Annotated[
        Path | None, typer.Option("--parquet", help="Write the statistics to this Parquet file (needs pyarrow).", show_default=False)
    ] = None
    cache: Annotated[
        Path | None,
        typer.Option("--cache", metavar="DIR", help="Keep results in this folder, and use those of unchanged files.", show_default=False),
    ] = None

    def check(self, *, as_json: bool, copies: Path | None, plot: Path | None) -> None:
        """Refuse what has no effect, or no place in a cache, or would be found out too late.

        Raises:
            SsmspecError: the message names the options.
        """
        from ssmspec.files.writing import Kind, refuse_precious
        from ssmspec.statistics import STATISTICS

        if as_json and (self.sort is not None or self.top is not None):
            raise SsmspecError("--sort and --top are about the table, which --json does without; leave one of them out")
        if self.sort is not None and self.sort.removeprefix("-") not in STATISTICS:
            raise SsmspecError(f"--sort {self.sort}: not a statistic; choose one of {', '.join(STATISTICS)}")
        if self.cache is not None and (copies is not None or plot is not None):
            raise SsmspecError("--cache keeps no values of single copies, which --copies and --plot need; leave one of them out")
        if self.parquet is not None:
            refuse_precious(self.parquet, Kind.parquet)

    def statistics(self, text: str | None, default: Sequence[str]) -> tuple[str, ...]:
        """The statistics after --statistics, or by default, and that of --sort."""
        chosen = chosen_statistics(text, tuple(default))
        return chosen if self.sort is None else tuple(dict.fromkeys((*chosen, self.sort.removeprefix("-"))))

    def one_table(self, given: Sequence[str], paths: Sequence[str]) -> bool:
        """Whether all checkpoints are rows of one table: if that was asked for, if they are many, or if a folder was given for them.

        Args:
            given: as typed. paths: those of the checkpoints.
        """
        wanted = self.sort is not None or self.top is not None or self.cache is not None
        folder = any(each not in paths and Path(each).is_dir() for each in given)
        return wanted or len(paths) > MANY or (folder and len(paths) > 1)


class Results:
    """What is made of analyses. Tables are printed at once. Documents wait for the last analysis, in temporary files if large.

    Args:
        rendering: what each of them brings. tabling: how many of them are shown. shown: statistics that are columns of the table.
        statistics: all that are computed. calibrated: whether operating points were recorded.
        files: tables to write, by kind: csv, copies, parquet.
    """

    def __init__(
        self,
        rendering: "Rendering",
        tabling: Tabling,
        *,
        shown: Sequence[str],
        statistics: Sequence[str],
        calibrated: bool,
        files: Mapping[str, Path | None],
    ) -> None:
        from ssmspec.report.documents.analyze import CSV_COLUMNS, copies_columns
        from ssmspec.report.documents.document import csv_text

        self.rendering, self.tabling, self.shown = rendering, tabling, shown
        self.tables = {kind: path for kind in ("csv", "copies") if (path := files[kind]) is not None}
        self.rows: list[FileRow] = []
        self.parquet = None if files["parquet"] is None else _parquet_rows()
        self.open_files = ExitStack()
        self.waiting = {kind: self.open_files.enter_context(_waiting_text()) for kind in (*self.tables, "json")}
        for kind, columns in (("csv", CSV_COLUMNS), ("copies", copies_columns(statistics, calibrated=calibrated))):
            if kind in self.tables:
                self.waiting[kind].write(csv_text([columns]))
        self.count = 0
        self.pictures: list[Sequence[Path]] = []
        self.explained: dict[str, None] = {}

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, *error: object) -> None:
        self.open_files.close()
        if self.parquet is not None:
            self.parquet.close()

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
        if found.row is not None:
            self.rows.append(found.row)
        if found.rows is not None and self.parquet is not None:
            self.parquet.add(found.rows)
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
        self._end_table()
        if self.rendering.json:
            for line in _rewound(self.waiting["json"]):
                echo(line, end="")
            echo("\n]" if self.rendering.several else "")
        for kind, path in self.tables.items():
            with whole_file(path, Kind.table) as file:
                file.writelines(line.encode(errors="backslashreplace") for line in _rewound(self.waiting[kind]))
            message(f"wrote {path}")
        if self.parquet is not None and self.tabling.parquet is not None:
            with whole_file(self.tabling.parquet, Kind.parquet) as file:
                file.writelines(self.parquet.content())
            message(f"wrote {self.tabling.parquet}")
        for written in self.pictures:
            tell_pictures(written)

    def _end_table(self) -> None:
        """Print the table of all checkpoints, or the legend of their tables."""
        if self.rows:
            from ssmspec.report.tables.many_files import files_table
            from ssmspec.report.tables.parts import console

            console().print(files_table(self.rows, self.shown, sort=self.tabling.sort, top=self.tabling.top), highlight=False)
        elif self.rendering.several and self.rendering.table:
            from ssmspec.report.tables.analyze import legend_lines
            from ssmspec.report.tables.parts import console, plain

            console().print(*map(plain, legend_lines(self.explained)), sep="\n", highlight=False)


def _parquet_rows() -> "ParquetRows":
    from ssmspec.report.documents.parquet import ParquetRows

    return ParquetRows()


def _waiting_text() -> "tempfile.SpooledTemporaryFile[str]":
    return tempfile.SpooledTemporaryFile(KEPT, "w+", encoding="utf-8", errors="surrogatepass", newline="")


def _rewound(file: "tempfile.SpooledTemporaryFile[str]") -> "tempfile.SpooledTemporaryFile[str]":
    file.seek(0)
    return file
