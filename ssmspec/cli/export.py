"""The command `export`: the state matrices of one layer for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from ssmspec.cli.app import command
from ssmspec.cli.options import CheckpointPath, FamilyName, LayerName, Reading, takes
from ssmspec.cli.terminal import tell_read, tell_written
from ssmspec.errors import SsmspecError


@command("export model.safetensors --layer 0 -o layer.npz")
@takes(reading=Reading)
def export(
    checkpoint: CheckpointPath,
    layer: LayerName,
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write: .npz, or .mat for MATLAB.", show_default=False)],
    copy: Annotated[int | None, typer.Option("--copy", help="Only this copy of the layer; default: all.", show_default=False)] = None,
    family: FamilyName = None,
    *,
    reading: Reading,
) -> None:
    """Write the real state matrices of one layer, with D and without a beta weight.

    A, B, C, D: x[t+1] = A x[t] + B u[t], y[t] = C x[t] + D u[t]. A_continuous, ...: the same before sampling, with step. Several copies are
    the first axis. Of an explicit kernel, which has no such matrices: kernel (outputs, inputs, samples), D, first_lag.
    """
    from ssmspec.commands.export import export as run
    from ssmspec.report.arrays import write_arrays
    from ssmspec.report.progress import LayerProgress

    if output.suffix.lower() not in (".npz", ".mat"):
        raise SsmspecError(f"cannot write {output}: matrices are written as .npz or .mat; end its name in one of them")
    checkpoint = reading.given(checkpoint)
    with LayerProgress() as progress:
        found = run(checkpoint, layer, reading.options(), family, copy=copy)
    notes = write_arrays(output, checkpoint, found.arrays)
    tell_read(progress.opened)
    tell_written(output, found.assumptions, (*found.notes, *notes))
