"""Analyses as JSON documents and CSV rows. The schemas are the files in `schemas/`."""

import csv
import io
import json
from dataclasses import asdict
from importlib.resources import files
from math import isfinite
from typing import Any

from ssmspec import __version__
from ssmspec.statistics import STATISTICS, CheckpointAnalysis, LayerAnalysis

Document = dict[str, Any]

CSV_COLUMNS = ("checkpoint", "layer", "family", "copies", "modes", "statistic", "median", "p5", "p95", "unit", "reason")


def schema(name: str) -> Document:
    """A JSON schema of the package by its short name, such as "analyze-1"."""
    text = files("ssmspec.report").joinpath("schemas", f"{name}.json").read_text(encoding="utf-8")
    document: Document = json.loads(text)
    return document


def analysis_document(analysis: CheckpointAnalysis, *, sample_rate: float | None = None) -> Document:
    """The document of schema ssmspec.analyze/1; every number in it is finite, or null with a reason."""
    theta = analysis.grid.values
    return {
        "schema": "ssmspec.analyze/1",
        "version": __version__,
        "checkpoint": {"path": analysis.path, "container": analysis.container, "bytes": analysis.size, "tensors": analysis.tensors},
        "backend": analysis.backend,
        "grid": {
            "axis": "theta",
            "unit": "rad/sample",
            "points": len(theta),
            "low": float(theta[0]),
            "high": float(theta[-1]),
            "spacing": "log",
        },
        "with_skip": analysis.with_skip,
        "sample_rate": sample_rate,
        "layers": [_layer_document(layer) for layer in analysis.layers],
        "skipped": [asdict(item) for item in analysis.skipped],
        "notes": list(analysis.notes),
    }


def _layer_document(layer: LayerAnalysis) -> Document:
    return {
        "name": layer.name,
        "index": layer.index,
        "family": layer.family,
        "copies": layer.copies,
        "inputs": layer.inputs,
        "outputs": layer.outputs,
        "modes": layer.modes,
        "rank": layer.rank,
        "discretization": layer.discretization,
        "delay": layer.delay,
        "step": _range(layer.step_range),
        "operating_point": layer.operating_point,
        "beta": None if layer.beta_range is None else {"convention": layer.beta_convention, **(_range(layer.beta_range) or {})},
        "assumptions": list(layer.assumptions),
        "notes": list(layer.notes),
        "energy_error": layer.energy_error,
        "problem": layer.problem,
        "memory": None if layer.memory is None else {str(tokens): share for tokens, share in layer.memory.items()},
        "statistics": {name: asdict(summary) for name, summary in layer.statistics.items()},
    }


def _range(limits: tuple[float, float] | None) -> Document | None:
    return None if limits is None else {"min": limits[0], "max": limits[1]}


def to_json(document: Document | list[Document]) -> str:
    """Indented JSON; a number that is not finite is a bug and raises ValueError rather than being written."""
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)


def to_csv(analysis: CheckpointAnalysis, *, header: bool = True) -> str:
    """One row per checkpoint, layer and statistic, with or without a header; empty where JSON has null."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(CSV_COLUMNS)
    for layer in analysis.layers:
        for name, value in layer.statistics.items():
            numbers = [value.median, value.p5, value.p95]
            writer.writerow([analysis.path, layer.name, layer.family, layer.copies, layer.modes, name, *numbers, value.unit, value.reason])
    return text.getvalue()


def copies_csv(analysis: CheckpointAnalysis, *, header: bool = True) -> str:
    """One row per checkpoint, layer and copy, a column per statistic, with or without a header; empty where a copy has no value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(
            ("checkpoint", "layer", "copy", *(f"{name} [{entry.unit}]" if entry.unit else name for name, entry in STATISTICS.items()))
        )
    for layer in analysis.layers:
        columns = [layer.values[name] for name in STATISTICS] if layer.values else []
        for copy, row in enumerate(zip(*columns, strict=True)):
            writer.writerow([analysis.path, layer.name, copy, *(float(value) if isfinite(value) else None for value in row)])
    return text.getvalue()
