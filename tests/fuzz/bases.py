"""The files that are damaged: every sample checkpoint, and the same tensors in the containers that the samples lack."""

import io
import json
import pickle
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import mixers
import numpy as np
import quantizing
import sharded_files
import torch
from contents import deflated, safetensors, torch_legacy
from locations import SAMPLES
from safetensors.numpy import load_file
from safetensors.torch import save


@dataclass(frozen=True, slots=True)
class Base:
    """Files by their path below a folder, which of them are damaged, and the path that a command is given."""

    files: Mapping[str, bytes]
    damaged: tuple[str, ...]
    opened: str

    def write(self, folder: Path) -> Path:
        """Writes the files; the path to open."""
        for name, data in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder / self.opened


def _single(name: str, data: bytes) -> Base:
    return Base({name: data}, (name,), name)


def _samples() -> dict[str, Base]:
    found = {path.name: _single(f"x{path.suffix}", path.read_bytes()) for path in sorted(SAMPLES.iterdir()) if path.suffix in SUFFIXES}
    for folder in sorted(path for path in SAMPLES.iterdir() if path.is_dir() and (path / "config.json").exists()):
        files = {f"x/{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}
        found[folder.name] = Base(files, tuple(files), "x")
    return found


SUFFIXES = (".safetensors", ".npz", ".pt", ".msgpack")


def _sharded(tensors: Mapping[str, np.ndarray]) -> Base:
    parts: list[dict[str, np.ndarray]] = [{}, {}]
    for number, (name, array) in enumerate(tensors.items()):
        parts[number % 2][name] = array
    files = {f"x/{number}.safetensors": safetensors(part) for number, part in enumerate(parts)}
    weight_map = {name: f"{number}.safetensors" for number, part in enumerate(parts) for name in part}
    files["x/model.safetensors.index.json"] = json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}).encode()
    return Base(files, tuple(files), "x")


def _equinox(tensors: Mapping[str, np.ndarray]) -> bytes:
    """A LinOSS layer between two other leaves, behind a line of settings."""
    P, H = 4, 3
    shapes = ((2, H), (P,), (P, H, 2), (H, P, 2), (H,), (P,), ())
    values = np.abs(np.concatenate([array.ravel() for array in tensors.values()]))
    buffer = io.BytesIO(b'{"model_name": "linoss"}\n')
    buffer.seek(0, io.SEEK_END)
    for shape in shapes:
        np.save(buffer, values[: int(np.prod(shape))].reshape(shape))
    return buffer.getvalue()


def _deflated_again(data: bytes) -> bytes:
    """A zip file with its members deflated, as tools that repack files leave it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return buffer.getvalue()


def _folder_of(write: Callable[[Path], object]) -> Base:
    """What is written into a folder, all of which is damaged."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder / "x")
        files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    return Base(files, tuple(files), "x")


def _pieces(folder: Path) -> None:
    tensors = mixers.mamba1(np.random.default_rng(1), "layers.0.mixer.")
    sharded_files.save_pieces(folder, tensors, {name: sharded_files.halves(tensor.shape) for name, tensor in tensors.items()})


def _ranks(folder: Path) -> None:
    whole = mixers.mamba2(np.random.default_rng(2), groups=2)
    for rank in range(2):
        place = folder / f"mp_rank_0{rank}" / "model_optim_rng.pt"
        place.parent.mkdir(parents=True)
        share = mixers.share_of_mamba2(whole, rank, 2, groups=2)
        torch.save({"model": {f"layers.0.mixer.{name}": tensor for name, tensor in share.items()}, "iteration": 1}, place)


def _encoded() -> bytes:
    """Two Mamba-1 mixers: projections in nf4 with a nested absmax, GPTQ and AWQ, and one with an adapter."""
    rng = np.random.default_rng(3)
    content = {}
    for layer, scheme in enumerate((lambda *sizes: quantizing.bitsandbytes(*sizes, nested=4), quantizing.gptq, quantizing.awq)):
        prefix = f"layers.{layer}.mixer."
        tensors = mixers.mamba1(rng, prefix, rank=24)
        for name in ("x_proj", "in_proj"):
            codes, _ = scheme(rng, *tensors.pop(f"{prefix}{name}.weight").shape)
            tensors |= {f"{prefix}{name}.{own}": tensor for own, tensor in codes.items()}
        tensors[f"{prefix}dt_proj.base_layer.weight"] = tensors.pop(f"{prefix}dt_proj.weight")
        tensors |= {f"{prefix}dt_proj.lora_A.d.weight": torch.ones(2, 24), f"{prefix}dt_proj.lora_B.d.weight": torch.ones(32, 2)}
        content |= tensors
    return save({name: tensor.contiguous() for name, tensor in content.items()})


def _others() -> dict[str, Base]:
    s4d = load_file(SAMPLES / "s4d_trained.safetensors")
    with np.load(SAMPLES / "lru_trained.npz") as file:
        lru = dict(file)
    beta = {"sobolev": {"s4_layers.0": {"beta": [0.5] * 16, "convention": "causal", "theta_ref": 0.1}}, "schema": "ssmspec.provenance/1"}
    beside = {"x.safetensors": safetensors(s4d), "x.safetensors.ssmspec.json": json.dumps(beta, indent=2).encode()}
    return {
        "torch legacy": _single("x.pth", torch_legacy(s4d)),
        "torch zip deflated": _single("x.pt", _deflated_again((SAMPLES / "s4_dplr_trained.pt").read_bytes())),
        "npz deflated": _single("x.npz", deflated(lru)),
        "pickle 2": _single("x.pkl", pickle.dumps(lru, 2)),
        "pickle 5": _single("x.pkl", pickle.dumps({"params": lru, "config": {"n": np.float64(1), "o": {1, 2}}}, 5)),
        "equinox": _single("x.eqx", _equinox(lru)),
        "sharded": _sharded(s4d),
        "torch distributed": _folder_of(_pieces),
        "ranks": _folder_of(_ranks),
        "encoded": _single("x.safetensors", _encoded()),
        "sidecar": Base(beside, ("x.safetensors.ssmspec.json",), "x.safetensors"),
    }


@cache
def bases() -> Mapping[str, Base]:
    """Every file by its name."""
    return {**_samples(), **_others()}
