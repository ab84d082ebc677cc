"""The Typer app, and the options that come before every command."""

import os
import sys
from typing import Annotated

import typer

from ssmspec.cli.terminal import run
from ssmspec.version import __version__

app = typer.Typer(
    name="ssmspec",
    help="Spectral analysis of trained state space models: what every layer does to every frequency.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run the app. An error of the package becomes one line on stderr and an exit code."""
    sys.exit(run(app, debug="--debug" in sys.argv[1:]))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ssmspec {__version__}")
        raise typer.Exit


BLAS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")  # how users set the threads of BLAS
TORCH = {"train", "bench", "--retrain"}  # commands and an option that leave these threads to PyTorch, which reads the same variables


@app.callback()
def common(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options of all commands.

    BLAS gets one thread, unless the user set a number. In matrices as small as those of a layer, several threads wait for each other: they
    took 1.8 times the processor time on a quiet machine and 7 times on a busy one. NumPy reads the number when it is imported, later.
    """
    if TORCH.isdisjoint({context.invoked_subcommand, *sys.argv[1:]}) and not any(name in os.environ for name in BLAS):
        os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"))
