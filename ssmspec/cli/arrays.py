"""The commands `response` and `impulse`: arrays of one layer."""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssmspec.cli.app import app
from ssmspec.cli.options import Backend, CheckpointPath, FamilyName, reads_checkpoints
from ssmspec.cli.terminal import message
from ssmspec.errors import about

if TYPE_CHECKING:
    from ssmspec.families import ReadOptions

LayerName = Annotated[str, typer.Option("--layer", help="Exact name, glob, or index of one layer.", show_default=False)]
Output = Annotated[Path, typer.Option("-o", "--output", help="File to write (.npz).", show_default=False)]


class AxisName(StrEnum):
    theta = "theta"
    omega = "omega"


@app.command()
@reads_checkpoints()
def response(
    checkpoint: CheckpointPath,
    layer: LayerName,
    output: Output,
    points: Annotated[int, typer.Option("--points", min=2, help="Points of a log-spaced grid.")] = 1024,
    theta: Annotated[Path | None, typer.Option("--theta", help="Frequencies instead: a .npy vector, on the axis of --axis.")] = None,
    axis: Annotated[AxisName, typer.Option("--axis", help="theta [rad/sample], or omega [rad per model time].")] = AxisName.theta,
    no_beta: Annotated[bool, typer.Option("--no-beta", help="Leave out the beta weight that the layer stores.")] = False,
    backend: Backend = None,
    family: FamilyName = None,
    *,
    reading: "ReadOptions",
) -> None:
    """Write the complex frequency response of one layer, with D.

    Arrays: theta or omega (F,), H (copies, outputs, inputs, F), D (copies, outputs, inputs), name, family.
    """
    from ssmspec.backends import choose_backend, load_backend
    from ssmspec.report.arrays import frequency_grid, write_arrays
    from ssmspec.systems.response import frequency_response

    system = _load(checkpoint, layer, family, reading)
    grid = frequency_grid(system.step, axis.value, points, theta)
    pairs = float(system.copies) * system.modes * system.inputs * system.outputs * grid.values.size
    engine = load_backend(backend or choose_backend(pairs))
    with about(checkpoint):
        result = frequency_response(system, grid, engine, with_beta=not no_beta)
    write_arrays(
        output, checkpoint, {axis.value: grid.values, "H": result.total, "D": system.D, "name": system.name, "family": system.family}
    )
    _written(output, system.assumptions)


@app.command()
@reads_checkpoints(length_flag="--kernel-length")
def impulse(
    checkpoint: CheckpointPath,
    layer: LayerName,
    length: Annotated[int, typer.Option("--length", min=1, help="Samples of the kernel.", show_default=False)],
    output: Output,
    family: FamilyName = None,
    *,
    reading: "ReadOptions",
) -> None:
    """Write the convolution kernel of one layer, without D and without a beta weight.

    Arrays: kernel (copies, outputs, inputs, length), D (copies, outputs, inputs), name, family.
    """
    from ssmspec.report.arrays import write_arrays
    from ssmspec.systems.response import impulse_response

    system = _load(checkpoint, layer, family, reading)
    with about(checkpoint):
        kernel = impulse_response(system, length)
    write_arrays(output, checkpoint, {"kernel": kernel, "D": system.D, "name": system.name, "family": system.family})
    beta = ("the beta weight is not in the kernel: it has zero phase, so it belongs to the response alone",) if system.sobolev else ()
    _written(output, system.assumptions + beta)


def _load(checkpoint: Path, layer: str, family: str | None, options: "ReadOptions") -> Any:
    from ssmspec.families.layers import load_system

    return load_system(checkpoint, layer, options, family)


def _written(output: Path, assumptions: Iterable[str]) -> None:
    for assumption in assumptions:
        message(f"assumed: {assumption}")
    message(f"wrote {output}")
