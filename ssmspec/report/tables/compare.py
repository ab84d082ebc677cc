"""Comparisons and histories as tables, JSON documents and CSV rows."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ssmspec import __version__
from ssmspec.report.documents.analyze import Document
from ssmspec.report.tables.analyze import label_of, plain, summary_text
from ssmspec.report.tables.fitting import FittingTable
from ssmspec.statistics import STATISTICS, CheckpointAnalysis, Summary
from ssmspec.statistics.changes import CheckpointComparison, LayerComparison
from ssmspec.statistics.distances import DISTANCES

SHOWN = ("pole_movement", "crossed_share", "log_spectral_distance", "spectrum_distance")
COMPARE_COLUMNS = ("layer", "quantity", "kind", "before", "after", "change", "p5", "p95", "unit", "reason")
HISTORY_COLUMNS = ("position", "checkpoint", "layer", "statistic", "median", "p5", "p95", "unit", "reason")


def comparison_table(comparison: CheckpointComparison) -> RenderableType:
    """Headline statistics before and after, the distances between, and the verdict."""
    headlines = [name for name, statistic in STATISTICS.items() if statistic.headline]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("layer", overflow="fold")
    for name in headlines:
        table.add_column(label_of(name, STATISTICS[name].unit), overflow="fold")
    for name in SHOWN:
        table.add_column(label_of(name, DISTANCES[name].unit), overflow="fold")
    table.add_column("alpha_hat", overflow="fold")
    for layer in comparison.layers:
        cells = [_arrow(layer, name) for name in headlines]
        cells += [summary_text(layer.distances[name]) for name in SHOWN]
        table.add_row(plain(layer.name), *cells, _arrow(layer, "alpha_hat"))
    lines = [f"only in {path}: {', '.join(names)}" for path, names in _unmatched(comparison) if names]
    lines += [f"note: {note}" for note in comparison.notes]
    title = f"{comparison.before} -> {comparison.after}  (layers matched by {comparison.matched_by}; backend {comparison.backend})"
    verdict = plain(f"verdict: {comparison.verdict}", style="bold")
    medians = plain("medians over copies, before -> after; distances with their 5..95 % range over copies")
    return Group(plain(title, style="bold"), Text(), table, Text(), medians, *map(plain, lines), verdict)


def _unmatched(comparison: CheckpointComparison) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return (comparison.before, comparison.only_before), (comparison.after, comparison.only_after)


def _arrow(layer: LayerComparison, name: str) -> Text:
    start, end, change = layer.before.statistics[name].median, layer.after.statistics[name].median, layer.change[name]
    if start is None and end is None:
        return plain("none", style="dim")
    text = " -> ".join("none" if value is None else f"{value:.3g}" for value in (start, end))
    return plain(text if change is None else f"{text} ({change:+.2g})")


def comparison_document(comparison: CheckpointComparison) -> Document:
    """The document of schema ssmspec.compare/1."""
    return {
        "schema": "ssmspec.compare/1",
        "version": __version__,
        "before": comparison.before,
        "after": comparison.after,
        "backend": comparison.backend,
        "matched_by": comparison.matched_by,
        "verdict": comparison.verdict,
        "layers": [_layer_document(layer) for layer in comparison.layers],
        "only_before": list(comparison.only_before),
        "only_after": list(comparison.only_after),
        "notes": list(comparison.notes),
    }


def _layer_document(layer: LayerComparison) -> Document:
    return {
        "name": layer.name,
        "name_after": layer.after.name,
        "family": layer.before.family,
        "family_after": layer.after.family,
        "statistics": {
            name: {"before": asdict(start), "after": asdict(layer.after.statistics[name]), "change": layer.change[name]}
            for name, start in layer.before.statistics.items()
        },
        "distances": {name: asdict(value) for name, value in layer.distances.items()},
    }


def comparison_csv(comparison: CheckpointComparison) -> str:
    """One row per layer and statistic or distance, with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COMPARE_COLUMNS)
    for layer in comparison.layers:
        for name, start in layer.before.statistics.items():
            end = layer.after.statistics[name]
            reason = start.reason or end.reason
            writer.writerow([layer.name, name, "statistic", start.median, end.median, layer.change[name], None, None, start.unit, reason])
        for name, value in layer.distances.items():
            writer.writerow([layer.name, name, "distance", None, None, value.median, value.p5, value.p95, value.unit, value.reason])
    return text.getvalue()


def history_table(analyses: Sequence[CheckpointAnalysis]) -> RenderableType:
    """Medians of the headline statistics of every layer, a row per checkpoint."""
    headlines = [name for name, statistic in STATISTICS.items() if statistic.headline]
    parts: list[RenderableType] = []
    for name in headlines:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        table.add_column("#", justify="right")
        table.add_column("checkpoint", overflow="fold")
        for layer in analyses[0].layers:
            table.add_column(plain(layer.name), overflow="fold")
        for position, analysis in enumerate(analyses):
            table.add_row(str(position), plain(analysis.path), *(_median(layer.statistics[name]) for layer in analysis.layers))
        unit = analyses[0].layers[0].statistics[name].unit
        parts += [plain(f"{name} [{unit}], median over copies", style="bold"), Text(), FittingTable(table), Text()]
    return Group(*parts)


def _median(summary: Summary) -> Text:
    return plain("none", style="dim") if summary.median is None else plain(f"{summary.median:.3g}")


def history_document(analyses: Sequence[CheckpointAnalysis]) -> Document:
    """The document of schema ssmspec.history/1: every statistic of every layer over the checkpoints."""
    return {
        "schema": "ssmspec.history/1",
        "version": __version__,
        "checkpoints": [analysis.path for analysis in analyses],
        "layers": [
            {
                "name": layer.name,
                "family": layer.family,
                "statistics": {
                    name: [asdict(analysis.layers[index].statistics[name]) for analysis in analyses] for name in layer.statistics
                },
            }
            for index, layer in enumerate(analyses[0].layers)
        ],
    }


def history_csv(analyses: Sequence[CheckpointAnalysis]) -> str:
    """One row per checkpoint, layer and statistic, with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HISTORY_COLUMNS)
    for position, analysis in enumerate(analyses):
        for layer in analysis.layers:
            for name, value in layer.statistics.items():
                writer.writerow([position, analysis.path, layer.name, name, value.median, value.p5, value.p95, value.unit, value.reason])
    return text.getvalue()
