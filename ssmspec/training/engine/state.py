"""What a run needs to continue as if it had never stopped, and checkpoints that the analysis can read."""

import hashlib
import io
import json
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from ssmspec.errors import SsmspecError
from ssmspec.families.provenance import KEY, TRAINED, weight_entry
from ssmspec.files.reading import one_line
from ssmspec.training.engine.processes import SharedError, Team
from ssmspec.training.engine.run_folder import write
from ssmspec.training.task import Problem, State
from ssmspec.version import __version__


@dataclass(slots=True)
class TrainingState:
    """A run between two steps. `step` is the number of steps done."""

    step: int
    model: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator


def save_state(path: Path, state: TrainingState) -> None:
    """Write parameters, optimizer, generators and step into one file, completely or not at all.

    Raises:
        SsmspecError: the file cannot be written.
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


def load_state(path: Path, state: TrainingState, team: Team) -> None:
    """Load what `save_state` wrote into a state of the same model and optimizer. Without such a file, the state is unchanged.

    Raises:
        SsmspecError: the file cannot be read, is damaged, or belongs to another model.
    """
    content = team.from_first(lambda: _read(path))
    if content is None:
        return
    try:
        found: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        state.model.load_state_dict(found["model"])
        state.optimizer.load_state_dict(found["optimizer"])
        state.generator.set_state(found["generator"])
        torch.set_rng_state(found["global"])
        state.step = operator.index(found["step"])
        if state.step < 0:
            raise ValueError(f"step {state.step}")
    except Exception as error:  # damaged bytes must never cause a traceback, whatever torch raises for them
        reason = one_line(str(error))
        raise SharedError(f"{path} is damaged ({reason}); start anew with --force, or in another folder with --out") from error


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SsmspecError(f"{path}: {error.strerror or error}") from error


def write_checkpoint(path: Path, problem: Problem) -> None:
    """Write a safetensors file with beta and the problem's description of its model in the metadata. Equal models give equal bytes.

    Raises:
        SsmspecError: the file cannot be written.
    """
    entries = {name: weight_entry(weight) for name, weight in problem.weights().items() if weight.beta.any()}
    about = {"version": __version__, "sobolev": entries, TRAINED: problem.about()}
    metadata = {KEY: json.dumps(about)}  # only one key, because the library writes several in random order
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in problem.model.state_dict().items()}
    write(path, safetensors.torch.save(tensors, metadata))


def start_bytes(tensors: State) -> bytes:
    """The content of a file with the tensors that a run starts from. The same tensors give the same bytes."""
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in sorted(tensors.items())})


def read_start(path: Path, digest: str) -> dict[str, Tensor]:
    """The tensors from which `start_bytes` made a file.

    Raises:
        SsmspecError: the file is missing, or has another SHA-256.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SsmspecError(f"{path}: {error.strerror or error}; start anew with --force") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise SsmspecError(f"{path} is not the file that the run started from; start anew with --force")
    return safetensors.torch.load(content)
