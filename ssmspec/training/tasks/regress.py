"""The task `regress`: numbers from sequences, one set per sequence or one per sample, for the user's own data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssmspec.errors import SsmspecError
from ssmspec.report.documents.train import Measure
from ssmspec.systems.statespace import FloatArray
from ssmspec.training.datasets.sequences import Examples, Rows, normalization, read_sequences
from ssmspec.training.datasets.targets import read_values
from ssmspec.training.kinds.own_data import (
    DataSettings,
    Order,
    SequenceProblem,
    check_digests,
    described,
    draw_sweep,
    named,
    presets,
    split,
    with_digests,
)
from ssmspec.training.task import Goal, State, Task

MOST_NAMED = 8  # at most this many outputs have measures of their own


class Regress(SequenceProblem[Examples]):
    """The problem: model, sequences and their targets, where both are normalized by the training part."""

    def __init__(self, settings: DataSettings, device: torch.device, start: State | None = None) -> None:
        check_digests(settings)
        sequences = read_sequences(settings.data, axes=settings.axes, flat="BL", longest=settings.length)
        values = read_values(_named_target(settings), len(sequences), settings.data)
        if values.ndim == 3:
            values = values[:, : settings.length]
        _check_shape(values, settings, sequences.lengths)
        self.training, self.held_out = split(len(sequences), settings.held_out, settings.seed, settings.data)
        normal = normalization(sequences, sequences.parts(self.training))
        normalization(sequences, sequences.parts(self.held_out))  # also refuses values there that are not finite
        own = values[self.training].reshape(-1, values.shape[-1])
        self.mean, self.scale = own.mean(axis=0), own.std(axis=0)
        if not self.scale.all():
            raise SsmspecError(f"{settings.target}: output {int(np.argmin(self.scale))} is constant; expected values that vary")
        super().__init__(settings, Examples(sequences, normal, device), values.shape[-1], start)
        self.values = values
        self.targets = torch.from_numpy(((values - self.mean) / self.scale).astype(np.float32)).to(device)
        self.order = Order(self.training, settings.batch, settings.seed)

    def opening(self) -> list[str]:
        """Lines on sizes, and on the error of the mean."""
        lines = described(self.examples.sequences, len(self.training), len(self.held_out))
        errors = ", ".join(f"{error:.4g}" for error in self._mean_errors()[:MOST_NAMED])
        return [*lines, f"the baseline, always the mean of the training targets, has a held-out root mean square error of {errors}"]

    def draw(self, step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """x (b, L, C), lengths (b,) if they differ, and normalized targets."""
        return self.batch_of(self.order.at(step))

    def batch_of(self, rows: Rows) -> tuple[Tensor, ...]:
        """The inputs of the model for sequences with these numbers, and their normalized targets."""
        return (*self.examples.take(rows), self.targets[torch.from_numpy(rows)])

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Mean square error of the normalized targets."""
        *given, targets = batch
        return nn.functional.mse_loss(self.model(*given), targets)

    def predictions(self, rows: Rows) -> FloatArray:
        """Predictions with the units and shape of the targets."""
        return self._in_units(self.answers_to(rows))

    def _in_units(self, answers: Tensor) -> FloatArray:
        return np.asarray(answers.double().cpu().numpy() * self.scale + self.mean)

    def score(self, answers: Tensor, rows: Rows) -> float:
        """The share of the variance of the targets of these held-out sequences that answers explain."""
        errors = _root_mean_square(self._in_units(answers) - self.values[rows])
        return float(1 - np.mean((errors / self._mean_errors()) ** 2))

    def measures(self) -> list[Measure]:
        """The share of the variance that is explained, and the error of every output, on held-out sequences."""
        answers = self.answers_to(self.held_out)
        errors = _root_mean_square(self._in_units(answers) - self.values[self.held_out])
        base, skill = self._mean_errors(), self.score(answers, self.held_out)
        meaning = "share of the held-out variance that is explained; 0 for the mean of the training targets"
        found = [Measure("explained", skill, "", meaning, 0.0)]
        for place in range(min(len(errors), MOST_NAMED)):
            which = "" if len(errors) == 1 else f" of output {place}"
            text = f"root mean square error{which}, held out, in units of the target"
            found.append(Measure(named("error", place, len(errors)), float(errors[place]), "", text, float(base[place])))
        return found

    def _mean_errors(self) -> FloatArray:
        """Root mean square error (K,) of the mean of the training targets, which is at least the rounding error."""
        return np.maximum(_root_mean_square(self.mean - self.values[self.held_out]), 1e-12 * self.scale)

    def about(self) -> dict[str, Any]:
        """The model, and the normalization of its inputs and outputs."""
        return {"task": "regress", **super().about(), "target": {"mean": self.mean.tolist(), "scale": self.scale.tolist()}}

    def pictures(self, folder: Path, measures: Sequence[Measure]) -> list[Path]:
        """Draw predictions against targets."""
        from ssmspec.report.figures.predictions import scatter_figure
        from ssmspec.report.figures.style import save

        K = self.values.shape[-1]
        wanted, given = (part.reshape(-1, K) for part in (self.values[self.held_out], self.predictions(self.held_out)))
        panels = {named("output", place, K): (wanted[:, place], given[:, place]) for place in range(min(K, MOST_NAMED))}
        return [save(scatter_figure(panels), folder / "predictions.png")]


def _root_mean_square(errors: FloatArray) -> FloatArray:
    """The root mean square per output, (K,)."""
    return np.sqrt(np.mean(np.square(errors).reshape(-1, errors.shape[-1]), axis=0))


def _named_target(settings: DataSettings) -> str:
    if settings.target is None:
        raise SsmspecError("regress needs targets to learn; give a file with numbers per sequence: --target Y.npy (or .npz:y, .csv)")
    return settings.target


def _check_shape(values: FloatArray, settings: DataSettings, lengths: Rows) -> None:
    """Check that targets per sample come with outputs per sample, and vice versa."""
    per_sample = values.ndim == 3
    if per_sample != (settings.pooling == "none"):
        advice = "add --set pooling=none for an output per sample" if per_sample else "an output per sample needs a target (B, L, K)"
        raise SsmspecError(f"{settings.target}: shape {values.shape} with pooling {settings.pooling}; {advice}")
    if per_sample and (lengths != values.shape[1]).any():
        raise SsmspecError(
            f"{settings.target}: {values.shape[1]} samples per sequence, but {lengths.max()} in {settings.data}; expected equal numbers"
        )


REGRESS = Task(
    name="regress",
    title="numbers from sequences of your own",
    source="arXiv 2206.11893; state-spaces/s4, example.py (the model)",
    presets=presets(),
    problem=Regress,
    goal=Goal("explained", larger=True),
    prepare=with_digests,
    draw_sweep=draw_sweep,
)
