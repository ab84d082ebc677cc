"""A retuned checkpoint as a document of schema ssmspec.retune/1."""

from pathlib import Path

from ssmspec.commands.retune import RetunePlan
from ssmspec.report.documents.compare import comparison_document
from ssmspec.report.documents.document import Document
from ssmspec.statistics.changes import CheckpointComparison
from ssmspec.version import __version__


def retune_document(plan: RetunePlan, comparison: CheckpointComparison, written: Path | None) -> Document:
    """The document of schema ssmspec.retune/1: a comparison of before and after, and what was done to each layer."""
    changes = comparison_document(comparison)
    return {
        "schema": "ssmspec.retune/1",
        "version": __version__,
        "input": str(plan.checkpoint.path),
        "output": None if written is None else str(written),
        "dry_run": written is None,
        "recipe": plan.recipe.document(),
        "layers": [
            {
                "name": layer.after.name,
                "family": layer.after.family,
                "notes": list(layer.notes),
                "figures": dict(layer.figures),
                **statistics,
            }
            for layer, statistics in zip(
                plan.layers, ({key: entry[key] for key in ("statistics", "distances")} for entry in changes["layers"]), strict=True
            )
        ],
        "changed_tensors": sorted(plan.changes),
        "added_tensors": sorted(plan.added),
        "verdict": comparison.verdict,
        "notes": [*plan.notes, *comparison.notes],
    }
