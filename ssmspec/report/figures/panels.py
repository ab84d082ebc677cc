"""Where a figure is drawn: into a new figure, or into the axes that the caller gives. Small multiples of many layers."""

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ssmspec.errors import SsmspecError
from ssmspec.report.figures.style import LABEL, SMALL, Layers, ShownFigure, layer_title, literal, plain_ticks, short_name

Given = Axes | Sequence[Axes] | np.ndarray | None
"""What a caller may give as `ax`: nothing, Axes, or as many Axes as the figure has panels."""
Drawn = Any
"""What a figure returns: a new Figure, or what was given as `ax`."""

COLUMNS = 8  # at most this many columns of small multiples
NARROWEST, NARROW = 1.0, 2.4  # inches of a panel that needs no labels of its own, and of others
PANEL_LETTERS = 26  # letters that fit above one panel
LETTER = 0.075  # inches of a letter of the title; four fifths of that in a legend
HANDLE = 0.55  # inches that a line of a legend takes beside its letters
TEXT = 1.3  # inches of the height of a figure that its labels, title and legend take
LEFT, RIGHT, BOTTOM, TOP = 0.8, 0.15, 0.5, 0.5  # margins of small multiples in inches
ROW, ACROSS = 0.25, 0.42  # inches that a row of a legend and the label of the horizontal axis take below the panels
COLUMNS_OF_LEGEND = 4

_width: ContextVar[float | None] = ContextVar("width", default=None)


@contextmanager
def of_width(inches: float | None) -> Iterator[None]:
    """Make all figures of the block this wide; None leaves every figure its own width."""
    token = _width.set(inches)
    try:
        yield
    finally:
        _width.reset(token)


@dataclass(frozen=True, slots=True)
class Panels:
    """The axes of one figure.

    Args:
        axes: row by row. given: what the caller gave; None if the figure is new.
        columns: of small multiples that are placed here; None where matplotlib does the layout.
    """

    figure: Figure
    axes: tuple[Axes, ...]
    given: Given = None
    columns: int | None = None

    @property
    def drawn(self) -> Drawn:
        """What the function of a figure returns."""
        return self.figure if self.given is None else self.given

    def head(self, title: str, what: str) -> None:
        """Write above a new figure whose it is, and what it shows; above axes that were given what they show."""
        if self.given is not None:
            first = self.axes[0]
            first.set_title("\n".join(filter(None, (what, first.get_title()))))
            return
        if self.columns is None:
            self._wrap_titles()
        letters = int(self.figure.get_figwidth() / LETTER)
        lines = [short_name(title, min(60, letters)), *textwrap.wrap(what, letters)]
        place = {} if self.columns is None else {"y": 1 - 0.08 / self.figure.get_figheight()}
        self.figure.suptitle("\n".join(lines), **place)

    def _wrap_titles(self) -> None:
        """Break titles of panels that are too narrow for them."""
        for axes in self.axes:
            grid, text = axes.get_gridspec(), axes.get_title()
            letters = int(0.83 * self.figure.get_figwidth() / (grid.ncols if grid else 1) / LETTER)
            lines = text.split("\n")
            if max(map(len, lines)) > letters:
                axes.set_title("\n".join(textwrap.fill(line, letters) for line in lines))

    def legend(self, columns: int = COLUMNS_OF_LEGEND) -> None:
        """A legend of everything that has a label: below a new figure, where it covers nothing; inside the first of given axes."""
        found = self._labeled()
        if not found:
            return
        if self.given is not None:
            self.axes[0].legend(found.values(), found.keys(), loc="best")
            return
        columns = _columns_that_fit(list(found), columns, self.figure.get_figwidth())
        place: dict[str, Any] = {"loc": "outside lower center"}
        if self.columns is not None:
            place = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.02 / self.figure.get_figheight())}
        self.figure.legend(found.values(), found.keys(), ncols=columns, **place)

    def _labeled(self) -> dict[str, Any]:
        return {label: handle for axes in self.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}

    def arrange(self, names: Sequence[str], title: str, what: str, *, aspect: float, common: bool = True) -> None:
        """Finish small multiples that are drawn: names above the panels, and in a new figure margins, common limits, head and legend.

        Margins are set here, since matplotlib takes seconds to measure the text of 64 panels.

        Args:
            aspect: height of a panel divided by its width. common: whether all panels have the same axes, which are then labeled once.
        """
        for axes, name in zip(self.axes, names, strict=True):
            axes.set_title(panel_name(name), fontsize=SMALL - 1, y=1.0)  # a place given: matplotlib measures all ticks to find one
            axes.tick_params(labelsize=SMALL - 1)
        if self.given is None:
            self._place(1 + any("\n" in panel_name(name) for name in names), aspect, common)
            if common:
                self._align()
        self.head(title, what)
        self.legend()

    def _place(self, lines: int, aspect: float, common: bool) -> None:
        assert self.columns is not None
        figure, columns = self.figure, self.columns
        rows = -(-len(self.axes) // columns)
        between, above = (0.14 if common else 0.75), 0.1 + 0.14 * lines
        gap = above + (0.06 if common else 0.55)
        width = figure.get_figwidth()
        panel = (width - LEFT - RIGHT - (columns - 1) * between) / columns
        labels = list(self._labeled())
        bottom = BOTTOM + ROW * (-(-len(labels) // _columns_that_fit(labels, COLUMNS_OF_LEGEND, width)) if labels else 0)
        height = TOP + above + rows * aspect * panel + (rows - 1) * gap + bottom
        figure.set_figheight(height)
        ends = {"left": LEFT / width, "right": 1 - RIGHT / width, "bottom": bottom / height, "top": 1 - (TOP + above) / height}
        figure.subplots_adjust(**ends, wspace=between / panel, hspace=gap / (aspect * panel))

    def _align(self) -> None:
        """Give all panels the widest limits, and label their axes once."""
        for which in ("x", "y"):
            _widest(self.axes, which)
        figure, first = self.figure, self.axes[0]
        width, height = figure.get_size_inches()
        bottom, top = figure.subplotpars.bottom, figure.subplotpars.top
        figure.supxlabel(first.get_xlabel(), fontsize=LABEL, y=bottom - ACROSS / height)
        figure.supylabel(first.get_ylabel(), fontsize=LABEL, x=0.08 / width, y=(bottom + top) / 2)
        for place, axes in enumerate(self.axes):
            axes.set(xlabel="", ylabel="")
            axes.tick_params(labelleft=place % (self.columns or 1) == 0, labelbottom=place + (self.columns or 1) >= len(self.axes))


def _columns_that_fit(labels: Sequence[str], most: int, width: float) -> int:
    """Of a legend: matplotlib fills one column after the other."""
    letters = [len(re.sub(r"[$\\{}]", "", label)) for label in labels]
    for count in range(min(most, len(labels)), 1, -1):
        if sum(HANDLE + 0.8 * LETTER * max(column) for column in np.array_split(letters, count)) < width:
            return count
    return 1


def _widest(panels: Sequence[Axes], which: str) -> None:
    """Give one axis of all panels the widest limits. It is logarithmic where that of one panel is, and all limits are positive."""
    lows, highs = zip(*(getattr(axes, f"get_{which}lim")() for axes in panels), strict=True)
    low, high = min(lows), max(highs)
    log = low > 0 and any(getattr(axes, f"get_{which}scale")() == "log" for axes in panels)
    ticks: list[float] = []
    for axes in panels:
        if log:
            getattr(axes, f"set_{which}scale")("log")
        getattr(axes, f"set_{which}lim")(low, high)
        if log:
            plain_ticks(getattr(axes, f"{which}axis"))
        # matplotlib lays out ticks beyond the limits, too
        ticks = ticks or [tick for tick in getattr(axes, f"get_{which}ticks")() if low <= tick <= high]
        getattr(axes, f"set_{which}ticks")(ticks)
        getattr(axes, f"{which}axis").set_minor_locator(NullLocator())


def panels(
    ax: Given, count: int = 1, *, width: float, height: float, columns: int = 1, fewest: int | None = None, listing: bool = False
) -> Panels:
    """The axes of a figure with `count` panels: new ones, or those in `ax`.

    Args:
        ax: None, Axes, or a sequence of Axes. fewest: with this many, only the first panels are drawn; by default all are needed.
        width, height: of a new figure [inches]. columns: of its panels.
        listing: whether its rows name layers, so that it keeps its height where the user chose another width.
    Raises:
        SsmspecError: `ax` has another number of Axes.
    """
    if ax is not None:
        return _given(ax, count, fewest or count)
    wished = _width.get()
    if wished is not None:
        fitting = min(columns, max(1, int(wished / NARROW)))
        rows = -(-count // fitting) / -(-count // columns)
        scale = 1.0 if listing else wished / fitting / (width / columns)
        width, height, columns = wished, TEXT + max(0.8, (height - TEXT) * rows * scale), fitting
    figure = ShownFigure(figsize=(width, height), layout="constrained")
    return _new(figure, count, columns, None)


def multiples(ax: Given, count: int) -> Panels:
    """One panel per layer in a grid that is nearly square, or the axes in `ax`; `Panels.arrange` finishes them.

    Raises:
        SsmspecError: `ax` has another number of Axes.
    """
    if ax is not None:
        return _given(ax, count, count)
    columns = min(COLUMNS, int(np.ceil(np.sqrt(count))))
    width = _width.get() or LEFT + RIGHT + columns * max(2.0, 8.0 / columns)
    columns = max(1, min(columns, int((width - LEFT - RIGHT) / NARROWEST)))
    return _new(ShownFigure(figsize=(width, width)), count, columns, columns)


def _new(figure: Figure, count: int, columns: int, placed: int | None) -> Panels:
    grid = figure.subplots(-(-count // columns), columns, squeeze=False).flat
    for spare in grid[count:]:
        spare.remove()
    return Panels(figure, tuple(grid[:count]), columns=placed)


def _given(ax: Axes | Sequence[Axes] | np.ndarray, count: int, fewest: int) -> Panels:
    axes = (ax,) if isinstance(ax, Axes) else tuple(np.ravel(np.asarray(ax, dtype=object)))
    if len(axes) not in (count, fewest) or not all(isinstance(each, Axes) for each in axes):
        wanted = f"{count} Axes" if fewest == count else f"{fewest} or {count} Axes"
        raise SsmspecError(f"ax holds {len(axes)} of Axes or other things; this figure needs {wanted}, or none to make a new Figure")
    return Panels(axes[0].figure, axes, ax)


def per_layer(
    layers: Layers,
    title: str,
    ax: Given,
    draw: Callable[[Axes, Any, bool], None],
    *,
    what: str,
    size: tuple[float, float] = (7.0, 4.8),
    aspect: float = 0.62,
) -> Drawn:
    """One panel of one layer, or small multiples of several on common limits.

    Args:
        draw: called with axes, a layer, and whether there are several, which share labels and a legend. what: title of the panel or panels.
        size: of a figure of one layer [inches]. aspect: height of a panel of several divided by its width.
    """
    if len(layers) == 1:
        (layer,) = layers
        shown = panels(ax, width=size[0], height=size[1])
        draw(shown.axes[0], layer, False)
        shown.axes[0].set_title(what)
        shown.head(title, layer_title(layer))
        shown.legend()
        return shown.drawn
    shown, names = multiples(ax, len(layers)), []
    for axes, layer in zip(shown.axes, layers, strict=True):
        draw(axes, layer, True)
        names.append(layer.system.name)
    shown.arrange(names, title, f"{what}; one panel per layer", aspect=aspect)
    return shown.drawn


def panel_name(name: str) -> str:
    """The name above a narrow panel. A name that is too long is split into two lines, at the dot that makes them most equal in length."""
    if len(name) <= PANEL_LETTERS:
        return literal(name)
    dots = [place for place, letter in enumerate(name) if letter == "." and place > 0]
    cut = min(dots, key=lambda place: abs(2 * place - len(name)), default=PANEL_LETTERS)
    return f"{short_name(name[:cut], PANEL_LETTERS)}\n{short_name(name[cut:], PANEL_LETTERS)}"
