"""A linear recurrence with factors that vary over time, computed in blocks: only 2 sqrt L of L steps are sequential."""

import math
from typing import Any

import torch
from torch import Tensor


def linear_recurrence(factors: Tensor, inputs: Tensor) -> Tensor:
    """h_l = factors_l h_{l-1} + inputs_l with h_{-1} = 0; differentiable once.

    Args:
        factors, inputs: (L, M) real, of the same type. The magnitude of factors should not exceed 1 by much, because products of sqrt L of
            them are computed.
    Returns:
        (L, M).
    """
    result: Tensor = _Recurrence.apply(factors, inputs)  # type: ignore[no-untyped-call]
    return result


class _Recurrence(torch.autograd.Function):
    """The cotangents of h obey the same recurrence backward in time: g_l = G_l + factors_{l+1} g_{l+1}."""

    @staticmethod
    def forward(ctx: Any, factors: Tensor, inputs: Tensor) -> Tensor:
        states = _states(factors, inputs)
        ctx.save_for_backward(factors, states)
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        factors, states = ctx.saved_tensors
        later = torch.cat([factors[1:], torch.zeros_like(factors[:1])]).flip(0)
        total = _states(later, cotangent.flip(0)).flip(0)
        earlier = torch.cat([torch.zeros_like(states[:1]), states[:-1]])
        return total * earlier, total


def _states(factors: Tensor, inputs: Tensor) -> Tensor:
    """Blocks of about sqrt L steps are computed in parallel from zero, then connected one after another."""
    length, width = inputs.shape
    size = max(1, math.isqrt(length))
    blocks = -(-length // size)
    padding = (0, 0, 0, blocks * size - length)
    states, products = (torch.nn.functional.pad(each, padding).reshape(blocks, size, width).clone() for each in (inputs, factors))
    for place in range(1, size):
        states[:, place].addcmul_(products[:, place], states[:, place - 1])
        products[:, place].mul_(products[:, place - 1])
    for block in range(1, blocks):
        states[block].addcmul_(products[block], states[block - 1, -1])
    return states.flatten(0, 1)[:length]
