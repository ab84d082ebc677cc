"""The command line: one module per command, which parses, calls and prints. Heavy modules are imported inside the commands."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

COMMANDS = (
    "analyze",
    "bench",
    "calibrate",
    "check",
    "compare",
    "export",
    "families",
    "impulse",
    "inspect",
    "plot",
    "probe",
    "reduce",
    "report",
    "response",
    "retune",
    "suggest",
    "train",
)


def main() -> None:
    """Run the app with the arguments of the process. An error of the package becomes one line on stderr and an exit code."""
    from ssmspec.cli.app import main as run

    typed = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    _register([typed] if typed in COMMANDS else COMMANDS)  # to declare them all takes as long as to analyze a small file
    run()


def whole_app() -> "typer.Typer":
    """The app with all commands."""
    from ssmspec.cli.app import app

    _register(COMMANDS)
    return app


def _register(names: Sequence[str]) -> None:
    """Import commands, which adds them to the app."""
    for name in names:
        import_module(f"ssmspec.cli.{name}")
