"""Tables that stay readable on narrow terminals. If a row does not fit, each row becomes a list, and no number is split."""

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

WIDEST = 10_000


class FittingTable:
    """A table if it fits the width, else its rows as blocks of "heading value" lines."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
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
