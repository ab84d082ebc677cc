"""A retuned checkpoint as a document of schema ssmspec.retune/1."""

import textwrap
from dataclasses import dataclass
from pathlib import Path

from ssmspec.commands.retune import RetunePlan
from ssmspec.report.documents.compare import comparison_document
from ssmspec.report.documents.document import Document, to_json
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


@dataclass(frozen=True, slots=True)
class OneOfMany:
    """What is shown of a retuned checkpoint among others: its document as an entry of an array, or a line; and notes."""

    text: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RetuneRendering:
    """Makes that of each of them; `as_json`: the document."""

    as_json: bool

    def __call__(self, plan: RetunePlan, comparison: CheckpointComparison, written: Path | None, notes: tuple[str, ...]) -> OneOfMany:
        if self.as_json:
            return OneOfMany(textwrap.indent(to_json(retune_document(plan, comparison, written)), "  "), notes)
        changed = len(plan.changes) + len(plan.added)
        end = f"wrote {written}" if written else "nothing was written"
        line = f"{plan.checkpoint.path}: {changed} tensor{'s' * (changed != 1)} changed; {end}; verdict: {comparison.verdict}"
        return OneOfMany(line, (*plan.notes, *notes))
