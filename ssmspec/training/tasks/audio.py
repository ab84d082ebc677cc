"""The task `audio`: which word is spoken, from the samples of the raw sound. The data are Speech Commands, or synthetic words."""

from typing import Any

import numpy as np
import torch

from ssmspec.training.datasets.sequences import Examples, Rows, Sequences, normalization
from ssmspec.training.datasets.speech_commands import SAMPLES, read_speech_commands
from ssmspec.training.datasets.targets import Labels, as_labels
from ssmspec.training.datasets.vowels import SAMPLE_RATE, WORDS, draw_words
from ssmspec.training.kinds.classification import ACCURACY
from ssmspec.training.kinds.own_data import draw_sweep
from ssmspec.training.kinds.published import Dataset, PublishedSettings, absolute, in_turn, problem, require_data
from ssmspec.training.task import Task


def read(settings: PublishedSettings, device: torch.device) -> Dataset:
    """Sounds of Speech Commands, or synthetic words of `width` samples. All are normalized by one mean and scale of the training part."""
    if settings.drawn:
        return _drawn(settings, device)
    folder = require_data(settings, "sounds of words in the layout of Speech Commands")
    sequences, (training, validation, test) = read_speech_commands(folder, settings.length or SAMPLES)
    labels = as_labels(np.array(sequences.labels), folder)
    lines = [
        f"{folder}: {len(training)} sounds of {len(labels.classes)} words to train on, the {len(test)} of the testing list held out, the "
        f"{len(validation)} of the validation list not used",
        *(f"{folder}: {note}" for note in sequences.notes),
    ]
    return _dataset(sequences, labels, (training, test), lines, device)


def _drawn(settings: PublishedSettings, device: torch.device) -> Dataset:
    values, codes = draw_words(settings.examples + settings.tests, settings.width, np.random.default_rng(settings.seed))
    lengths = np.full(len(values), settings.width, np.int64)
    milliseconds = 1000 * settings.width / SAMPLE_RATE
    lines = [
        f"synthetic words, two vowels in {milliseconds:.3g} ms at {SAMPLE_RATE} Hz, not speech; {settings.examples} to train on, "
        f"{settings.tests} held out"
    ]
    sequences = Sequences(values[..., None], None, lengths, "synthetic words")
    return _dataset(sequences, Labels(WORDS, codes), in_turn([settings.examples, settings.tests]), lines, device)


def _dataset(sequences: Sequences, labels: Labels, parts: tuple[Rows, Rows], lines: list[str], device: torch.device) -> Dataset:
    normal = normalization(sequences, sequences.parts(parts[0]))
    return Dataset(Examples(sequences, normal, device), labels, parts, lines)


def _settings(**options: Any) -> PublishedSettings:
    """Bidirectional S4D-Lin with GLU. The other settings differ between presets."""
    shared: dict[str, Any] = {
        **{"alpha": 1.0, "beta_convention": "lra", "layout": "s4-diag", "bidirectional": True, "n_ssm": 2},
        **{"norm": "batch", "prenorm": True, "final_norm": True, "weight_decay": 0.05},
    }
    return PublishedSettings(**shared | options)


AUDIO = Task(
    name="audio",
    title="which word is spoken, from the raw sound (Speech Commands, 35 words)",
    source="state-spaces/s4, configs/experiment/sc/s4-sc.yaml with model/layer=s4d (paper); arXiv 2206.11893; arXiv 1804.03209 (the data)",
    presets={
        "small": _settings(
            **{"examples": 1200, "tests": 300, "width": 2000, "steps": 200, "warmup": 20, "batch": 16},
            **{"d_model": 32, "n_layers": 2, "d_state": 32, "lr": 0.01, "lr_ssm": 4e-3, "lr_step": 4e-3},
        ),
        "paper": _settings(
            **{"steps": 200_000, "warmup": 1000, "batch": 16, "tie_dropout": True},
            **{"d_model": 128, "n_layers": 6, "d_state": 64, "lr": 0.01, "lr_ssm": 1e-3, "lr_step": 1e-3},
        ),
    },
    problem=problem(read),
    goal=ACCURACY,
    prepare=absolute,
    draw_sweep=draw_sweep,
)
