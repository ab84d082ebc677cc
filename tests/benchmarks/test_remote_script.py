"""The figures of remote files are those that the script measures, and those of the table."""

import json
import runpy
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("case", ["safetensors", "torch zip"])
def test_bytes_and_requests_are_those_of_the_table(case) -> None:
    pytest.importorskip("aiohttp")
    script = runpy.run_path(str(HERE / "remote.py"))
    stored = json.loads((HERE / "remote.json").read_text(encoding="utf-8"))
    assert list(stored) == list(script["CASES"])
    found = script["measure"](script["CASES"][case])
    assert found["at_once"] <= 8
    assert found | {"at_once": stored[case]["at_once"]} == stored[case]
    text = (HERE / "RESULTS.md").read_text(encoding="utf-8")
    assert all(script["row"](name, figures) in text for name, figures in stored.items())
