"""The picture of a layer during training: the present |H|, and behind it the first |H| that was drawn."""

from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave

from ssmspec.files.writing import Kind, whole_file
from ssmspec.report.figures.magnitude import draw_magnitude
from ssmspec.report.figures.style import FrequencyAxis, short_name, styled
from ssmspec.statistics import LayerAnalysis
from ssmspec.systems.grid import FloatArray

Image = npt.NDArray[np.uint8]

SIZE, PER_INCH = (5.2, 3.4), 120  # inches, and pixels per inch
FIRST = "0.55"


def monitor_picture(layer: LayerAnalysis, theta: FloatArray, step: int, first: tuple[int, FloatArray] | None) -> Image:
    """Median |H| and its 5..95 % band after `step` steps.

    Args:
        layer: a layer that has a curve. theta: (F,) [rad/sample].
        first: an earlier step and the median (F,) at that step, which is drawn as a gray line.
    Returns:
        Pixels (height, width, 3).
    """
    assert layer.curve is not None
    with styled():
        figure = Figure(figsize=SIZE, dpi=PER_INCH)  # fixed margins, since automatic layout would take as long as drawing
        figure.subplots_adjust(left=0.13, right=0.97, bottom=0.15, top=0.9)
        axes = figure.subplots()
        if first is not None:
            axes.plot(theta, first[1], color=FIRST, linewidth=1, label=f"median, step {first[0]}")
        draw_magnitude(axes, theta, layer.curve, norm=layer.inputs * layer.outputs > 1, nyquist=np.pi)
        axes.set_xlabel(FrequencyAxis().label)
        axes.set_title(f"{short_name(layer.name)} ({layer.family}), step {step}")
        axes.legend(loc="lower left")
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def write_png(image: Image, path: Path) -> Path:
    """Write pixels as PNG, completely or not at all.

    Raises:
        SsmspecError: the file cannot be written.
    """
    with whole_file(path, Kind.picture) as file:
        imsave(cast(BinaryIO, file), image, format="png")
    return path
