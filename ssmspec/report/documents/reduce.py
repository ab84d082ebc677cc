"""A reduced checkpoint as a document of schema ssmspec.reduce/1."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from ssmspec.commands.reduce import ReducePlan
from ssmspec.commands.reduce_writing import copies
from ssmspec.report.documents.document import Document
from ssmspec.version import __version__


def reduce_document(plan: ReducePlan, times: Mapping[str, tuple[float, float]], written: Path | None) -> Document:
    """The document of schema ssmspec.reduce/1: what was asked for, and the certificate of every copy of every layer."""
    return {
        "schema": "ssmspec.reduce/1",
        "version": __version__,
        "input": str(plan.checkpoint.path),
        "output": None if written is None else str(written),
        "dry_run": written is None,
        "request": plan.request.document(),
        "parameters": list(plan.parameters),
        "layers": [
            {
                "name": layer.after.name,
                "family": layer.after.family,
                "modes": list(layer.stored),
                "modes_needed": layer.needed,
                "parameters": list(layer.parameters),
                "norm": layer.certificate.norm,
                "relative_error": _largest(layer.certificate.relative),
                "bound_holds": layer.certificate.holds,
                "milliseconds_per_step": list(times[layer.after.name]) if layer.after.name in times else None,
                "copies": dict(copies(layer)),
                "assumptions": list(layer.before.assumptions),
                "assumed": [asdict(each) for each in layer.before.assumed],
                "notes": list(layer.notes),
            }
            for layer in plan.layers
        ],
        "changed_tensors": {name: list(values.shape) for name, values in sorted(plan.changes.items())},
        "settings": [setting.document() for setting in plan.settings.found],
        "notes": list(plan.notes),
    }


def _largest(values: object) -> float | None:
    largest = float(max(values))  # type: ignore[call-overload]
    return largest if largest == largest else None
