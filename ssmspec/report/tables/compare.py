"""Comparisons and histories as tables."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ssmspec.checkpoint.remote.traffic import Opened
from ssmspec.report.tables.fitting import FittingTable
from ssmspec.report.tables.parts import grouped, label_of, plain, read_lines, summary_text
from ssmspec.statistics import HEADLINES, STATISTICS, CheckpointAnalysis, Summary
from ssmspec.statistics.changes import CheckpointComparison, LayerComparison, TensorChange
from ssmspec.statistics.distances import DISTANCES

SHOWN_STATISTICS = (*HEADLINES, "alpha_hat")
MOST_TENSORS = 5  # in the line of those that changed most
SHOWN = ("pole_movement", "crossed_share", "log_spectral_distance", "spectrum_distance")


def comparison_table(comparison: CheckpointComparison, opened: Iterable[Opened] = ()) -> RenderableType:
    """Headline statistics before and after, the distances between the two, and the verdict; first what was read of remote checkpoints."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("layer", overflow="fold")
    for name in HEADLINES:
        table.add_column(label_of(name, STATISTICS[name].unit), overflow="fold")
    for name in SHOWN:
        table.add_column(label_of(name, DISTANCES[name].unit), overflow="fold")
    table.add_column("alpha_hat", overflow="fold")
    for layer in comparison.layers:
        cells = [_arrow(layer, name) for name in HEADLINES]
        cells += [summary_text(layer.distances[name]) for name in SHOWN]
        table.add_row(plain(layer.name), *cells, _arrow(layer, "alpha_hat"))
    lines = [f"only in {path}: {', '.join(names)}" for path, names in _unmatched(comparison) if names]
    lines += changed_tensors(comparison.tensors)
    lines += [f"note: {note}" for note in comparison.notes]
    title = f"{comparison.before} -> {comparison.after}  (layers matched by {comparison.matched_by}; backend {comparison.backend})"
    verdict = plain(f"verdict: {comparison.verdict}", style="bold")
    medians = plain("medians over copies, before -> after; distances with their 5..95 % range over copies")
    return Group(
        plain(title, style="bold"),
        *map(plain, read_lines(opened)),
        Text(),
        FittingTable(table),
        Text(),
        medians,
        *map(plain, lines),
        verdict,
    )


def changed_tensors(tensors: Sequence[TensorChange]) -> list[str]:
    """How many stored tensors changed, those that changed most, and those that were not compared."""
    if not tensors:
        return []
    compared = [(tensor.change, tensor.name) for tensor in tensors if tensor.change is not None]
    changed = sorted(((change, name) for change, name in compared if change), key=lambda pair: -pair[0])
    most = "; most: " + ", ".join(f"{name} by {change:.2g}" for change, name in changed[:MOST_TENSORS]) if changed else ""
    lines = [f"stored tensors: {len(changed)} of {len(compared)} changed (relative norm of the difference){most}"]
    others = [f"{tensor.name} ({tensor.reason})" for tensor in tensors if tensor.change is None]
    return lines + ([f"not compared: {', '.join(others[:3])}{f' and {len(others) - 3} more' if len(others) > 3 else ''}"] if others else [])


def _unmatched(comparison: CheckpointComparison) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return (comparison.before, comparison.only_before), (comparison.after, comparison.only_after)


def _arrow(layer: LayerComparison, name: str) -> Text:
    start, end, change = layer.before.statistics[name].median, layer.after.statistics[name].median, layer.change[name]
    if start is None and end is None:
        return plain("none", style="dim")
    text = " -> ".join("none" if value is None else f"{value:.3g}" for value in (start, end))
    return plain(text if change is None else f"{text} ({change:+.2g})")


def history_table(analyses: Sequence[CheckpointAnalysis], opened: Iterable[Opened] = ()) -> RenderableType:
    """Medians of the headline statistics of every layer, one row per checkpoint; first what was read of remote ones."""
    parts: list[RenderableType] = [*map(plain, read_lines(opened))]
    for name in HEADLINES:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        table.add_column("#", justify="right")
        table.add_column("checkpoint", overflow="fold")
        for layer in analyses[0].layers:
            table.add_column(plain(layer.name), overflow="fold")
        for position, analysis in enumerate(analyses):
            table.add_row(str(position), plain(analysis.path), *(_median(layer.statistics[name]) for layer in analysis.layers))
        unit = analyses[0].layers[0].statistics[name].unit
        parts += [plain(f"{name} [{unit}], median over copies", style="bold"), Text(), FittingTable(table), Text()]
    pairs = dict.fromkeys((text, layer.name) for analysis in analyses for layer in analysis.layers for text in layer.assumptions)
    return Group(*parts, *map(plain, grouped("assumed", pairs, len(analyses[0].layers))))


def _median(summary: Summary) -> Text:
    return plain("none", style="dim") if summary.median is None else plain(f"{summary.median:.3g}")
