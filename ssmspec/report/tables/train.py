"""A training run and a sweep of runs as text: tables, and the card of a run folder."""

from collections.abc import Iterable, Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from ssmspec.report.documents.train import MOVEMENT, Measure, RunSummary, SweepRow, heading_of, sweep_columns
from ssmspec.report.tables.compare import comparison_table
from ssmspec.report.tables.parts import plain, plain_table
from ssmspec.statistics import STATISTICS
from ssmspec.statistics.changes import LayerComparison


def run_text(summary: RunSummary) -> RenderableType:
    """Final measures, and the layers before and after."""
    headings, rows = _measure_cells(summary.measures)
    table = plain_table(summary.title, headings, rows)
    return Group(table, Text(), comparison_table(summary.comparison))


def _measure_cells(measures: Sequence[Measure]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the final measures, with a column for baselines if there are any."""
    known = any(m.baseline is not None for m in measures)
    headings = ["figure", "value", *(["baseline"] if known else []), "unit", "meaning"]
    return headings, [[m.name, f"{m.value:.4g}", *([_number(m.baseline)] if known else []), m.unit, m.meaning] for m in measures]


def run_card(summary: RunSummary, pictures: Iterable[str], checkpoints: Sequence[str]) -> str:
    """The README.md of a run folder."""
    headings, measures = _measure_cells(summary.measures)
    layers = [cells for layer in summary.comparison.layers for cells in _layer_cells(layer)]
    settings = ", ".join(f"{name} {_short(value)}" for name, value in summary.settings.items())
    lines = [
        f"# {summary.title}",
        "",
        f"    {summary.command}",
        "",
        f"Settings: {settings}. `config.toml` has them in full, and `metrics.jsonl` has the loss of each step.",
        "",
        *markdown(headings, [[f"`{name}`", *others] for name, *others in measures]),
        "",
        "The layers before and after training (medians over copies; `ssmspec compare initial.safetensors final.safetensors` shows more):",
        "",
        *markdown(("layer", "statistic", "before", "after", "change"), layers),
        "",
        f"Verdict: {summary.comparison.verdict}.",
        "",
        f"Checkpoints, in order: {', '.join(f'`{name}`' for name in checkpoints)}. Names and shapes are those of published code.",
        "Unless a tensor of the layer holds beta, it is in the metadata of the files, which ssmspec reads and other code ignores.",
        "",
        *(f"![{name}]({name})" for name in pictures),
    ]
    return "\n".join(lines) + "\n"


def _layer_cells(layer: LayerComparison) -> list[tuple[str, ...]]:
    rows = []
    for name in ("bias_slope", "center_frequency", "total_variation"):
        values = [side.statistics[name].median for side in (layer.before, layer.after)]
        rows.append((f"`{layer.name}`", heading_of(name, STATISTICS[name].unit), *map(_number, (*values, layer.change[name]))))
    for name in (MOVEMENT, "crossed_share"):
        moved = layer.distances[name]
        rows.append((f"`{layer.name}`", heading_of(name, moved.unit), "", "", _number(moved.median)))
    return rows


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join(_short(part) for part in value) if isinstance(value, tuple | list) else str(value)


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown, as lines."""
    return [f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows)]


def sweep_text(title: str, rows: Sequence[SweepRow]) -> RenderableType:
    """Mean and spread over seeds of every measure, and of the layers' statistics before and after."""
    headings, cells = _sweep_cells(rows)
    note = f"mean over {len(rows[0].runs)} seeds +- sample standard deviation" if len(rows[0].runs) > 1 else "one seed"
    return Group(plain_table(title, headings, cells), Text(), plain(f"{note}; statistics: median over the copies of a layer"))


def sweep_card(title: str, command: str, rows: Sequence[SweepRow], pictures: Iterable[str]) -> str:
    """The README.md of a sweep's folder."""
    table = markdown(*_sweep_cells(rows))
    pairs = [f"![{name}]({name})" for name in pictures]
    return (
        "\n".join([f"# {title}", "", f"    {command}", "", "Mean +- sample standard deviation over the seeds.", "", *table, "", *pairs])
        + "\n"
    )


def _sweep_cells(rows: Sequence[SweepRow]) -> tuple[list[str], list[list[str]]]:
    columns = sweep_columns(rows[0])
    headings = ["alpha", "beta", *columns]
    cells = [[f"{row.alpha:.4g}", f"{row.beta:.4g}", *(spread(values) for values in sweep_columns(row).values())] for row in rows]
    return headings, cells


def spread(values: Sequence[float]) -> str:
    """Mean and, where there are several values, sample standard deviation."""
    mean = _rounded(float(np.mean(values)), 3)
    return mean if len(values) < 2 else f"{mean} +- {_rounded(float(np.std(values, ddof=1)), 1)}"


def _rounded(value: float, digits: int) -> str:
    """The value with this many significant digits, without an exponent for up to six digits before the point."""
    return f"{float(f'{value:.{digits}g}'):g}"
