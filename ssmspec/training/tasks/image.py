"""The tasks `image` of the Long Range Arena and `scifar`: what a gray picture shows, read pixel by pixel and row by row."""

import itertools
from dataclasses import replace

import numpy as np
import torch

from ssmspec.training.datasets.cifar import CLASSES, SIDE, read_cifar
from ssmspec.training.datasets.digits import SIDE as DIGIT_SIDE
from ssmspec.training.datasets.digits import read_digits
from ssmspec.training.kinds.arena import PUBLISHED, SOURCE, labels_of, paper, small
from ssmspec.training.kinds.classification import ACCURACY
from ssmspec.training.kinds.own_data import draw_sweep, split
from ssmspec.training.kinds.published import Dataset, Pixels, PublishedSettings, absolute, in_turn, problem, require_data
from ssmspec.training.task import Task

MEAN, SCALE = 122.6 / 255, 61.0 / 255  # mean and scale of the gray values of CIFAR-10 (state-spaces/s4, src/dataloaders/basic.py)
DIGITS_HELD_OUT = 0.25


def read(settings: PublishedSettings, device: torch.device) -> Dataset:
    """CIFAR-10 in gray, or the digits of scikit-learn if a preset needs no data."""
    if settings.drawn:
        return _digits(settings, device)
    training, test = read_cifar(require_data(settings, "CIFAR-10 (cifar-10-batches-py or cifar-10-batches-bin)"))
    gray = np.concatenate([training.gray, test.gray])
    labels = labels_of(np.concatenate([training.classes, test.classes]), CLASSES)
    sizes = [len(training.classes), len(test.classes)]
    lines = [f"{settings.data}: {sizes[0]} gray pictures of {SIDE} x {SIDE} pixels to train on, the {sizes[1]} of the test batch held out"]
    return Dataset(Pixels(lambda rows: gray[rows], SIDE, device, mean=MEAN, scale=SCALE), labels, in_turn(sizes), lines)


def _digits(settings: PublishedSettings, device: torch.device) -> Dataset:
    pictures, codes = read_digits()
    parts = split(len(codes), DIGITS_HELD_OUT, settings.seed, "the digits of scikit-learn", codes)
    training = parts[0][: settings.examples]
    lines = [f"digits of scikit-learn, {DIGIT_SIDE} x {DIGIT_SIDE} pixels; {len(training)} to train on, {len(parts[1])} held out"]
    labels = labels_of(codes, tuple(map(str, range(10))))
    return Dataset(Pixels(lambda rows: pictures[rows], DIGIT_SIDE, device), labels, (training, parts[1]), lines)


_SMALL = small(examples=1200, tests=450, steps=400, warmup=40, lr=4e-3, lr_step=4e-3)
_PAPER = paper(
    **{"alpha": 3.0, "d_model": 512, "lr": 0.01, "lr_ssm": 1e-3, "weight_decay": 0.01, "batch": 50, "steps": 180_000, "warmup": 18_000},
    **{"norm": "layer", "prenorm": False, "final_norm": False, "dropout": 0.1, "n_ssm": 512},
)

IMAGE = Task(
    name="image",
    title="what a gray picture shows, pixel by pixel (Long Range Arena)",
    source=f"{SOURCE}, section 2.4",
    presets={"small": _SMALL, "paper": _PAPER},
    problem=problem(read),
    goal=ACCURACY,
    published=PUBLISHED,
    prepare=absolute,
    draw_sweep=draw_sweep,
)
SCIFAR = Task(
    name="scifar",
    title="gray sequential CIFAR-10 with a fixed beta, for ablations of alpha and beta",
    source=SOURCE,
    presets={"small": replace(_SMALL, trainable_beta=False), "paper": replace(_PAPER, trainable_beta=False)},
    problem=problem(read),
    goal=ACCURACY,
    published=dict.fromkeys(("small", "paper"), tuple(itertools.product((0.3, 1.0, 3.0, 10.0), (-1.0, 0.0, 1.0)))),
    prepare=absolute,
    draw_sweep=draw_sweep,
)
