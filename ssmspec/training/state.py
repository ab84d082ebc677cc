"""What a run needs to go on as if it had never stopped, and checkpoints as analysis reads them."""

import io
import json
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from ssmspec import __version__
from ssmspec.errors import SsmspecError
from ssmspec.provenance import KEY, weight_entry
from ssmspec.reading import one_line
from ssmspec.sobolev import Sobolev
from ssmspec.training.folder import write


@dataclass(slots=True)
class TrainingState:
    """A run between two steps; `step` is how many are done."""

    step: int
    model: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator


def save_state(path: Path, state: TrainingState) -> None:
    """Parameters, optimizer, generators and step, in one file, whole or not at all.

    Raises:
        SsmspecError: it cannot be written.
    """
    buffer = io.BytesIO()
    document = {
        "step": state.step,
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "generator": state.generator.get_state(),
        "global": torch.get_rng_state(),
    }
    torch.save(document, buffer)
    write(path, buffer.getvalue())


def load_state(path: Path, state: TrainingState) -> None:
    """Puts what `save_state` wrote into a state of the same model and optimizer; without such a file the state stays as it is.

    Raises:
        SsmspecError: the file is damaged, or of another model.
    """
    if not path.exists():
        return
    try:
        found: Any = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
        state.model.load_state_dict(found["model"])
        state.optimizer.load_state_dict(found["optimizer"])
        state.generator.set_state(found["generator"])
        torch.set_rng_state(found["global"])
        state.step = operator.index(found["step"])
        if state.step < 0:
            raise ValueError(f"step {state.step}")
    except Exception as error:  # bad bytes must never end in a traceback, whatever torch raises for them
        raise SsmspecError(
            f"{path} is damaged ({one_line(str(error))}); start anew with --force, or in another folder with --out"
        ) from error


def write_checkpoint(path: Path, model: nn.Module, weights: Mapping[str, Sobolev]) -> None:
    """A safetensors file with beta in its metadata; the same model gives the same bytes.

    Raises:
        SsmspecError: it cannot be written.
    """
    entries = {name: weight_entry(weight) for name, weight in weights.items() if weight.beta.any()}
    metadata = {KEY: json.dumps({"version": __version__, "sobolev": entries})}  # one key: the library writes several in random order
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write(path, safetensors.torch.save(tensors, metadata))


def read_checkpoint(path: Path, model: nn.Module) -> None:
    """Puts the tensors of a checkpoint into a model.

    Raises:
        SsmspecError: the file is missing, damaged, or of another model.
    """
    try:
        model.load_state_dict(safetensors.torch.load(path.read_bytes()))
    except Exception as error:  # as above
        raise SsmspecError(f"{path} cannot be read ({one_line(str(error))}); start anew with --force") from error
