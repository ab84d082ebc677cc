"""Pictures of an analysis: an overview of all layers, and one figure per layer with |H| and the poles."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssmspec.checkpoint.remote.path import title_of
from ssmspec.files.writing import made_folder
from ssmspec.report.figures.half_lives import memory_figure, tokens_figure
from ssmspec.report.figures.magnitude import draw_heatmap, draw_magnitude
from ssmspec.report.figures.panels import Drawn, Given, panels
from ssmspec.report.figures.poles import PoleSet, draw_poles
from ssmspec.report.figures.style import FrequencyAxis, list_height, safe_name, safe_names, save, styled
from ssmspec.statistics import CheckpointAnalysis, LayerAnalysis
from ssmspec.systems.grid import FloatArray


def plot_analysis(analysis: CheckpointAnalysis, folder: Path, stem: str, *, sample_rate: float | None = None) -> list[Path]:
    """Write the overview, the half-lives of decay gates, those over the tokens of a calibration, and one picture per usable layer as PNG.

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
        recorded = [layer for layer in analysis.layers if layer.over_tokens is not None]
        if recorded:
            figure = tokens_figure(recorded, title_of(analysis.path), analysis.context_length)
            written.append(save(figure, target / f"{stem}.tokens.png"))
        taken = ["overview", "memory", "tokens"]
        for layer, name in zip(usable, safe_names((layer.name for layer in usable), taken=taken), strict=True):
            figure = layer_figure(layer, theta, sample_rate)
            written.append(save(figure, target / f"{stem}.{name}.png"))
    return written


def overview_figure(
    layers: Sequence[LayerAnalysis], theta: FloatArray, title: str, sample_rate: float | None = None, *, ax: Given = None
) -> Drawn:
    """Heat map of median |H| in dB, with one row per layer and a logarithmic frequency axis."""
    shown = panels(ax, width=8, height=list_height(len(layers)), listing=True)
    curves = np.array([layer.curve.median for layer in layers if layer.curve is not None])
    norm = all(layer.inputs * layer.outputs > 1 for layer in layers)
    draw_heatmap(shown.axes[0], [layer.name for layer in layers], curves, theta, FrequencyAxis.at_rate(sample_rate), norm=norm)
    shown.head(title, f"{'Frobenius norm of H' if norm else 'median |H| over copies'} (dashed: Nyquist)")
    return shown.drawn


def layer_figure(layer: LayerAnalysis, theta: FloatArray, sample_rate: float | None = None, *, ax: Given = None) -> Drawn:
    """|H| with its median and 5..95 % band, or of few copies each, beside the poles of one layer, if it has poles.

    Args:
        ax: None, or one Axes for |H|; of a layer with poles also two.
    """
    assert layer.curve is not None
    axis, count = FrequencyAxis.at_rate(sample_rate), 2 if layer.poles.size else 1
    shown = panels(ax, count, width=10 if count == 2 else 6, height=4, columns=count, fewest=1)
    left, *beside = shown.axes
    draw_magnitude(left, axis.values(theta), layer.curve, norm=layer.inputs * layer.outputs > 1, nyquist=axis.value(np.pi))
    left.set_xlabel(axis.label)
    left.legend(loc="best")
    left.set_title("magnitude of the response")
    for right in beside:
        draw_poles(right, _poles_of(layer))
        if right.get_legend_handles_labels()[0]:
            right.legend(loc="best")
    shown.head(layer.name, f"{layer.family}, {layer.shape_text}")
    return shown.drawn


def _poles_of(layer: LayerAnalysis) -> PoleSet:
    """The poles in the s-plane where all copies have one step. Where steps differ, the same Re a is another decay in each: the z-plane."""
    alike = layer.step_range is not None and layer.step_range[0] == layer.step_range[1]
    if not layer.continuous_poles or alike or layer.details is None:
        return PoleSet(layer.name, layer.poles, layer.continuous_poles)
    real = not layer.poles.imag[np.isfinite(layer.poles)].any()
    return PoleSet.in_z_plane(layer.name, layer.details.discrete_poles, real=real)
