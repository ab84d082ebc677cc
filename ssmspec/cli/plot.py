"""The command `plot`."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmspec.cli.app import command
from ssmspec.cli.options import Backend, FamilyName, LayerNames, Reading, WithSkip, check_sample_rate, takes
from ssmspec.cli.terminal import message, tell_read
from ssmspec.errors import SsmspecError

if TYPE_CHECKING:
    from ssmspec.report.plot import PlotOptions


class PlotPlane(StrEnum):
    s = "s"
    z = "z"


class PlotAxis(StrEnum):
    theta = "theta"
    cycles = "cycles"
    omega = "omega"


def _list_figures(wanted: bool) -> None:
    if not wanted:
        return
    from ssmspec.report.figures import FIGURES

    for figure in FIGURES.values():
        typer.echo(f"{figure.name:<12} {figure.description}")
    raise typer.Exit


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """What is drawn, over which frequencies, and to which file."""

    layer: LayerNames = None
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="File to write: .png, .svg or .pdf; its folder is made. Default: CKPT.FIGURE.png here, with the name of a chosen layer.",
            show_default=False,
        ),
    ] = None
    axis: Annotated[
        PlotAxis | None,
        typer.Option("--axis", help="theta [rad/sample] (default), cycles [per sample], or continuous omega [rad/model time]."),
    ] = None
    sample_rate: Annotated[float | None, typer.Option("--sample-rate", help="Samples per second; gives frequencies in Hz.")] = None
    points: Annotated[int, typer.Option("--points", min=16, help="Number of points of the log-spaced grid.")] = 1024
    with_skip: WithSkip = False
    plane: Annotated[
        PlotPlane | None,
        typer.Option("--plane", help="For the figure poles: s or z. Default: s where all steps are the same, else z.", show_default=False),
    ] = None
    dpi: Annotated[float | None, typer.Option("--dpi", min=20, max=1200, help="Pixels per inch of a PNG; default: 150.")] = None
    width: Annotated[float | None, typer.Option("--width", min=2.5, max=50, help="Width of the picture in inches.")] = None
    title: Annotated[
        str | None, typer.Option("--title", help="Text above the picture, instead of the names of file and layer; '' for none.")
    ] = None
    style: Annotated[Path | None, typer.Option("--style", metavar="FILE", help="A matplotlib style sheet (.mplstyle).")] = None
    alpha: Annotated[float, typer.Option("--alpha", help="For the figure inits: factor on Im of the poles.")] = 1.0
    list_figures: Annotated[
        bool, typer.Option("--list", callback=_list_figures, is_eager=True, help="List the figures, one line each.")
    ] = False
    backend: Backend = None
    family: FamilyName = None

    def options(self, reading: Reading) -> "PlotOptions":
        """These options in the form that `ssmspec.report.plot` takes."""
        from ssmspec.report.plot import Look, PlotOptions

        return PlotOptions(
            layers=tuple(self.layer or ()),
            family=self.family,
            read=reading.options(),
            backend=self.backend,
            points=self.points,
            with_skip=self.with_skip,
            axis=None if self.axis is None else self.axis.value,
            sample_rate=self.sample_rate,
            plane=None if self.plane is None else self.plane.value,
            look=Look(dpi=self.dpi, width=self.width, title=self.title, style=self.style),
        )


@command("plot response model.safetensors --layer 0", "plot --list")
@takes(drawing=Drawing, reading=Reading)
def plot(
    figure: Annotated[str, typer.Argument(metavar="FIGURE", help="Name of a figure; --list shows all.", show_default=False)],
    checkpoints: Annotated[
        list[str] | None,
        typer.Argument(metavar="CKPT", help="Checkpoint file, folder or address; compare takes two, inits takes none.", show_default=False),
    ] = None,
    *,
    drawing: Drawing,
    reading: Reading,
) -> None:
    """Draw one figure of a checkpoint as PNG, SVG or PDF.

    It shows all layers, or those given by --layer: heatmap and bias in rows, the other figures in one panel per layer.
    """
    check_sample_rate(drawing.sample_rate)
    from ssmspec.report.quick_import import import_quickly

    import_quickly()
    from ssmspec.report.plot import plot as draw
    from ssmspec.report.plot import plot_initializations, plot_pair
    from ssmspec.report.progress import LayerProgress

    options = drawing.options(reading)
    checkpoints = [reading.given(path) for path in checkpoints or []]
    wanted = {"compare": 2, "inits": 0}.get(figure, 1)
    if len(checkpoints) != wanted:
        count = f"{wanted or 'no'} checkpoint{'' if wanted == 1 else 's'}"
        raise SsmspecError(f"the figure {figure} takes {count}, but the number given is {len(checkpoints)}")
    if figure == "inits":
        message(f"wrote {plot_initializations(drawing.output, options=options, alpha=drawing.alpha)}")
        return
    if figure == "compare":
        with LayerProgress() as progress:
            written = plot_pair(checkpoints[0], checkpoints[1], drawing.output, options=options)
        tell_read(progress.opened)
        message(f"wrote {written}")
        return
    with LayerProgress() as progress:
        written, notes = draw(figure, checkpoints[0], drawing.output, options=options, progress=progress)
    tell_read(progress.opened)
    for note in notes:
        message(note)
    message(f"wrote {written}")
