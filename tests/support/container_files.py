"""The same model in every container: what reads one place must read the other."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax_files
import numpy as np
import sharded_files
import torch
from program import s4d_tensors
from safetensors.numpy import save_file

Arrays = dict[str, np.ndarray[Any, Any]]


def tensors() -> Arrays:
    """Three small layers, and a matrix of which nobody needs a byte."""
    head = np.random.default_rng(1).normal(size=(300, 200)).astype(np.float32)
    return s4d_tensors(layers=3, H=4, N=16) | {"head.weight": head}


def _torch(values: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in values.items()}


def _safetensors(folder: Path) -> Path:
    save_file(tensors(), folder / "model.safetensors")
    return folder / "model.safetensors"


def _torch_zip(folder: Path) -> Path:
    torch.save({"state_dict": _torch(tensors()), "epoch": 3}, folder / "model.ckpt")
    return folder / "model.ckpt"


def _torch_legacy(folder: Path) -> Path:
    torch.save(_torch(tensors()), folder / "legacy.pt", _use_new_zipfile_serialization=False)
    return folder / "legacy.pt"


def _pickle(folder: Path) -> Path:
    (folder / "arrays.pkl").write_bytes(pickle.dumps(tensors()))
    return folder / "arrays.pkl"


def _npz(folder: Path) -> Path:
    np.savez(folder / "arrays.npz", **tensors())
    return folder / "arrays.npz"


def _npz_deflated(folder: Path) -> Path:
    np.savez_compressed(folder / "deflated.npz", **tensors())
    return folder / "deflated.npz"


def _msgpack(folder: Path) -> Path:
    tree: dict[str, Any] = {}
    for name, array in tensors().items():
        *path, last = name.split(".")
        place = tree
        for key in path:
            place = place.setdefault(key, {})
        place[last] = array
    return flax_files.save(tree, folder / "state.msgpack")


def _equinox(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    H, N = 20, 30
    logarithms = [np.log(rng.uniform(0.05, 1, N)).astype(np.float32) for _ in range(3)]
    matrices = [rng.standard_normal(shape).astype(np.float32) for shape in ((N, H), (N, H), (H, N), (H, N), (H,))]
    with (folder / "model.eqx").open("wb") as file:
        file.write(b'{"model_name": "LRU"}\n')
        for array in (*logarithms[:2], *matrices, logarithms[2]):
            np.save(file, array)
    return folder / "model.eqx"


def _sharded(folder: Path) -> Path:
    values, weight_map = tensors(), {}
    for number in range(3):
        part = {name: array for name, array in values.items() if name.startswith(f"layers.{number}.")}
        save_file(part, folder / f"model-{number}.safetensors")
        weight_map |= dict.fromkeys(part, f"model-{number}.safetensors")
    save_file({"head.weight": values["head.weight"]}, folder / "model-3.safetensors")
    weight_map["head.weight"] = "model-3.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 10**6}, "weight_map": weight_map}))
    return folder / "model.safetensors.index.json"


def _distributed(folder: Path) -> Path:
    return sharded_files.save(folder / "step", _torch(tensors()))


def _distributed_safetensors(folder: Path) -> Path:
    return sharded_files.save(folder / "step", _torch(tensors()), safetensors=True)


CONTAINERS: dict[str, Callable[[Path], Path]] = {
    "safetensors": _safetensors,
    "torch zip": _torch_zip,
    "torch legacy": _torch_legacy,
    "pickle": _pickle,
    "npz": _npz,
    "npz, deflated": _npz_deflated,
    "flax msgpack": _msgpack,
    "equinox": _equinox,
    "sharded": _sharded,
    "torch distributed": _distributed,
    "torch distributed, safetensors items": _distributed_safetensors,
}
