"""Means over time of GELU for mixtures of a few signals, block by block, so that all mixtures are never in memory at once.

Every example of `waves` mixes the same responses. A batch of 64 over 16 channels and 62832 samples has a quarter of a gigabyte, and
moving it through memory would take as long as the arithmetic. The backward pass mixes again instead of reading what the forward pass kept.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK = 2**18  # mixed samples per CPU thread at once: 1 MB of float32


def mean_gelu_of_mixtures(mixture: Tensor, responses: Tensor) -> Tensor:
    """Mean over l of GELU(sum_s mixture[b, s] responses[s, h, l]), differentiable in the responses, once.

    Args:
        mixture: (B, S), constant. responses: (S, H, L), of the same type.
    Returns:
        (B, H). Under autocast, mixtures and GELU have its type, and sums over time are float32.
    """
    device = responses.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else responses.dtype
    result: Tensor = _MixedGelu.apply(mixture.detach().to(kind), responses.to(kind))  # type: ignore[no-untyped-call]
    return result / responses.shape[-1]


class _MixedGelu(torch.autograd.Function):
    """Sums over time, (B, S) and (S, H, L) to (B, H)."""

    @staticmethod
    def forward(ctx: Any, mixture: Tensor, responses: Tensor) -> Tensor:
        ctx.save_for_backward(mixture, responses)
        wide = torch.promote_types(responses.dtype, torch.float32)
        sums = torch.zeros(len(mixture), responses.shape[1], dtype=wide, device=responses.device)
        for (h, _), mixed in _mixed(mixture, responses):
            sums[:, h] += torch.ops.aten.gelu_(mixed).sum(-1, dtype=wide)
        return sums

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[None, Tensor]:
        mixture, responses = ctx.saved_tensors
        gradient = torch.empty_like(responses)
        weights = (mixture * cotangent.T[..., None]).mT.to(mixture.dtype)  # (H, S, B)
        one, slopes = mixture.new_ones(()), responses.new_empty(0)
        for (h, l), mixed in _mixed(mixture, responses):
            if one.shape != mixed.shape:
                one, slopes = torch.ones_like(mixed), slopes.new_empty(mixed.shape)
            slopes = torch.ops.aten.gelu_backward.grad_input(one, mixed, grad_input=slopes)
            gradient[:, h, l] = torch.bmm(weights[h], slopes.transpose(0, 1)).transpose(0, 1)
        return None, gradient


def _mixed(mixture: Tensor, responses: Tensor) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    """Ranges of channels and of time, and their mixtures (B, h, l), which are overwritten by the next ones.

    They have about BLOCK samples per thread; on devices other than a CPU, everything at once.
    """
    _, H, L = responses.shape
    size = max(1, BLOCK * torch.get_num_threads() // len(mixture)) if responses.device.type == "cpu" else H * L
    channels, samples = max(1, size // L), min(size, L)
    scratch = responses.new_empty(len(mixture) * min(channels, H) * samples)  # fresh memory would cost as much as the arithmetic
    for first in range(0, H, channels):
        for start in range(0, L, samples):
            h, l = slice(first, first + channels), slice(start, start + samples)
            part = responses[:, h, l]
            mixed = scratch[: len(mixture) * part[0].numel()].view(len(mixture), -1)
            yield (h, l), torch.mm(mixture, part.flatten(1), out=mixed).view(-1, *part.shape[1:])
