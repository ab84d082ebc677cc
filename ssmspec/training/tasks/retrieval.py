"""The task `retrieval` of the Long Range Arena: whether two texts belong together, read character by character."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssmspec.nn import SequenceModel
from ssmspec.training.datasets.characters import read_pairs
from ssmspec.training.datasets.made_texts import draw_pairs
from ssmspec.training.kinds.arena import PUBLISHED, SOURCE, paper, small, texts
from ssmspec.training.kinds.classification import ACCURACY
from ssmspec.training.kinds.own_data import draw_sweep
from ssmspec.training.kinds.published import Dataset, PublishedSettings, absolute, problem, require_data
from ssmspec.training.task import Task

LONGEST = 4000  # characters, including the end (state-spaces/s4, src/dataloaders/lra.py)
TOPICS = 8  # number of topics of made-up texts


class PairModel(SequenceModel):
    """A model that reads two sequences. Its decoder receives both outputs, their difference and their product.

    Source: state-spaces/s4, src/tasks/decoders.py, RetrievalDecoder and RetrievalHead.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        H = self.frame.d_model
        self.decoder: nn.Module = nn.Sequential(nn.Linear(4 * H, H), nn.ReLU(), nn.Linear(H, self.frame.d_output))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, 2, L) symbols, and (B, 2) lengths or None, to (B, d_output)."""
        features = self.features(x.flatten(0, 1), None if lengths is None else lengths.flatten())
        first, second = features.reshape(-1, 2, features.shape[1]).unbind(1)
        y: Tensor = self.decoder(torch.cat([first, second, first - second, first * second], dim=-1))
        return y


def read(settings: PublishedSettings, device: torch.device) -> Dataset:
    """Papers of the ACL anthology, or pairs of made-up texts of `width` words."""
    if settings.drawn:
        found = draw_pairs(settings.examples + settings.tests, settings.width, TOPICS, np.random.default_rng(settings.seed))
        parts = [found[: settings.examples], found[settings.examples :]]
        what = f"pairs of made-up texts of {settings.width} words on {TOPICS} topics"
    else:
        training, _, test = read_pairs(require_data(settings, "pairs of papers (lra_release, tsv_data)"))
        parts, what = [training, test], f"{settings.data}: pairs of papers"
    lines = [f"{what}; {len(parts[0])} to train on, {len(parts[1])} held out"]
    given = [[((first, second), label) for first, second, label in part] for part in parts]
    return texts(given, ("unrelated", "related"), lines, settings.length or LONGEST, 1, device)


RETRIEVAL = Task(
    name="retrieval",
    title="whether two texts belong together, character by character (Long Range Arena)",
    source=f"{SOURCE}, section 2.3",
    presets={
        "small": small(examples=2000, tests=500, width=24, steps=400, warmup=40),
        "paper": paper(
            **{
                "alpha": 3.0,
                "d_model": 128,
                "lr": 4e-3,
                "lr_ssm": 1e-3,
                "weight_decay": 0.03,
                "batch": 64,
                "steps": 100_000,
                "warmup": 5000,
            }
        ),
    },
    problem=problem(read, PairModel),
    goal=ACCURACY,
    published=PUBLISHED,
    prepare=absolute,
    draw_sweep=draw_sweep,
)
