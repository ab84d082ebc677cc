"""The task `classify`: the class of a sequence, for the user's own data."""

from typing import Any

import numpy as np
import torch

from ssmspec.errors import SsmspecError
from ssmspec.training.datasets.sequences import Examples, Sequences, normalization, read_sequences
from ssmspec.training.datasets.targets import Labels, as_labels, read_labels
from ssmspec.training.kinds.classification import ACCURACY, Classification
from ssmspec.training.kinds.own_data import (
    DataSettings,
    check_digests,
    described,
    draw_sweep,
    presets,
    split,
    with_digests,
)
from ssmspec.training.task import State, Task

MOST_CLASSES = 10_000


class Classify(Classification[Examples]):
    """The problem: model, sequences normalized by the training part, and their classes, which have equal shares in both parts."""

    def __init__(self, settings: DataSettings, device: torch.device, start: State | None = None) -> None:
        check_digests(settings)
        sequences = read_sequences(settings.data, axes=settings.axes, flat="BL", longest=settings.length)
        labels = _labels(settings, sequences)
        training, held_out = split(len(sequences), settings.held_out, settings.seed, settings.data, labels.codes)
        normal = normalization(sequences, sequences.parts(training))
        normalization(sequences, sequences.parts(held_out))  # also refuses values there that are not finite
        lines = described(sequences, len(training), len(held_out))
        super().__init__(settings, Examples(sequences, normal, device), labels, (training, held_out), lines, start)

    def about(self) -> dict[str, Any]:
        """The task, and what every classification records."""
        return {"task": "classify", **super().about()}


def _labels(settings: DataSettings, sequences: Sequences) -> Labels:
    if settings.target is not None and sequences.labels is not None:
        raise SsmspecError(
            f"{settings.data} has its labels in the names of its subfolders, but --target gives other labels; leave one of them out"
        )
    if sequences.labels is not None:
        labels = as_labels(np.array(sequences.labels), settings.data)
    elif settings.target is None:
        raise SsmspecError(
            "classify needs labels; give a file with one label per sequence, --target Y.npy (or .npz:y, .csv), or subfolders of sounds"
        )
    else:
        labels = read_labels(settings.target, len(sequences), settings.data)
    if len(labels.classes) > min(MOST_CLASSES, len(sequences) // 2):
        raise SsmspecError(
            f"{settings.target or settings.data}: {len(labels.classes)} classes in {len(sequences)} sequences; "
            "expected at least two sequences per class; for numbers, use regress"
        )
    return labels


CLASSIFY = Task(
    name="classify",
    title="classes of sequences of your own",
    source="arXiv 2206.11893; state-spaces/s4, example.py (the model)",
    presets=presets(),
    problem=Classify,
    goal=ACCURACY,
    prepare=with_digests,
    draw_sweep=draw_sweep,
)
