"""Comparisons and histories as JSON documents and CSV rows."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from math import isfinite

from ssmspec.report.documents.document import Document, csv_text
from ssmspec.statistics import CheckpointAnalysis
from ssmspec.statistics.changes import CheckpointComparison, LayerComparison, TensorChange
from ssmspec.version import __version__

COMPARE_COLUMNS = ("layer", "quantity", "kind", "before", "after", "change", "p5", "p95", "unit", "reason")


HISTORY_COLUMNS = ("position", "checkpoint", "layer", "statistic", "median", "p5", "p95", "unit", "reason")


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
        "tensors": [_tensor_document(tensor) for tensor in comparison.tensors],
        "notes": list(comparison.notes),
    }


def _tensor_document(tensor: TensorChange) -> Document:
    """A change that is infinite is null with its reason, as JSON has no infinity."""
    if tensor.change is None or isfinite(tensor.change):
        return asdict(tensor)
    return asdict(tensor) | {"change": None, "reason": "it was zero before"}


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
    return csv_text([COMPARE_COLUMNS, *(row for layer in comparison.layers for row in layer_change_rows(layer))])


def layer_change_rows(layer: LayerComparison) -> list[list[object]]:
    """One row per statistic or distance, with the columns `COMPARE_COLUMNS`."""
    rows: list[list[object]] = []
    for name, start in layer.before.statistics.items():
        end = layer.after.statistics[name]
        reason = start.reason or end.reason
        rows.append([layer.name, name, "statistic", start.median, end.median, layer.change[name], None, None, start.unit, reason])
    for name, value in layer.distances.items():
        rows.append([layer.name, name, "distance", None, None, value.median, value.p5, value.p95, value.unit, value.reason])
    return rows


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
                "assumptions": list(layer.assumptions),
                "assumed": [asdict(each) for each in layer.assumed],
                "statistics": {
                    name: [asdict(analysis.layers[index].statistics[name]) for analysis in analyses] for name in layer.statistics
                },
            }
            for index, layer in enumerate(analyses[0].layers)
        ],
    }


def history_csv(analyses: Sequence[CheckpointAnalysis]) -> str:
    """One row per checkpoint, layer and statistic, with a header."""
    rows: list[Iterable[object]] = [HISTORY_COLUMNS]
    for position, analysis in enumerate(analyses):
        for layer in analysis.layers:
            for name, value in layer.statistics.items():
                rows.append([position, analysis.path, layer.name, name, value.median, value.p5, value.p95, value.unit, value.reason])
    return csv_text(rows)
