"""A training run and a sweep of runs in words: tables, CSV rows and the card of a run folder."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from ssmspec.report.documents.analyze import Document
from ssmspec.report.tables.analyze import plain, plain_table
from ssmspec.report.tables.compare import comparison_document, comparison_table
from ssmspec.statistics import STATISTICS
from ssmspec.statistics.changes import CheckpointComparison, LayerComparison

SHOWN = ("bias_slope", "total_variation")  # of the layers of a run, in the table of a sweep
MOVEMENT = "pole_movement"


@dataclass(frozen=True, slots=True)
class Measure:
    """A final figure of a model.

    Args:
        name: key in tables and JSON. value: may be NaN. unit: "" for a pure number. meaning: in a few words.
        baseline: the value of a model that has learned nothing, where that is known.
    """

    name: str
    value: float
    unit: str
    meaning: str
    baseline: float | None = None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run folder says about itself.

    Args:
        title: of the task. command: that repeats the run. settings: by name.
        measures: final figures. comparison: of the first and the last checkpoint. seconds: spent on steps by this process. steps: so many.
    """

    title: str
    command: str
    settings: Mapping[str, object]
    measures: Sequence[Measure]
    comparison: CheckpointComparison
    seconds: float
    steps: int


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One setting of a sweep: its runs, one per seed."""

    alpha: float
    beta: float
    runs: Sequence[RunSummary]


def run_text(summary: RunSummary) -> RenderableType:
    """Final figures, and the layers before and after."""
    headings, rows = _measure_cells(summary.measures)
    table = plain_table(summary.title, headings, rows)
    return Group(table, Text(), comparison_table(summary.comparison))


def _measure_cells(measures: Sequence[Measure]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the final figures, with a column for baselines where there are any."""
    known = any(m.baseline is not None for m in measures)
    headings = ["figure", "value", *(["baseline"] if known else []), "unit", "meaning"]
    return headings, [[m.name, f"{m.value:.4g}", *([_number(m.baseline)] if known else []), m.unit, m.meaning] for m in measures]


def run_document(summary: RunSummary) -> Document:
    """The document of schema ssmspec.train/1."""
    return {
        "schema": "ssmspec.train/1",
        "title": summary.title,
        "command": summary.command,
        "settings": dict(summary.settings),
        "measures": {measure.name: asdict(measure) for measure in summary.measures},
        "seconds": summary.seconds,
        "steps": summary.steps,
        "comparison": comparison_document(summary.comparison),
    }


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
        f"Settings: {settings}. `config.toml` has them in full, `metrics.jsonl` the loss of the steps.",
        "",
        *_markdown(headings, [[f"`{name}`", *others] for name, *others in measures]),
        "",
        "The layers before and after training (medians over copies; `ssmspec compare initial.safetensors final.safetensors` shows more):",
        "",
        *_markdown(("layer", "statistic", "before", "after", "change"), layers),
        "",
        f"Verdict: {summary.comparison.verdict}.",
        "",
        f"Checkpoints, in order: {', '.join(f'`{name}`' for name in checkpoints)}. Names and shapes are those of published code;",
        "beta is in the metadata of the files, which ssmspec honors and other code does not know, unless a tensor of the layer holds it.",
        "",
        *(f"![{name}]({name})" for name in pictures),
    ]
    return "\n".join(lines) + "\n"


def _layer_cells(layer: LayerComparison) -> list[tuple[str, ...]]:
    rows = []
    for name in ("bias_slope", "center_frequency", "total_variation"):
        values = [side.statistics[name].median for side in (layer.before, layer.after)]
        rows.append((f"`{layer.name}`", _label(name, STATISTICS[name].unit), *map(_number, (*values, layer.change[name]))))
    for name in (MOVEMENT, "crossed_share"):
        moved = layer.distances[name]
        rows.append((f"`{layer.name}`", _label(name, moved.unit), "", "", _number(moved.median)))
    return rows


def _label(name: str, unit: str) -> str:
    return f"{name} [{unit}]" if unit else name


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join(_short(part) for part in value) if isinstance(value, tuple | list) else str(value)


def _markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows)]


def sweep_text(title: str, rows: Sequence[SweepRow]) -> RenderableType:
    """Mean and spread over seeds of every figure, and of the layers' statistics before and after."""
    headings, cells = _sweep_cells(rows)
    note = f"mean over {len(rows[0].runs)} seeds +- sample standard deviation" if len(rows[0].runs) > 1 else "one seed"
    return Group(plain_table(title, headings, cells), Text(), plain(f"{note}; statistics: median over the copies of a layer"))


def sweep_card(title: str, command: str, rows: Sequence[SweepRow], pictures: Iterable[str]) -> str:
    """The README.md of a sweep's folder."""
    table = _markdown(*_sweep_cells(rows))
    pairs = [f"![{name}]({name})" for name in pictures]
    return (
        "\n".join([f"# {title}", "", f"    {command}", "", "Mean +- sample standard deviation over the seeds.", "", *table, "", *pairs])
        + "\n"
    )


def _sweep_cells(rows: Sequence[SweepRow]) -> tuple[list[str], list[list[str]]]:
    columns = _sweep_columns(rows[0])
    headings = ["alpha", "beta", *columns]
    cells = [[f"{row.alpha:.4g}", f"{row.beta:.4g}", *(spread(values) for values in _sweep_columns(row).values())] for row in rows]
    return headings, cells


def _sweep_columns(row: SweepRow) -> dict[str, list[float]]:
    """Values over the seeds by heading."""
    columns: dict[str, list[float]] = {}
    for run in row.runs:
        for measure in run.measures:
            columns.setdefault(_label(measure.name, measure.unit), []).append(measure.value)
        for layer in run.comparison.layers:
            for name in SHOWN:
                for when, side in (("before", layer.before), ("after", layer.after)):
                    columns.setdefault(f"{name} {when}", []).append(_or_nan(side.statistics[name].median))
            columns.setdefault(f"{MOVEMENT} [{layer.distances[MOVEMENT].unit}]", []).append(_or_nan(layer.distances[MOVEMENT].median))
    return columns


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def spread(values: Sequence[float]) -> str:
    """Mean and, where there are several values, sample standard deviation."""
    mean = _rounded(float(np.mean(values)), 3)
    return mean if len(values) < 2 else f"{mean} +- {_rounded(float(np.std(values, ddof=1)), 1)}"


def _rounded(value: float, digits: int) -> str:
    """So many significant digits, without an exponent up to six of them."""
    return f"{float(f'{value:.{digits}g}'):g}"


def sweep_csv(rows: Sequence[SweepRow]) -> str:
    """One row per run and quantity, with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("alpha", "beta", "seed", "quantity", "value"))
    for row in rows:
        for name, values in _sweep_columns(row).items():
            for run, value in zip(row.runs, values, strict=False):
                writer.writerow([row.alpha, row.beta, run.settings["seed"], name, value])
    return text.getvalue()


def sweep_document(title: str, command: str, rows: Sequence[SweepRow]) -> Document:
    """The document of schema ssmspec.sweep/1."""
    return {
        "schema": "ssmspec.sweep/1",
        "title": title,
        "command": command,
        "runs": [{"alpha": row.alpha, "beta": row.beta, **run_document(run)} for row in rows for run in row.runs],
    }
