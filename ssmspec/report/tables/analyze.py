"""Analyses as text for people: one table per checkpoint, and below it what was assumed and what was skipped."""

from collections.abc import Iterable, Sequence

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ssmspec.checkpoint import average_in, count_of_layers, kind_of_average
from ssmspec.report.tables.fitting import FittingTable
from ssmspec.report.tables.over_tokens import lines_over_tokens, tables_over_tokens
from ssmspec.report.tables.parts import MOST_LINES, count_of, folded, grouped, label_of, plain, read_of, readable_size, summary_text
from ssmspec.statistics import HALF_LIFE, HEADLINES, STATISTICS, CheckpointAnalysis, LayerAnalysis
from ssmspec.systems.grid import FloatArray

BIAS = "bias_slope"
SPARK_WIDTH = 16
SPARK_RANGE = 60.0  # the lowest bar stands for at most this many dB below the highest point
BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = " .:-=+*#"

MEANING = {
    "bias_slope": "how hard it is to learn one decade higher in frequency: 0 equally hard, -2 a hundred times harder, > 0 easier",
    "center_frequency": "half of |H| lies below it, summed over log-spaced frequencies",
}


def analysis_table(
    analysis: CheckpointAnalysis, *, columns: Sequence[str] = HEADLINES, unicode: bool = True, legend: bool = True
) -> RenderableType:
    """The table of one checkpoint, with medians and 5..95 % ranges over copies. A layer that is a single system has a single value.

    Args:
        legend: whether lines below it say what the columns mean.
    """
    columns = shown_columns(analysis, columns)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in ("#", "layer", "family", "copies x modes", "step"):
        table.add_column(heading, justify="right" if heading == "#" else "left", overflow="fold")
    for name in columns:
        unit = next((layer.statistics[name].unit for layer in analysis.layers if name in layer.statistics), STATISTICS[name].unit)
        table.add_column(label_of(name, unit), overflow="fold")
    table.add_column("median |H|, low to high theta", no_wrap=True)
    for layer in analysis.layers:
        table.add_row(str(layer.index), *_row(layer, columns), _sparkline(layer, unicode=unicode))
    for item in analysis.skipped if not analysis.layers else ():
        if item.kind == "unread":
            table.add_row("-", plain(item.name), item.family or "", "-", "-", *["none"] * (len(columns) + 1))
    return Group(
        plain(_title(analysis), style="bold"),
        Text(),
        FittingTable(table),
        *tables_over_tokens(analysis),
        *_footnotes(analysis, [*legend_lines(columns), *lines_over_tokens(analysis)] if legend else []),
    )


def legend_lines(columns: Iterable[str]) -> list[str]:
    """What values and columns mean."""
    lines = ["values are medians over the copies of a layer (5..95 % range); a single system has a value and no range"]
    return [*lines, *(f"{name}: {MEANING.get(name) or STATISTICS[name].formula}" for name in columns)]


def shown_columns(analysis: CheckpointAnalysis, columns: Sequence[str]) -> Sequence[str]:
    """The columns of a table: among the headlines, decay gates have a half-life in the place of a bias."""
    if tuple(columns) != HEADLINES:
        return columns
    gates = [layer.half_lives is not None for layer in analysis.layers]
    if not any(gates):
        return columns
    first = (HALF_LIFE,) if all(gates) else (BIAS, HALF_LIFE)
    return (*first, *(name for name in columns if name != BIAS))


def _title(analysis: CheckpointAnalysis) -> str:
    skip = ", D included" if analysis.with_skip else ""
    size, tensors = readable_size(analysis.size), count_of(analysis.tensors, "tensor")
    return f"{analysis.path}  ({analysis.container}, {size}, {tensors}{read_of(analysis.transfer)}; backend {analysis.backend}{skip})"


def _row(layer: LayerAnalysis, columns: Sequence[str]) -> list[RenderableType]:
    shape = layer.shape_text + (f" ({layer.inputs} in, {layer.outputs} out)" if layer.inputs * layer.outputs > 1 else "")
    step = "-" if layer.step_range is None else _span(*layer.step_range)
    word = average_in(layer.name)
    name = layer.name if word is None else f"{layer.name} ({kind_of_average(word)})"
    return [plain(name), layer.family, shape, step, *(_cell(layer, name) for name in columns)]


def _cell(layer: LayerAnalysis, name: str) -> Text:
    """A statistic; a dash where it is not what describes the layer."""
    gate = layer.half_lives is not None
    return plain("-") if name not in layer.statistics or (name == BIAS and gate) else summary_text(layer.statistics[name])


def _span(low: float, high: float) -> str:
    return f"{low:.3g}" if low == high else f"{low:.3g}..{high:.3g}"


def _sparkline(layer: LayerAnalysis, *, unicode: bool) -> Text:
    if layer.curve is None:
        return plain("none", style="dim")
    return plain(sparkline(layer.curve.median, BARS if unicode else ASCII_BARS))


def sparkline(magnitude: FloatArray, bars: str) -> str:
    """Bars that show the level in dB, from the highest down to at most 60 dB below it. A flat curve is a row of middle bars.

    Empty if a value overflowed.
    """
    points = magnitude[np.linspace(0, len(magnitude) - 1, SPARK_WIDTH).round().astype(int)]
    if not np.isfinite(points).all():
        return ""
    if not (points > 0).any():
        return bars[0] * SPARK_WIDTH
    with np.errstate(divide="ignore"):
        level = 20 * np.log10(points / points.max())
    level = np.maximum(level, -SPARK_RANGE)
    depth = -level.min()
    if depth < 0.5:
        return bars[len(bars) // 2] * SPARK_WIDTH
    steps = np.minimum(((level + depth) / depth * len(bars)).astype(int), len(bars) - 1)
    return "".join(bars[step] for step in steps)


def _footnotes(analysis: CheckpointAnalysis, legend: Sequence[str]) -> list[RenderableType]:
    lines: list[str] = ["", *legend]
    if any(average_in(layer.name) for layer in analysis.layers):
        lines.append(f"averages of weights over training are counted apart: {count_of_layers(layer.name for layer in analysis.layers)}")
    for word in dict.fromkeys(average_in(layer.name) for layer in analysis.layers):
        lines += _memory([layer for layer in analysis.layers if layer.memory is not None and average_in(layer.name) == word], word)
    lines += grouped("assumed", [(text, layer.name) for layer in analysis.layers for text in layer.assumptions], len(analysis.layers))
    count = len(analysis.layers)
    lines += grouped("note", [(text, layer.name) for layer in analysis.layers for text in layer.notes], count, most=2 * MOST_LINES)
    lines += folded([f"no numbers for {layer.name}: {layer.problem}" for layer in analysis.layers if layer.problem])
    lines += grouped("skipped", [(item.reason, item.name) for item in analysis.skipped], None, most=MOST_LINES)
    lines += [f"note: {note}" for note in analysis.notes]
    return [plain(line) for line in lines]


def _memory(layers: Sequence[LayerAnalysis], average: str | None) -> list[str]:
    """The share of selective layers with a long memory, over all of their copies (heads or channels); `average`: the averaged copy."""
    if not layers:
        return []
    copies = sum(layer.sound for layer in layers)
    totals: dict[int, float] = {}
    for layer in layers:
        for tokens, share in (layer.memory or {}).items():
            totals[tokens] = totals.get(tokens, 0) + share * layer.sound / copies
    shares = ", ".join(f"over {tokens // 1024}k tokens in {100 * share:.3g} %" for tokens, share in totals.items())
    where = f"{copies} heads or channels" + (f" in {len(layers)} layers" if len(layers) > 1 else "")
    where += f" of {average}" if average else ""
    return [f"memory of {where}: half-life (slowest pole, at the operating point) {shares}"]
