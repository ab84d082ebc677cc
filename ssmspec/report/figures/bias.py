"""The two headline statistics of every layer with their ranges: which frequencies training can change, and which the layer passes."""

import numpy as np
from matplotlib.axes import Axes

from ssmspec.report.figures.panels import Drawn, Given, panels
from ssmspec.report.figures.style import LINE, MARK, NYQUIST, SMALL, FrequencyAxis, Layers, light_grid, list_height, name_rows
from ssmspec.statistics import STATISTICS, Summary, summarize
from ssmspec.systems.grid import LOWEST_THETA


def bias_figure(layers: Layers, axis: FrequencyAxis, title: str, *, ax: Given = None) -> Drawn:
    """bias_slope and center_frequency per layer. A dot is the median over copies, and a line is the 5..95 % range.

    Args:
        ax: None, two Axes, or one for bias_slope alone.
    """
    names: list[str] = []
    slopes: list[Summary] = []
    centers: list[Summary] = []
    for layer in layers:
        names.append(layer.system.name)
        for kept, name in ((slopes, "bias_slope"), (centers, "center_frequency")):
            statistic = STATISTICS[name]
            kept.append(summarize(statistic.of(layer), statistic.unit))
    shown = panels(ax, 2, width=10, height=list_height(len(names)) + 0.5, columns=2, fewest=1, listing=True)
    left, *others = shown.axes
    _draw_ranges(left, slopes, FrequencyAxis())
    left.axvline(0, color=MARK, linestyle="--", linewidth=1)
    left.set_xlabel(f"bias_slope [{STATISTICS['bias_slope'].unit}]")
    left.set_title("0: no preference; < 0: low frequencies first")
    name_rows(left, names)
    left.set_ylabel("layer")
    for right in others:
        _draw_ranges(right, centers, axis)
        right.axvline(axis.value(np.pi), color=NYQUIST, linestyle="--", linewidth=1)
        right.set_xscale("log")
        right.set_xlim(axis.value(LOWEST_THETA), axis.value(np.pi) * 1.1)
        right.set_xlabel(f"center_frequency [{axis.unit}]")
        right.set_title("half of the sum of |H| lies below (dashed: Nyquist)")
        name_rows(right, names)
        place = right.get_subplotspec()
        right.tick_params(labelleft=place is not None and place.colspan.start == 0)  # beside the left panel, they are its names
    spread = " (median and 5..95 % of copies)" if any(slope.p5 is not None for slope in slopes) else ""
    shown.head(title, f"frequency bias{spread}")
    return shown.drawn


def _draw_ranges(axes: Axes, summaries: list[Summary], axis: FrequencyAxis) -> None:
    for row, summary in enumerate(summaries):
        if summary.median is None:
            axes.text(0.02, row + 0.5, "no value", transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL - 1, color="0.4")
            continue
        axes.plot(axis.value(summary.median), row + 0.5, "o", color=LINE, markersize=4)
        if summary.p5 is not None and summary.p95 is not None:
            axes.plot(axis.values(np.array([summary.p5, summary.p95])), [row + 0.5, row + 0.5], color=LINE, linewidth=1.2)
    axes.margins(x=0.08)
    light_grid(axes)
