"""What `ssmspec probe` probes: the model of a checkpoint, of a run folder or of transformers, with inputs for it."""

from collections.abc import Sequence
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
from ssmspec.nn.weighting import Weighting, fft_length, weighted
from ssmspec.probing.robustness import Scored, rows_in_batches
from ssmspec.training.banks.bank import mean_gelu
from ssmspec.training.banks.choices import bank_weighting
from ssmspec.training.datasets.sequences import Sequences, read_sequences
from ssmspec.training.engine.run import make_problem
from ssmspec.training.engine.run_folder import CONFIG, FINAL, INITIAL, read_config
from ssmspec.training.kinds.classification import Classification
from ssmspec.training.kinds.own_data import SequenceProblem
from ssmspec.training.tasks.denoise import Denoise
from ssmspec.training.tasks.forecast import Forecast
from ssmspec.training.tasks.regress import Regress
from ssmspec.training.tasks.waves import HELD_OUT_SEED, Waves

PIECE = 1024  # samples of a piece of a single long series
SCORED = 64  # examples that are answered at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the user gives to probe a model with.

    Args:
        data: numbers, as for `ssmspec train`. axes: letters of its axes. text: a text file. tokens: integers, (T,) or (B, L).
        count: number of inputs. max_length: samples of each at most. which: "final" or "initial", the checkpoint of a run.
    """

    data: str | None = None
    axes: str | None = None
    text: Path | None = None
    tokens: Path | None = None
    count: int = 8
    max_length: int | None = None
    which: str = "final"


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
    config = read_config(folder)
    problem: Any = make_problem(config, folder)
    name = FINAL if given.which == "final" else INITIAL
    stored = open_checkpoint(folder / name)
    problem.model.load_state_dict({key: as_tensor(tensor.read()) for key, tensor in stored.tensors.items()})
    problem.model.eval()
    label = f"{folder}" if given.which == "final" else f"{folder} before training"
    if isinstance(problem, Waves):
        return _waves(label, problem, folder / name, given)
    if isinstance(problem, Denoise):
        signal = problem.images[: given.count].mT.float().contiguous()
        why = "denoise has no examples with a metric"
        return Subject(label, WholeDenoise(problem), signal, (f"{len(signal)} images of the task",), folder / name, no_task=why)
    if not isinstance(problem, SequenceProblem):
        raise SsmspecError(f"{folder}: the model of {config.task} is not one that probe can call; call ssmspec.probe from Python")
    made = _sequences(label, problem, given)
    at = "encoder" if problem.model.frame.d_input is None else None
    made = replace(made, layers=folder / name, at=at)
    if given.data is not None:
        signal, notes = _signal(given, problem.model.frame.d_input, (trained_entry(stored) or {}).get("input", {}))
        return replace(made, inputs=signal, notes=notes, task=None, no_task="with --data there are no targets; leave --data out")
    return made


def _sequences(label: str, problem: Any, given: Given) -> Subject:
    """A model of `ssmspec.nn.SequenceModel` with held-out sequences of its run."""
    if isinstance(problem, Forecast):
        series = problem.examples.sequences
        row = int(np.flatnonzero(problem.cuts < series.lengths)[0])
        first, last = max(0, int(problem.cuts[row]) - problem.context // 2), int(series.lengths[row]) - problem.context
        starts = np.unique(np.linspace(min(first, max(last, 0)), max(last, 0), given.count).astype(int))
        inputs: Any = problem.examples.pieces([row] * len(starts), starts, min(problem.context, int(series.lengths[row])))
        return Subject(
            label, problem.model, inputs, (f"{len(starts)} held-out pieces",), None, no_task="forecast has no metric by sequence"
        )
    rows = problem.held_out[np.unique(np.linspace(0, len(problem.held_out) - 1, given.count).astype(int))]
    inputs = problem.examples.take(rows)
    task = RunTask(problem) if isinstance(problem, Classification | Regress) else None
    return Subject(label, problem.model, inputs, (f"{len(rows)} of {len(problem.held_out)} held-out sequences",), None, task=task)


@dataclass(frozen=True)
class RunTask:
    """The held-out sequences of a run, and its metric."""

    problem: Any

    @property
    def metric(self) -> str:
        """The first measure of the task."""
        return "accuracy" if isinstance(self.problem, Classification) else "explained"

    @property
    def meaning(self) -> str:
        """What it is, in words."""
        if isinstance(self.problem, Classification):
            return "share of held-out sequences whose class is predicted correctly"
        return "share of the held-out variance that is explained"

    @property
    def _parts(self) -> list[np.ndarray]:
        return list(rows_in_batches(self.problem.held_out, SCORED))

    @property
    def batches(self) -> int:
        """The number of batches."""
        return len(self._parts)

    def answer(self, batch: int) -> tuple[Tensor, Tensor]:
        """The loss and the answers of one batch."""
        kept: list[Tensor] = []
        handle = self.problem.model.register_forward_hook(lambda module, args, result: kept.append(result.detach()))
        try:
            loss = self.problem.loss(self.problem.batch_of(self._parts[batch]))
        finally:
            handle.remove()
        return loss, kept[0]

    def value(self, answers: Sequence[Tensor]) -> float:
        """The metric of all answers."""
        return float(self.problem.score(torch.cat(list(answers)).float(), self.problem.held_out))


def _filtered(u: Tensor, kernels: Tensor, weighting: Weighting, beta: float, step: float) -> Tensor:
    """u (B, H or 1, L) through causal kernels (H, L) with a Sobolev weight, cut to L: (B, H, L), differentiable in u."""
    length = u.shape[-1]
    n = fft_length(weighting, length, length)
    H = torch.fft.rfft(kernels, n)[None]
    exponent, steps = kernels.new_full((1, len(kernels)), beta, dtype=torch.float64), kernels.new_full((len(kernels), 1), step).double()
    if beta:
        H = weighted(H, exponent, steps, weighting, n)
    return torch.fft.irfft(torch.fft.rfft(u, n) * H, n)[..., :length]


class WholeWaves(nn.Module):
    """The model of `waves` as a function of its signal: (B, L, 1) to the amplitudes (B, J)."""

    def __init__(self, problem: Waves) -> None:
        super().__init__()
        self.model, self.settings = problem.model, problem.settings

    def forward(self, u: Tensor) -> Tensor:
        """The amplitudes of signals (B, L, 1)."""
        model: Any = self.model
        if self.settings.architecture == "mamba1":
            heard = model.layer(model.encoder(u).mT)
        else:
            x, weighting = u.mT, bank_weighting(self.settings)
            parts, ones = [(model.encoder.weight.reshape(1, -1), x)], torch.ones_like(x[:1])
            if model.encoder.bias is not None:
                parts.append((model.encoder.bias[None], ones))
            heard = torch.zeros(())
            for scale, signal in parts:
                kernels = model.layer.responses(scale, u.shape[1])[0]
                heard = heard + _filtered(signal, kernels, weighting, self.settings.beta, self.settings.step)
                if model.layer._parameters.get("D") is not None:
                    heard = heard + model.layer.D * scale.mT[None] * signal
        answer: Tensor = model.decoder(mean_gelu(heard))
        return answer


@dataclass(frozen=True)
class WavesTask:
    """The held-out mixtures of `waves`."""

    whole: WholeWaves
    signals: Tensor
    amplitudes: Tensor
    metric: str = "error"
    meaning: str = "mean absolute error of the amplitudes of all tones"

    @property
    def batches(self) -> int:
        """The number of batches."""
        return len(torch.split(self.signals, SCORED))

    def answer(self, batch: int) -> tuple[Tensor, Tensor]:
        """The loss and the errors of one batch."""
        rows = slice(batch * SCORED, (batch + 1) * SCORED)
        found = self.whole(self.signals[rows])
        return nn.functional.mse_loss(found, self.amplitudes[rows]), (found - self.amplitudes[rows]).abs().detach()

    def value(self, answers: Sequence[Tensor]) -> float:
        """The mean of all errors."""
        return float(torch.cat(list(answers)).mean())


def _waves(label: str, problem: Waves, path: Path, given: Given) -> Subject:
    whole, tones = WholeWaves(problem), problem.sources[0].signals
    count = max(given.count, SCORED)
    amplitudes = torch.rand(count, len(tones), generator=torch.Generator().manual_seed(HELD_OUT_SEED))
    signals = (amplitudes @ tones.cpu())[..., None]
    task = WavesTask(whole, signals, amplitudes)
    return Subject(label, whole, signals[: given.count], (f"{given.count} held-out mixtures of the tones",), path, task=task)


class WholeDenoise(nn.Module):
    """The model of `denoise` as a function of its images: (B, L, 3) to (B, L, 3)."""

    def __init__(self, problem: Denoise) -> None:
        super().__init__()
        self.model, self.settings = problem.model, problem.settings

    def forward(self, u: Tensor) -> Tensor:
        """Images of flattened pixels (B, L, 3)."""
        kernels = self.model.layer.impulse_response(u.shape[1])
        heard = _filtered(u.mT, kernels, bank_weighting(self.settings), self.settings.beta, self.settings.step)
        y: Tensor = self.model.mixing(heard)
        return y.mT
