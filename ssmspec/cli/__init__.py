"""The command line: one module per command, which parses, calls and prints. Heavy modules are imported inside the commands."""

from ssmspec.cli import (  # noqa: F401  (importing a command registers it)
    analyze,
    bench,
    check,
    compare,
    export,
    families,
    impulse,
    inspect,
    plot,
    reduce,
    response,
    retune,
    suggest,
    train,
)
from ssmspec.cli.app import app, main

__all__ = ["app", "main"]
