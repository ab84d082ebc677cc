"""Two processes that train one model: rank 0 measures, the other does nothing, and neither waits for the other."""

from pathlib import Path

import pytest
from nets import lines
from ranks import run_ranks

from ssmspec.commands.analyze import AnalysisOptions, analyze


@pytest.mark.slow
def test_only_the_first_of_two_processes_logs(tmp_path: Path) -> None:
    run_ranks(Path(__file__).with_name("two_ranks.py"), tmp_path)
    assert (tmp_path / "rank0.txt").read_text(encoding="utf-8") == "[0, None, 2, None, 4]"
    assert (tmp_path / "rank1.txt").read_text(encoding="utf-8") == "[None, None, None, None, None]"
    written = lines(tmp_path / "bias.jsonl")
    assert [line["step"] for line in written] == [0, 2, 4]
    truth = analyze(tmp_path / "model.pt", AnalysisOptions(backend=written[-1]["backend"]))
    assert [layer.name for layer in truth.layers] == ["module.blocks.0", "module.blocks.1"]
    for mine, other in zip(written[-1]["layers"], truth.layers, strict=True):
        assert f"module.{mine['name']}" == other.name
        assert mine["statistics"]["bias_slope"]["median"] == other.statistics["bias_slope"].median
