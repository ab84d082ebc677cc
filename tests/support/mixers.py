"""Mamba mixers as tensors by name, with the layout of a configuration, and the shares of them that tensor-parallel ranks hold.

Values are drawn. What ranks hold follows Megatron-LM, core/ssm/mamba_mixer.py: every part of a projection is split by itself, heads with
their channels, and B and C by groups, unless there are fewer groups than ranks.
"""

from collections.abc import Mapping

import numpy as np
import torch

Tensors = dict[str, torch.Tensor]


def _draw(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32) * 0.3)


def _biases(rng: np.random.Generator, count: int) -> torch.Tensor:
    """softplus^-1 of steps between 1e-3 and 1e-1."""
    steps = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), count))
    return torch.from_numpy((steps + np.log(-np.expm1(-steps))).astype(np.float32))


def mamba1(rng: np.random.Generator, prefix: str = "", *, channels: int = 32, states: int = 4, rank: int = 8, width: int = 32) -> Tensors:
    """A Mamba-1 mixer."""
    tensors = {
        "A_log": torch.log(torch.arange(1.0, states + 1)).repeat(channels, 1) + 0.1 * _draw(rng, channels, states),
        "D": _draw(rng, channels),
        "in_proj.weight": _draw(rng, 2 * channels, width),
        "conv1d.weight": _draw(rng, channels, 1, 4),
        "conv1d.bias": _draw(rng, channels),
        "x_proj.weight": _draw(rng, rank + 2 * states, channels),
        "dt_proj.weight": _draw(rng, channels, rank),
        "dt_proj.bias": _biases(rng, channels),
        "out_proj.weight": _draw(rng, width, channels),
    }
    return {prefix + name: tensor for name, tensor in tensors.items()}


def mamba2(
    rng: np.random.Generator, prefix: str = "", *, heads: int = 8, head_dim: int = 4, states: int = 8, groups: int = 1, width: int = 32
) -> Tensors:
    """A Mamba-2 mixer."""
    inner, both = heads * head_dim, groups * states
    tensors = {
        "A_log": torch.from_numpy(np.log(rng.uniform(1, 16, heads)).astype(np.float32)),
        "D": _draw(rng, heads),
        "dt_bias": _biases(rng, heads),
        "in_proj.weight": _draw(rng, 2 * inner + 2 * both + heads, width),
        "conv1d.weight": _draw(rng, inner + 2 * both, 1, 4),
        "conv1d.bias": _draw(rng, inner + 2 * both),
        "norm.weight": _draw(rng, inner),
        "out_proj.weight": _draw(rng, width, inner),
    }
    return {prefix + name: tensor for name, tensor in tensors.items()}


def share_of_mamba2(whole: Mapping[str, torch.Tensor], rank: int, ranks: int, *, states: int = 8, groups: int = 1) -> Tensors:
    """What one rank holds of a Mamba-2 mixer without prefix."""
    heads, inner = len(whole["A_log"]), len(whole["norm.weight"])
    own = groups // ranks if groups >= ranks else 1
    first = rank * own if groups >= ranks else rank * groups // ranks

    def part(tensor: torch.Tensor, start: int, count: int) -> torch.Tensor:
        return tensor[start + rank * count // ranks : start + (rank + 1) * count // ranks]

    def of_groups(tensor: torch.Tensor, start: int) -> torch.Tensor:
        return tensor[start + first * states : start + (first + own) * states]

    def conv_rows(tensor: torch.Tensor, start: int = 0) -> list[torch.Tensor]:
        after = start + inner
        return [part(tensor, start, inner), of_groups(tensor, after), of_groups(tensor, after + groups * states)]

    w = whole["in_proj.weight"]
    return {
        **{name: part(whole[name], 0, heads) for name in ("A_log", "D", "dt_bias")},
        "in_proj.weight": torch.cat([part(w, 0, inner), *conv_rows(w, inner), part(w, len(w) - heads, heads)]),
        "conv1d.weight": torch.cat(conv_rows(whole["conv1d.weight"])),
        "conv1d.bias": torch.cat(conv_rows(whole["conv1d.bias"])),
        "norm.weight": part(whole["norm.weight"], 0, inner),
        "out_proj.weight": part(whole["out_proj.weight"].T, 0, inner).T.clone(),
    }


def share_of_mamba1(whole: Mapping[str, torch.Tensor], rank: int, ranks: int) -> Tensors:
    """What one rank holds of a Mamba-1 mixer without prefix: its channels everywhere."""
    channels = len(whole["D"])
    mine = slice(rank * channels // ranks, (rank + 1) * channels // ranks)
    x, z = whole["in_proj.weight"].chunk(2)
    rows = ("A_log", "D", "conv1d.weight", "conv1d.bias", "dt_proj.weight", "dt_proj.bias")
    columns = {name: whole[name][:, mine].clone() for name in ("x_proj.weight", "out_proj.weight")}
    return {name: whole[name][mine].clone() for name in rows} | {"in_proj.weight": torch.cat([x[mine], z[mine]])} | columns
