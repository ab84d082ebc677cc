"""Commands with --jobs write what they write without."""

from pathlib import Path

import numpy as np
import pytest
from program import Type, checkpoint, s4d_tensors

from ssmspec.parallel import workplace


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Four checkpoints, the second of which is damaged; two cores."""
    monkeypatch.setattr(workplace, "cores", lambda: 2)
    paths = []
    for number in range(4):
        tensors = s4d_tensors(layers=2)
        tensors["layers.1.kernel.log_dt"] += np.float32(number)
        paths.append(checkpoint(tmp_path, tensors, f"step{number}.safetensors"))
    paths[1].write_bytes(paths[1].read_bytes()[:80])
    return paths


def outputs(folder: Path) -> dict[str, bytes]:
    """The files there, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


@pytest.mark.parametrize(
    "command",
    [
        ("analyze", "--points", "16", "--json", "--csv", "OUT/a.csv", "--copies", "OUT/b.csv"),
        ("analyze", "--points", "16"),
        ("check", "--format", "json"),
    ],
)
def test_jobs_change_no_byte(command: tuple[str, ...], files: list[Path], tmp_path: Path, typed: Type) -> None:
    found = []
    for jobs in ("1", "2"):
        (tmp_path / jobs).mkdir()
        result = typed(*(word.replace("OUT", jobs) for word in command), *files, "--jobs", jobs)
        assert result.code == 2
        assert "step1.safetensors: truncated" in result.err
        found.append((result.out, result.err.replace(f"wrote {jobs}/", "wrote "), outputs(tmp_path / jobs)))
    assert found[0] == found[1]
    assert "step3" in found[0][0]


def test_a_history_with_jobs_is_the_same_and_ends_at_its_first_error(files: list[Path], tmp_path: Path, typed: Type) -> None:
    sound = [files[0], *files[2:]]
    alone = typed("compare", *sound, "--json")
    assert alone.code == 0
    assert typed("compare", *sound, "--json", "--jobs", "2") == alone
    files[3].write_bytes(b"")
    failed = typed("compare", *files, "--jobs", "2")
    assert (failed.code, failed.out) == (2, "")
    assert failed.err.startswith(f"ssmspec: {files[1]}: ")
    assert failed == typed("compare", *files)


def test_more_jobs_than_cores_are_fewer_and_said(files: list[Path], typed: Type) -> None:
    result = typed("check", files[0], "--jobs", "3", "--threads", "2")
    assert "--jobs 3: 2 at a time, because there are 2 cores" in result.err
    assert "--threads 2 with 2 jobs: 1 each" in result.err
