"""Half-lives of decay gates over the depth of a model, against its context."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ssmspec.report.figures.style import LABEL, LINE, MARK, TITLE, light_grid, list_height, name_rows, new_figure, short_name
from ssmspec.statistics import LayerAnalysis

SHORTEST = 0.1  # tokens; a faster decay is drawn at the edge
MOST_DOTS = 4000  # copies drawn per layer


def memory_figure(layers: Sequence[LayerAnalysis], title: str, context: int | None) -> Figure:
    """One row per layer: a dot per copy at its half-life, and a bar at the median; dashed: the context.

    Args:
        layers: decay gates, in model order.
    """
    figure = new_figure(8, list_height(len(layers)) + 0.5)
    axes = figure.add_subplot()
    for row, layer in enumerate(layers):
        assert layer.half_lives is not None
        lives = layer.half_lives[np.isfinite(layer.half_lives)]
        if not lives.size:
            axes.text(0.02, row + 0.5, "no value", transform=axes.get_yaxis_transform(), va="center", fontsize=LABEL - 2, color="0.4")
            continue
        shown = np.maximum(np.sort(lives)[:: max(1, lives.size // MOST_DOTS)], SHORTEST)
        axes.plot(shown, np.full(shown.size, row + 0.5), "o", color=LINE, markersize=3, alpha=0.25, markeredgewidth=0)
        axes.plot([np.median(lives)] * 2, [row + 0.2, row + 0.8], color=LINE, linewidth=2)
    if context is not None:
        axes.axvline(context, color=MARK, linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("half-life [tokens]")
    light_grid(axes)
    name_rows(axes, [layer.name for layer in layers])
    axes.set_ylabel("layer")
    dashed = f"; dashed: the context, {context} tokens" if context is not None else ""
    axes.set_title(f"{short_name(title, 40)}: half-lives of all copies (bar: median{dashed})", fontsize=TITLE)
    return figure
