"""Tables that stay readable on narrow terminals. If a row does not fit, each row becomes a list, and no number is split."""

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

WIDEST = 10_000
LONG = 100  # rows; rich takes 2 ms for each, which is more than the analysis of a small file that is in the cache


class FittingTable:
    """A table if it fits the width, else its rows as blocks of "heading value" lines."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.table.row_count > LONG:
            lines = _lines(self.table)
            if max(map(cell_len, lines)) <= options.max_width:
                yield from (Segment(f"{line}\n") for line in lines)
                return
        needed = Measurement.get(console, options.update(max_width=WIDEST, width=WIDEST), self.table).maximum
        if needed <= options.max_width:
            yield self.table
            return
        headings = [" ".join(_text(column.header).plain.split()) for column in self.table.columns]
        columns = [list(column.cells) for column in self.table.columns]
        for row in zip(*columns, strict=True):
            for index, (heading, cell) in enumerate(zip(headings, row, strict=True)):
                value = _text(cell)
                if value.plain:
                    yield Text.assemble("" if index == 0 else "  ", (f"{heading} ", "dim"), value)
        yield Text()


def _text(cell: object) -> Text:
    return cell if isinstance(cell, Text) else Text.from_markup(str(cell))


def _lines(table: Table) -> list[str]:
    """The lines of a table of plain cells, each on one line, as rich would lay it out, without styles."""
    columns = []
    for column in table.columns:
        heading = _text(column.header).plain.split("\n")
        cells = [*heading, *[""] * (2 - len(heading)), *(_text(cell).plain for cell in column.cells)]
        width = max(map(cell_len, cells))
        right = column.justify == "right"
        columns.append([" " * (width - cell_len(cell)) + cell if right else set_cell_size(cell, width) for cell in cells])
    rows = ["   ".join(row).rstrip() for row in zip(*columns, strict=True)]
    return [*rows[:2], "─" * max(map(cell_len, rows)), *rows[2:]]
