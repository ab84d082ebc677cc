"""Pictures by name. To add one, write a function of layers, a frequency axis and a title, and add one line to `FIGURES`."""

from dataclasses import dataclass
from typing import Protocol

from ssmspec.report.figures.bias import bias_figure
from ssmspec.report.figures.magnitude import heatmap_figure, response_figure
from ssmspec.report.figures.panels import Drawn, Given
from ssmspec.report.figures.poles import poles_figure
from ssmspec.report.figures.single_layer import energy_figure, hankel_figure, kernel_figure, sensitivity_figure
from ssmspec.report.figures.style import FrequencyAxis, Layers


class Draw(Protocol):
    """The function of a figure: layers, the unit of frequencies, and a title, which stands above a new figure.

    Without `ax` it makes a new Figure and returns it. It draws into the Axes in `ax`, one per panel, and returns what it was given.
    """

    def __call__(self, layers: Layers, axis: FrequencyAxis, title: str, *, ax: Given = None) -> Drawn: ...


@dataclass(frozen=True, slots=True)
class FigureKind:
    """A picture that the user can request.

    Args:
        name: its name on the command line.
        description: what it shows, in one line.
        function: the function that draws it; None for a picture that is not drawn from the layers of one checkpoint.
        axes: frequency axes that it supports; empty if it has no frequency axis.
        skip: whether D can be included.
        growing: whether it shows copies with growing poles, too.
        poles: whether it shows something of poles, so that explicit kernels are skipped.
        several: whether it shows all layers in one panel, so that any number of them can be read.
    """

    name: str
    description: str
    function: Draw | None
    axes: tuple[str, ...] = ()
    skip: bool = False
    growing: bool = False
    poles: bool = False
    several: bool = False


_SAMPLED = ("theta", "cycles")
_EVERY = (*_SAMPLED, "omega")

FIGURES: dict[str, FigureKind] = {
    figure.name: figure
    for figure in (
        FigureKind(
            "response",
            "|H|: median and 5..95 % of copies, few copies with their phase, or singular values",
            response_figure,
            _EVERY,
            skip=True,
        ),
        FigureKind("heatmap", "median |H| of all layers in dB", heatmap_figure, _EVERY, skip=True, several=True),
        FigureKind("poles", "poles in the s-plane or on the unit disk, or decay rates", poles_figure, growing=True, poles=True),
        FigureKind("bias", "bias_slope and center_frequency of all layers with ranges", bias_figure, _SAMPLED, skip=True, several=True),
        FigureKind("energy", "share of energy below a frequency, with theta_c and the roll-off", energy_figure, _SAMPLED, skip=True),
        FigureKind("sensitivity", "K(theta) and the slope of it that is the bias", sensitivity_figure, _SAMPLED, poles=True),
        FigureKind("hankel", "Hankel singular values and the 1 % line", hankel_figure),
        FigureKind("kernel", "eigenvalues of T^T T against quantiles of |H|^2 as the kernel grows", kernel_figure),
        FigureKind("compare", "layers of two checkpoints, overlaid", None, _SAMPLED, skip=True),
        FigureKind("inits", "poles and |H| of every initialization; takes no checkpoint", None, _SAMPLED),
    )
}

__all__ = ["FIGURES", "Draw", "Drawn", "FigureKind", "FrequencyAxis", "Given", "Layers"]
