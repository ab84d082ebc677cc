"""Every way in which a command writes files: what is typed, what is replaced, and what must hold at any time."""

import io
import json
import shutil
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

Files = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Output:
    """One way to write.

    Args:
        typed: what is typed after `ssmspec`, in a folder that `prepare` made.
        old: files that the command replaces, by their path in the folder.
        in_place: the input that the command is meant to change.
        again: what must also be typed if the command was carried out before.
        slow: it takes seconds, not tenths: pictures and training.
    """

    typed: tuple[str, ...]
    old: Mapping[str, bytes] = field(default_factory=dict)
    in_place: str = ""
    again: tuple[str, ...] = ()
    slow: bool = False


def model(scale: float = 1.0) -> bytes:
    """The smallest S4D layer."""
    tensors = {
        "l.kernel.log_dt": np.array([-3.0], np.float32),
        "l.kernel.C": np.full((1, 2, 2), scale, np.float32),
        "l.kernel.log_A_real": np.full((1, 2), -0.7, np.float32),
        "l.kernel.A_imag": np.array([[1.0, 3.0]], np.float32),
        "l.D": np.ones(1, np.float32),
    }
    return save(tensors)


def arrays() -> bytes:
    """What `response` and `impulse` write, so that they replace it."""
    buffer = io.BytesIO()
    np.savez(buffer, name="old", family="s4d")
    return buffer.getvalue()


X, Y = "x.safetensors", "y.safetensors"
INPUTS: Mapping[str, bytes] = {
    X: model(),
    "before.safetensors": model(2.0),
    "later.safetensors": model(3.0),
    "model/model.safetensors": model(),
    "model/config.json": b"{}",
}
TABLE, PICTURE = {"t.csv": b"old\n"}, b"an old picture"
RETUNED = {Y: model(3.0), f"{Y}.ssmspec.json": b'{"schema": "old"}'}
BETA = ("--beta", "0.5", "--beta-convention", "causal", "--theta-ref", "0.1")
LITTLE = ("--steps", "6", "--set", "length=64", "--set", "step=0.1", "--set", "tones=[1, 8]", "--set", "batch=4")
FEW = ("--points", "16")

OUTPUTS: Mapping[str, Output] = {
    "analyze --csv": Output(("analyze", X, *FEW, "--csv", "t.csv"), TABLE),
    "analyze --copies": Output(("analyze", X, *FEW, "--copies", "t.csv"), TABLE),
    "analyze --plot": Output(("analyze", X, *FEW, "--plot", "p"), {"p/x.overview.png": PICTURE}, slow=True),
    "compare --csv": Output(("compare", "before.safetensors", X, *FEW, "--csv", "t.csv"), TABLE),
    "compare --plot": Output(("compare", "before.safetensors", X, *FEW, "--plot", "p"), slow=True),
    "history --csv": Output(("compare", "before.safetensors", X, "later.safetensors", *FEW, "--csv", "t.csv"), TABLE),
    "response -o": Output(("response", X, "--layer", "0", *FEW, "-o", "h.npz"), {"h.npz": arrays()}),
    "impulse -o": Output(("impulse", X, "--layer", "0", "--length", "8", "-o", "k.npz"), {"k.npz": arrays()}),
    "plot -o": Output(("plot", "heatmap", X, *FEW, "-o", "h.png"), {"h.png": PICTURE}, slow=True),
    "plot inits -o": Output(("plot", "inits", *FEW, "-o", "i.svg"), {"i.svg": PICTURE}, slow=True),
    "report -o": Output(("report", X, *FEW, "-o", "r.html"), {"r.html": b"<meta name=generator content='ssmspec report 0'>"}),
    "check --init": Output(("check", "--init", "r.toml", "--force"), {"r.toml": b"old = 1"}),
    "retune -o": Output(("retune", X, "--alpha", "2", "-o", Y, "--force"), RETUNED),
    "retune beta": Output(("retune", X, *BETA, "-o", Y, "--force"), RETUNED),
    "retune": Output(("retune", X, "--alpha", "2"), again=("--force",)),
    "retune --in-place": Output(("retune", X, *BETA, "--in-place"), in_place=X),
    "retune folder": Output(("retune", "model", "--alpha", "2", "-o", "out"), again=("--force",)),
    "retune --plot": Output(("retune", X, "--alpha", "2", "--dry-run", "--plot", "p"), slow=True),
    "train --out": Output(("train", "waves", *LITTLE, "--out", "run"), again=("--force",), slow=True),
}


def prepare(folder: Path, output: Output) -> None:
    """Empties a folder, which may be the current one, and fills it with the inputs and what is to be replaced."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, data in {**INPUTS, **output.old}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def files(folder: Path) -> Files:
    """The files in a folder, except temporary ones."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".partial" not in str(path))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def temporary(folder: Path) -> list[str]:
    """The temporary files and folders in a folder."""
    return [path.name for path in folder.rglob(".*.partial")]


def check(output: Output, before: Files, after: Files, now: Files) -> None:
    """Check that every file is the complete old or new one, and that the inputs are unchanged.

    Args:
        before, after: what was there before the command and would be after it. now: what is there.
    """
    for name, data in now.items():
        if name in INPUTS and name != output.in_place:
            assert data == INPUTS[name], name
        elif data != before.get(name) and not (name in after and _same(name, data, after[name])):
            assert name.startswith("run/"), f"{name} is neither old nor new"
            _parse(name, data)
    assert before.keys() <= now.keys()


def carried_out(output: Output, after: Files, folder: Path) -> None:
    """The command was carried out in the folder, and nothing is left of what came before."""
    now = files(folder)
    assert now.keys() == after.keys()
    assert temporary(folder) == []
    assert output.in_place or all(name.startswith("run/") or _same(name, data, after[name]) for name, data in now.items())


def _same(name: str, one: bytes, other: bytes) -> bool:
    if name.endswith(".npz"):
        return _members(one) == _members(other)  # zip files hold the time
    if name.endswith(".ssmspec.json"):
        return json.loads(one) | {"command": ""} == json.loads(other) | {"command": ""}  # with --force or without
    return one == other


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _parse(name: str, data: bytes) -> None:
    """Parse a file. A file of an unfinished run has different values than the final one, but must be complete."""
    if name.endswith(".png"):
        assert data.endswith(b"IEND\xaeB`\x82"), name
    elif name.endswith(".safetensors"):
        load(data)
    elif name.endswith(".toml"):
        tomllib.loads(data.decode())
    elif name.endswith(".state"):
        _members(data)
    elif name.endswith(".json"):
        json.loads(data)
    elif name.endswith(".jsonl"):
        [json.loads(line) for line in data.decode().splitlines(keepends=True) if line.endswith("\n")]
    else:
        assert data.endswith(b"\n"), name
