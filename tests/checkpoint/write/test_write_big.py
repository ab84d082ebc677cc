"""Checkpoints of 5 GB are changed in little memory, and their holes stay holes: the files are sparse."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from locations import HANG

from ssmspec.checkpoint import open_checkpoint

BIG = 5 * 2**30  # bytes of one tensor beside the small one
MEMORY = 300_000_000
ON_DISK = 64 * 2**20
ISLANDS = (10_000_000, BIG // 2, BIG - 10_000_000)  # bytes of the big tensor that are not holes

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from ssmspec.checkpoint import open_checkpoint
from ssmspec.checkpoint.write.write_changed import write_changed

source, target, metadata = sys.argv[1:]
write_changed(open_checkpoint(source), Path(target), {"small": np.arange(3.0)}, metadata={"by": "me"} if metadata else {})
with open("/proc/self/status") as file:
    print(1024 * int(next(line for line in file if line.startswith("VmHWM")).split()[1]))
"""


def write_safetensors(path: Path) -> Path:
    header = {"big": ("U8", [BIG], [0, BIG]), "small": ("F64", [3], [BIG, BIG + 24])}
    text = json.dumps({name: dict(zip(("dtype", "shape", "data_offsets"), entry, strict=True)) for name, entry in header.items()}).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + BIG + 24)
        for place in ISLANDS:
            file.seek(8 + len(text) + place)
            file.write(b"\x07")
    return path


def write_torch(path: Path) -> Path:
    torch = pytest.importorskip("torch")
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        tensors = {"big": torch.empty(BIG, dtype=torch.uint8), "small": torch.empty(3, dtype=torch.float64)}
    with torch.serialization.skip_data(materialize_fake_tensors=True):
        torch.save(tensors, path)
    return path


def write_folder(path: Path) -> Path:
    path.mkdir()
    write_safetensors(path / "model.safetensors")
    return path


@pytest.fixture
def place(tmp_path) -> Iterator[Path]:
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc/self/status here to measure memory")
    with (tmp_path / "probe").open("wb") as file:
        file.truncate(1 << 26)
    if (tmp_path / "probe").stat().st_blocks * 512 > 1 << 20:
        pytest.skip("this file system has no sparse files")
    yield tmp_path
    for path in sorted(tmp_path.rglob("*"), reverse=True):  # removed at once, instead of after three more runs
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize("metadata", ["", "with metadata"])
@pytest.mark.parametrize("write", [write_safetensors, write_torch, write_folder])
def test_five_gigabytes_are_changed_in_little_memory(place, write, metadata):
    source, target = write(place / "in"), place / "out"
    command = [sys.executable, "-c", SCRIPT, str(source), str(target), metadata]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MEMORY
    tensors = open_checkpoint(target).tensors
    assert tensors["small"].read().tolist() == [0, 1, 2]
    assert tensors["big"].shape == (BIG,)
    assert tensors["big"].read(slice(BIG - 3, BIG)).tolist() == [0, 0, 0]
    for place in ISLANDS if write is not write_torch else ():
        assert tensors["big"].read(slice(place - 1, place + 2)).tolist() == [0, 7, 0]
    written = target / "model.safetensors" if target.is_dir() else target
    assert written.stat().st_size > BIG
    assert written.stat().st_blocks * 512 < ON_DISK
    if write is write_torch:
        with zipfile.ZipFile(target) as archive:
            assert archive.read("in/data/1") == np.arange(3.0).tobytes()
