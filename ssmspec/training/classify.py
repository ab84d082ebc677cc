"""The task `classify`: the class of a sequence; the user's own data."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssmspec.errors import SsmspecError
from ssmspec.report.training import Measure
from ssmspec.training.data import (
    DataSettings,
    Order,
    SequenceProblem,
    check_digests,
    described,
    draw_sweep,
    presets,
    split,
    with_digests,
)
from ssmspec.training.sequences import Examples, Sequences, normalization, read_sequences
from ssmspec.training.targets import Labels, as_labels, read_labels
from ssmspec.training.task import State, Task

MOST_CLASSES = 10_000


class Classify(SequenceProblem):
    """The problem: model, sequences normalized with the training part, and their classes, which both parts share evenly."""

    def __init__(self, settings: DataSettings, device: torch.device, start: State | None = None) -> None:
        check_digests(settings)
        if settings.pooling == "none":
            raise SsmspecError("classify gives one class per sequence; choose pooling mean or last")
        sequences = read_sequences(settings.data, axes=settings.axes, flat="BL", longest=settings.length)
        self.labels = _labels(settings, sequences)
        codes = self.labels.codes
        self.training, self.held_out = split(len(sequences), settings.held_out, settings.seed, settings.data, codes)
        normal = normalization(sequences, sequences.parts(self.training))
        normalization(sequences, sequences.parts(self.held_out))  # refuses values that are no numbers there too
        super().__init__(settings, Examples(sequences, normal, device), len(self.labels.classes), start)
        self.codes = torch.from_numpy(codes).to(device)
        self.order = Order(self.training, settings.batch, settings.seed)

    def opening(self) -> list[str]:
        """Sizes, and how often the most frequent class is right."""
        lines = described(self.examples.sequences, len(self.training), len(self.held_out))
        most, share = self._baseline()
        name = self.labels.classes[most]
        return [*lines, f"{len(self.labels.classes)} classes; the baseline, always {name}, is right in {share:.3g} of what is held out"]

    def draw(self, step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """x (b, L, C), lengths (b,) where they differ, and classes (b,)."""
        rows = self.order.at(step)
        return (*self.examples.take(rows), self.codes[torch.from_numpy(rows)])

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy [nats]."""
        *given, codes = batch
        return nn.functional.cross_entropy(self.model(*given), codes)

    def confusion(self) -> np.ndarray:
        """How many of each class (rows) were taken for each (columns), held out."""
        given = self.answers_to(self.held_out).argmax(1).numpy()
        count = len(self.labels.classes)
        table = np.zeros((count, count), dtype=np.int64)
        np.add.at(table, (self.labels.codes[self.held_out], given), 1)
        return table

    def measures(self) -> list[Measure]:
        """The share of sequences held out whose class was found."""
        table = self.confusion()
        accuracy = float(np.trace(table) / table.sum())
        meaning = "share of the sequences held out whose class is found; baseline: always the most frequent class"
        return [Measure("accuracy", accuracy, "", meaning, self._baseline()[1])]

    def _baseline(self) -> tuple[int, float]:
        """The most frequent class in training, and its share of what is held out."""
        most = int(np.bincount(self.labels.codes[self.training]).argmax())
        return most, float((self.labels.codes[self.held_out] == most).mean())

    def about(self) -> dict[str, Any]:
        """The model, how its inputs are normalized, and what its outputs stand for."""
        return {"task": "classify", **super().about(), "classes": list(self.labels.classes)}

    def pictures(self, folder: Path) -> list[Path]:
        """What was taken for what."""
        from ssmspec.report.figures.predictions import confusion_figure
        from ssmspec.report.figures.style import save

        return [save(confusion_figure(self.confusion(), self.labels.classes), folder / "predictions.png")]


def _labels(settings: DataSettings, sequences: Sequences) -> Labels:
    if settings.target is not None and sequences.labels is not None:
        raise SsmspecError(
            f"{settings.data} has its labels in the names of its subfolders, and --target names others; leave one of them out"
        )
    if sequences.labels is not None:
        labels = as_labels(np.array(sequences.labels), settings.data)
    elif settings.target is None:
        raise SsmspecError("classify needs labels: a file with one per sequence, --target Y.npy (or .npz:y, .csv), or subfolders of sounds")
    else:
        labels = read_labels(settings.target, len(sequences), settings.data)
    if len(labels.classes) > min(MOST_CLASSES, len(sequences) // 2):
        raise SsmspecError(
            f"{settings.target or settings.data}: {len(labels.classes)} classes in {len(sequences)} sequences; "
            "expected at least two sequences of each; regress takes numbers"
        )
    return labels


CLASSIFY = Task(
    name="classify",
    title="classes of sequences of your own",
    source="arXiv 2206.11893; state-spaces/s4, example.py (the model)",
    presets=presets(),
    problem=Classify,
    prepare=with_digests,
    draw_sweep=draw_sweep,
)
