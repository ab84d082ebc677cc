"""A retuned checkpoint in words and as a document of schema ssmspec.retune/1."""

from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from ssmspec import __version__
from ssmspec.commands.retune import RetunePlan
from ssmspec.report.documents.analyze import Document
from ssmspec.report.tables.analyze import plain
from ssmspec.report.tables.compare import comparison_document, comparison_table
from ssmspec.statistics.changes import CheckpointComparison


def retune_text(plan: RetunePlan, comparison: CheckpointComparison, written: Path | None) -> RenderableType:
    """The table of before and after, what was done to every layer (layers share a line), and where the result is."""
    groups: dict[str, list[str]] = {}
    for layer in plan.layers:
        for note in layer.notes:
            groups.setdefault(note, []).append(layer.after.name)
    lines = [f"{_names(names, len(plan.layers))}: {note}" for note, names in groups.items()]
    changed = len(plan.changes) + len(plan.added)
    end = f"{changed} tensor{'s' * (changed != 1)} changed; " + (f"wrote {written}" if written else "nothing was written")
    return Group(comparison_table(comparison), Text(), *map(plain, [*lines, *plan.notes]), plain(end, style="bold"))


def _names(names: list[str], everything: int) -> str:
    if len(names) == everything and everything > 1:
        return f"all {everything} layers"
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def retune_document(plan: RetunePlan, comparison: CheckpointComparison, written: Path | None) -> Document:
    """The document of schema ssmspec.retune/1: the comparison of before and after, and what was done to every layer."""
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
