"""What all tables share: plain text, headings, sizes, summaries, and the console that prints them."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ssmspec.checkpoint.remote.traffic import Opened, Transfer
from ssmspec.errors import printable
from ssmspec.report.tables.fitting import FittingTable
from ssmspec.statistics import Summary

MOST_LINES = 5  # of one kind below a table
MOST_ROWS = 2000  # at most this many rows of a table are shown; their layout takes about a second


def plain(text: str, style: str = "") -> Text:
    """Text without markup and without control characters that a terminal would obey."""
    return Text(printable(text), style=style)


def label_of(name: str, unit: str) -> str:
    """A heading with its unit on a second line, protected from rich markup."""
    return f"{name}\n[{unit}]".replace("[", r"\[") if unit else name


def count_of(number: int, noun: str) -> str:
    """A number with its noun, in the plural where it is not 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def readable_size(size: float) -> str:
    """Bytes with a decimal prefix."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def read_of(transfer: Transfer | None) -> str:
    """How much of a remote checkpoint was read, in which state; "" for a local one."""
    if transfer is None:
        return ""
    state = f" at commit {transfer.revision[:12]}" if transfer.revision else ""
    return f"; {readable_size(transfer.bytes)} of it read in {count_of(transfer.requests, 'request')}{state}"


def read_lines(opened: Iterable[Opened]) -> list[str]:
    """One line per remote checkpoint: how much of it was read, and in which state."""
    return [f"{each.path}: {readable_size(each.size)}{read_of(each.transfer)}" for each in opened]


def summary_text(summary: Summary) -> Text:
    """A median with its range, or the word "none"."""
    if summary.median is None:
        return plain("none", style="dim")
    text = f"{summary.median:.3g}"
    return plain(text if summary.p5 is None else f"{text} ({summary.p5:.3g}..{summary.p95:.3g})")


def console(*, stderr: bool = False) -> Console:
    """A console that wraps lines to the width of a terminal, but not in a pipe or a file."""
    probe = Console(stderr=stderr)
    return probe if probe.is_terminal else Console(stderr=stderr, width=240, soft_wrap=True)


def plain_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    """A table of plain strings. Beyond `MOST_ROWS` rows, it only states how many more there are."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(escape(heading), overflow="fold")
    for row in rows[:MOST_ROWS]:
        table.add_row(*(plain(cell) for cell in row))
    more = [plain(f"... and {len(rows) - MOST_ROWS} more; --json lists them all")] if len(rows) > MOST_ROWS else []
    return Group(plain(title, style="bold"), Text(), FittingTable(table), *more)


def grouped(label: str, pairs: Iterable[tuple[str, str]], everything: int | None, *, most: int | None = None) -> list[str]:
    """One line per text with the names that it applies to, or 'all layers' if it applies to all of them.

    Args:
        everything: number of layers, or None where the names are no layers. most: number of lines before the rest is folded into one.
    """
    names: dict[str, list[str]] = {}
    for text, name in pairs:
        names.setdefault(text, []).append(name)
    lines = []
    for text, holders in names.items():
        shown = ", ".join(holders[:3]) + (f" and {len(holders) - 3} more" if len(holders) > 3 else "")
        where = "all layers" if everything is not None and len(holders) == everything > 1 else shown
        lines.append(f"{label} ({where}): {text}")
    return lines if most is None else folded(lines, most, label)


def folded(lines: Sequence[str], most: int = MOST_LINES, label: str = "", where: str = "--json lists them all") -> list[str]:
    """The lines, or of many the first ones, how many more there are, and where they are all listed."""
    if len(lines) <= most + 1:
        return list(lines)
    return [*lines[:most], f"{label}{': ' if label else ''}and {len(lines) - most} more; {where}"]
