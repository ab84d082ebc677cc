"""A small model with two S4D layers, and a loop that trains it, with or without a monitor."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssmspec.nn import S4D

H, MODES = 4, 3


class Net(nn.Module):
    """Predicts later samples of a sequence."""

    def __init__(self, *, dropout: float = 0.2, **layer: Any) -> None:
        super().__init__()
        self.encoder = nn.Linear(1, H)
        self.blocks = nn.ModuleList(S4D(H, 2 * MODES, transposed=False, dropout=dropout, **layer) for _ in range(2))
        self.decoder = nn.Linear(H, 1)

    def forward(self, u: Tensor) -> Tensor:
        x = self.encoder(u)
        for block in self.blocks:
            x = x + block(x)[0]
        return self.decoder(x)


def net(seed: int = 0, **options: Any) -> Net:
    """A new model, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net(**options)


def loss_of(model: nn.Module, batch: Tensor) -> Tensor:
    return nn.functional.mse_loss(model(batch), batch.roll(3, 1))


def train(model: nn.Module, steps: int, watch: Callable[[int], object] | None = None, first: int = 0) -> list[float]:
    """Trains from step `first` on; the losses. `watch` is called with the steps done, also before the first."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    if watch:
        watch(first)
    for step in range(first + 1, steps + 1):
        loss = loss_of(model, torch.randn(2, 32, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if watch:
            watch(step)
    return losses


def lines(path: Path) -> list[dict[str, Any]]:
    """The documents of a JSONL log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
