"""Measurements of a model in training as lines of JSON and rows of CSV. The schema is `schemas/monitor-1.json`."""

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from ssmspec.report.documents.analyze import CSV_COLUMNS, grid_document, layer_document, layer_rows
from ssmspec.report.documents.document import Document, csv_text, escaped
from ssmspec.statistics import LayerAnalysis, Measurement
from ssmspec.systems.grid import FloatArray
from ssmspec.version import __version__

MONITOR = "ssmspec.monitor/1"
COLUMNS = ("step", *CSV_COLUMNS[1:])
COLUMNS_LINE = ",".join(COLUMNS)
CURVE_POINTS = 64  # points of the grid at which a line has |H|


@dataclass(frozen=True, slots=True)
class Timing:
    """The cost of measuring: the seconds of this measurement without writing it, and the earlier total as a share of training time."""

    seconds: float
    share: float


def monitor_line(measurement: Measurement, timing: Timing | None, pictures: Mapping[str, str] | None) -> str:
    """The line of schema ssmspec.monitor/1.

    Args:
        timing: None omits it, so that the same run gives the same bytes.
        pictures: picture file by layer, for layers that have one. None for a measurement without pictures, which has no curves either.
    """
    document: Document = {
        "schema": MONITOR,
        "version": __version__,
        "step": measurement.step,
        "backend": measurement.backend,
        "grid": grid_document(measurement.grid),
        "with_skip": measurement.with_skip,
        "layers": [layer_document(layer) for layer in measurement.layers],
        "skipped": [asdict(item) for item in measurement.skipped],
        "response": None if pictures is None else _response(measurement),
        "pictures": None if pictures is None else dict(pictures),
        "timing": None if timing is None else asdict(timing),
    }
    return escaped(json.dumps(document, allow_nan=False, ensure_ascii=False)) + "\n"


def _response(measurement: Measurement) -> Document:
    theta = measurement.grid.values
    places = np.unique(np.linspace(0, len(theta) - 1, CURVE_POINTS).round().astype(int))
    curves = {layer.name: _curve(layer, places) for layer in measurement.layers}
    return {"theta": theta[places].tolist(), "magnitude": curves}


def _curve(layer: LayerAnalysis, places: np.ndarray) -> Document | None:
    if layer.curve is None:
        return None
    parts: dict[str, FloatArray | None] = {"median": layer.curve.median, "p5": layer.curve.p5, "p95": layer.curve.p95}
    return {name: None if part is None else [_finite(value) for value in part[places]] for name, part in parts.items()}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def step_of_line(line: str) -> int | None:
    """The step of a complete line of schema ssmspec.monitor/1; None for anything else."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = found.get("step") if isinstance(found, dict) and found.get("schema") == MONITOR else None
    return step if type(step) is int else None


def monitor_rows(measurement: Measurement, timing: Timing | None, pictures: Mapping[str, str] | None) -> str:
    """One row per layer and statistic with the columns `COLUMNS`. Cells are empty where JSON has null. Timing and pictures are omitted."""
    return csv_text([measurement.step, *row] for layer in measurement.layers for row in layer_rows(layer))


def step_of_row(line: str) -> int | None:
    """The step of a complete row with the columns `COLUMNS`; None for anything else."""
    row = next(csv.reader([line]), [])
    return int(row[0]) if len(row) == len(COLUMNS) and row[0].isdecimal() else None
