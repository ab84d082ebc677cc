"""The command `response`: the complex frequency response of one layer."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ssmspec.cli.app import command
from ssmspec.cli.options import ArrayFile, Backend, CheckpointPath, FamilyName, Horizon, LayerName, Reading, takes
from ssmspec.cli.terminal import tell_read, tell_written
from ssmspec.errors import about


class AxisName(StrEnum):
    theta = "theta"
    omega = "omega"


@command("response model.safetensors --layer 0 -o response.npz")
@takes(reading=Reading)
def response(
    checkpoint: CheckpointPath,
    layer: LayerName,
    output: ArrayFile,
    points: Annotated[int, typer.Option("--points", min=2, help="Number of points of the log-spaced grid.")] = 1024,
    theta: Annotated[
        Path | None, typer.Option("--theta", help="Use these frequencies instead: a .npy vector in the unit of --axis.")
    ] = None,
    axis: Annotated[
        AxisName, typer.Option("--axis", help="Frequency axis: theta [rad/sample], or omega [rad/model time].")
    ] = AxisName.theta,
    no_beta: Annotated[bool, typer.Option("--no-beta", help="Leave out the beta weight that the layer stores.")] = False,
    horizon: Horizon = None,
    backend: Backend = None,
    family: FamilyName = None,
    *,
    reading: Reading,
) -> None:
    """Write the complex frequency response of one layer, including D.

    Arrays: theta or omega (F,), H (copies, outputs, inputs, F), D (copies, outputs, inputs), name, family.
    """
    from ssmspec.backends import choose_backend, load_backend
    from ssmspec.families.layers import load_system
    from ssmspec.report.arrays import frequency_grid, write_arrays
    from ssmspec.report.progress import LayerProgress
    from ssmspec.systems.horizon import first_samples
    from ssmspec.systems.trust import GROWING, assess

    checkpoint = reading.given(checkpoint)
    with LayerProgress() as progress:
        system = load_system(checkpoint, layer, reading.options(), family)
    tell_read(progress.opened)
    grid = frequency_grid(system.step, axis.value, points, theta)
    engine = load_backend(
        backend or choose_backend(float(system.copies) * system.modes * system.inputs * system.outputs * grid.values.size)
    )
    if horizon is not None and axis is not AxisName.theta:
        raise typer.BadParameter("a kernel of finite length has a response over theta only", param_hint="--horizon")
    with about(checkpoint):
        asked = first_samples(system, horizon) if horizon is not None else system
        total = asked.response(grid, engine, with_beta=not no_beta).total
    cut = asked is not system
    notes = write_arrays(
        output, checkpoint, {axis.value: grid.values, "H": total, "D": system.D, "name": system.name, "family": system.family}
    )
    if horizon is not None and not cut:
        notes = ("the layer is an explicit kernel, which --horizon does not cut", *notes)
    if cut:
        notes = (f"the response is that of the kernel of {horizon} samples (--horizon)", *notes)
    unstable = "" if cut else "; the response is the transfer function on the axis, not the spectrum of the kernel, which grows"
    faults = (fault.text + unstable * (fault.kind == GROWING) for fault in assess(system).faults)
    tell_written(output, system.assumptions, (*faults, *notes))
