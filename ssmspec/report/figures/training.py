"""Pictures of training: loss, spectra before, during and after, errors by setting, and images side by side."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ssmspec.report.documents.train import Measure
from ssmspec.report.figures.panels import Drawn, Given, Panels, panels
from ssmspec.report.figures.style import (
    COLOR_MAP,
    LINE,
    MARK,
    SMALL,
    FrequencyAxis,
    draw_nyquist,
    light_grid,
    literal,
    log_scale,
    short_name,
)
from ssmspec.systems.grid import FloatArray

MOST_POINTS = 2000  # at most this many points in a loss curve
MOST_PANELS = 4  # at most this many measures of a model are followed through a run


def loss_figure(steps: npt.ArrayLike, losses: npt.ArrayLike, title: str, *, ax: Given = None) -> Drawn:
    """The loss of each step, and its median over windows of a fiftieth of the steps."""
    x, y = np.asarray(steps), np.asarray(losses, float)
    shown = panels(ax, width=6, height=3.5)
    (axes,) = shown.axes
    every, window = max(1, len(x) // MOST_POINTS), max(1, len(x) // 50)
    axes.plot(x[::every], y[::every], **({"color": LINE} if window == 1 else {"color": "0.75", "linewidth": 0.6}), label="one step")
    if window > 1:
        whole = len(x) // window * window
        middle, medians = x[:whole].reshape(-1, window).mean(1), np.median(y[:whole].reshape(-1, window), axis=1)
        axes.plot(middle, medians, color=LINE, label=f"median of {window}")
        axes.legend(loc="upper right")
    log_scale(axes)
    light_grid(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_title(title)
    return shown.drawn


def spectra_figure(
    curves: Mapping[str, Sequence[FloatArray]],
    theta: FloatArray,
    marks: Mapping[str, float],
    names: Sequence[str],
    *,
    ax: Given = None,
) -> Drawn:
    """Median |H| of every layer at several times of a run, from light to dark.

    Args:
        curves: time, as text -> one curve (F,) per layer. theta: (F,) [rad/sample].
        marks: label -> theta of a line. names: names of the layers.
        ax: None, or one Axes per layer.
    """
    shown = panels(ax, len(names), width=6.5, height=0.8 + 3.2 * len(names))
    for row, (name, axes) in enumerate(zip(names, shown.axes, strict=True)):
        shades = mpl.colormaps[COLOR_MAP](np.linspace(0.85, 0, len(curves)))
        for shade, (label, layers) in zip(shades, curves.items(), strict=True):
            axes.plot(theta, layers[row], color=shade, label=label)
        for label, at in marks.items():
            axes.axvline(at, color="0.6", linestyle=":", linewidth=1)
            axes.annotate(
                label, (at, 1), xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points", fontsize=7, ha="center"
            )
        draw_nyquist(axes, np.pi)
        axes.set_xscale("log")
        log_scale(axes)
        light_grid(axes)
        axes.set_xlabel(FrequencyAxis().label)
        axes.set_ylabel("median $|H|$ [output/input]")
        axes.set_title(f"{short_name(name)}: median |H| over copies, with beta", pad=14)
    shown.legend()
    return shown.drawn


def bars_figure(
    values: Mapping[str, float | Sequence[float]],
    *,
    axis: str,
    value: str,
    reference: tuple[str, float] | None = None,
    ax: Given = None,
) -> Drawn:
    """One bar per name. If a name has several values, the bar is their mean and the values are shown as points.

    Args:
        axis: what the names are. value: what the values are, with their unit. reference: name and height of a dashed line, if any.
    """
    shown = panels(ax, width=max(4.5, 1.6 + 0.9 * len(values)), height=3.6)
    (axes,) = shown.axes
    for place, each in enumerate(values.values()):
        points = np.atleast_1d(np.asarray(each, float))
        axes.bar(place, points.mean(), color=LINE, width=0.6)
        if len(points) > 1:
            axes.plot(np.full(len(points), place), points, "o", color=MARK, markersize=3, label=None if place else "one seed")
    if reference is not None:
        axes.axhline(reference[1], color=MARK, linestyle="--", linewidth=1, label=reference[0])
        shown.legend(2)
    axes.set_xticks(range(len(values)), [name.replace(", ", ",\n") for name in values])
    axes.set_xlabel(axis)
    axes.set_ylabel(value)
    light_grid(axes)
    return shown.drawn


def sweep_figure(
    means: Mapping[tuple[float, float], npt.ArrayLike],
    names: Sequence[str],
    *,
    quantity: str,
    limits: tuple[float, float],
    ax: Given = None,
) -> Drawn:
    """A quantity of every setting as a heat map: one panel per name over alpha and beta if all pairs exist, else one row per setting.

    Args:
        means: (alpha, beta) -> one value per name. quantity: its name with its unit. limits: range of the colors.
    """
    alphas, betas = (sorted({pair[place] for pair in means}) for place in (0, 1))
    complete = len(alphas) > 1 and len(betas) > 1 and len(means) == len(alphas) * len(betas)
    table = {pair: np.asarray(value, float) for pair, value in means.items()}
    if not complete:
        rows = {f"{alpha:.4g}, {beta:.4g}": value for (alpha, beta), value in table.items()}
        return rows_figure(rows, names, axis="alpha, beta", quantity=quantity, limits=limits, ax=ax)
    width = 1.2 + (0.9 + 0.5 * len(betas)) * len(names)
    shown = panels(ax, len(names), width=width, height=1.6 + 0.45 * len(alphas), columns=len(names))
    images = []
    for place, (name, axes) in enumerate(zip(names, shown.axes, strict=True)):
        values = np.array([[table[alpha, beta][place] for beta in betas] for alpha in reversed(alphas)])
        ticks = ([f"{alpha:.4g}" for alpha in reversed(alphas)], [f"{beta:g}" for beta in betas])
        images.append(_heat(axes, values, ticks, ("alpha" if not place else "", "beta"), limits))
        axes.tick_params(labelleft=not place)
        axes.set_title(short_name(name))
    _color_bar(shown, images[-1], quantity, [value for values in table.values() for value in values], limits)
    return shown.drawn


def rows_figure(
    rows: Mapping[str, npt.ArrayLike],
    names: Sequence[str],
    *,
    axis: str,
    quantity: str,
    limits: tuple[float, float],
    ax: Given = None,
) -> Drawn:
    """A quantity as a heat map with one row per setting and one column per name.

    Args:
        rows: setting -> one value per name. axis: what the settings are. quantity: its name with its unit. limits: range of the colors.
    """
    shown = panels(ax, width=1.6 + 0.1 * max(map(len, rows)) + 1.0 * len(names), height=1.8 + 0.4 * len(rows), listing=True)
    values = np.stack([np.asarray(value, float) for value in rows.values()])
    image = _heat(shown.axes[0], values, (list(rows), list(names)), (axis, ""), limits)
    _color_bar(shown, image, quantity, values.ravel(), limits)
    return shown.drawn


def _heat(
    axes: Axes,
    values: FloatArray,
    ticks: tuple[list[str], list[str]],
    labels: tuple[str, str],
    limits: tuple[float, float],
) -> mpl.image.AxesImage:
    image = axes.imshow(values, cmap=COLOR_MAP, vmin=limits[0], vmax=limits[1], aspect="auto")
    middle = sum(limits) / 2
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            axes.text(column, row, f"{value:.2g}", ha="center", va="center", fontsize=6, color="white" if value < middle else "black")
    axes.set_yticks(range(len(ticks[0])), ticks[0])
    axes.set_xticks(range(len(ticks[1])), ticks[1])
    axes.set_ylabel(labels[0])
    axes.set_xlabel(labels[1])
    return image


def _color_bar(shown: Panels, image: mpl.image.AxesImage, quantity: str, values: npt.ArrayLike, limits: tuple[float, float]) -> None:
    """A color bar for all panels, with a pointed end where values lie beyond it."""
    below, above = bool(np.min(values) < limits[0]), bool(np.max(values) > limits[1])
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]
    beyond = f"\n(pointed: {'values' if below else 'larger values'} beyond)" if below or above else ""
    shown.figure.colorbar(image, ax=list(shown.axes), label=quantity + beyond, shrink=0.9, extend=extend)


def grid_figure(rows: Mapping[str, Sequence[FloatArray]], columns: Sequence[str], *, ax: Given = None) -> Drawn:
    """Images in a grid with a name for every row and column, each stretched to a square.

    Args:
        rows: name -> one image (height, width, 3) in 0..1 per column.
    """
    count = len(rows) * len(columns)
    shown = panels(ax, count, width=0.9 + 1.9 * len(columns), height=0.5 + 1.75 * len(rows), columns=len(columns))
    grid = [shown.axes[start : start + len(columns)] for start in range(0, count, len(columns))]
    for line, (name, images) in zip(grid, rows.items(), strict=True):
        for axes, image in zip(line, images, strict=True):
            axes.imshow(image, aspect="auto", interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
        line[0].set_ylabel(short_name(name), fontsize=SMALL)
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title(name, fontsize=SMALL)
    return shown.drawn


def learning_figure(measures: Mapping[int, Sequence[Measure]], *, ax: Given = None) -> Drawn:
    """What a model had learned at each checkpoint: one panel per measure that has a baseline. The baseline is a dashed line.

    The axis of a measure is logarithmic if all its values are positive and span more than a factor of three.

    Args:
        measures: step -> the measures of the checkpoint at this step.
    """
    series = [series for series in zip(*measures.values(), strict=True) if series[0].baseline is not None][:MOST_PANELS]
    shown = panels(ax, len(series), width=6.0, height=0.9 + 1.9 * len(series))
    for axes, points in zip(shown.axes, series, strict=True):
        values, baseline = [point.value for point in points], points[-1].baseline or 0.0
        axes.plot(list(measures), values, "o-", color=LINE, markersize=4, label="model")
        axes.axhline(baseline, color=MARK, linestyle="--", linewidth=1, label="baseline")
        if min(*values, baseline) > 0 and max(*values, baseline) > 3 * min(*values, baseline):
            log_scale(axes)
        unit = f" [{literal(points[0].unit)}]" if points[0].unit else ""
        axes.set_title(f"{literal(points[0].meaning.partition(';')[0])}{unit}", fontsize=SMALL, loc="left")
        axes.set_ylabel(short_name(points[0].name.partition("_")[0]))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        light_grid(axes)
    for axes in shown.axes[:-1]:
        axes.tick_params(labelbottom=False)
    shown.axes[-1].set_xlabel("step")
    if shown.given is None:
        shown.figure.suptitle("on held-out data")
    shown.legend(2)
    return shown.drawn
