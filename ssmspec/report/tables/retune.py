"""A retuned checkpoint as text."""

from collections.abc import Iterable
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from ssmspec.checkpoint.remote.traffic import Opened
from ssmspec.commands.retune import RetunePlan
from ssmspec.report.tables.compare import comparison_table
from ssmspec.report.tables.parts import plain
from ssmspec.statistics.changes import CheckpointComparison


def retune_text(plan: RetunePlan, comparison: CheckpointComparison, written: Path | None, opened: Iterable[Opened] = ()) -> RenderableType:
    """A table of before and after, what was done to each layer (layers with the same note share a line), and where the result is."""
    groups: dict[str, list[str]] = {}
    for layer in plan.layers:
        for note in layer.notes:
            groups.setdefault(note, []).append(layer.after.name)
    lines = [f"{_names(names, len(plan.layers))}: {note}" for note, names in groups.items()]
    changed = len(plan.changes) + len(plan.added)
    end = f"{changed} tensor{'s' * (changed != 1)} changed; " + (f"wrote {written}" if written else "nothing was written")
    return Group(comparison_table(comparison, opened), Text(), *map(plain, [*lines, *plan.notes]), plain(end, style="bold"))


def _names(names: list[str], everything: int) -> str:
    if len(names) == everything and everything > 1:
        return f"all {everything} layers"
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
