"""The README is short and true. Its blocks run in tests/docs/test_blocks.py, its links in tests/docs/test_reference.py."""

import re
from pathlib import Path

import pytest
from program import ssmspec

from ssmspec.cli import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_short() -> None:
    lines = README.splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) <= 160


def test_first_table_is_what_the_first_command_prints() -> None:
    command, table = re.search(r"ssmspec (analyze \S+)\n", README), re.search(r"```text\n(.*?)\n```", README, re.DOTALL)
    assert command is not None
    assert table is not None
    printed = [line.rstrip() for line in ssmspec(*command[1].split(), cwd=ROOT).out.rstrip().splitlines()]
    assert printed == table[1].splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = ssmspec(command, "--help")
    assert done.code == 0
    assert len(done.out) > 200


def test_words_are_explained_before_they_are_used() -> None:
    text = README.split("## ")
    explained = next(number for number, part in enumerate(text) if part.startswith("Three words"))
    before = "".join(text[:explained]).replace("`ssmspec retune --alpha 10 --beta 1`", "")
    assert not re.search(r"\b(alpha|beta)\b", before)


def test_its_links_are_relative_until_there_is_a_public_address() -> None:
    assert not re.findall(r"\]\((http[^)]*)\)", README)
