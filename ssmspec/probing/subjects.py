"""What `ssmspec probe` probes: the model of a checkpoint, of a run folder or of transformers, with inputs for it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssmspec.checkpoint import open_checkpoint
from ssmspec.checkpoint.remote.path import is_address
from ssmspec.errors import SsmspecError
from ssmspec.families.provenance import trained_entry
from ssmspec.files.reading import exists
from ssmspec.nn.from_checkpoint import as_tensor, load_sequence_model
from ssmspec.probing.robustness import Scored
from ssmspec.probing.task_models import (
    SCORED,
    DenoiseTask,
    ForecastTask,
    RunTask,
    VideoTask,
    WavesTask,
    WholeDenoise,
    WholeVideo,
    WholeWaves,
)
from ssmspec.training.datasets.sequences import Sequences, read_sequences
from ssmspec.training.engine.run import checked_device, make_problem
from ssmspec.training.engine.run_folder import CONFIG, FINAL, INITIAL, read_config
from ssmspec.training.kinds.classification import Classification
from ssmspec.training.kinds.own_data import SequenceProblem
from ssmspec.training.tasks.denoise import Denoise
from ssmspec.training.tasks.forecast import Forecast
from ssmspec.training.tasks.moving_mnist import Moving
from ssmspec.training.tasks.regress import Regress
from ssmspec.training.tasks.waves import HELD_OUT_SEED, Waves

PIECE = 1024  # samples of a piece of a single long series


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the user gives to probe a model with.

    Args:
        data: numbers, as for `ssmspec train`. axes: letters of its axes. text: a text file. tokens: integers, (T,) or (B, L).
        count: number of inputs. max_length: samples of each at most. which: "final" or "initial", the checkpoint of a run.
        device: of torch, where the model runs.
    """

    data: str | None = None
    axes: str | None = None
    text: Path | None = None
    tokens: Path | None = None
    count: int = 8
    max_length: int | None = None
    which: str = "final"
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Subject:
    """A model with inputs.

    Args:
        path: what is shown for it. model: to probe. inputs: for it. notes: on both, in words.
        layers: the checkpoint whose layers `analyze` reads. at: the embedding, where it is not found by itself.
        task: with a metric; None where no metric is known, for the reason `no_task`.
    """

    path: str
    model: nn.Module
    inputs: Any
    notes: tuple[str, ...]
    layers: Path | None
    at: str | None = None
    task: Scored | None = None
    no_task: str = ""


def subject(path: str, given: Given) -> Subject:
    """The model of a path, with inputs.

    Raises:
        SsmspecError: it is no run folder, no checkpoint of a `SequenceModel` and no folder of transformers, or the inputs do not fit it.
    """
    if is_address(path):
        raise SsmspecError(f"{path}: probe runs a model, so it needs local files; download them and give their path")
    checked_device(given.device)
    place = Path(path)
    if not exists(place):
        raise SsmspecError(f"{path} does not exist; check the path")
    if (place / CONFIG).is_file():
        return _of_run(place, given)
    if given.text is not None or given.tokens is not None or (place / "config.json").is_file():
        from ssmspec.probing.language import language_subject

        return language_subject(place, given)
    return _of_checkpoint(place, given)


def _of_checkpoint(path: Path, given: Given) -> Subject:
    if given.data is None:
        raise SsmspecError(
            f"{path}: a checkpoint needs inputs; give them with --data X.npy, or probe the folder of a run, which has its own"
        )
    model, about = load_sequence_model(path)
    model = model.to(given.device)
    signal, notes = _signal(given, model.frame.d_input, about.get("input", {}))
    return Subject(str(path), model, signal, notes, path, no_task="a checkpoint has no task; give the folder of a run")


def _signal(given: Given, features: int | None, normal: Any) -> tuple[Tensor, tuple[str, ...]]:
    """Inputs (B, L, C) from --data, normalized as those that the model was trained on."""
    assert given.data is not None
    if features is None:
        raise SsmspecError(f"{given.data}: the model reads symbols, not numbers; probe the folder of its run, which has its own")
    found = read_sequences(given.data, axes=given.axes)
    if found.features != features:
        raise SsmspecError(
            f"{given.data}: {found.features} features, and the model takes {features}; say with --layout which axis has them"
        )
    pieces, notes = _pieces(found, given)
    wide = pieces.astype(np.float64)
    if not np.isfinite(wide).all():
        raise SsmspecError(f"{given.data}: NaN or infinite values; expected finite values; fill or remove them")
    if "mean" in normal and "scale" in normal and "gray" not in normal:
        wide = (wide - np.asarray(normal["mean"])) / np.asarray(normal["scale"])
        notes = (*notes, "inputs are normalized by the mean and scale that training recorded")
    else:
        notes = (*notes, "the checkpoint records no normalization of its inputs, so they enter as they are")
    return torch.from_numpy(wide.astype(np.float32)), notes


def _pieces(found: Sequences, given: Given) -> tuple[np.ndarray, tuple[str, ...]]:
    """Some sequences of one length, evenly spaced; or pieces of a single series."""
    shortest = int(found.lengths.min())
    notes = [f"{found.source}: {note}" for note in found.notes]
    if len(found) == 1 and given.count > 1:
        length = min(given.max_length or PIECE, shortest)
        starts = np.unique(np.linspace(0, shortest - length, given.count).astype(int))
        notes.append(f"{found.source}: {len(starts)} pieces of {length} samples of one series")
        return np.stack([found.piece(0, int(start), int(start) + length) for start in starts]), tuple(notes)
    rows = np.unique(np.linspace(0, len(found) - 1, given.count).astype(int))
    own = int(found.lengths[rows].min())
    length = min(given.max_length or own, own)
    if length < int(found.lengths[rows].max()):
        notes.append(f"{found.source}: sequences were cut to {length} samples")
    notes.append(f"{found.source}: {len(rows)} of {len(found)} sequences")
    return np.stack([found.piece(int(row), 0, length) for row in rows]), tuple(notes)


def _of_run(folder: Path, given: Given) -> Subject:
    config = replace(read_config(folder), device=given.device)
    problem: Any = make_problem(config, folder)
    name = FINAL if given.which == "final" else INITIAL
    stored = open_checkpoint(folder / name)
    problem.model.load_state_dict({key: as_tensor(tensor.read()) for key, tensor in stored.tensors.items()})
    problem.model.eval()
    label = f"{folder}" if given.which == "final" else f"{folder} before training"
    if isinstance(problem, SequenceProblem):
        made = _sequences(label, problem, given)
        at = "encoder" if problem.model.frame.d_input is None else None
        made = replace(made, layers=folder / name, at=at)
        if given.data is not None:
            signal, notes = _signal(given, problem.model.frame.d_input, (trained_entry(stored) or {}).get("input", {}))
            return replace(made, inputs=signal, notes=notes, task=None, no_task="with --data there are no targets; leave --data out")
        return made
    if given.data is not None:
        raise SsmspecError(f"{folder}: the model of {config.task} takes the signals of its task only; leave --data out")
    maker = next((make for kind, make in _OTHERS.items() if isinstance(problem, kind)), None)
    if maker is None:
        raise SsmspecError(f"{folder}: the model of {config.task} is not one that probe can call; call ssmspec.probe from Python")
    model, signals, what, task = maker(problem, given.count)
    inputs, notes = _cut(signals[: given.count], given.max_length)
    return Subject(label, model, inputs, (f"{len(inputs)} {what}", *notes), folder / name, task=task)


def _cut(x: Tensor, longest: int | None) -> tuple[Tensor, tuple[str, ...]]:
    """(B, L, ...) of at most so many samples, and a note if it was longer."""
    if longest is None or x.shape[1] <= longest:
        return x, ()
    return x[:, :longest], (f"inputs of {x.shape[1]} samples were cut to {longest}",)


def _sequences(label: str, problem: Any, given: Given) -> Subject:
    """A model of `ssmspec.nn.SequenceModel` with held-out sequences of its run."""
    if isinstance(problem, Forecast):
        series = problem.examples.sequences
        row = int(problem.held_out()[0])
        first, last = max(0, int(problem.cuts[row]) - problem.context // 2), int(series.lengths[row]) - problem.context
        starts = np.unique(np.linspace(min(first, max(last, 0)), max(last, 0), given.count).astype(int))
        x = problem.examples.pieces([row] * len(starts), starts, min(problem.context, int(series.lengths[row])))
        inputs, notes = _cut(x, given.max_length)
        return Subject(label, problem.model, inputs, (f"{len(starts)} held-out pieces", *notes), None, task=ForecastTask(problem))
    rows = problem.held_out[np.unique(np.linspace(0, len(problem.held_out) - 1, given.count).astype(int))]
    whole, *lengths = problem.examples.take(rows)
    cut, notes = _cut(whole, given.max_length)
    arguments = (cut, *(each.clamp(max=cut.shape[1]) for each in lengths))
    task = RunTask(problem) if isinstance(problem, Classification | Regress) else None
    notes = (f"{len(rows)} of {len(problem.held_out)} held-out sequences", *notes)
    return Subject(label, problem.model, arguments, notes, None, task=task, no_task="the task has no metric")


Made = tuple[nn.Module, Tensor, str, Scored]  # a model, its signals, what they are, and the task


def _waves(problem: Waves, count: int) -> Made:
    whole, tones = WholeWaves(problem), problem.sources[0].signals
    amplitudes = torch.rand(max(count, SCORED), len(tones), generator=torch.Generator().manual_seed(HELD_OUT_SEED)).to(tones)
    signals = (amplitudes @ tones)[..., None]
    return whole, signals, "held-out mixtures of the tones", WavesTask(whole, signals, amplitudes)


def _denoise(problem: Denoise, count: int) -> Made:
    whole = WholeDenoise(problem)
    images = problem.images.mT.float().contiguous().to(problem.model.mixing.weight.device)
    return whole, images, "images of the task", DenoiseTask(whole, images)


def _moving(problem: Moving, count: int) -> Made:
    whole = WholeVideo(problem)
    clips = problem.held_out_clips(0, min(count, problem.settings.tests))[:, :-1].flatten(2)
    return whole, clips, "held-out clips, whose values per frame are channels", VideoTask(whole, problem)


_OTHERS: dict[type, Callable[[Any, int], Made]] = {Waves: _waves, Denoise: _denoise, Moving: _moving}
