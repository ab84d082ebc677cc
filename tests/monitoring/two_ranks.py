"""One of two processes that train a model together; started by `ranks` with a folder."""

import gc
from pathlib import Path

import torch
from nets import loss_of, net
from torch import nn

from ssmspec import SpectralMonitor

STEPS = 4


def main(rank: int, folder: Path) -> None:
    """Trains on data of the rank's own, and saves rank 0's model."""
    model = nn.parallel.DistributedDataParallel(net(dropout=0.0))
    monitor = SpectralMonitor(model, folder / "bias.jsonl", every=2, images=0, budget=None, strict=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    torch.manual_seed(rank)
    found = [monitor(0)]
    for step in range(1, STEPS + 1):
        loss = loss_of(model, torch.randn(2, 32, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(monitor(step))
    (folder / f"rank{rank}.txt").write_text(str([None if each is None else each.step for each in found]), encoding="utf-8")
    if rank == 0:
        torch.save(model.state_dict(), folder / "model.pt")
    del model, monitor, loss, optimizer  # DistributedDataParallel is part of a cycle, and must not outlive the group
    gc.collect()
