"""The tasks `pathfinder` and `pathx` of the Long Range Arena: whether two marks lie on one contour, from pixels read row by row."""

import numpy as np
import torch

from ssmspec.training.datasets.contours import Strokes, draw
from ssmspec.training.datasets.pathfinder import read_gray, read_pathfinder
from ssmspec.training.kinds.arena import PUBLISHED, SOURCE, labels_of, paper, small
from ssmspec.training.kinds.classification import ACCURACY
from ssmspec.training.kinds.own_data import draw_sweep
from ssmspec.training.kinds.published import Dataset, Pixels, PublishedSettings, Read, absolute, in_turn, problem, require_data
from ssmspec.training.task import Task

TRAINING, HELD_OUT = 0.8, 0.1  # shares; the rest was for validation (state-spaces/s4, src/dataloaders/lra.py)
ORDER_SEED = 42
CLASSES = ("apart", "joined")


def reader(side: int) -> Read:
    """The function that reads the release with pictures of this side, or draws pictures of `width` pixels."""

    def read(settings: PublishedSettings, device: torch.device) -> Dataset:
        return _drawn(settings, device) if settings.drawn else _released(settings, side, device)

    return read


def _drawn(settings: PublishedSettings, device: torch.device) -> Dataset:
    side = settings.width
    strokes = Strokes(side=side, dashes=side // 4, short_dashes=max(2, side // 12), distractors=side // 12)
    pictures, codes = draw(settings.examples + settings.tests, strokes, np.random.default_rng(settings.seed))
    lines = [
        f"contours of {strokes.dashes} dashes among {strokes.distractors} short ones, drawn in {side} x {side} pixels; "
        f"{settings.examples} pictures to train on, {settings.tests} held out"
    ]
    source = Pixels(lambda rows: 255 * pictures[rows], side, device)
    return Dataset(source, labels_of(codes, CLASSES), in_turn([settings.examples, settings.tests]), lines)


def _released(settings: PublishedSettings, side: int, device: torch.device) -> Dataset:
    paths, codes = read_pathfinder(require_data(settings, f"Pathfinder with {side} x {side} pixels (lra_release)"), side)
    order = np.random.default_rng(ORDER_SEED).permutation(len(paths))
    training, rest = np.split(order, [round(TRAINING * len(paths))])
    held_out = rest[len(rest) - round(HELD_OUT * len(paths)) :]
    lines = [f"{settings.data}: {len(training)} pictures of {side} x {side} pixels to train on, {len(held_out)} held out"]
    source = Pixels(lambda rows: read_gray([paths[row] for row in rows], side), side, device)
    return Dataset(source, labels_of(codes, CLASSES), (training, held_out), lines)


def _task(name: str, title: str, side: int, drawn: PublishedSettings, published: PublishedSettings) -> Task:
    return Task(
        name=name,
        title=f"whether two marks lie on one contour, {title} (Long Range Arena)",
        source=f"{SOURCE}, section 2.5",
        presets={"small": drawn, "paper": published},
        problem=problem(reader(side)),
        goal=ACCURACY,
        published=PUBLISHED,
        prepare=absolute,
        draw_sweep=draw_sweep,
    )


PATHFINDER = _task(
    *("pathfinder", "32 x 32 pixels", 32),
    small(examples=1500, tests=300, width=24, steps=300, warmup=30),
    paper(
        **{"alpha": 3.0, "d_model": 256, "lr": 4e-3, "lr_ssm": 1e-3, "weight_decay": 0.03, "batch": 50, "steps": 800_000, "warmup": 150_000}
    ),
)
PATHX = _task(
    *("pathx", "128 x 128 pixels", 128),
    small(examples=600, tests=200, width=32, steps=150, warmup=15, step_min=1e-4),
    paper(
        **{"alpha": 5.0, "d_model": 128, "lr": 1e-3, "lr_ssm": 1e-3, "weight_decay": 0.03, "batch": 20, "steps": 1_250_000},
        **{"warmup": 200_000, "n_ssm": 128, "step_min": 1e-4},
    ),
)
