"""The notebooks of the documentation, cell by cell."""

import re
from contextlib import chdir
from pathlib import Path

import pytest
from locations import SAMPLES

NOTEBOOKS = sorted((SAMPLES.parent / "docs" / "notebooks").glob("*.md"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(path: Path) -> None:
    cells = re.findall(r"^```\{code-cell\}.*?\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(cells) > 5
    names: dict[str, object] = {}
    with chdir(SAMPLES.parent):
        for number, cell in enumerate(re.sub(r"^:.*\n+", "", cell) for cell in cells):  # without options such as :tags:
            exec(compile(cell, f"{path.name}, cell {number}", "exec"), names)
