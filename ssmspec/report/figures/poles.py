"""Where the poles are: in the s-plane or on the unit disk, or their decay rates if all of them are real."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssmspec.report.figures.style import (
    LABEL,
    LINE,
    MARK,
    SMALL,
    FrequencyAxis,
    Layers,
    head,
    layer_title,
    light_grid,
    literal,
    new_figure,
    short_name,
)
from ssmspec.statistics import LayerSpectrum
from ssmspec.systems.statespace import ComplexArray, FloatArray

MOST_POLES = 20_000  # points drawn in one pole plot
COLUMNS = 8  # at most this many columns of small multiples
PANEL_LETTERS = 26  # letters that fit above one panel


@dataclass(frozen=True, slots=True)
class PoleSet:
    """Stored poles of one layer, of any shape. They are in the s-plane if `continuous`, else in the z-plane. NaN is not drawn."""

    name: str
    poles: np.ndarray
    continuous: bool

    @property
    def plane(self) -> str:
        """Which of the three kinds of picture shows these poles."""
        if not self.poles.imag[np.isfinite(self.poles)].any():
            return "rates"
        return "s" if self.continuous else "z"


def poles_figure(layers: Layers, axis: FrequencyAxis, title: str) -> Figure:
    """The poles of one layer, in both planes if it has both. Several layers are small multiples on common axes."""
    if len(layers) > 1:
        return _small_multiples([PoleSet(layer.system.name, _thin(_shown(layer)), layer.system.continuous_time) for layer in layers], title)
    (layer,) = layers
    shown = PoleSet(layer.system.name, _shown(layer), layer.system.continuous_time)
    if shown.plane == "s":
        figure = new_figure(9, 4)
        left, right = figure.subplots(1, 2)
        draw_poles(left, shown)
        z = layer.poles_z  # a pole beyond Nyquist aliases to the lower half, so show its mirror image
        draw_poles(right, PoleSet(layer.system.name, np.where(z.imag < 0, z.conj(), z), continuous=False))
    else:
        figure = new_figure(6, 4.2)
        draw_poles(figure.add_subplot(), shown)
    head(figure, title, layer_title(layer))
    return figure


def _shown(layer: LayerSpectrum) -> ComplexArray:
    """The poles of the plane in which the layer has them."""
    return layer.modal.poles if layer.system.continuous_time else layer.poles_z


def draw_poles(axes: Axes, shown: PoleSet) -> None:
    """Draw one of the three kinds of picture, with its labels and title."""
    titles = {
        "s": "poles in the s-plane (upper half)",
        "z": "poles on the unit disk (upper half)",
        "rates": "decay rates (all poles are real)",
    }
    draw_plane(axes, shown)
    axes.set_xlabel(plane_labels(shown)[0])
    axes.set_ylabel(plane_labels(shown)[1])
    axes.set_title(titles[shown.plane], fontsize=LABEL)


def plane_labels(shown: PoleSet) -> tuple[str, str]:
    """The labels of the two axes."""
    if shown.plane == "s":
        return "Re a [1/model time]", "Im a [rad/model time]"
    if shown.plane == "z":
        return "Re z", "Im z"
    return "-Re a [1/model time]" if shown.continuous else "|z|", "poles"


def draw_plane(axes: Axes, shown: PoleSet, *, size: float = 9, bars: int = 40) -> None:
    """Draw the points or bars of one of the three kinds of picture, without labels."""
    light_grid(axes)
    if shown.plane == "rates":
        poles = _thin(shown.poles)
        _draw_rates(axes, -poles.real if shown.continuous else np.abs(poles), bars)
        if (poles.real >= 0).any() if shown.continuous else (np.abs(poles) >= 1).any():
            axes.axvline(0 if shown.continuous else 1, color=MARK, linestyle="--", linewidth=1)
        return
    poles = _thin(shown.poles)
    axes.scatter(poles.real, poles.imag, s=size, color=LINE, alpha=0.9 if len(poles) < 200 else 0.35, linewidths=0)
    if shown.plane == "s":
        axes.axvline(0, color=MARK, linestyle="--", linewidth=1)
        return
    angle = np.linspace(0, np.pi, 361)
    axes.plot(np.cos(angle), np.sin(angle), color=MARK, linestyle="--", linewidth=1)
    axes.set_aspect("equal")
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.set_yticks([0, 0.5, 1])


def _draw_rates(axes: Axes, rates: FloatArray, bars: int) -> None:
    """Draw the decay rates of real poles, which would all lie on one line in the plane. The axis is linear if a pole grows."""
    low, high = rates.min(), rates.max()
    if high < 10 * low or low <= 0:
        bins = np.linspace(low, high, bars + 1) if low < high else low + np.array([-0.5, 0.5]) * (abs(low) or 1.0)
    else:
        bins = np.geomspace(low, high * (1 + 1e-9), bars + 1)
        axes.set_xscale("log")
    axes.hist(rates, bins=list(bins), color=LINE)


def _thin(poles: np.ndarray) -> np.ndarray:
    flat = poles[np.isfinite(poles)]
    return flat[:: max(1, len(flat) // MOST_POLES)]


def _small_multiples(sets: list[PoleSet], title: str) -> Figure:
    """One panel per layer, with the same limits if all layers are drawn in the same plane.

    The limits are set once: axes that matplotlib shares are scaled anew with every panel, which takes ten times as long for 64 layers.
    """
    columns = min(COLUMNS, int(np.ceil(np.sqrt(len(sets)))))
    rows = -(-len(sets) // columns)
    same = len({(shown.plane, shown.continuous) for shown in sets}) == 1
    height = 1.35 if same and sets[0].plane == "z" else 1.75  # half a disk is wide
    figure = new_figure(max(5.5, 2.1 * columns + 0.6), height * rows + 1.1)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, shown in zip(grid.flat, sets, strict=False):
        draw_plane(axes, shown, size=4, bars=20)
        axes.set_title(_panel_name(shown.name), fontsize=SMALL - 1)
        axes.tick_params(labelsize=SMALL - 1)
        if not same:
            axes.set_xlabel(plane_labels(shown)[0], fontsize=SMALL - 1)
            axes.set_ylabel(plane_labels(shown)[1], fontsize=SMALL - 1)
    for axes in grid.flat[len(sets) :]:
        axes.remove()
    if same:
        _align(list(grid.flat[: len(sets)]))
        _label_outside(figure, grid, sets)
    head(figure, title, f"{'decay rates' if same and sets[0].plane == 'rates' else 'poles (upper half)'} of every layer")
    return figure


def _align(panels: Sequence[Axes]) -> None:
    """Give all panels the widest limits; the axis is logarithmic where one panel has it so and all limits are positive."""
    left, right = zip(*(axes.get_xlim() for axes in panels), strict=True)
    low, high = zip(*(axes.get_ylim() for axes in panels), strict=True)
    scale = "log" if min(left) > 0 and any(axes.get_xscale() == "log" for axes in panels) else "linear"
    for axes in panels:
        axes.set_xscale(scale)
        axes.set(xlim=(min(left), max(right)), ylim=(min(low), max(high)))
        across, up = (_inside(panels[0].get_xticks(), left, right), _inside(panels[0].get_yticks(), low, high))
        axes.set_xticks(across)
        axes.set_yticks(up)
        axes.minorticks_off()


def _inside(ticks: Iterable[float], lows: Sequence[float], highs: Sequence[float]) -> list[float]:
    """Ticks within the widest limits: matplotlib lays out those beyond them, too."""
    return [tick for tick in ticks if min(lows) <= tick <= max(highs)]


def _panel_name(name: str) -> str:
    """The name above a narrow panel. A name that is too long is split into two lines, at the dot that makes them most equal in length."""
    if len(name) <= PANEL_LETTERS:
        return literal(name)
    dots = [place for place, letter in enumerate(name) if letter == "." and place > 0]
    cut = min(dots, key=lambda place: abs(2 * place - len(name)), default=PANEL_LETTERS)
    return f"{short_name(name[:cut], PANEL_LETTERS)}\n{short_name(name[cut:], PANEL_LETTERS)}"


def _label_outside(figure: Figure, grid: np.ndarray, sets: list[PoleSet]) -> None:
    """Label the axes once for all panels, and draw ticks below the last panel of a column that ends early."""
    across, up = plane_labels(sets[0])
    figure.supxlabel(across, fontsize=LABEL)
    figure.supylabel(up, fontsize=LABEL)
    columns = grid.shape[1]
    for place, axes in enumerate(grid.flat[: len(sets)]):
        axes.tick_params(labelleft=place % columns == 0, labelbottom=place + columns >= len(sets))
