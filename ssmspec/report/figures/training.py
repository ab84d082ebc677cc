"""Pictures of training: loss, spectra before, during and after, errors by setting, and images side by side."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from ssmspec.report.documents.train import Measure
from ssmspec.report.figures.style import (
    COLOR_MAP,
    LINE,
    MARK,
    SMALL,
    TITLE,
    draw_nyquist,
    legend_below,
    light_grid,
    literal,
    log_scale,
    new_figure,
    short_name,
)
from ssmspec.systems.grid import FloatArray

MOST_POINTS = 2000  # at most this many points in a loss curve
MOST_PANELS = 4  # at most this many measures of a model are followed through a run


def loss_figure(steps: npt.ArrayLike, losses: npt.ArrayLike, title: str) -> Figure:
    """The loss of each step, and its median over windows of a fiftieth of the steps."""
    x, y = np.asarray(steps), np.asarray(losses, float)
    figure = new_figure(6, 3.5)
    axes = figure.subplots()
    every = max(1, len(x) // MOST_POINTS)
    axes.plot(x[::every], y[::every], color="0.75", linewidth=0.6, label="one step")
    window = max(1, len(x) // 50)
    if window > 1:
        whole = len(x) // window * window
        axes.plot(
            x[:whole].reshape(-1, window).mean(1), np.median(y[:whole].reshape(-1, window), axis=1), color=LINE, label=f"median of {window}"
        )
    log_scale(axes)
    light_grid(axes)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(loc="upper right")
    axes.set_title(title, fontsize=TITLE)
    return figure


def spectra_figure(
    curves: Mapping[str, Sequence[FloatArray]], theta: FloatArray, marks: Mapping[str, float], names: Sequence[str]
) -> Figure:
    """Median |H| of every layer at several times of a run, from light to dark.

    Args:
        curves: time, as text -> one curve (F,) per layer. theta: (F,) [rad/sample].
        marks: label -> theta of a line. names: names of the layers.
    """
    figure = new_figure(6.5, 0.8 + 3.2 * len(names))
    for row, (name, axes) in enumerate(zip(names, figure.subplots(len(names), 1, squeeze=False)[:, 0], strict=True)):
        shades = mpl.colormaps[COLOR_MAP](np.linspace(0.85, 0, len(curves)))
        for shade, (label, layers) in zip(shades, curves.items(), strict=True):
            axes.plot(theta, layers[row], color=shade, linewidth=1.5, label=label)
        for label, at in marks.items():
            axes.axvline(at, color="0.6", linestyle=":", linewidth=1)
            axes.annotate(
                label, (at, 1), xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points", fontsize=7, ha="center"
            )
        draw_nyquist(axes, np.pi)
        axes.set_xscale("log")
        log_scale(axes)
        light_grid(axes)
        axes.set_xlabel("theta [rad/sample]")
        axes.set_ylabel("median |H| [output/input]")
        axes.set_title(f"{name}: median |H| over copies, with beta", fontsize=TITLE, pad=14)
    legend_below(figure, figure.axes[0], columns=4)
    return figure


def bars_figure(
    values: Mapping[str, float | Sequence[float]], *, axis: str, value: str, reference: tuple[str, float] | None = None
) -> Figure:
    """One bar per name. If a name has several values, the bar is their mean and the values are shown as points.

    Args:
        axis: what the names are. value: what the values are, with their unit. reference: name and height of a dashed line, if any.
    """
    figure = new_figure(max(4.5, 1.6 + 0.9 * len(values)), 3.6)
    axes = figure.subplots()
    for place, each in enumerate(values.values()):
        points = np.atleast_1d(np.asarray(each, float))
        axes.bar(place, points.mean(), color=LINE, width=0.6)
        if len(points) > 1:
            axes.plot(np.full(len(points), place), points, "o", color=MARK, markersize=3, label=None if place else "one seed")
    if reference is not None:
        axes.axhline(reference[1], color=MARK, linestyle="--", linewidth=1, label=reference[0])
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    long = max(map(len, values)) > 10
    axes.set_xticks(range(len(values)), list(values), rotation=20 if long else 0, ha="right" if long else "center")
    axes.set_xlabel(axis)
    axes.set_ylabel(value)
    light_grid(axes)
    return figure


def sweep_figure(
    means: Mapping[tuple[float, float], npt.ArrayLike], names: Sequence[str], *, quantity: str, limits: tuple[float, float]
) -> Figure:
    """A quantity of every setting as a heat map: one panel per name over alpha and beta if all pairs exist, else one row per setting.

    Args:
        means: (alpha, beta) -> one value per name. quantity: its name with its unit. limits: range of the colors.
    """
    alphas, betas = (sorted({pair[place] for pair in means}) for place in (0, 1))
    complete = len(alphas) > 1 and len(betas) > 1 and len(means) == len(alphas) * len(betas)
    table = {pair: np.asarray(value, float) for pair, value in means.items()}
    if not complete:
        rows = {f"{alpha:.4g}, {beta:.4g}": value for (alpha, beta), value in table.items()}
        return rows_figure(rows, names, axis="alpha, beta", quantity=quantity, limits=limits)
    figure = new_figure(1.2 + (0.9 + 0.5 * len(betas)) * len(names), 1.6 + 0.45 * len(alphas))
    panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for place, (name, axes) in enumerate(zip(names, panels, strict=True)):
        values = np.array([[table[alpha, beta][place] for beta in betas] for alpha in reversed(alphas)])
        ticks = ([f"{alpha:.4g}" for alpha in reversed(alphas)], [f"{beta:g}" for beta in betas])
        last = quantity if place == len(names) - 1 else ""
        _heat(figure, axes, values, ticks, ("alpha" if not place else "", "beta"), limits, last)
        axes.set_title(short_name(name), fontsize=TITLE)
    return figure


def rows_figure(
    rows: Mapping[str, npt.ArrayLike], names: Sequence[str], *, axis: str, quantity: str, limits: tuple[float, float]
) -> Figure:
    """A quantity as a heat map with one row per setting and one column per name.

    Args:
        rows: setting -> one value per name. axis: what the settings are. quantity: its name with its unit. limits: range of the colors.
    """
    figure = new_figure(1.6 + 0.1 * max(map(len, rows)) + 1.0 * len(names), 1.8 + 0.4 * len(rows))
    values = np.stack([np.asarray(value, float) for value in rows.values()])
    _heat(figure, figure.subplots(), values, (list(rows), list(names)), (axis, ""), limits, quantity)
    return figure


def _heat(
    figure: Figure,
    axes: mpl.axes.Axes,
    values: FloatArray,
    ticks: tuple[list[str], list[str]],
    labels: tuple[str, str],
    limits: tuple[float, float],
    quantity: str,
) -> None:
    image = axes.imshow(values, cmap=COLOR_MAP, vmin=limits[0], vmax=limits[1], aspect="auto")
    middle = sum(limits) / 2
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            axes.text(column, row, f"{value:.2g}", ha="center", va="center", fontsize=6, color="white" if value < middle else "black")
    axes.set_yticks(range(len(ticks[0])), ticks[0])
    axes.set_xticks(range(len(ticks[1])), ticks[1])
    axes.set_ylabel(labels[0])
    axes.set_xlabel(labels[1])
    if quantity:
        figure.colorbar(image, ax=figure.axes, label=quantity, shrink=0.9)


def grid_figure(rows: Mapping[str, Sequence[FloatArray]], columns: Sequence[str]) -> Figure:
    """Images in a grid with a name for every row and column, each stretched to a square.

    Args:
        rows: name -> one image (height, width, 3) in 0..1 per column.
    """
    figure = new_figure(0.9 + 1.9 * len(columns), 0.5 + 1.75 * len(rows))
    panels = figure.subplots(len(rows), len(columns), squeeze=False)
    for line, (name, images) in zip(panels, rows.items(), strict=True):
        for axes, image in zip(line, images, strict=True):
            axes.imshow(image, aspect="auto", interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
        line[0].set_ylabel(short_name(name), fontsize=SMALL)
    for axes, name in zip(panels[0], columns, strict=True):
        axes.set_title(name, fontsize=SMALL)
    return figure


def learning_figure(measures: Mapping[str, Sequence[Measure]]) -> Figure:
    """What a model had learned at each checkpoint: one panel per measure that has a baseline. The baseline is a dashed line.

    Args:
        measures: name of a checkpoint -> its measures.
    """
    series = [series for series in zip(*measures.values(), strict=True) if series[0].baseline is not None][:MOST_PANELS]
    figure = new_figure(max(5.0, 1.2 * len(measures)), 0.6 + 2.1 * len(series))
    panels = figure.subplots(len(series), 1, squeeze=False, sharex=True)[:, 0]
    for axes, points in zip(panels, series, strict=True):
        axes.plot(list(measures), [point.value for point in points], "o-", color=LINE, markersize=4)
        axes.axhline(points[-1].baseline or 0.0, color=MARK, linestyle="--", linewidth=1, label="baseline")
        name = short_name(points[0].name)
        axes.set_ylabel(f"{name} [{literal(points[0].unit)}]" if points[0].unit else name)
        light_grid(axes)
    legend_below(figure, panels[0], columns=1)
    panels[-1].set_xlabel("checkpoint")
    panels[0].set_title("on held-out data", fontsize=TITLE)
    return figure
