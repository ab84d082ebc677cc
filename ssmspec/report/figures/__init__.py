"""Pictures by name. To add one, write a function of layers, a frequency axis and a title, and add one line to `FIGURES`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from matplotlib.figure import Figure

from ssmspec.report.figures.bias import bias_figure
from ssmspec.report.figures.magnitude import heatmap_figure, response_figure
from ssmspec.report.figures.poles import poles_figure
from ssmspec.report.figures.single_layer import energy_figure, hankel_figure, kernel_figure, sensitivity_figure
from ssmspec.report.figures.style import FrequencyAxis, Layers

Draw = Callable[[Layers, FrequencyAxis, str], Figure]


@dataclass(frozen=True, slots=True)
class FigureKind:
    """A picture that the user can request.

    Args:
        name: its name on the command line.
        description: what it shows, in one line.
        layers: whether it draws one layer or any number of layers.
        function: the function that draws it; None for a picture that is not drawn from the layers of one checkpoint.
        axes: frequency axes that it supports; empty if it has no frequency axis.
        skip: whether D can be included.
        growing: whether it shows copies with growing poles, too.
        poles: whether it shows something of poles, so that explicit kernels are skipped.
    """

    name: str
    description: str
    layers: Literal["one", "any"]
    function: Draw | None
    axes: tuple[str, ...] = ()
    skip: bool = False
    growing: bool = False
    poles: bool = False


_SAMPLED = ("theta", "cycles")
_EVERY = (*_SAMPLED, "omega")

FIGURES: dict[str, FigureKind] = {
    figure.name: figure
    for figure in (
        FigureKind("response", "|H| and phase of one layer: median and 5..95 % of copies", "one", response_figure, _EVERY, skip=True),
        FigureKind("heatmap", "median |H| of all layers in dB", "any", heatmap_figure, _EVERY, skip=True),
        FigureKind(
            "poles",
            "poles in the s-plane and on the unit disk, or decay rates; several layers side by side",
            "any",
            poles_figure,
            growing=True,
            poles=True,
        ),
        FigureKind("bias", "bias_slope and center_frequency of all layers with ranges", "any", bias_figure, _SAMPLED, skip=True),
        FigureKind("energy", "share of energy below a frequency, with theta_c and the roll-off", "one", energy_figure, _SAMPLED, skip=True),
        FigureKind("sensitivity", "K(theta) of one layer with its fitted slope, the bias", "one", sensitivity_figure, _SAMPLED, poles=True),
        FigureKind("hankel", "Hankel singular values of one layer and the 1 % line", "one", hankel_figure),
        FigureKind("kernel", "eigenvalues of T^T T against quantiles of |H|^2 as the kernel grows", "one", kernel_figure),
        FigureKind("compare", "one layer of two checkpoints, overlaid", "any", None, _SAMPLED, skip=True),
        FigureKind("inits", "poles and |H| of every initialization; takes no checkpoint", "any", None, _SAMPLED),
    )
}

__all__ = ["FIGURES", "Draw", "FigureKind", "FrequencyAxis", "Layers"]
