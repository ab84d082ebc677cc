"""The README is correct: its commands exist, and its blocks are what the program prints."""

import re
from pathlib import Path

import pytest
from program import ssmspec

from ssmspec.cli import whole_app
from ssmspec.families import FAMILIES
from ssmspec.statistics import STATISTICS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [command.name or command.callback.__name__ for command in whole_app().registered_commands if command.callback]


def test_first_table_is_what_the_first_command_prints() -> None:
    command, table = re.search(r"ssmspec (analyze \S+)\n", README), re.search(r"```text\n(.*?)\n```", README, re.DOTALL)
    assert command is not None
    assert table is not None
    printed = [line.rstrip() for line in ssmspec(*command[1].split(), cwd=ROOT).out.rstrip().splitlines()]
    assert printed == table[1].splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme_and_has_help(command: str) -> None:
    assert f"`ssmspec {command} " in README or f"`ssmspec {command}`" in README
    done = ssmspec(command, "--help")
    assert done.code == 0
    assert len(done.out) > 200


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_in_the_readme_with_its_source(family: str) -> None:
    assert f"| `{family}` | {FAMILIES[family].title} | {FAMILIES[family].source} |" in README


@pytest.mark.parametrize("statistic", STATISTICS)
def test_every_statistic_is_in_the_readme(statistic: str) -> None:
    assert f"`{statistic}`" in README


def test_linked_files_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_every_statistic_and_distance_is_in_the_page_of_statistics() -> None:
    from ssmspec.statistics.curves import CURVES
    from ssmspec.statistics.distances import DISTANCES

    page = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    for entry in (*STATISTICS.values(), *CURVES.values(), *DISTANCES.values()):
        line = next((line for line in page.splitlines() if line.startswith(f"| `{entry.name}` |")), None)
        assert line is not None, entry.name
        assert entry.source in line
        assert f"| {entry.unit or '1'} |" in line
