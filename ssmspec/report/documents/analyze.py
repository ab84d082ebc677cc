"""Analyses as JSON documents and CSV rows. The schemas are the files in `report/schemas/`."""

from collections.abc import Iterable
from dataclasses import asdict
from math import isfinite

import numpy as np

from ssmspec.checkpoint import average_in
from ssmspec.report.documents.document import Document, csv_text, transfer_document
from ssmspec.statistics import STATISTICS, CheckpointAnalysis, LayerAnalysis, TokenBand
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.version import __version__

CSV_COLUMNS = ("checkpoint", "layer", "family", "copies", "modes", "statistic", "median", "p5", "p95", "unit", "reason")


def analysis_document(analysis: CheckpointAnalysis, *, sample_rate: float | None = None) -> Document:
    """The document of schema ssmspec.analyze/1. Every number in it is finite, or null with a reason."""
    return {
        "schema": "ssmspec.analyze/1",
        "version": __version__,
        "checkpoint": {
            "path": analysis.path,
            "container": analysis.container,
            "bytes": analysis.size,
            "tensors": analysis.tensors,
            **transfer_document(analysis.transfer),
        },
        "backend": analysis.backend,
        "grid": grid_document(analysis.grid),
        "with_skip": analysis.with_skip,
        "sample_rate": sample_rate,
        "layers": [layer_document(layer) for layer in analysis.layers],
        "skipped": [asdict(item) for item in analysis.skipped],
        "notes": list(analysis.notes),
        **({} if analysis.calibration is None else {"calibration": dict(analysis.calibration)}),
    }


def grid_document(grid: FrequencyGrid) -> Document:
    """The frequency grid of the statistics."""
    theta = grid.values
    limits = {"points": len(theta), "low": float(theta[0]), "high": float(theta[-1])}
    return {"axis": "theta", "unit": "rad/sample", **limits, "spacing": "log"}


def layer_document(layer: LayerAnalysis) -> Document:
    """One layer, as in `layers` of schema ssmspec.analyze/1."""
    return {
        "name": layer.name,
        "index": layer.index,
        "family": layer.family,
        "average": average_in(layer.name),
        "copies": layer.copies,
        "inputs": layer.inputs,
        "outputs": layer.outputs,
        "modes": layer.modes,
        "rank": layer.rank,
        "discretization": layer.discretization,
        "delay": layer.delay,
        "kernel": None if layer.length is None else {"length": layer.length, "first_lag": layer.first_lag},
        "step": _range(layer.step_range),
        "operating_point": layer.operating_point,
        "beta": None if layer.beta_range is None else {"convention": layer.beta_convention, **(_range(layer.beta_range) or {})},
        "assumptions": list(layer.assumptions),
        "assumed": [asdict(each) for each in layer.assumed],
        "notes": list(layer.notes),
        "energy_error": layer.energy_error,
        "problem": layer.problem,
        "sound_copies": layer.sound,
        "faults": [{"kind": fault.kind, "copies": fault.copies.tolist(), "text": fault.text} for fault in layer.faults],
        **over_tokens_document(layer.over_tokens),
        "memory": None if layer.memory is None else {str(tokens): share for tokens, share in layer.memory.items()},
        "statistics": {name: asdict(summary) for name, summary in layer.statistics.items()},
    }


TOKEN_SHARES = ("p5", "median", "p95")


def over_tokens_document(band: TokenBand | None) -> Document:
    """Half-lives over the tokens of a calibration: an entry of its own, with a summary over copies and every copy; else nothing."""
    if band is None:
        return {}
    found = {
        share: {**asdict(summary), "copies": [float(value) if isfinite(value) else None for value in values]}
        for share, summary, values in zip(TOKEN_SHARES, band.summaries(), band.half_lives, strict=True)
    }
    return {"over_tokens": {"tokens": band.tokens, "sampled": band.sampled, "unit": band.unit, "half_life": found}}


def _range(limits: tuple[float, float] | None) -> Document | None:
    return None if limits is None else {"min": limits[0], "max": limits[1]}


def document_rows(document: Document) -> list[list[object]]:
    """One row per layer and statistic of a document, with the columns `CSV_COLUMNS`."""
    path, parts = document["checkpoint"]["path"], ("median", "p5", "p95", "unit", "reason")
    return [
        [path, layer["name"], layer["family"], layer["copies"], layer["modes"], name, *(value[part] for part in parts)]
        for layer in document["layers"]
        for name, value in layer["statistics"].items()
    ]


def layer_rows(layer: LayerAnalysis) -> list[list[object]]:
    """One row per statistic, with the columns `CSV_COLUMNS` except the first."""
    head = [layer.name, layer.family, layer.copies, layer.modes]
    return [[*head, name, value.median, value.p5, value.p95, value.unit, value.reason] for name, value in layer.statistics.items()]


def copies_columns(names: Iterable[str], *, calibrated: bool) -> list[str]:
    """The headings of `copies_csv` for statistics of these names, and for analyses at recorded operating points."""
    entries = [STATISTICS[name] for name in names]
    titles = [f"{entry.name} [{entry.unit}]" if entry.unit else entry.name for entry in entries]
    if calibrated:
        titles += [f"half_life {share} over tokens [samples]" for share in TOKEN_SHARES]
    return ["checkpoint", "layer", "copy", *titles]


def copies_csv(analysis: CheckpointAnalysis) -> str:
    """One row per layer and copy, sound or not, and one column per computed statistic; empty where a copy has no value."""
    rows: list[Iterable[object]] = []
    for layer in analysis.layers:
        columns = [layer.values.get(name, np.full(layer.copies, np.nan)) for name in analysis.statistics]
        if analysis.calibration is not None:
            columns += [*(np.full((3, layer.copies), np.nan) if layer.over_tokens is None else layer.over_tokens.half_lives)]
        for copy, row in enumerate(zip(*columns, strict=True)):
            rows.append([analysis.path, layer.name, copy, *(float(value) if isfinite(value) else None for value in row)])
    return csv_text(rows)
