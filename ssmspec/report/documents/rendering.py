"""What is shown and written of each of many checkpoints, as text and rows that are ready: whoever analyzes a file makes them at once."""

import textwrap
from dataclasses import dataclass
from pathlib import Path

from ssmspec.report.documents.analyze import analysis_document, copies_csv, document_rows
from ssmspec.report.documents.document import csv_text, to_json
from ssmspec.report.units import in_physical_units
from ssmspec.statistics import CheckpointAnalysis

Row = list[object]


@dataclass(frozen=True, slots=True)
class Rendered:
    """Parts of the output of one checkpoint, None where they are not wanted.

    Args:
        problem: why none of its layers is usable, or None. table: the analysis, for a table of its own.
        csv, copies: lines of tables, without headings. pictures: which were written.
    """

    path: str
    problem: str | None
    json: str | None = None
    csv: str | None = None
    copies: str | None = None
    table: CheckpointAnalysis | None = None
    pictures: tuple[Path, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """Which parts are wanted.

    Args:
        json: the document; indented as an entry of an array if there are `several` checkpoints.
        table, csv, copies: see `Rendered`. plot: folder for pictures. sample_rate: samples per second, for values in Hz and s.
    """

    json: bool = False
    several: bool = False
    table: bool = False
    csv: bool = False
    copies: bool = False
    plot: Path | None = None
    sample_rate: float | None = None

    def __call__(self, analysis: CheckpointAnalysis, stem: str) -> Rendered:
        """The parts of one analysis; the names of its pictures begin with the stem."""
        rate = self.sample_rate
        physical = analysis if rate is None else in_physical_units(analysis, rate)
        document = analysis_document(physical, sample_rate=rate) if self.json or self.csv else {}
        text = to_json(document) if self.json else None
        return Rendered(
            path=analysis.path,
            problem=analysis.problem,
            json=textwrap.indent(text, "  ") if text is not None and self.several else text,
            csv=csv_text(document_rows(document)) if self.csv else None,
            copies=copies_csv(analysis) if self.copies else None,
            table=physical if self.table else None,
            pictures=None if self.plot is None else self._pictures(analysis, self.plot, stem),
        )

    def _pictures(self, analysis: CheckpointAnalysis, folder: Path, stem: str) -> tuple[Path, ...]:
        from ssmspec.report.figures.analyze import plot_analysis

        return tuple(plot_analysis(analysis, folder, stem, sample_rate=self.sample_rate))
