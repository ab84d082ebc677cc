"""Checkpoints of several gigabytes: a layer is analyzed from the headers and its own few tensors, whatever else the file holds.

The files are sparse and shaped like a Mamba-2 of 2.7 billion parameters (5.4 GB apparent): only headers and the tensors that count are
written. A separate process reads them and reports the bytes it read (rchar of /proc/self/io) and its peak memory (VmHWM).
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from locations import HANG, SAMPLES

LAYERS, D_MODEL, HEADS, STATES, VOCABULARY = 64, 2560, 80, 128, 50288
INNER = 2 * D_MODEL
CONV = INNER + 2 * STATES
MIXER = {  # of one layer, all in float16
    "A_log": (HEADS,),
    "D": (HEADS,),
    "conv1d.bias": (CONV,),
    "conv1d.weight": (CONV, 1, 4),
    "dt_bias": (HEADS,),
    "in_proj.weight": (INNER + CONV + HEADS, D_MODEL),
    "norm.weight": (INNER,),
    "out_proj.weight": (D_MODEL, INNER),
}
SHAPES = {"backbone.embeddings.weight": (VOCABULARY, D_MODEL)} | {
    f"backbone.layers.{layer}.mixer.{name}": shape for layer in range(LAYERS) for name, shape in MIXER.items()
}
WRITTEN = ("A_log", "D", "dt_bias")
SSM_BYTES = 2 * LAYERS * 3 * HEADS
PROJECTED_BYTES = 2 * LAYERS * 2 * STATES * D_MODEL  # rows of B and C in in_proj, for rms residues
APPARENT = 5_300_000_000
MEMORY = 400_000_000
PRELUDE = 4096 + 8192  # bytes read of every file to see what it is, and the buffer through which its header is read

SCRIPT = """
import json, sys
from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.families import ReadOptions

def bytes_read():
    with open("/proc/self/io") as file:
        return int(next(line for line in file if line.startswith("rchar")).split()[1])

path, sample, residues = sys.argv[1:]
options = AnalysisOptions(backend="reference", points=64, read=ReadOptions(residues=residues))
analyze(sample, options)  # what is imported late is imported now
own = -bytes_read()
own += bytes_read()  # what looking costs
before = bytes_read()
result = analyze(path, options)
read = bytes_read() - before - own
with open("/proc/self/status") as file:
    peak = 1024 * int(next(line for line in file if line.startswith("VmHWM")).split()[1])
print(json.dumps({
    "read": read, "peak": peak, "layers": [layer.name for layer in result.layers], "size": result.size,
    "steps": [layer.step_range for layer in result.layers], "skipped": len(result.skipped),
}))
"""


def values(name: str) -> np.ndarray:
    """The values of a written tensor, which differ in every layer."""
    layer, kind = int(name.split(".")[2]), name.rsplit(".", 1)[-1]
    shift = {"A_log": 0.5, "D": 1.0, "dt_bias": -5.0}[kind]
    return (shift + np.arange(HEADS) / HEADS + layer / 128).astype(np.float16)


def check_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 26)
    sparse = path.stat().st_blocks * 512 < 1 << 20
    path.unlink()
    if not sparse:
        pytest.skip("this file system has no sparse files")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if not Path("/proc/self/io").exists():
        pytest.skip("no /proc/self/io here to count bytes read")
    folder = tmp_path_factory.mktemp("big")
    check_sparse(folder / "probe")
    yield folder
    for path in sorted(folder.rglob("*"), reverse=True):  # removed at once, instead of after three more runs
        path.rmdir() if path.is_dir() else path.unlink()


def write_safetensors(path: Path, names: list[str]) -> int:
    """A sparse file with these tensors; returns the bytes before the tensors."""
    header, position = {}, 0
    for name in names:
        size = 2 * int(np.prod(SHAPES[name]))
        header[name] = {"dtype": "F16", "shape": list(SHAPES[name]), "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + position)
        for name in names:
            if name.endswith(WRITTEN):
                file.seek(8 + len(text) + header[name]["data_offsets"][0])
                file.write(values(name).tobytes())
    return 8 + len(text)


@pytest.fixture(scope="module")
def sharded(folder: Path) -> tuple[Path, int]:
    """A folder of two shards with their index, and the number of bytes outside tensors."""
    target = folder / "sharded"
    target.mkdir()
    names, overhead, weight_map = list(SHAPES), 0, {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), start=1):
        shard = f"model-{number:05}-of-00002.safetensors"
        overhead += write_safetensors(target / shard, part) + PRELUDE
        weight_map |= dict.fromkeys(part, shard)
    (target / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (target / "config.json").write_text(json.dumps({"model_type": "mamba2", "n_groups": 1}))
    return target, overhead + sum((target / name).stat().st_size for name in ("model.safetensors.index.json", "config.json"))


@pytest.fixture(scope="module")
def torch_zip(folder: Path) -> tuple[Path, int]:
    """What torch.save writes for such a model, with empty storages, and the number of bytes outside tensors."""
    torch = pytest.importorskip("torch")
    from torch._subclasses.fake_tensor import FakeTensorMode

    path = folder / "pytorch_model.bin"
    with FakeTensorMode():
        tensors = {name: torch.empty(shape, dtype=torch.float16) for name, shape in SHAPES.items()}
    with torch.serialization.skip_data(materialize_fake_tensors=True):
        torch.save(tensors, path)
    from ssmspec.checkpoint import open_checkpoint

    stored = open_checkpoint(path).tensors
    with path.open("r+b") as file:
        for name, tensor in stored.items():
            if name.endswith(WRITTEN):
                file.seek(tensor.span.offset)
                file.write(values(name).tobytes())
    return path, path.stat().st_size - sum(tensor.nbytes for tensor in stored.values()) + PRELUDE


def measured(path: Path, residues: str = "unit") -> dict:
    command = [sys.executable, "-c", SCRIPT, str(path), str(SAMPLES / "mamba2_trained"), residues]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_whole(result: dict) -> None:
    """Every layer was analyzed, with its own steps."""
    assert result["size"] > APPARENT
    assert result["layers"] == [f"backbone.layers.{layer}.mixer" for layer in range(LAYERS)]
    assert result["skipped"] == 0
    for layer, (low, high) in enumerate(result["steps"]):
        bias = values(f"backbone.layers.{layer}.mixer.dt_bias").astype(float)
        np.testing.assert_allclose((low, high), np.log1p(np.exp(bias[[0, -1]])), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("container", "residues", "budget"),
    [
        ("sharded", "unit", 2 * SSM_BYTES),
        ("torch_zip", "unit", 2 * SSM_BYTES),
        ("torch_zip", "rms", 2 * (SSM_BYTES + PROJECTED_BYTES)),
    ],
)
def test_a_file_of_5_gigabytes_is_analyzed_from_headers_and_ssm_tensors(container, residues, budget, request):
    path, overhead = request.getfixturevalue(container)
    result = measured(path, residues)
    assert_whole(result)
    assert result["read"] <= budget + overhead
    assert result["peak"] < MEMORY


@pytest.mark.slow
def test_inspect_reads_headers_and_what_analysis_needs(sharded):
    from ssmspec.commands.inspect import inspect_checkpoint

    path, overhead = sharded

    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])

    inspect_checkpoint(SAMPLES / "mamba2_trained")
    before = bytes_read()
    document = inspect_checkpoint(path)
    assert bytes_read() - before <= 2 * SSM_BYTES + overhead + 4096
    assert len(document["layers"]) == LAYERS
