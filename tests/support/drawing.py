"""What tests check in a figure: its labels, and whether its text is legible."""

from typing import Any

import numpy as np
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

SAVEFIG = Figure.savefig


def blank(self: Figure, *arguments: Any, **options: Any) -> None:
    """In place of `Figure.savefig`, which takes longer than all else: a small white picture, for tests of everything but what is on it."""
    SAVEFIG(Figure(figsize=(0.1, 0.1)), *arguments, **options)


def labels(figure: Figure) -> set[str]:
    """The labels of all axes."""
    return {text for axes in figure.axes for text in (axes.get_xlabel(), axes.get_ylabel()) if text}


def beyond_the_axis(axis: Axis) -> list[Text]:
    """Labels of ticks that matplotlib keeps but does not draw, because they lie outside of the limits."""
    low, high = sorted(axis.get_view_interval())
    ticks = axis.get_major_ticks() + axis.get_minor_ticks()
    return [label for tick in ticks if not low <= tick.get_loc() <= high for label in (tick.label1, tick.label2)]


def text_boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that is drawn, with its place in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    hidden = {label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in beyond_the_axis(axis)}
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip() and text not in hidden]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    return [(name, box) for name, box in boxes if box.width > 0]


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes overlap by more than the empty rim of a box."""
    return _overlapping(figure, text_boxes(figure))


def _overlapping(figure: Figure, boxes: list[tuple[str, Bbox]]) -> list[tuple[str, str]]:
    inside = [(name, box) for name, box in boxes if figure.bbox.overlaps(box)]
    x0, y0, x1, y1 = np.array([box.extents for _, box in inside]).reshape(-1, 4).T
    meet = (x0[:, None] <= x1) & (x0 <= x1[:, None]) & (y0[:, None] <= y1) & (y0 <= y1[:, None])
    pairs = [(inside[first], inside[second]) for first, second in np.argwhere(np.triu(meet, 1))]
    return [(a, b) for (a, left), (b, right) in pairs if left.shrunk(0.9, 0.8).overlaps(right)]


def unreadable(figure: Figure) -> list[object]:
    """Pairs of texts that overlap, and texts that reach over the edge of the figure."""
    boxes, whole = text_boxes(figure), figure.bbox.padded(1)
    cut = [name for name, box in boxes if not (whole.contains(box.x0, box.y0) and whole.contains(box.x1, box.y1))]
    return [*_overlapping(figure, boxes), *cut]
