"""Values taken without Typer's converters are those that Typer itself takes, and whatever it refuses is refused in its words."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pytest
import typer

from ssmspec.cli.app import Command


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


def _taken(arguments, command_class):
    """What a command receives, or the message and code with which the line is refused."""
    got = {}
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)

    @app.command(cls=command_class)
    def command(
        files: Annotated[list[Path], typer.Argument()],
        count: Annotated[int, typer.Option(min=2, max=100)] = 16,
        rate: Annotated[float | None, typer.Option()] = None,
        color: Annotated[Color, typer.Option()] = Color.RED,
        name: Annotated[list[str] | None, typer.Option()] = None,
        text: Annotated[str, typer.Option()] = "x",
        flag: Annotated[bool, typer.Option("--flag")] = False,
        there: Annotated[Path | None, typer.Option(exists=True)] = None,
    ):
        got.update(locals())

    try:
        app([*arguments], standalone_mode=False)
    except Exception as error:
        return type(error).__name__, str(getattr(error, "message", error))
    return {key: (type(value), value) for key, value in got.items() if key != "got"}


@pytest.mark.parametrize(
    "line",
    [
        "a",
        "a b c",
        "",
        "a --count 2 --rate 1.5 --color blue --name u --name v --text t --flag",
        "a --count 1",
        "a --count 101",
        "a --count 1_0",
        "a --count 1.5",
        "a --count 3.0",
        "a --count ten",
        "a --count 99999999999999999999",
        "a --count -0",
        "a --rate nan",
        "a --rate 1e3",
        "a --rate .5",
        "a --rate 1e999",
        "a --rate -7",
        "a --rate x",
        "a --color RED",
        "a --color green",
        "a --there /nowhere/at/all",
        "a --there /",
        "a --text= --name=",
    ],
)
def test_values_and_refusals_are_those_of_typer(line):
    ours, theirs = (_taken(line.split(), each) for each in (Command, None))
    if isinstance(ours, dict) and "rate" in ours and ours["rate"][1] != ours["rate"][1]:  # not a number equals nothing
        assert theirs["rate"][1] != theirs["rate"][1]
        ours.pop("rate"), theirs.pop("rate")
    assert ours == theirs
