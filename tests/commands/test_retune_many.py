"""retune of several checkpoints."""

import json
from pathlib import Path

import numpy as np
import pytest
from program import Type, checkpoint, s4d_tensors
from safetensors.numpy import load_file

from ssmspec.parallel import workplace


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three checkpoints, the second of which is damaged; two cores."""
    monkeypatch.setattr(workplace, "cores", lambda: 2)
    paths = [checkpoint(tmp_path, s4d_tensors(H=4 + number), f"m{number}.safetensors") for number in range(3)]
    paths[1].write_bytes(paths[1].read_bytes()[:80])
    return paths


def test_each_goes_into_the_folder_and_is_what_it_is_alone(files: list[Path], typed: Type, tmp_path: Path) -> None:
    for path in (files[0], files[2]):
        assert typed("retune", path, "--alpha", "2", "-o", f"alone-{path.name}").code == 0
    found = []
    for jobs in ("1", "2"):
        result = typed("retune", *files, "--alpha", "2", "-o", f"out{jobs}", "--jobs", jobs)
        assert result.code == 2
        assert f"ssmspec: {files[1]}: truncated" in result.err
        assert sorted(path.name for path in Path(f"out{jobs}").iterdir()) == [
            f"{path.name}{end}" for path in (files[0], files[2]) for end in ("", ".ssmspec.json")
        ]
        found.append((result.out.replace(f"out{jobs}", "out"), result.err))
        for path in (files[0], files[2]):
            assert (tmp_path / f"out{jobs}" / path.name).read_bytes() == (tmp_path / f"alone-{path.name}").read_bytes()
            new, old = load_file(f"out{jobs}/{path.name}"), load_file(path)
            np.testing.assert_allclose(new["layers.0.kernel.A_imag"], 2 * old["layers.0.kernel.A_imag"])
    assert found[0] == found[1]
    first, last = found[0][0].splitlines()
    assert first.startswith(f"{files[0]}: 1 tensor changed; wrote out/m0.safetensors; verdict: ")
    assert last.startswith(f"{files[2]}: ")


def test_documents_are_an_array_and_a_dry_run_writes_nothing(files: list[Path], typed: Type, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    result = typed("retune", files[0], files[2], "--alpha", "2", "--dry-run", "--json")
    assert result.code == 0
    documents = json.loads(result.out)
    assert [document["input"] for document in documents] == [str(files[0]), str(files[2])]
    assert documents[0] == json.loads(typed("retune", files[0], "--alpha", "2", "--dry-run", "--json").out)
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_about_one_checkpoint_is_refused(files: list[Path], typed: Type, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    twin = checkpoint(tmp_path / "other", s4d_tensors(), "m0.safetensors")
    for paths, options, text in (
        ((files[0], files[2]), ("--plot", "p"), "--plot with several checkpoints"),
        ((files[0], files[2]), ("--retrain", "waves"), "--retrain with several checkpoints"),
        ((files[0], twin), ("-o", "out"), "would both be written to out/m0.safetensors"),
        ((files[0], "https://127.0.0.1:9/m.safetensors"), (), "of several checkpoints, all must be local"),
    ):
        result = typed("retune", *paths, "--alpha", "2", *options)
        assert (result.code, result.out) == (2, "")
        assert text in result.err
    assert not (tmp_path / "out").exists()
