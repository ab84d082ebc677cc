"""Pictures of a comparison: |H| before and after with the paths of the poles, and the history of a run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssmspec.checkpoint.remote.path import stem_in
from ssmspec.report.figures.style import BAND, LINE, MARK, made_folder, safe_name, safe_names, save, short_name, styled
from ssmspec.statistics import HEADLINES, CheckpointAnalysis, LayerAnalysis
from ssmspec.statistics.changes import CheckpointComparison, LayerComparison
from ssmspec.systems.grid import FloatArray

MOST_PATHS = 4000  # at most this many poles have their path drawn
STYLES = ("-", "--", "-.", ":")
MARKERS = "osD^v<>pXh"


def plot_comparison(comparison: CheckpointComparison, folder: Path) -> list[Path]:
    """Write one PNG per layer that has a curve in both checkpoints. Returns their paths.

    Raises:
        SsmspecError: the folder cannot be written.
    """
    target = made_folder(folder)
    usable = [layer for layer in comparison.layers if layer.before.curve is not None and layer.after.curve is not None]
    stem = f"{stem_in(comparison.before)}-{stem_in(comparison.after)}"
    names = safe_names(layer.name for layer in usable)
    return [
        save(comparison_figure(layer, comparison.grid.values), target / f"{safe_name(stem)}.{name}.png")
        for layer, name in zip(usable, names, strict=True)
    ]


def comparison_figure(layer: LayerComparison, theta: FloatArray) -> Figure:
    """|H| before and after with its bands, and the path of every pole; an explicit kernel has none."""
    poles = layer.before.poles.size or layer.after.poles.size
    figure = Figure(figsize=(10 if poles else 6, 4), layout="constrained")
    left, *right = figure.subplots(1, 2 if poles else 1, squeeze=False)[0]
    _draw_curve(left, layer.before, theta, color="0.45", band="0.85", style="--", label="before")
    _draw_curve(left, layer.after, theta, color=LINE, band=BAND, style="-", label="after")
    left.axvline(np.pi, color=MARK, linestyle=":", linewidth=1, label="Nyquist")
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_xlabel("theta [rad/sample]")
    left.set_ylabel("|H| [output/input]")
    several = layer.before.curve is not None and layer.before.curve.p5 is not None
    left.set_title("median |H| and 5..95 % of copies" if several else "|H| of a single system (Frobenius norm)", fontsize=9)
    left.legend(fontsize=8, loc="best")
    for axes in right:
        _draw_paths(axes, layer)
    figure.suptitle(f"{short_name(layer.name, 90)} ({layer.before.family})", fontsize=10)
    return figure


def _draw_curve(axes: Axes, layer: LayerAnalysis, theta: FloatArray, *, color: str, band: str, style: str, label: str) -> None:
    assert layer.curve is not None
    if layer.curve.p5 is not None and layer.curve.p95 is not None:
        axes.fill_between(theta, layer.curve.p5, layer.curve.p95, color=band, alpha=0.5, linewidth=0)
    axes.plot(theta, layer.curve.median, color=color, linestyle=style, linewidth=1.5, label=label)
    axes.grid(visible=True, which="major", color="0.9")
    axes.set_axisbelow(True)


def _draw_paths(axes: Axes, layer: LayerComparison) -> None:
    start, end = layer.before.poles, layer.after.poles
    ordered = not layer.before.rank and not layer.after.rank
    axes.grid(visible=True, color="0.9")
    axes.set_axisbelow(True)
    if ordered and start.shape != end.shape:
        axes.text(0.5, 0.5, "the poles cannot be matched:\nthe shapes differ", ha="center", va="center", transform=axes.transAxes)
    else:
        a, b = (poles.reshape(-1)[:: max(1, poles.size // MOST_PATHS)] for poles in (start, end))
        if ordered:  # eigenvalues of a low-rank layer have no order, so no line can say which went where
            axes.plot([a.real, b.real], [a.imag, b.imag], color="0.6", linewidth=0.7)
        axes.scatter(a.real, a.imag, s=9, facecolors="white", edgecolors="0.45", linewidths=0.7, label="before", zorder=2)
        axes.scatter(b.real, b.imag, s=9, color=LINE, linewidths=0, label="after", zorder=3)
        axes.legend(fontsize=8, loc="best")
    continuous = layer.before.continuous_poles
    axes.set_xlabel("Re a [1/model time]" if continuous else "Re z")
    axes.set_ylabel("Im a [rad/model time]" if continuous else "Im z")
    axes.set_title("paths of the poles (upper half)" if ordered else "eigenvalues (upper half)", fontsize=9)


def plot_history(analyses: Sequence[CheckpointAnalysis], folder: Path) -> Path:
    """Write one PNG with the headline statistics of every layer over the checkpoints. Returns its path.

    Raises:
        SsmspecError: the folder cannot be written.
    """
    with styled():
        return save(history_figure(analyses), made_folder(folder) / "history.png")


def history_figure(analyses: Sequence[CheckpointAnalysis]) -> Figure:
    """Median of each headline statistic over the checkpoints, one line per layer."""
    figure = Figure(figsize=(5 * len(HEADLINES), 4), layout="constrained")
    steps = np.arange(len(analyses))
    layers = analyses[0].layers
    for axes, name in zip(figure.subplots(1, len(HEADLINES)), HEADLINES, strict=True):
        for index, layer in enumerate(layers):
            found = [analysis.layers[index].statistics[name].median for analysis in analyses]
            medians = np.array([np.nan if value is None else value for value in found])
            shade = str(0.7 * index / max(1, len(layers) - 1))
            style, marker = STYLES[index % len(STYLES)], MARKERS[index % len(MARKERS)]
            label = short_name(layer.name, 30) if len(layers) <= 12 else None
            axes.plot(steps, medians, color=shade, linestyle=style, marker=marker, markersize=4, label=label)
        axes.set_xlabel("checkpoint (position in the run)")
        axes.set_ylabel(f"{name} [{layers[0].statistics[name].unit}]")
        axes.set_xticks(steps if len(steps) <= 12 else steps[:: len(steps) // 8])
        axes.grid(visible=True, color="0.9")
        axes.set_axisbelow(True)
        axes.set_title(f"median {name} over copies", fontsize=9)
    if len(layers) <= 12:
        figure.axes[0].legend(fontsize=7, loc="best")
    return figure
