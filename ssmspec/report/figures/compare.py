"""Pictures of a comparison: |H| before and after with the paths of the poles, or |H| alone of many layers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ssmspec.checkpoint.remote.path import is_address, stem_in, title_of
from ssmspec.files.writing import made_folder
from ssmspec.report.figures.panels import Drawn, Given, multiples, panels
from ssmspec.report.figures.style import (
    BAND,
    LINE,
    FrequencyAxis,
    draw_nyquist,
    frequency_scale,
    light_grid,
    log_scale,
    safe_name,
    safe_names,
    save,
    short_name,
    styled,
)
from ssmspec.statistics import LayerAnalysis
from ssmspec.statistics.changes import CheckpointComparison, LayerComparison
from ssmspec.systems.grid import FloatArray

MOST_PATHS = 4000  # at most this many poles have their path drawn
BEFORE, BEFORE_BAND = "0.45", "0.85"


def plot_comparison(comparison: CheckpointComparison, folder: Path) -> list[Path]:
    """Write one PNG per layer that has a curve in both checkpoints. Returns their paths.

    Raises:
        SsmspecError: the folder cannot be written.
    """
    target = made_folder(folder)
    usable = drawable(comparison).layers
    stem = f"{stem_in(comparison.before)}-{stem_in(comparison.after)}"
    names = safe_names(layer.name for layer in usable)
    title = comparison_title(comparison)
    written = []
    with styled():
        for layer, name in zip(usable, names, strict=True):
            figure = comparison_figure(replace(comparison, layers=(layer,)), FrequencyAxis(), title)
            written.append(save(figure, target / f"{safe_name(stem)}.{name}.png"))
    return written


def drawable(found: CheckpointComparison) -> CheckpointComparison:
    """The layers that have a curve in both checkpoints."""
    return replace(found, layers=tuple(layer for layer in found.layers if layer.before.curve is not None and layer.after.curve is not None))


def comparison_title(found: CheckpointComparison) -> str:
    """The names of both files, with their folders where they are the same."""
    before, after = title_of(found.before), title_of(found.after)
    if before == after and not is_address(found.before) and not is_address(found.after):
        before, after = (f"{Path(path).resolve().parent.name}/{title_of(path)}" for path in (found.before, found.after))
    return f"{before} -> {after}"


def comparison_figure(found: CheckpointComparison, axis: FrequencyAxis, title: str, *, ax: Given = None) -> Drawn:
    """|H| before and after; of one layer with the path of every pole, unless it is an explicit kernel. Several layers are small multiples.

    Args:
        found: its layers have curves, see `drawable`.
        ax: None, or one Axes per layer; of one layer with poles also two.
    """
    theta = axis.values(found.grid.values)
    if len(found.layers) > 1:
        shown = multiples(ax, len(found.layers))
        for axes, layer in zip(shown.axes, found.layers, strict=True):
            _draw_magnitudes(axes, layer, theta, axis)
        shown.arrange([layer.name for layer in found.layers], title, "|H| before and after; one panel per layer", aspect=0.62)
        return shown.drawn
    (layer,) = found.layers
    count = 2 if layer.before.poles.size or layer.after.poles.size else 1
    shown = panels(ax, count, width=5 * count + (count == 1), height=4, columns=count, fewest=1)
    left, *right = shown.axes
    _draw_magnitudes(left, layer, theta, axis)
    left.set_title(_what(layer.before))
    left.legend(loc="best")
    for axes in right:
        _draw_paths(axes, layer)
    shown.head(title, f"{short_name(layer.name, 60)} ({layer.before.family})")
    return shown.drawn


def _what(layer: LayerAnalysis) -> str:
    name = "|H|" if _single(layer) else "Frobenius norm of H"
    if layer.curve is not None and layer.curve.copies is not None:
        return f"{name} of each of {len(layer.curve.copies)} copies"
    return name if layer.copies == 1 else f"median {name} and 5..95 % of copies"


def _single(layer: LayerAnalysis) -> bool:
    return layer.inputs * layer.outputs == 1


def _draw_magnitudes(axes: Axes, layer: LayerComparison, theta: FloatArray, axis: FrequencyAxis) -> None:
    _draw_curve(axes, layer.before, theta, color=BEFORE, band=BEFORE_BAND, style="--", label="before")
    _draw_curve(axes, layer.after, theta, color=LINE, band=BAND, style="-", label="after")
    draw_nyquist(axes, axis.value(np.pi))
    frequency_scale(axes)
    log_scale(axes)
    axes.set_xlabel(axis.label)
    axes.set_ylabel(("$|H|$" if _single(layer.before) else r"$\|H\|_F$") + " [output/input]")
    light_grid(axes)


def _draw_curve(axes: Axes, layer: LayerAnalysis, theta: FloatArray, *, color: str, band: str, style: str, label: str) -> None:
    assert layer.curve is not None
    if layer.curve.copies is not None:
        for place, values in enumerate(layer.curve.copies):
            axes.plot(theta, values, color=color, linestyle=style, linewidth=0.8, label=None if place else label)
        return
    if layer.curve.p5 is not None and layer.curve.p95 is not None:
        axes.fill_between(theta, layer.curve.p5, layer.curve.p95, color=band, alpha=0.5, linewidth=0)
    axes.plot(theta, layer.curve.median, color=color, linestyle=style, label=label)


def _draw_paths(axes: Axes, layer: LayerComparison) -> None:
    start, end = layer.before.poles, layer.after.poles
    ordered = not layer.before.rank and not layer.after.rank
    light_grid(axes)
    if ordered and start.shape != end.shape:
        axes.text(0.5, 0.5, "the poles cannot be matched:\nthe shapes differ", ha="center", va="center", transform=axes.transAxes)
    else:
        a, b = (poles.reshape(-1)[:: max(1, poles.size // MOST_PATHS)] for poles in (start, end))
        if ordered:  # eigenvalues of a low-rank layer have no order, so no line can say which went where
            axes.plot([a.real, b.real], [a.imag, b.imag], color="0.6", linewidth=0.7)
        axes.scatter(a.real, a.imag, s=9, facecolors="white", edgecolors=BEFORE, linewidths=0.7, label="before", zorder=2)
        axes.scatter(b.real, b.imag, s=9, color=LINE, linewidths=0, label="after", zorder=3)
        axes.legend(loc="best")
    continuous = layer.before.continuous_poles
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel("Re a [1/model time]" if continuous else "Re z")
    axes.set_ylabel("Im a [rad/model time]" if continuous else "Im z")
    axes.set_title("paths of the poles (upper half)" if ordered else "eigenvalues (upper half)")
