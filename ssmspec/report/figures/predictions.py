"""Pictures of a model's predictions on held-out data: against targets, by class, and along a series."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.report.figures.panels import Drawn, Given, panels
from ssmspec.report.figures.style import COLOR_MAP, LINE, MARK, SMALL, light_grid, short_name
from ssmspec.systems.grid import FloatArray

MOST_POINTS = 5000  # at most this many points in a scatter plot
COLUMNS = 4
MOST_NAMES = 40  # at most this many classes have legible names and counts
LONGEST_NAME = 16
SHORT_NAME = 4  # letters of the names of classes that fit side by side


def scatter_figure(outputs: Mapping[str, tuple[FloatArray, FloatArray]], *, ax: Given = None) -> Drawn:
    """Predictions against targets, and the line on which they are equal.

    Args:
        outputs: name of an output -> targets (n,) and predictions (n,).
    """
    columns = min(COLUMNS, len(outputs))
    rows = -(-len(outputs) // columns)
    shown = panels(ax, len(outputs), width=0.6 + 3.2 * columns, height=0.4 + 3.1 * rows, columns=columns)
    for axes, (name, (wanted, given)) in zip(shown.axes, outputs.items(), strict=True):
        every = -(-len(wanted) // MOST_POINTS)
        axes.plot(wanted[::every], given[::every], "o", color=LINE, markersize=2.5, alpha=0.5, markeredgewidth=0)
        ends = [min(wanted.min(), given.min()), max(wanted.max(), given.max())]
        axes.plot(ends, ends, color=MARK, linestyle="--", linewidth=1)
        axes.set_xlabel("target")
        axes.set_ylabel("prediction")
        axes.set_title(f"{short_name(name)}, held out")
        light_grid(axes)
    return shown.drawn


def confusion_figure(table: npt.NDArray[np.int64], classes: Sequence[str], *, ax: Given = None) -> Drawn:
    """How often each class (row) was predicted as each class (column), as shares of the row.

    Args:
        table: (classes, classes) counts.
    """
    size = float(np.clip(0.45 * len(classes), 2.4, 12))
    shown = panels(ax, width=1.8 + size, height=1.2 + size)
    (axes,) = shown.axes
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap=COLOR_MAP, vmin=0, vmax=1)
    names = [short_name(name, LONGEST_NAME) for name in classes]
    if len(classes) <= MOST_NAMES:
        upright = max(map(len, names)) <= SHORT_NAME
        axes.set_xticks(range(len(names)), names, rotation=0 if upright else 90, fontsize=SMALL)
        axes.set_yticks(range(len(names)), names, fontsize=SMALL)
        for (row, column), count in np.ndenumerate(table):
            if count:
                color = "white" if shares[row, column] < 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=6, color=color)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("class")
    axes.set_title("number of sequences, held out")
    shown.figure.colorbar(image, ax=axes, label="share of the class", shrink=0.8)
    return shown.drawn


def forecast_figure(
    curves: Mapping[str, FloatArray], errors: Mapping[str, FloatArray], units: tuple[str, str], *, ax: Given = None
) -> Drawn:
    """A section of a series with its forecasts, and how the error grows with the number of samples ahead.

    Args:
        curves: name -> values (T,): the data, the forecast, and the baseline.
        errors: name -> root mean square error (horizon,), of the model and of baselines.
        units: what the values of the curves are, and the unit of the errors.
        ax: None, or one Axes; with more than one sample ahead also two.
    """
    ahead = len(next(iter(errors.values()))) > 1
    shown = panels(ax, 2 if ahead else 1, width=7.5, height=6.0 if ahead else 3.6, fewest=1)
    top, *below = shown.axes
    lines: list[dict[str, Any]] = [{"color": "0.6", "linewidth": 2}, {"color": LINE, "linewidth": 1}]
    lines.append({"color": MARK, "linewidth": 0.8, "linestyle": "--"})
    for (name, values), style in zip(curves.items(), lines, strict=True):
        top.plot(values, label=short_name(name, 60), **style)
    top.set_xlabel("sample, from the first one held out")
    top.set_ylabel(units[0])
    first = ", ".join(f"{short_name(name)} {values[0]:.3g}" for name, values in errors.items())
    top.set_title(f"held out; root mean square error one sample ahead [{units[1]}]: {first}")
    light_grid(top)
    for axes in below:
        for (name, values), color in zip(errors.items(), (LINE, MARK, "0.5"), strict=True):
            axes.plot(np.arange(1, len(values) + 1), values, "o-", color=color, markersize=3, label=short_name(name))
        axes.set_xlabel("samples ahead")
        axes.set_ylabel(f"root mean square error [{units[1]}]")
        axes.legend()
        light_grid(axes)
    if ax is None:
        shown.figure.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    else:
        top.legend(loc="best")
    return shown.drawn
