"""The history of a run: the headline statistics of every layer over its checkpoints."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from ssmspec.checkpoint.remote.path import is_address, title_of
from ssmspec.commands.compare import steps_of_run
from ssmspec.files.writing import made_folder
from ssmspec.report.figures.panels import Drawn, Given, Panels, panels
from ssmspec.report.figures.style import COLOR_MAP, SMALL, light_grid, save, short_name, styled
from ssmspec.statistics import STATISTICS, CheckpointAnalysis
from ssmspec.statistics.changes import TRAINING_CHANGE
from ssmspec.systems.grid import FloatArray

MOST_NAMES = 12  # layers that have a name in the legend; the depth of more is a color bar
MOST_TICKS = 12


def plot_history(analyses: Sequence[CheckpointAnalysis], folder: Path) -> Path:
    """Write one PNG with the headline statistics of every layer over the checkpoints. Returns its path.

    Raises:
        SsmspecError: the folder cannot be written.
    """
    steps = steps_of_run([analysis.path for analysis in analyses])
    with styled():
        return save(history_figure(analyses, steps, history_title(analyses)), made_folder(folder) / "history.png")


def history_title(analyses: Sequence[CheckpointAnalysis]) -> str:
    """The folder of the run, its first and its last checkpoint."""
    first, last = (title_of(analyses[place].path) for place in (0, -1))
    parents = {Path(analysis.path).resolve().parent for analysis in analyses if not is_address(analysis.path)}
    folder = f"{parents.pop().name}: " if len(parents) == 1 else ""
    return f"{folder}{first} -> {last}"


def history_figure(analyses: Sequence[CheckpointAnalysis], steps: Sequence[int] | None, title: str, *, ax: Given = None) -> Drawn:
    """Medians of bias_slope and center_frequency over a run, and how far bias_slope went: one line per layer, colored by depth.

    The shaded band is the largest change by training alone that is known, `TRAINING_CHANGE`.

    Args:
        steps: of every checkpoint; None where they are not known, so that checkpoints stand at equal distances.
        ax: None, or three Axes; with one, only bias_slope is drawn.
    """
    shown = panels(ax, 3, width=13, height=4, columns=3, fewest=1)
    x = np.asarray(range(len(analyses)) if steps is None else steps, float)
    slopes = _medians(analyses, "bias_slope")
    _draw_lines(shown.axes[0], x, slopes, analyses, f"bias_slope [{STATISTICS['bias_slope'].unit}]")
    shown.axes[0].set_title("median bias_slope over copies")
    for axes in shown.axes[1:2]:
        axes.axhspan(-TRAINING_CHANGE, TRAINING_CHANGE, color="0.93", linewidth=0, zorder=0)
        _draw_lines(axes, x, slopes - slopes[:, :1], analyses, f"change of bias_slope [{STATISTICS['bias_slope'].unit}]")
        axes.set_title(f"change since the first (shaded: by training alone, {TRAINING_CHANGE:g})")
    for axes in shown.axes[2:]:
        _draw_lines(axes, x, _medians(analyses, "center_frequency"), analyses, "center_frequency [rad/sample]")
        axes.set_title("median center_frequency over copies")
    for axes in shown.axes:
        _name_steps(axes, analyses, steps)
    _name_layers(shown, [layer.name for layer in analyses[0].layers])
    when = "" if steps is None else f", steps {steps[0]} to {steps[-1]}"
    shown.head(title, f"{len(analyses)} checkpoints{when}")
    return shown.drawn


def _medians(analyses: Sequence[CheckpointAnalysis], name: str) -> FloatArray:
    """(layers, checkpoints), NaN where there is none."""
    found = [[layer.statistics[name].median for layer in analysis.layers] for analysis in analyses]
    return np.array([[np.nan if value is None else value for value in row] for row in found], float).T


def _draw_lines(axes: Axes, x: FloatArray, values: FloatArray, analyses: Sequence[CheckpointAnalysis], label: str) -> None:
    names = [short_name(layer.name, 30) for layer in analyses[0].layers]
    for line, name, shade in zip(values, names, _shades(len(values)), strict=True):
        axes.plot(x, line, color=shade, marker="o", markersize=3, label=name if len(names) <= MOST_NAMES else None)
    axes.set_ylabel(label)
    light_grid(axes)


def _shades(count: int) -> FloatArray:
    return np.asarray(mpl.colormaps[COLOR_MAP](np.linspace(0, 0.85, count)))


def _name_steps(axes: Axes, analyses: Sequence[CheckpointAnalysis], steps: Sequence[int] | None) -> None:
    if steps is not None:
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, steps=[1, 2, 5, 10]))
        return
    every = -(-len(analyses) // MOST_TICKS)
    names = [short_name(title_of(analysis.path), 20) for analysis in analyses]
    axes.set_xticks(range(0, len(names), every), names[::every], rotation=30, ha="right")
    axes.set_xlabel("checkpoint")


def _name_layers(shown: Panels, names: Sequence[str]) -> None:
    if len(names) <= MOST_NAMES:
        shown.legend()
        return
    colors = mpl.colors.ListedColormap(_shades(256))
    bar = shown.figure.colorbar(
        ScalarMappable(Normalize(0, len(names) - 1), colors), ax=list(shown.axes), label="depth: index of the layer"
    )
    bar.ax.tick_params(labelsize=SMALL)
    bar.locator = MaxNLocator(integer=True)
