"""Pictures of a model's predictions on held-out data: against targets, by class, and along a series."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from ssmspec.report.figures.style import COLOR_MAP, LINE, MARK, SMALL, TITLE, legend_below, light_grid, new_figure, short_name
from ssmspec.systems.grid import FloatArray

MOST_POINTS = 5000  # at most this many points in a scatter plot
COLUMNS = 4
MOST_NAMES = 40  # at most this many classes have legible names and counts
LONGEST_NAME = 16


def scatter_figure(panels: Mapping[str, tuple[FloatArray, FloatArray]]) -> Figure:
    """Predictions against targets, and the line on which they are equal.

    Args:
        panels: name of an output -> targets (n,) and predictions (n,).
    """
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(0.6 + 3.2 * columns, 0.4 + 3.1 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (name, (wanted, given)) in zip(grid, panels.items(), strict=False):
        every = -(-len(wanted) // MOST_POINTS)
        axes.plot(wanted[::every], given[::every], "o", color=LINE, markersize=2.5, alpha=0.5, markeredgewidth=0)
        ends = [min(wanted.min(), given.min()), max(wanted.max(), given.max())]
        axes.plot(ends, ends, color=MARK, linestyle="--", linewidth=1)
        axes.set_xlabel("target")
        axes.set_ylabel("answer")
        axes.set_title(f"{short_name(name)}, held out", fontsize=TITLE)
        light_grid(axes)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return figure


def confusion_figure(table: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """How often each class (row) was predicted as each class (column), as shares of the row.

    Args:
        table: (classes, classes) counts.
    """
    size = float(np.clip(0.45 * len(classes), 2.4, 12))
    figure = new_figure(1.8 + size, 1.2 + size)
    axes = figure.subplots()
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap=COLOR_MAP, vmin=0, vmax=1)
    names = [short_name(name, LONGEST_NAME) for name in classes]
    if len(classes) <= MOST_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=SMALL)
        axes.set_yticks(range(len(names)), names, fontsize=SMALL)
        for (row, column), count in np.ndenumerate(table):
            if count:
                color = "white" if shares[row, column] < 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=6, color=color)
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    axes.set_title("sequences held out", fontsize=TITLE)
    figure.colorbar(image, ax=axes, label="share of the class", shrink=0.8)
    return figure


def forecast_figure(curves: Mapping[str, FloatArray], errors: Mapping[str, FloatArray]) -> Figure:
    """A section of a series with its forecasts, and how the error grows with the number of samples ahead.

    Args:
        curves: name -> values (T,), the data first. errors: name -> root mean square error (horizon,), in standard deviations.
    """
    ahead = len(next(iter(errors.values()))) > 1
    figure = new_figure(7.5, 6.0 if ahead else 3.4)
    panels = figure.subplots(2 if ahead else 1, 1, squeeze=False)[:, 0]
    for (name, values), style in zip(curves.items(), ({"color": "0.6", "linewidth": 2.0}, {"color": LINE, "linewidth": 1.0}), strict=True):
        panels[0].plot(values, label=short_name(name), **style)
    panels[0].set_xlabel("sample, from the first one held out")
    panels[0].set_ylabel("first feature")
    panels[0].set_title("held out", fontsize=TITLE)
    light_grid(panels[0])
    if ahead:
        for (name, values), color in zip(errors.items(), (LINE, MARK, "0.5"), strict=True):
            panels[1].plot(np.arange(1, len(values) + 1), values, "o-", color=color, markersize=3, label=short_name(name))
        panels[1].set_xlabel("samples ahead")
        panels[1].set_ylabel("root mean square error [std]")
        panels[1].legend(fontsize=SMALL)
        light_grid(panels[1])
    legend_below(figure, panels[0], columns=2)
    return figure
