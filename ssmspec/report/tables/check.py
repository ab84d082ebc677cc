"""Checks as text."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ssmspec.checking.findings import SEVERITIES, CheckpointCheck, CheckReport
from ssmspec.checkpoint import count_of_layers
from ssmspec.errors import printable
from ssmspec.report.tables.parts import MOST_ROWS, count_of, read_of, readable_size

STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}
ENDLESS = 1 << 20  # columns


def print_report(report: CheckReport, console: Console) -> None:
    """Print one table per checkpoint with one line per finding, and the total count. Lines are not wrapped in a pipe or a file."""
    text = report_text(report)
    if not console.is_terminal:
        console.width = max(console.width, Measurement.get(console, console.options.update(max_width=ENDLESS), text).maximum)
    console.print(text, highlight=False)


def report_text(report: CheckReport) -> RenderableType:
    """What `print_report` prints, as a renderable."""
    return Group(*(part for check in report.checks for part in _checkpoint_text(check)), Text(summary_line(report)))


def _checkpoint_text(check: CheckpointCheck) -> Iterator[RenderableType]:
    size, tensors = readable_size(check.size), count_of(check.tensors, "tensor")
    layers = count_of_layers(layer.name for layer in check.layers)
    yield Text(f"{printable(check.path)}  ({check.container}, {size}, {tensors}{read_of(check.transfer)}; {layers})", style="bold")
    yield Text()
    if not check.findings:
        yield Text("no findings")
    else:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for heading in ("severity", "rule", "layer", "message"):
            table.add_column(heading, overflow="fold")
        for finding in check.findings[:MOST_ROWS]:
            table.add_row(
                Text(finding.severity, style=STYLES[finding.severity]), *map(_cell, (finding.rule, finding.layer, finding.message))
            )
        yield table
    if len(check.findings) > MOST_ROWS:
        yield Text(f"... and {len(check.findings) - MOST_ROWS} more; --format json lists them all")
    yield Text(_coverage(check))
    for note in check.notes:
        yield _cell(f"note: {note}")
    yield Text()


def _coverage(check: CheckpointCheck) -> str:
    """Which tensors were looked at."""
    outside = f"; {count_of(check.outside, 'tensor')} outside SSM layers {'was' if check.outside == 1 else 'were'} not looked at"
    total = check.looked_at + len(check.unread)
    if not check.unread:
        return f"looked at every value of the {count_of(total, 'tensor')} of SSM layers{outside if check.outside else ''}"
    why = "--shallow; " if check.shallow else ""
    part = f"looked at {check.looked_at} of {count_of(total, 'tensor')} of SSM layers ({why}--format json lists the others)"
    return f"{part}{outside if check.outside else ''}"


def _cell(text: str) -> Text:
    return Text(_one_line(text))


def _one_line(text: str) -> str:
    """The text without control characters, which names in a file may contain and a terminal would obey."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def summary_line(report: CheckReport) -> str:
    """N errors, M warnings and I infos in K layers, and whether the check passed."""
    counts = ", ".join(count_of(report.count(severity), severity) for severity in SEVERITIES)
    layers = count_of_layers(layer.name for check in report.checks for layer in check.layers)
    files = f" of {len(report.checks)} checkpoints" if len(report.checks) > 1 else ""
    unread = f"; {count_of(len(report.unread), 'file')} not read" if report.unread else ""
    strict = " (strict: warnings fail)" if report.strict else ""
    return f"{counts} in {layers}{files}{unread}: {'passed' if report.passed else 'failed'}{strict}"
