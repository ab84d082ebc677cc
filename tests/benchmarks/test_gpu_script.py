"""gpu.sh without a GPU: what it writes, what it says of parts that fail, and the parts themselves, at small sizes on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from runpy import run_path
from typing import Any

import jsonschema
import pytest
from locations import HANG

HERE = Path(__file__).parent
PART = {
    "type": "object",
    "required": ["name", "status", "seconds", "limit_seconds", "figures"],
    "properties": {
        "status": {"enum": ["ok", "failed", "skipped"]},
        "seconds": {"type": "number", "minimum": 0},
        "limit_seconds": {"type": "number", "minimum": 0},
        "figures": {"type": "object"},
    },
    "allOf": [
        {"if": {"properties": {"status": {"const": "failed"}}}, "then": {"required": ["error", "log"]}},
        {"if": {"properties": {"status": {"const": "skipped"}}}, "then": {"required": ["reason"]}},
    ],
}
SCHEMA = {
    "type": "object",
    "required": ["schema", "date", "commit", "quick", "finished", "mode", "note", "seconds", "hardware", "parts"],
    "properties": {
        "schema": {"const": "ssmspec.gpu/1"},
        "date": {"type": "string", "format": "date-time"},
        "mode": {"enum": ["gpu", "interpreter", "none", "unknown"]},
        "hardware": {"type": "object", "required": ["python", "nvidia_smi"]},
        "parts": {"type": "array", "items": PART},
    },
}

linux = pytest.mark.skipif(sys.platform != "linux", reason="Triton exists for Linux only")


def document(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "gpu.json").read_text(encoding="utf-8"))
    jsonschema.validate(found, SCHEMA)
    return found


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return run_path(str(HERE / "gpu.py"))


def parts_that(script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let other code stand in for the parts: `name`, `write` and the modules that it imports."""
    (tmp_path / "gpu_parts.py").write_text(
        f"import json, sys, time\nname, file = sys.argv[1], open(sys.argv[2], 'w')\n"
        f"def write(**line):\n    file.write(json.dumps(line) + '\\n')\n    file.flush()\n{code}\n"
    )
    patience = {"HERE": tmp_path, "PROBE": HANG, "LIMIT": 9 * HANG, "LIMITS": dict.fromkeys(script["LIMITS"], HANG)}
    for name, value in patience.items():
        monkeypatch.setitem(script["main"].__globals__, name, value)


@linux
def test_without_a_gpu_the_interpreter_runs_what_it_can_and_the_document_says_so(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    command = [HERE / "gpu.sh", tmp_path / "new", "--quick", "--only", "kernels", "train", "--limit", str(HANG)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=HANG)
    assert done.returncode == 0, done.stdout + done.stderr
    found = document(tmp_path / "new")
    assert (found["mode"], found["finished"], found["quick"]) == ("interpreter", True, True)
    assert "Triton's interpreter runs kernels, operator, layers on the CPU" in found["note"]
    assert found["note"] in done.stdout
    assert {"cpu", "torch", "triton", "numba", "cuda"} <= found["hardware"].keys()
    kernels, train = found["parts"]
    assert kernels["status"] == "ok"
    assert 0 < kernels["figures"]["roundings"]["1x1x1x1x1 float32"] < 8
    assert (train["name"], train["status"], train["reason"]) == ("train", "skipped", "it needs an NVIDIA GPU")


@linux
def test_every_part_has_a_limit_and_together_they_take_less_than_eight_minutes(script: dict[str, Any]) -> None:
    parts = run_path(str(HERE / "gpu_parts.py"))["PARTS"]
    assert script["LIMITS"].keys() == parts.keys()
    assert script["INTERPRETER"].keys() < parts.keys()
    for limits in (script["LIMITS"], script["INTERPRETER"]):
        assert script["PROBE"] + sum(limits.values()) <= script["LIMIT"] < 480


@linux
@pytest.mark.parametrize("part", ["operator", "layers", "autocast", "nccl", "engine", "s4d_step", "train"])
def test_parts_give_figures_on_the_cpu_as_they_would_on_a_gpu(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", sys.argv)
    monkeypatch.setattr("ssmspec.benchmarks.pairs.SHORTEST", 0.0)
    parts = run_path(str(HERE / "gpu_parts.py"))
    figures = list(parts["PARTS"][part](parts["Place"]("cpu", quick=True)))
    assert json.dumps(figures, allow_nan=False)
    assert all(figures)


@linux
def test_a_part_that_fails_hangs_or_crashes_leaves_its_figures_and_the_others_run(script, tmp_path, monkeypatch, capsys) -> None:
    code = """
if name == 'probe':
    write(figures={'mode': 'gpu', 'hardware': {'gpu': 'some GPU', 'python': '3'}})
elif name == 'kernels':
    write(figures={'relative': {'one': 1e-9}})
    write(figures={'relative': {'two': float('nan')}})
    write(status='failed', error='ValueError: two is nan')
    print('some traceback')
    sys.exit(1)
elif name == 'operator':
    write(figures={'first': 1})
    time.sleep(3600)
elif name == 'layers':
    sys.exit('Segmentation fault')
else:
    write(figures={'first': 2})
"""
    parts_that(script, tmp_path, monkeypatch, code)
    monkeypatch.setitem(script["main"].__globals__["LIMITS"], "operator", 0.5)
    assert script["main"]([str(tmp_path), "--only", "kernels", "operator", "layers", "nccl"]) == 1
    found = document(tmp_path)
    kernels, operator, layers, nccl = found["parts"]
    assert (kernels["error"], kernels["log"]) == ("ValueError: two is nan", ["some traceback"])
    assert kernels["figures"] == {"relative": {"one": 1e-9, "two": "nan"}}
    assert operator["error"].startswith("it did not end within ")
    assert layers["error"] == "its process ended with code 1: Segmentation fault"
    assert (nccl["status"], nccl["figures"]) == ("ok", {"first": 2})
    assert (found["mode"], found["note"], found["finished"]) == ("gpu", "on some GPU", True)
    assert "layers: failed" in capsys.readouterr().out


@linux
def test_where_torch_is_missing_the_document_says_so(script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts_that(script, tmp_path, monkeypatch, "import torch_that_is_missing")
    assert script["main"]([str(tmp_path)]) == 1
    found = document(tmp_path)
    assert (found["mode"], found["finished"]) == ("none", True)
    assert "No module named 'torch_that_is_missing'" in found["note"]
    assert {part["reason"] for part in found["parts"]} == {"nothing can run here"}
