"""The command `plot`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmspec.cli.app import app
from ssmspec.cli.options import Backend, FamilyName, LayerNames, WithSkip, check_sample_rate, reads_checkpoints
from ssmspec.cli.terminal import message
from ssmspec.errors import SsmspecError

if TYPE_CHECKING:
    from ssmspec.families import ReadOptions


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


@app.command()
@reads_checkpoints()
def plot(
    figure: Annotated[str, typer.Argument(metavar="FIGURE", help="Which figure; --list names them.", show_default=False)],
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(metavar="CKPT", help="Checkpoint file or folder; the figure compare takes two, inits none.", show_default=False),
    ] = None,
    layer: LayerNames = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="File to write: .png, .svg or .pdf. Default: CKPT.FIGURE.png here, with the layer if one was chosen.",
            show_default=False,
        ),
    ] = None,
    axis: Annotated[
        PlotAxis | None,
        typer.Option("--axis", help="theta [rad/sample] (default), cycles [per sample], or omega [rad/model time], continuous."),
    ] = None,
    sample_rate: Annotated[float | None, typer.Option("--sample-rate", help="Samples per second: frequencies in Hz.")] = None,
    points: Annotated[int, typer.Option("--points", min=16, help="Points of the log-spaced grid.")] = 1024,
    with_skip: WithSkip = False,
    alpha: Annotated[float, typer.Option("--alpha", help="Of the figure inits: factor on Im of the poles.")] = 1.0,
    list_figures: Annotated[
        bool, typer.Option("--list", callback=_list_figures, is_eager=True, help="List the figures with a line each.")
    ] = False,
    backend: Backend = None,
    family: FamilyName = None,
    *,
    reading: "ReadOptions",
) -> None:
    """Draw one figure of a checkpoint as PNG, SVG or PDF.

    Response, energy, sensitivity, hankel and kernel show one layer; heatmap, poles and bias show all, or those of --layer.
    """
    check_sample_rate(sample_rate)
    from ssmspec.report.plot import PlotOptions, plot_initializations, plot_pair
    from ssmspec.report.plot import plot as draw
    from ssmspec.report.progress import LayerProgress

    options = PlotOptions(
        layers=tuple(layer or ()),
        family=family,
        read=reading,
        backend=backend,
        points=points,
        with_skip=with_skip,
        axis=None if axis is None else axis.value,
        sample_rate=sample_rate,
    )
    checkpoints = checkpoints or []
    wanted = {"compare": 2, "inits": 0}.get(figure, 1)
    if len(checkpoints) != wanted:
        count = f"{wanted or 'no'} checkpoint{'' if wanted == 1 else 's'}"
        raise SsmspecError(f"the figure {figure} takes {count}, and {len(checkpoints)} were given")
    if figure == "inits":
        message(f"wrote {plot_initializations(output, options=options, alpha=alpha)}")
        return
    if figure == "compare":
        message(f"wrote {plot_pair(checkpoints[0], checkpoints[1], output, options=options)}")
        return
    with LayerProgress(str(checkpoints[0])) as progress:
        written, notes = draw(figure, checkpoints[0], output, options=options, progress=progress)
    for note in notes:
        message(note)
    message(f"wrote {written}")
