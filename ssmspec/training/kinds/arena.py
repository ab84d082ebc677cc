"""What the tasks of the Long Range Arena share: the published model with alpha and beta, and the size of the presets that need no data.

Source: arXiv 2410.02035, appendix; AnnanYu/FreqBiasSSM, configs/experiment/lra/bias-s4-*.yaml; arXiv 2011.04006 (the arena).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ssmspec.training.datasets.characters import Vocabulary
from ssmspec.training.datasets.targets import Labels
from ssmspec.training.kinds.published import Dataset, PublishedSettings, in_turn, tokens

SOURCE = "arXiv 2410.02035, appendix, and AnnanYu/FreqBiasSSM, configs/experiment/lra; arXiv 2011.04006"
PUBLISHED = dict.fromkeys(("small", "paper"), ((1.0, 0.0), (3.0, 0.0), (5.0, 0.0)))


def paper(**options: Any) -> PublishedSettings:
    """Six bidirectional layers with 64 complex modes, GLU and trainable beta. The rest depends on the task.

    Args:
        options: alpha, steps, warmup, batch, lr, lr_ssm, weight_decay, d_model, and other settings that differ.
    """
    shared: dict[str, Any] = {
        **{"beta_convention": "lra", "layout": "freqbias-block", "d_state": 64, "n_layers": 6, "bidirectional": True, "n_ssm": 1},
        **{"norm": "batch", "prenorm": True, "final_norm": True, "tie_dropout": True, "lr_beta": 0.01, "lr_step": options["lr"]},
    }
    return PublishedSettings(**shared | options)


def small(**options: Any) -> PublishedSettings:
    """Two narrow layers of the same kind. A run takes less than two minutes on two cores."""
    shared: dict[str, Any] = {
        **{"alpha": 3.0, "beta_convention": "lra", "layout": "freqbias-block", "d_state": 16, "n_layers": 2, "bidirectional": True},
        **{"norm": "batch", "prenorm": True, "final_norm": True, "lr_beta": 0.01, "d_model": 32, "n_ssm": 1, "weight_decay": 0.03},
        **{"steps": 600, "warmup": 60, "batch": 32, "lr": 8e-3, "lr_ssm": 4e-3, "lr_step": 8e-3},
    }
    return PublishedSettings(**shared | options)


def labels_of(codes: Sequence[int] | npt.NDArray[np.integer[Any]], classes: Sequence[str]) -> Labels:
    """Names of the classes, and the class of every sequence."""
    return Labels(tuple(classes), np.asarray(codes, np.int64))


def texts(
    parts: Sequence[Sequence[tuple[Sequence[str], int]]],
    classes: Sequence[str],
    lines: Sequence[str],
    longest: int,
    fewest: int,
    device: torch.device,
) -> Dataset:
    """Texts, or pairs of texts, character by character.

    Args:
        parts: the training part and the held-out part; each holds one or two texts per example, and its class.
        longest: largest number of characters of a text, including its end.
        fewest: least number of times that a character must occur in the first part to have a number of its own.
    """
    vocabulary = Vocabulary((text for given, _ in parts[0] for text in given), fewest)
    examples = [example for part in parts for example in part]
    members = [[vocabulary.encode(given[member], longest) for given, _ in examples] for member in range(len(examples[0][0]))]
    source = tokens([row for rows in members for row in rows], len(vocabulary), device, pairs=len(members) > 1)
    labels = labels_of([label for _, label in examples], classes)
    return Dataset(source, labels, in_turn([len(part) for part in parts]), lines)
