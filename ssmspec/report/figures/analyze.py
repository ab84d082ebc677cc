"""Pictures of an analysis: an overview of all layers, and one figure per layer with |H| and the poles."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ssmspec.checkpoint.remote.path import title_of
from ssmspec.report.figures.half_lives import memory_figure
from ssmspec.report.figures.magnitude import draw_heatmap, draw_magnitude
from ssmspec.report.figures.poles import PoleSet, draw_poles
from ssmspec.report.figures.style import (
    BAND,
    LABEL,
    LINE,
    MARK,
    TITLE,
    FrequencyAxis,
    list_height,
    made_folder,
    new_figure,
    safe_name,
    safe_names,
    save,
    short_name,
    styled,
)
from ssmspec.statistics import CheckpointAnalysis, LayerAnalysis
from ssmspec.systems.grid import FloatArray

# the figures, and names that other pictures share with them
__all__ = [
    "BAND",
    "LINE",
    "MARK",
    "layer_figure",
    "made_folder",
    "overview_figure",
    "plot_analysis",
    "safe_name",
    "safe_names",
    "save",
    "short_name",
]


def plot_analysis(analysis: CheckpointAnalysis, folder: Path, stem: str, *, sample_rate: float | None = None) -> list[Path]:
    """Write the overview, the half-lives of decay gates and one picture per usable layer as PNG.

    Returns their paths in order; empty if no layer is usable.

    Args:
        folder: target folder, created if missing.
        stem: start of every file name.
        sample_rate: samples per second, to show Hz instead of rad/sample.
    Raises:
        SsmspecError: the folder cannot be written.
    """
    target = made_folder(folder)
    stem = safe_name(stem)
    if analysis.problem:
        return []
    usable = [layer for layer in analysis.layers if layer.curve is not None]
    theta = analysis.grid.values
    with styled():
        written = [save(overview_figure(usable, theta, title_of(analysis.path), sample_rate), target / f"{stem}.overview.png")]
        gates = [layer for layer in analysis.layers if layer.half_lives is not None]
        if gates:
            figure = memory_figure(gates, title_of(analysis.path), analysis.context_length)
            written.append(save(figure, target / f"{stem}.memory.png"))
        for layer, name in zip(usable, safe_names((layer.name for layer in usable), taken=["overview", "memory"]), strict=True):
            figure = layer_figure(layer, theta, sample_rate)
            written.append(save(figure, target / f"{stem}.{name}.png"))
    return written


def overview_figure(layers: Sequence[LayerAnalysis], theta: FloatArray, title: str, sample_rate: float | None = None) -> Figure:
    """Heat map of median |H| in dB, with one row per layer and a logarithmic frequency axis."""
    figure = new_figure(8, list_height(len(layers)))
    curves = np.array([layer.curve.median for layer in layers if layer.curve is not None])
    draw_heatmap(figure, [layer.name for layer in layers], curves, theta, FrequencyAxis.at_rate(sample_rate))
    single = all(layer.inputs * layer.outputs > 1 for layer in layers)
    what = "Frobenius norm of H" if single else "median |H| over copies"
    figure.axes[0].set_title(f"{short_name(title, 60)}: {what} (dashed: Nyquist)", fontsize=TITLE)
    return figure


def layer_figure(layer: LayerAnalysis, theta: FloatArray, sample_rate: float | None = None) -> Figure:
    """|H| with its median and 5..95 % band beside the poles of one layer, if it has poles."""
    assert layer.curve is not None
    axis, poles = FrequencyAxis.at_rate(sample_rate), layer.poles.size > 0
    figure = new_figure(10 if poles else 6, 4)
    left, *beside = figure.subplots(1, 2 if poles else 1, squeeze=False)[0]
    name = "|H|" if layer.inputs * layer.outputs == 1 else "Frobenius norm of H"
    draw_magnitude(left, axis.values(theta), layer.curve, name=name, nyquist=axis.value(np.pi))
    left.set_xlabel(axis.label)
    left.legend(loc="best")
    left.set_title("magnitude of the response", fontsize=LABEL)
    for right in beside:
        draw_poles(right, PoleSet(layer.name, layer.poles, layer.continuous_poles))
    figure.suptitle(f"{short_name(layer.name, 90 if poles else 50)} ({layer.family}, {layer.shape_text})", fontsize=TITLE)
    return figure
