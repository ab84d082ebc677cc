"""The script that compares jobs runs, and all ways print the same."""

import runpy
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_script_measures_every_way() -> None:
    script = runpy.run_path(str(Path(__file__).parent / "jobs.py"))
    figures = script["measure"](3, 1, clusters=False)
    assert list(figures) == ["1 job", "2 jobs", "cache, first", "cache, second"]
    assert all(value > 0 for figure in figures.values() for value in figure.values())
    assert script["row"]("1 job", figures).endswith("| 1.00 |")
