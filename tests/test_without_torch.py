"""Without torch, everything works but what trains, and that says what to install.

`SSMSPEC_PYTHON_WITHOUT_TORCH` names the Python of an environment that has ssmspec and lacks torch; without it, imports of torch fail here.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from locations import HANG, SAMPLES

# takes command lines as JSON, runs them in one process, and tells how each ended
RUNNER = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

blocked, lines = json.load(sys.stdin)
if blocked:
    sys.meta_path.insert(0, Blocked())
try:
    import torch
    raise SystemExit("torch is here")
except ImportError:
    pass
from ssmspec.cli import main, COMMANDS
found = []
for words in lines:
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["ssmspec", *words]
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code
    found.append([code, out.getvalue(), err.getvalue()])
try:
    import ssmspec.nn
    found.append("ssmspec.nn was imported")
except ImportError as error:
    found.append(str(error))
print(json.dumps(found))
"""

TRAINED, INITIAL = str(SAMPLES / "s4d_trained.safetensors"), str(SAMPLES / "s4d_initial.safetensors")
WORKING = (
    ["analyze", TRAINED, "--json"],
    ["analyze", str(SAMPLES / "s4_dplr_trained.pt"), str(SAMPLES / "s5_trained.msgpack"), str(SAMPLES / "mamba1_trained.safetensors")],
    ["compare", INITIAL, TRAINED],
    ["check", TRAINED],
    ["inspect", TRAINED],
    ["families"],
    ["response", TRAINED, "--layer", "0", "-o", "response.csv"],
    ["impulse", TRAINED, "--layer", "0", "--length", "64", "-o", "impulse.csv"],
    ["plot", "poles", TRAINED, "-o", "poles.png"],
    ["retune", TRAINED, "--alpha", "2", "-o", "retuned.safetensors"],
    ["reduce", TRAINED, "--keep", "0.5", "-o", "reduced.safetensors"],
    ["train", "--help"],
)
TRAINING = (
    ["train", "waves", "--steps", "2"],
    ["bench"],
    ["probe", TRAINED, "--data", "x.npy"],
    ["calibrate", str(SAMPLES / "mamba2_trained"), "--tokens", "tokens.npy"],
    ["retune", TRAINED, "--alpha", "2", "--retrain", "waves", "-o", "trained.safetensors"],
    ["reduce", TRAINED, "--keep", "0.5", "--retrain", "waves", "-o", "trained.safetensors"],
)


def test_everything_but_training_works_without_torch(tmp_path: Path) -> None:
    python = os.environ.get("SSMSPEC_PYTHON_WITHOUT_TORCH")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" or python is None}
    done = subprocess.run(
        [python or sys.executable, "-c", RUNNER],
        input=json.dumps([python is None, [*WORKING, *TRAINING]]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=HANG,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *found, imported = json.loads(done.stdout)
    for words, (code, _, errors) in zip(WORKING, found[: len(WORKING)], strict=True):
        assert code in (0, None), f"{words}: {errors}"
    document = json.loads(found[0][1])
    assert [layer["name"] for layer in document["layers"]] == ["s4_layers.0", "s4_layers.1"]
    for name in ("response.csv", "impulse.csv", "poles.png", "retuned.safetensors", "reduced.safetensors"):
        assert (tmp_path / name).stat().st_size > 0
    assert "no training step was timed: that needs torch" in found[WORKING.index(next(w for w in WORKING if w[0] == "reduce"))][2]
    for words, (code, out, errors) in zip(TRAINING, found[len(WORKING) :], strict=True):
        assert (code, out) == (2, ""), words
        assert errors.count("\n") == 1
        assert errors.endswith("needs torch, which is not installed; type: pip install 'ssmspec[torch]'\n")
    assert not (tmp_path / "trained.safetensors").exists()
    assert imported == "ssmspec.nn needs torch, which is not installed; type: pip install 'ssmspec[torch]'"


@pytest.mark.parametrize("name", ["analyze", "compare", "check", "retune", "reduce", "load_system", "FAMILIES"])
def test_public_names_that_do_not_train_are_imported_without_torch(name: str) -> None:
    code = f"import sys, ssmspec; ssmspec.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=HANG, check=False).returncode == 0
