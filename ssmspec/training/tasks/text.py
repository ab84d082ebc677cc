"""The task `text` of the Long Range Arena: whether a review praises or blames, read character by character."""

import numpy as np
import torch

from ssmspec.training.datasets.characters import read_reviews
from ssmspec.training.datasets.made_texts import draw_reviews
from ssmspec.training.kinds.arena import PUBLISHED, SOURCE, paper, small, texts
from ssmspec.training.kinds.classification import ACCURACY
from ssmspec.training.kinds.own_data import draw_sweep
from ssmspec.training.kinds.published import Dataset, PublishedSettings, absolute, problem, require_data
from ssmspec.training.task import Task

LONGEST, FEWEST = (
    4096,
    15,
)  # characters, including the end; least occurrences of a numbered one. Source: state-spaces/s4, src/dataloaders/lra.py


def read(settings: PublishedSettings, device: torch.device) -> Dataset:
    """Reviews of IMDB, or made-up reviews of `width` words."""
    if settings.drawn:
        found = draw_reviews(settings.examples + settings.tests, settings.width, np.random.default_rng(settings.seed))
        parts = [found[: settings.examples], found[settings.examples :]]
        what = f"made-up reviews of {settings.width} words"
    else:
        parts = list(read_reviews(require_data(settings, "the reviews of IMDB (aclImdb)")))
        what = f"{settings.data}: reviews"
    lines = [f"{what}; {len(parts[0])} to train on, {len(parts[1])} held out"]
    given = [[((text,), label) for text, label in part] for part in parts]
    return texts(given, ("negative", "positive"), lines, settings.length or LONGEST, FEWEST, device)


TEXT = Task(
    name="text",
    title="praise or blame in reviews, character by character (Long Range Arena)",
    source=f"{SOURCE}, section 2.2",
    presets={
        "small": small(examples=2000, tests=500, width=40, steps=300, warmup=30),
        "paper": paper(
            **{"alpha": 5.0, "d_model": 256, "lr": 0.01, "lr_ssm": 1e-3, "weight_decay": 0.05, "batch": 32, "steps": 20_000, "warmup": 2000}
        ),
    },
    problem=problem(read),
    goal=ACCURACY,
    published=PUBLISHED,
    prepare=absolute,
    draw_sweep=draw_sweep,
)
