"""The command line: one module per command, which parses, calls and prints. Heavy modules are imported inside the commands."""

from ssmspec.cli import analyze, arrays, check, compare, inspect, plot  # noqa: F401  (importing a command registers it)
from ssmspec.cli.app import app, main

__all__ = ["app", "main"]
