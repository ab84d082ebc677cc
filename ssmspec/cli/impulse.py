"""The command `impulse`: the convolution kernel of one layer."""

from dataclasses import dataclass
from typing import Annotated

import typer

from ssmspec.cli.app import app
from ssmspec.cli.options import ArrayFile, CheckpointPath, FamilyName, LayerName, Reading, takes
from ssmspec.cli.terminal import tell_written
from ssmspec.errors import about


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelReading(Reading):
    """`Reading` where --length is the length of the kernel that is written."""

    stored_length: Annotated[
        int | None, typer.Option("--kernel-length", min=1, help="Kernel length for which S4 layers store C, where the file does not say.")
    ] = None


@app.command()
@takes(reading=KernelReading)
def impulse(
    checkpoint: CheckpointPath,
    layer: LayerName,
    length: Annotated[int, typer.Option("--length", min=1, help="Samples of the kernel.", show_default=False)],
    output: ArrayFile,
    family: FamilyName = None,
    *,
    reading: KernelReading,
) -> None:
    """Write the convolution kernel of one layer, without D and without a beta weight; every copy has one, even where a pole grows.

    Arrays: kernel (copies, outputs, inputs, length), D (copies, outputs, inputs), name, family.
    """
    from ssmspec.families.layers import load_system
    from ssmspec.report.arrays import write_arrays
    from ssmspec.systems.response import impulse_response
    from ssmspec.systems.trust import GROWING, assess

    system = load_system(checkpoint, layer, reading.options(), family)
    with about(checkpoint):
        kernel = impulse_response(system, length)
    notes = write_arrays(output, checkpoint, {"kernel": kernel, "D": system.D, "name": system.name, "family": system.family})
    beta = ("the beta weight is not in the kernel: it has zero phase, so it belongs to the response alone",) if system.sobolev else ()
    faults = (
        f"{fault.text}; such a kernel grows with its length" if fault.kind == GROWING else fault.text for fault in assess(system).faults
    )
    tell_written(output, system.assumptions + beta, (*faults, *notes))
