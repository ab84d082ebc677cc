"""What is shown and written of each of many checkpoints, as text and rows that are ready: whoever analyzes a file makes them at once."""

import textwrap
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ssmspec.report.documents.analyze import analysis_document, copies_csv, document_rows
from ssmspec.report.documents.document import Document, csv_text, to_json
from ssmspec.report.units import in_physical_units
from ssmspec.statistics import CheckpointAnalysis


@dataclass(frozen=True, slots=True)
class FileRow:
    """One checkpoint in a table of many: the median of each statistic over its layers (their medians over copies), None if none has it.

    Args:
        farthest: of each statistic, the layer farthest from that median, with its value; None where there are fewer than two.
        units: of each statistic. cached: whether this was in a cache; None without one.
    """

    path: str
    layers: int
    medians: dict[str, float | None]
    farthest: dict[str, tuple[str, float] | None]
    units: dict[str, str]
    cached: bool | None


@dataclass(frozen=True, slots=True)
class Rendered:
    """Parts of the output of one checkpoint, None where they are not wanted.

    Args:
        problem: why none of its layers is usable, or None. table: the analysis, for a table of its own. row: its row in a table of many.
        csv, copies: lines of tables, without headings. rows: those of `csv`, as values. pictures: which were written.
    """

    path: str
    problem: str | None
    json: str | None = None
    csv: str | None = None
    rows: list[list[object]] | None = None
    row: FileRow | None = None
    copies: str | None = None
    table: CheckpointAnalysis | None = None
    pictures: tuple[Path, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """Which parts are wanted.

    Args:
        json: the document; indented as an entry of an array if there are `several` checkpoints.
        columns: statistics of `row`, which is not wanted if there are none.
        table, csv, rows, copies: see `Rendered`. plot: folder for pictures. sample_rate: samples per second, for values in Hz and s.
    """

    json: bool = False
    several: bool = False
    table: bool = False
    csv: bool = False
    rows: bool = False
    columns: tuple[str, ...] = ()
    copies: bool = False
    plot: Path | None = None
    sample_rate: float | None = None

    def __call__(self, analysis: CheckpointAnalysis, stem: str) -> Rendered:
        """The parts of one analysis; the names of its pictures begin with the stem."""
        found = Rendered(analysis.path, analysis.problem)
        if self.json or self.csv or self.rows or self.columns:
            found = self.of_document(self.document(analysis), analysis.problem)
        more: dict[str, Any] = {}
        if self.table:
            more["table"] = self._physical(analysis)
        if self.copies:
            more["copies"] = copies_csv(analysis)
        if self.plot is not None:
            from ssmspec.report.figures.analyze import plot_analysis

            more["pictures"] = tuple(plot_analysis(analysis, self.plot, stem, sample_rate=self.sample_rate))
        parts = {name: getattr(found, name) for name in ("path", "problem", "json", "csv", "rows", "row")}
        return Rendered(**parts, **more)

    def document(self, analysis: CheckpointAnalysis) -> Document:
        """The document of an analysis, in the units that are wanted."""
        return analysis_document(self._physical(analysis), sample_rate=self.sample_rate)

    def of_document(self, document: Document, problem: str | None) -> Rendered:
        """The parts that a document is enough for."""
        text = to_json(document) if self.json else None
        rows = document_rows(document) if self.csv or self.rows else []
        return Rendered(
            path=document["checkpoint"]["path"],
            problem=problem,
            json=textwrap.indent(text, "  ") if text is not None and self.several else text,
            csv=csv_text(rows) if self.csv else None,
            rows=rows if self.rows else None,
            row=file_row(document, self.columns) if self.columns else None,
        )

    def _physical(self, analysis: CheckpointAnalysis) -> CheckpointAnalysis:
        return analysis if self.sample_rate is None else in_physical_units(analysis, self.sample_rate)


def file_row(document: Document, columns: tuple[str, ...]) -> FileRow:
    """The row of a checkpoint, from its document."""
    medians: dict[str, float | None] = {}
    farthest: dict[str, tuple[str, float] | None] = {}
    units = {}
    for column in columns:
        found = [(layer["name"], layer["statistics"][column]) for layer in document["layers"] if column in layer["statistics"]]
        values = [(name, value["median"]) for name, value in found if value["median"] is not None]
        middle = median(value for _, value in values) if values else None
        medians[column] = middle
        farthest[column] = max(values, key=lambda pair: abs(pair[1] - middle)) if middle is not None and len(values) > 1 else None
        units[column] = found[0][1]["unit"] if found else ""
    checkpoint = document["checkpoint"]
    return FileRow(checkpoint["path"], len(document["layers"]), medians, farthest, units, checkpoint.get("cached"))
