"""The landscape of a search: its trials over alpha and beta, or over the one of them that was searched."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from ssmspec.report.documents.search_results import BASELINE, Confirmed, SearchSummary, TrialRow
from ssmspec.report.figures.panels import Drawn, Given, panels
from ssmspec.report.figures.style import COLOR_MAP, LINE, MARK, light_grid

SIZE = 34.0  # area of a finished trial [points^2]


def landscape_figure(summary: SearchSummary, ranges: Mapping[str, tuple[float, float, bool]], *, ax: Given = None) -> Drawn:
    """One point per trial, with the value in color over alpha and beta, or on the vertical axis over one of them.

    Trials that were stopped early are small, and have their last value. The baseline, what `suggest` says and the best setting with fresh
    seeds are marked.

    Args:
        ranges: (lowest, highest, whether the axis is logarithmic) of alpha, beta or both, as they were searched.
    """
    shown = panels(ax, width=6.2, height=4.4)
    (axes,) = shown.axes
    trials = [trial for trial in summary.trials if trial.value is not None]
    across, up = next(iter(ranges)), next(iter(list(ranges)[1:]), None)
    limits = _limits(trials)
    for state, size, label in (("stopped early", SIZE / 3, "stopped early (last value)"), ("complete", SIZE, "complete")):
        some = [trial for trial in trials if trial.state == state]
        x, y = [[getattr(trial, across) for trial in some], [getattr(trial, up) if up else trial.value for trial in some]]
        colors: dict[str, Any] = (
            {"c": [trial.value for trial in some], "cmap": COLOR_MAP, "norm": Normalize(*limits)} if up else {"color": LINE}
        )
        if some:
            axes.scatter(
                np.array(x, float),
                np.array(y, float),
                s=size,
                edgecolors="0.3",
                linewidths=0.4,
                label=f"{label}: {len(some)}",
                zorder=2,
                **colors,
            )
    _mark(axes, summary, across, up)
    _show_ranges(axes, [ranges[across], *([ranges[up]] if up else [])])
    light_grid(axes)
    axes.set_xlabel(across)
    axes.set_ylabel(up or summary.goal)
    axes.set_title(f"{summary.title}: {summary.goal}, {'larger' if summary.larger else 'smaller'} is better")
    if up and trials:
        values = [trial.value for trial in trials if trial.value is not None]
        beyond = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
        extend = beyond[min(values) < limits[0], max(values) > limits[1]]
        shown.figure.colorbar(ScalarMappable(Normalize(*limits), COLOR_MAP), ax=axes, label=f"{summary.goal} in the search", extend=extend)
    shown.legend(2)
    return shown.drawn


def _show_ranges(axes: Axes, ranges: Sequence[tuple[float, float, bool]]) -> None:
    """Let each axis reach at least over what was searched, so that what no trial was drawn from is seen, too."""
    for which, (low, high, log) in zip("xy", ranges, strict=False):
        if log:
            getattr(axes, f"set_{which}scale")("log")
        first, last = getattr(axes, f"get_{which}lim")()
        getattr(axes, f"set_{which}lim")(min(first, low), max(last, high))


def _limits(trials: Sequence[TrialRow]) -> tuple[float, float]:
    """The range of colors: that of the finished trials without their worst and best twentieth, which may be far away."""
    values = [trial.value for trial in trials if trial.state == "complete"] or [trial.value for trial in trials] or [0.0, 1.0]
    low, high = np.quantile(np.array(values, float), [0.05, 0.95])
    return (float(low), float(high)) if low < high else (float(low) - 0.5, float(high) + 0.5)


def _mark(axes: Axes, summary: SearchSummary, across: str, up: str | None) -> None:
    """Mark the baseline and the best setting, and draw the range of `suggest`."""

    def place(one: Confirmed) -> tuple[float, float]:
        return getattr(one, across), getattr(one, up) if up else one.mean

    open_mark: dict[str, Any] = {"markerfacecolor": "none", "linestyle": "none", "zorder": 3}
    axes.plot(*place(summary.baseline), marker="s", markersize=10, markeredgecolor=MARK, label=BASELINE, **open_mark)
    if summary.best is not summary.baseline:
        axes.plot(*place(summary.best), marker="o", markersize=12, markeredgecolor=MARK, label="best with fresh seeds", **open_mark)
    given = summary.suggested
    if given.alpha is None or given.beta is None:
        return
    line: dict[str, Any] = {"color": MARK, "linewidth": 1.4, "zorder": 1, "label": "range of suggest"}
    if up is None:
        low, high = given.alpha if across == "alpha" else (given.beta, given.beta)
        axes.axvspan(low, high, alpha=0.25, color=MARK, linewidth=1.4, label="range of suggest", zorder=0)
    else:
        axes.plot(list(given.alpha), [given.beta, given.beta], marker="|", markersize=9, **line)
