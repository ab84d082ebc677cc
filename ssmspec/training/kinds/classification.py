"""Classification of sequences: what all tasks have in common whose output is one of a few classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic

import numpy as np
import torch
from torch import Tensor, nn

from ssmspec.errors import SsmspecError
from ssmspec.nn import SequenceModel
from ssmspec.report.documents.train import Measure
from ssmspec.training.datasets.sequences import Rows
from ssmspec.training.datasets.targets import Labels
from ssmspec.training.kinds.own_data import DataSettings, Given, Order, SequenceProblem
from ssmspec.training.task import Goal, State

ACCURACY = Goal("accuracy", larger=True)


class Classification(SequenceProblem[Given], Generic[Given]):
    """The problem: model, sequences, and their classes.

    Args:
        settings, examples, start, kind: as for `SequenceProblem`. labels: names of the classes, and the class of every sequence.
        training, held_out: numbers of the sequences of each part. lines: lines of text about the data.
    Raises:
        SsmspecError: the model does not give one output per sequence.
    """

    def __init__(
        self,
        settings: DataSettings,
        examples: Given,
        labels: Labels,
        parts: tuple[Rows, Rows],
        lines: Sequence[str],
        start: State | None,
        kind: type[SequenceModel] = SequenceModel,
    ) -> None:
        if settings.pooling == "none":
            raise SsmspecError("the task gives one class per sequence; choose mean or last as pooling")
        super().__init__(settings, examples, len(labels.classes), start, kind)
        self.labels, self.lines = labels, lines
        self.training, self.held_out = parts
        self.codes = torch.from_numpy(labels.codes).to(examples.device)
        self.order = Order(self.training, settings.batch, settings.seed)

    def opening(self) -> list[str]:
        """Lines on sizes, and on how often the most frequent class is correct."""
        most, share = self._baseline()
        classes = self.labels.classes
        guess = f"always {classes[most]}, is correct for a share of {share:.3g} of the held-out sequences"
        return [*self.lines, f"{len(classes)} classes; the baseline, {guess}"]

    def draw(self, step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The inputs of the model, and classes (b,)."""
        return self.batch_of(self.order.at(step))

    def batch_of(self, rows: Rows) -> tuple[Tensor, ...]:
        """The inputs of the model for sequences with these numbers, and their classes (b,)."""
        return (*self.examples.take(rows), self.codes[torch.from_numpy(rows)])

    def score(self, answers: Tensor, rows: Rows) -> float:
        """The share of answers (b, classes) that are correct."""
        return float((answers.argmax(1).cpu().numpy() == self.labels.codes[rows]).mean())

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy [nats]."""
        *given, codes = batch
        return nn.functional.cross_entropy(self.model(*given), codes)

    def confusion(self) -> np.ndarray:
        """How many held-out sequences of each class (rows) were predicted as each class (columns)."""
        given = self.answers_to(self.held_out).argmax(1).numpy()
        count = len(self.labels.classes)
        table = np.zeros((count, count), dtype=np.int64)
        np.add.at(table, (self.labels.codes[self.held_out], given), 1)
        return table

    def measures(self) -> list[Measure]:
        """The share of held-out sequences whose class is predicted correctly."""
        table = self.confusion()
        accuracy = float(np.trace(table) / table.sum())
        meaning = "share of held-out sequences whose class is predicted correctly; baseline: always the most frequent class"
        return [Measure("accuracy", accuracy, "", meaning, self._baseline()[1])]

    def _baseline(self) -> tuple[int, float]:
        """The most frequent class in training, and its share of the held-out sequences."""
        most = int(np.bincount(self.labels.codes[self.training]).argmax())
        return most, float((self.labels.codes[self.held_out] == most).mean())

    def about(self) -> dict[str, Any]:
        """The model, how its inputs are normalized, and what its outputs stand for."""
        return {**super().about(), "classes": list(self.labels.classes)}

    def pictures(self, folder: Path, measures: Sequence[Measure]) -> list[Path]:
        """The confusion matrix."""
        from ssmspec.report.figures.predictions import confusion_figure
        from ssmspec.report.figures.style import save

        return [save(confusion_figure(self.confusion(), self.labels.classes), folder / "predictions.png")]
