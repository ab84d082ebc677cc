"""The command line: one module per command, which parses, calls and prints. Heavy modules are imported inside the commands."""

from ssmspec.cli import analyze, arrays, bench, check, compare, inspect, plot, retune, suggest, train  # noqa: F401  (importing a command registers it)
from ssmspec.cli.app import app, main

__all__ = ["app", "main"]
