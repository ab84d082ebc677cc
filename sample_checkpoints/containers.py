"""Writers for the containers of the sample checkpoints. Equal tensors give equal bytes."""

import argparse
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

FLAX_NDARRAY = 1
"""msgpack extension code of an array: google/flax, flax/serialization.py."""


def write_safetensors(path: Path, state: dict[str, Tensor]) -> None:
    """One safetensors file."""
    save_file({name: value.contiguous() for name, value in state.items()}, path, metadata={"format": "pt"})


def write_npz(path: Path, state: dict[str, Tensor]) -> None:
    """One uncompressed npz archive with the dotted names as member names."""
    np.savez(path, **{name: value.numpy() for name, value in state.items()})


def single_precision(tree: Any) -> Any:
    """A nested state dict with every real tensor in single precision."""
    if isinstance(tree, Tensor):
        return tree.detach().to(torch.float32) if tree.is_floating_point() else tree
    if isinstance(tree, dict):
        return {key: single_precision(value) for key, value in tree.items()}
    return [single_precision(value) for value in tree] if isinstance(tree, list) else tree


def write_torch(path: Path, state: dict[str, Tensor], optimizer: torch.optim.Optimizer, *, epoch: int, config: argparse.Namespace) -> None:
    """A torch zip archive like those of training scripts. Its Namespace makes `weights_only` loading refuse it."""
    torch.save({"model": state, "epoch": epoch, "optimizer": single_precision(optimizer.state_dict()), "config": config}, path)


def nested(flat: dict[str, Tensor]) -> dict[str, Any]:
    """A flax parameter tree from dotted names: sorted keys, float32 arrays as leaves."""
    tree: dict[str, Any] = {}
    for name, value in sorted(flat.items()):
        *parents, leaf = name.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = value.detach().to(torch.float32).numpy()
    return tree


def pack_array(value: object) -> msgpack.ExtType:
    """Extension 1 around the packed triple (shape, dtype name, row-major bytes), as `flax.serialization.msgpack_serialize` writes it."""
    array = np.asarray(value)
    return msgpack.ExtType(FLAX_NDARRAY, msgpack.packb((array.shape, array.dtype.name, array.tobytes()), use_bin_type=True))


def write_flax(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, *, step: int) -> None:
    """A flax TrainState {step, params, opt_state} with the state of optax.adamw: moments mu and nu under the parameters' names.

    Source: google/flax, flax/training/train_state.py and flax/serialization.py; deepmind/optax, `adamw` with a schedule.
    """
    parameters = dict(model.named_parameters())
    moments = {name: optimizer.state[value] for name, value in parameters.items()}
    count = np.asarray(step, dtype=np.int32)
    adam = {
        "count": count,
        "mu": nested({name: moment["exp_avg"] for name, moment in moments.items()}),
        "nu": nested({name: moment["exp_avg_sq"] for name, moment in moments.items()}),
    }
    state = {"step": count, "params": nested(parameters), "opt_state": {"0": adam, "1": {}, "2": {"count": count}}}
    path.write_bytes(msgpack.packb(state, default=pack_array, strict_types=True))
