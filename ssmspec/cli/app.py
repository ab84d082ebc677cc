"""The Typer app, and the options that come before every command."""

import functools
import inspect
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ssmspec.cli.freed_memory import keep_freed
from ssmspec.cli.plain_values import with_plain_values
from ssmspec.cli.terminal import run as run_app
from ssmspec.report.quiet import be_quiet
from ssmspec.report.quiet import quiet as is_quiet
from ssmspec.version import __version__

LONGEST_SUMMARY = 500  # characters
COMMON = "Options"  # the panel of options that name no other
COMPUTING, READING = "Engine", "How to read the file"  # panels that many commands have, below their own


class Command(TyperCommand):
    """A command whose help has a panel for each group of options, and examples below them."""

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters, --help among them."""
        return with_plain_values(super().get_params(ctx))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options by panel. Without rich, whose import would double the time of --help."""
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], COMMON: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            argument = parameter.param_type_name == "argument"
            panel = "Arguments" if argument else getattr(parameter, "rich_help_panel", None) or COMMON
            panels.setdefault(panel, []).extend([record] if record else [])
        for panel in sorted(panels, key=(COMPUTING, READING).__contains__):
            if records := panels[panel]:
                with formatter.section(panel):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, one per line."""
        if self.epilog:
            with formatter.section("Examples"):
                for example in self.epilog.splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}ssmspec {example}\n")


class Group(TyperGroup):
    """The list of commands, each with its whole first sentence."""

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters, --help among them."""
        return with_plain_values(super().get_params(ctx))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write name and summary of every command."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(LONGEST_SUMMARY)) for name, command in commands if command])


app = typer.Typer(
    name="ssmspec",
    cls=Group,
    help="Spectral analysis of trained state space models: what every layer does to every frequency.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 1000},  # as wide as the terminal
)

Function = Callable[..., Any]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Write results and errors only: no notes and no progress on stderr.")]


def command(*examples: str) -> Callable[[Function], Function]:
    """Add a function to the app as a command, with the option --quiet that all of them have.

    Args:
        examples: command lines, without the name of the program, that its help shows.
    """

    def add(function: Function) -> Function:
        @functools.wraps(function)
        def run(*, quiet: bool, **values: Any) -> None:
            be_quiet(quiet or is_quiet())
            function(**values)

        own = inspect.signature(function).parameters.values()
        added = inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Quiet)
        run.__signature__ = inspect.Signature([*own, added])  # type: ignore[attr-defined]  # what Typer reads to make options
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, added)}
        app.command(cls=Command, epilog="\n".join(examples))(run)
        return function

    return add


def main() -> None:
    """Run the app. An error of the package becomes one line on stderr and an exit code."""
    sys.exit(run_app(app, debug="--debug" in sys.argv[1:]))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ssmspec {__version__}")
        raise typer.Exit


BLAS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")  # how users set the threads of BLAS
# commands and an option that leave these threads to PyTorch, which reads the same variables
TORCH = {"train", "bench", "calibrate", "probe", "--retrain"}


@app.callback()
def common(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    quiet: Quiet = False,
) -> None:
    """Options of all commands.

    BLAS gets one thread, unless the user set a number. In matrices as small as those of a layer, several threads wait for each other: they
    took 1.8 times the processor time on a quiet machine and 7 times on a busy one. NumPy reads the number when it is imported, later.
    """
    be_quiet(quiet)
    keep_freed()
    if TORCH.isdisjoint({context.invoked_subcommand, *sys.argv[1:]}) and not any(name in os.environ for name in BLAS):
        os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"))
