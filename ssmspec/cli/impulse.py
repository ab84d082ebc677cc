"""The command `impulse`: the convolution kernel of one layer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from ssmspec.cli.app import command
from ssmspec.cli.options import CheckpointPath, FamilyName, LayerName, Reading, takes
from ssmspec.cli.terminal import echo, tell_read, tell_written
from ssmspec.errors import SsmspecError, about


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelReading(Reading):
    """`Reading` for a command whose --length is the length of the kernel that is written."""

    LENGTH: ClassVar[str] = "--kernel-length"
    stored_length: Annotated[
        int | None, typer.Option("--kernel-length", min=1, help="Kernel length for which S4 layers store C, if the file does not state it.")
    ] = None


@command("impulse model.safetensors --layer 0 --length 1000 -o kernel.npz")
@takes(reading=KernelReading)
def impulse(
    checkpoint: CheckpointPath,
    layer: LayerName,
    length: Annotated[int, typer.Option("--length", min=1, help="Length of the kernel [samples].", show_default=False)],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write (.npz).", show_default=False)] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="A kernel of your own (.npy): print the largest difference to it.", show_default=False),
    ] = None,
    family: FamilyName = None,
    *,
    reading: KernelReading,
) -> None:
    """Write the convolution kernel of one layer, without D and without a beta weight. Copies with growing poles have a kernel, too.

    Arrays: kernel (copies, outputs, inputs, length), D (copies, outputs, inputs), first_lag (below 0 for a kernel that looks ahead), name,
    family. A kernel to compare with has this shape, or
    leaves out axes of size one; it may be shorter or longer than --length, and what both have is compared.
    """
    from ssmspec.families.layers import load_system
    from ssmspec.report.arrays import difference_text, write_arrays
    from ssmspec.report.progress import LayerProgress
    from ssmspec.systems.trust import GROWING, assess

    if output is None and against is None:
        raise SsmspecError("nothing to do with the kernel; write it with -o, or compare it with --against")
    checkpoint = reading.given(checkpoint)
    with LayerProgress() as progress:
        system = load_system(checkpoint, layer, reading.options(), family)
    tell_read(progress.opened)
    with about(checkpoint):
        kernel = system.impulse(length)
    if against is not None:
        echo(difference_text(against, kernel, system.copies))
    if output is None:
        return
    lag = system.earliest_lag
    arrays = {"kernel": kernel, "D": system.D, "name": system.name, "family": system.family, "first_lag": lag}
    looks_ahead = (f"the kernel looks ahead: its first sample has lag {lag}",) if lag else ()
    notes = (*looks_ahead, *write_arrays(output, checkpoint, arrays))
    weighted = "the kernel excludes the beta weight, which has zero phase and so applies to the response only"
    beta = (weighted,) if system.sobolev else ()
    growth = "; the kernel of such a copy grows with its length"
    faults = (fault.text + growth * (fault.kind == GROWING) for fault in assess(system).faults)
    tell_written(output, system.assumptions + beta, (*faults, *notes))
