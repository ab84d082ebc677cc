"""Half-lives of decay gates over the depth of a model, against its context."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from ssmspec.report.figures.panels import Drawn, Given, panels
from ssmspec.report.figures.style import LINE, MARK, SMALL, light_grid, list_height, name_rows
from ssmspec.statistics import LayerAnalysis

SHORTEST = 0.1  # tokens; a faster decay is drawn at the edge
MOST_DOTS = 4000  # copies drawn per layer
FEW = 32  # copies per layer whose dots do not touch


def memory_figure(layers: Sequence[LayerAnalysis], title: str, context: int | None, *, ax: Given = None) -> Drawn:
    """One row per layer: a dot per copy at its half-life, and a bar at the median; dashed: the context.

    Args:
        layers: decay gates, in model order.
    """
    shown = panels(ax, width=8, height=list_height(len(layers)) + 0.5, listing=True)
    (axes,) = shown.axes
    for row, layer in enumerate(layers):
        assert layer.half_lives is not None
        lives = layer.half_lives[np.isfinite(layer.half_lives)]
        if not lives.size:
            _no_value(axes, row)
            continue
        dots = np.maximum(np.sort(lives)[:: max(1, lives.size // MOST_DOTS)], SHORTEST)
        axes.plot(dots, np.full(dots.size, row + 0.5), "o", color=LINE, markersize=3, alpha=0.25, markeredgewidth=0)
        axes.plot([np.median(lives)] * 2, [row + 0.2, row + 0.8], color=LINE, linewidth=2)
    dashed = _frame(axes, layers, context)
    shown.head(title, f"half-lives of all copies (bar: median{dashed})")
    return shown.drawn


def _no_value(axes: Axes, row: int) -> None:
    axes.text(0.02, row + 0.5, "no value", transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL - 1, color="0.4")


def _frame(axes: Axes, layers: Sequence[LayerAnalysis], context: int | None) -> str:
    """Axes and names of the rows, and the context as a dashed line, which the returned words explain."""
    if context is not None:
        axes.axvline(context, color=MARK, linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("half-life [tokens]")
    light_grid(axes)
    name_rows(axes, [layer.name for layer in layers])
    axes.set_ylabel("layer")
    return f"; dashed: the context, {context} tokens" if context is not None else ""


def tokens_figure(layers: Sequence[LayerAnalysis], title: str, context: int | None, *, ax: Given = None) -> Drawn:
    """One row per layer: of every copy, in the order of its half-life, a line over 5..95 % of the tokens and a dot at 50 %.

    Args:
        layers: layers with a range over tokens, in model order.
    """
    shown = panels(ax, width=8, height=list_height(len(layers)) + 0.5, listing=True)
    (axes,) = shown.axes
    for row, layer in enumerate(layers):
        assert layer.over_tokens is not None
        lives = layer.over_tokens.half_lives[:, np.isfinite(layer.over_tokens.half_lives).all(axis=0)]
        if not lives.size:
            _no_value(axes, row)
            continue
        lives = np.maximum(lives[:, np.argsort(lives[1])][:, :: max(1, lives.shape[1] // MOST_DOTS)], SHORTEST)
        places = row + np.linspace(0.15, 0.85, lives.shape[1]) if lives.shape[1] > 1 else np.array([row + 0.5])
        axes.hlines(places, lives[0], lives[2], color=LINE, linewidth=0.8, alpha=max(0.1, min(1.0, 8 / lives.shape[1])))
        axes.plot(lives[1], places, "o", color=LINE, markersize=4 if lives.shape[1] <= FEW else 1, markeredgewidth=0)
    dashed = _frame(axes, layers, context)
    shown.head(title, f"half-lives of all copies over 5..95 % of the recorded tokens (dot: 50 %{dashed})")
    return shown.drawn
