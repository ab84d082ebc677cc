"""Everything that a report shows, as one JSON document. Its numbers are those of `--json`, from the same results."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ssmspec.checkpoint import average_in
from ssmspec.checkpoint.remote.path import title_of
from ssmspec.commands.report import Report
from ssmspec.errors import printable
from ssmspec.report.documents.document import Document
from ssmspec.report.html.layer_data import Texts, Version, layer_data
from ssmspec.report.html.packing import Amount, bins_of, first_modes, packed
from ssmspec.statistics import STATISTICS, CheckpointAnalysis, LayerAnalysis
from ssmspec.statistics.changes import TRAINING_CHANGE, differences
from ssmspec.statistics.distances import DISTANCES
from ssmspec.version import __version__

MOST_LAYERS = 128  # of all steps of a run together; of a run with more, some steps are shown
FEWEST_STEPS = 4  # of a run that are shown in any case
OVER_STEPS = ("bias_slope", "center_frequency")  # statistics that are drawn over the steps of a run


@dataclass(frozen=True, slots=True)
class Row:
    """A layer and its version in every checkpoint that is shown; None where the checkpoint lacks it."""

    versions: tuple[LayerAnalysis | None, ...]

    @property
    def known(self) -> list[LayerAnalysis]:
        """The versions that there are."""
        return [layer for layer in self.versions if layer is not None]

    @property
    def last(self) -> LayerAnalysis:
        """The version that stands for the layer."""
        return self.known[-1]


def report_data(report: Report, *, sample_rate: float | None = None) -> Document:
    """The document in the page. Texts from files are printable, and no number is infinite or NaN.

    Args:
        sample_rate: samples per second, to begin with Hz instead of rad/sample.
    """
    shown = shown_steps(report)
    rows = rows_of(report, shown)
    amount, texts = Amount(sum(len(row.known) for row in rows)), Texts()
    grid = report.last.grid.values
    kinds = {"run": report.comparison is None and len(report.analyses) > 1, "pair": report.comparison is not None}
    return {
        "version": __version__,
        "kind": next((kind for kind, true in kinds.items() if true), "one"),
        "sampleRate": sample_rate,
        "withSkip": report.last.with_skip,
        "grid": {"theta": packed(grid), "bins": bins_of(len(grid), amount.points).tolist()},
        "modes": {str(count): (first_modes(count) + 1).tolist() for count in _counts(rows)},
        "statistics": [_definition(entry) | {"headline": entry.headline} for entry in STATISTICS.values()],
        "distances": [_definition(entry) for entry in DISTANCES.values()],
        "checkpoints": [_checkpoint(report, place) for place in shown],
        "rows": [_row(row) for row in rows],
        "layers": [_layers(rows, place, texts, amount) for place in range(len(shown))],
        "comparison": _comparison(report, rows, texts),
        "history": _history(report),
        "texts": texts.all,
    }


def shown_steps(report: Report) -> list[int]:
    """Which checkpoints are shown: all, or some of a run with many steps, the first and the last among them."""
    count = len(report.analyses)
    most = max(FEWEST_STEPS, MOST_LAYERS // max(1, len(report.last.layers)))
    if count <= max(2, most):
        return list(range(count))
    return np.unique(np.linspace(0, count - 1, most).round().astype(int)).tolist()


def rows_of(report: Report, shown: Sequence[int]) -> list[Row]:
    """The layers of a checkpoint or run in model order; of two checkpoints, those of the second, then those that only the first has."""
    if report.comparison is None:
        analyses = [report.analyses[place] for place in shown]
        return [Row(versions) for versions in zip(*(analysis.layers for analysis in analyses), strict=True)]
    before, after = ({layer.name: layer for layer in analysis.layers} for analysis in report.analyses)
    partner = {pair.after.name: pair.before.name for pair in report.comparison.layers}
    rows = [Row((before.get(partner.get(name, "")) if name in partner else None, layer)) for name, layer in after.items()]
    taken = set(partner.values())
    return rows + [Row((layer, None)) for name, layer in before.items() if name not in taken]


def _counts(rows: Sequence[Row]) -> list[int]:
    details = [layer.details for row in rows for layer in row.known]
    return sorted({len(each.hankel.median) for each in details if each is not None and each.hankel is not None})


def _definition(entry: object) -> Document:
    return {name: getattr(entry, name) for name in ("name", "unit", "formula", "source")}


def _checkpoint(report: Report, place: int) -> Document:
    analysis = report.analyses[place]
    label = title_of(analysis.path)
    return {
        "label": printable(label),
        "path": printable(analysis.path),
        "step": None if report.steps is None else report.steps[place],
        "context": analysis.context_length,
    }


def _row(row: Row) -> Document:
    layer = row.last
    word = average_in(layer.name)
    return {
        "name": printable(layer.name),
        "before": printable(row.known[0].name) if row.known[0].name != layer.name else None,
        "index": layer.index,
        "family": layer.family,
        "average": None if word is None else printable(word),
        "shape": layer.shape_text,
        "copies": layer.copies,
        "inputs": layer.inputs,
        "outputs": layer.outputs,
        "length": layer.length,
        "discretization": layer.discretization,
        "step": layer.step_range,
        "beta": layer.beta_range,
        "operatingPoint": None if layer.operating_point is None else printable(layer.operating_point),
        "gate": layer.half_lives is not None,
    }


def _layers(rows: Sequence[Row], place: int, texts: Texts, amount: Amount) -> list[Document | None]:
    """The layers of one checkpoint in the order of the rows."""
    versions = [(row.versions[place], row) for row in rows]
    return [None if layer is None else layer_data(Version(layer, row.known), texts, amount) for layer, row in versions]


def _comparison(report: Report, rows: Sequence[Row], texts: Texts) -> Document | None:
    """The verdict, and of every row the changes of medians and the distances, in the order of the definitions."""
    if report.comparison is None:
        return None
    distances = {pair.after.name: pair.distances for pair in report.comparison.layers}
    lines: list[Document | None] = []
    for row in rows:
        before, after = row.versions
        if before is None or after is None:
            lines.append(None)
            continue
        change = differences(before, after)
        found = [asdict(distances[after.name][name]) for name in DISTANCES]
        lines.append(
            {
                "changes": [change[name] for name in STATISTICS],
                "distances": [texts.place(each["reason"]) if each["median"] is None else _numbers(each) for each in found],
            }
        )
    return {"verdict": printable(report.comparison.verdict), "layers": lines, "trainingChange": TRAINING_CHANGE}


def _numbers(summary: Document) -> list[float]:
    return [summary["median"]] if summary["p5"] is None else [summary[name] for name in ("median", "p5", "p95")]


def _history(report: Report) -> Document | None:
    """Medians over all steps of a run, of every layer; null where there is none."""
    if report.comparison is not None or len(report.analyses) < 2:
        return None
    return {
        "steps": report.steps,
        "labels": [printable(title_of(analysis.path)) for analysis in report.analyses],
        "trainingChange": TRAINING_CHANGE,
        "medians": {name: _medians(report.analyses, name) for name in OVER_STEPS},
    }


def _medians(analyses: Sequence[CheckpointAnalysis], name: str) -> list[list[float | None]]:
    layers = range(len(analyses[0].layers))
    return [[analysis.layers[place].statistics[name].median for analysis in analyses] for place in layers]
