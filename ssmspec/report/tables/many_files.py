"""Many checkpoints in one table, a row each."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ssmspec.report.documents.rendering import FileRow
from ssmspec.report.tables.analyze import MEANING
from ssmspec.report.tables.fitting import FittingTable
from ssmspec.report.tables.parts import MOST_ROWS, count_of, label_of, plain
from ssmspec.statistics import STATISTICS


def in_order(rows: Sequence[FileRow], sort: str | None) -> list[FileRow]:
    """The rows as they are, or by a statistic, largest first; after a minus sign, smallest first. Rows without a value come last."""
    if sort is None:
        return list(rows)
    name, sign = sort.removeprefix("-"), 1 if sort.startswith("-") else -1

    def key(row: FileRow) -> tuple[bool, float]:
        value = row.medians[name]
        return value is None, 0.0 if value is None else sign * value

    return sorted(rows, key=key)


def files_table(rows: Sequence[FileRow], columns: Sequence[str], *, sort: str | None = None, top: int | None = None) -> RenderableType:
    """Medians over the layers of each checkpoint, and the layer farthest from the median of the statistic sorted by, or of the first.

    Args:
        top: rows shown, at most; those that are not are counted.
    """
    by = sort.removeprefix("-") if sort else columns[0]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("checkpoint", overflow="fold")
    table.add_column("layers", justify="right")
    for name in columns:
        table.add_column(label_of(name, next((row.units[name] for row in rows if row.units[name]), STATISTICS[name].unit)), overflow="fold")
    table.add_column(f"farthest in {by}", overflow="fold")
    shown = in_order(rows, sort)[: min(top or MOST_ROWS, MOST_ROWS)]
    for row in shown:
        far = row.farthest[by]
        values = [plain("none", style="dim") if row.medians[name] is None else plain(f"{row.medians[name]:.3g}") for name in columns]
        table.add_row(plain(row.path), str(row.layers), *values, plain("-" if far is None else f"{far[0]} ({far[1]:.3g})"))
    hidden = len(rows) - len(shown)
    more = [f"... and {hidden} more; {'a larger --top shows them' if top else '--csv writes them all'}"] if hidden else []
    lines = [*more, "", *legend(columns, by), *cache_lines(rows)]
    title = count_of(len(rows), "checkpoint") + (
        "" if sort is None else f", by {by}, {'smallest' if sort.startswith('-') else 'largest'} first"
    )
    return Group(plain(title, style="bold"), Text(), FittingTable(table), *map(plain, lines))


def legend(columns: Sequence[str], by: str) -> list[str]:
    """What the columns of the table mean."""
    lines = ["values are medians over the layers of a checkpoint, of medians over copies"]
    lines += [f"{name}: {MEANING.get(name) or STATISTICS[name].formula}" for name in columns]
    return [*lines, f"farthest in {by}: the layer whose value differs most from that median"]


def cache_lines(rows: Sequence[FileRow]) -> list[str]:
    """How many checkpoints were in the cache; nothing without one."""
    told = [row.cached for row in rows if row.cached is not None]
    return [f"{sum(told)} of {len(told)} checkpoints from the cache, {len(told) - sum(told)} analyzed"] if told else []
