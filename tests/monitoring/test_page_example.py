"""The example of the page on watching a run, as it stands there."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from nets import lines, net

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "watch.md").read_text(encoding="utf-8")


def test_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard", reason="the example logs to it")
    monkeypatch.chdir(tmp_path)
    example = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    model = net(dropout=0.0)
    scope: dict[str, Any] = {
        "model": model,
        "batches": [(batch, batch.roll(3, 1)) for batch in torch.randn(3, 2, 32, 1)],
        "criterion": torch.nn.functional.mse_loss,
        "optimizer": torch.optim.AdamW(model.parameters(), lr=1e-2),
    }
    exec(example[1], scope)
    assert [line["step"] for line in lines(tmp_path / "bias.jsonl")] == [0, 3]
    assert len(list((tmp_path / "runs" / "bias").iterdir())) == 1
    assert len(list((tmp_path / "bias.pictures").iterdir())) >= 2
    assert capsys.readouterr().out.startswith("2 measurements: ")
