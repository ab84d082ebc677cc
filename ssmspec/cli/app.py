"""The Typer app, and the options that come before every command."""

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


@app.callback()
def common(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options of all commands."""
