"""The results of a training run and of a sweep of runs, as documents and CSV rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from ssmspec.report.documents.compare import comparison_document
from ssmspec.report.documents.document import Document, csv_text
from ssmspec.statistics.changes import CheckpointComparison

SHOWN = ("bias_slope", "total_variation")  # statistics of the layers that the table of a sweep shows


MOVEMENT = "pole_movement"


@dataclass(frozen=True, slots=True)
class Measure:
    """A final measure of a model.

    Args:
        name: key in tables and JSON. value: may be NaN. unit: "" for a pure number. meaning: a short description.
        baseline: the value for a model that has learned nothing, if known.
    """

    name: str
    value: float
    unit: str
    meaning: str
    baseline: float | None = None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The results of one run folder.

    Args:
        title: title of the task. command: the command that repeats the run. settings: settings by name.
        measures: final measures. comparison: the first checkpoint against the last. seconds: time that this process spent on steps.
        steps: number of steps.
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


def heading_of(name: str, unit: str) -> str:
    """The name of a quantity with its unit, if it has one."""
    return f"{name} [{unit}]" if unit else name


def sweep_columns(row: SweepRow) -> dict[str, list[float]]:
    """Values, one per seed, by heading."""
    columns: dict[str, list[float]] = {}
    for run in row.runs:
        for measure in run.measures:
            columns.setdefault(heading_of(measure.name, measure.unit), []).append(measure.value)
        for layer in run.comparison.layers:
            for name in SHOWN:
                for when, side in (("before", layer.before), ("after", layer.after)):
                    columns.setdefault(f"{name} {when}", []).append(_or_nan(side.statistics[name].median))
            columns.setdefault(f"{MOVEMENT} [{layer.distances[MOVEMENT].unit}]", []).append(_or_nan(layer.distances[MOVEMENT].median))
    return columns


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def sweep_csv(rows: Sequence[SweepRow]) -> str:
    """One row per run and quantity, with a header."""
    cells: list[Iterable[object]] = [("alpha", "beta", "seed", "quantity", "value")]
    for row in rows:
        for name, values in sweep_columns(row).items():
            for run, value in zip(row.runs, values, strict=False):
                cells.append([row.alpha, row.beta, run.settings["seed"], name, value])
    return csv_text(cells)


def sweep_document(title: str, command: str, rows: Sequence[SweepRow]) -> Document:
    """The document of schema ssmspec.sweep/1."""
    return {
        "schema": "ssmspec.sweep/1",
        "title": title,
        "command": command,
        "runs": [{"alpha": row.alpha, "beta": row.beta, **run_document(run)} for row in rows for run in row.runs],
    }
