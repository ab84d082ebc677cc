"""One of two processes that average the gradients of their halves of a batch; started by `ranks` with a folder."""

import gc
from pathlib import Path

import torch
from torch import nn

from ssmspec.nn import S4D

H = 6


def layer() -> S4D:
    """The same in both."""
    torch.manual_seed(0)
    return S4D(H, 8, beta=0.5, trainable_beta=True)


def batch() -> torch.Tensor:
    """(4, H, 16), the examples of both in turn."""
    return torch.randn(4, H, 16, generator=torch.Generator().manual_seed(8))


def main(rank: int, folder: Path) -> None:
    """Puts the averaged gradients into the folder."""
    model = layer()
    parallel = nn.parallel.DistributedDataParallel(model)
    parallel(batch()[rank::2])[0].square().mean().backward()
    if rank == 0:
        torch.save({name: parameter.grad for name, parameter in model.named_parameters()}, folder / "gradients.pt")
    del parallel  # it is part of a cycle, and must not outlive the group
    gc.collect()
