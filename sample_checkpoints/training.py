"""The synthetic tasks and the one training loop of all sample checkpoints."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

FREQUENCIES = (1, 8, 64)
"""Cycles per window of `SAMPLES` samples, that is rad per model time for t in [0, 2 pi)."""

SAMPLES = 512
LEVELS = 32
"""Vocabulary of the quantized wave: equal steps over [-3, 3], the range of three waves with amplitudes up to one."""

TOKENS = 64

SSM_PARAMETERS = frozenset(
    {"log_dt", "log_A_real", "A_imag", "inv_dt", "A_real", "B", "P"}  # S4D, S4
    | {"Lambda_re", "Lambda_im", "log_step"}  # S5, with B
    | {"nu_log", "theta_log", "gamma_log", "B_re", "B_im"}  # LRU
    | {"A_log", "dt_bias"}  # Mamba
)
"""Last part of the names that get their own learning rate and no weight decay, as in the original code bases (C is not among them)."""

Batch = tuple[Tensor, Tensor]
Loss = Callable[[nn.Module, Batch], Tensor]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one checkpoint is trained.

    Attributes:
        steps: optimizer steps, also the period of the cosine schedule to zero.
        rate: learning rate.
        ssm_rate: learning rate of `SSM_PARAMETERS`.
        batch: sequences in a step.
        weight_decay: decay of everything but `SSM_PARAMETERS`.
    """

    steps: int
    rate: float = 1e-2
    ssm_rate: float = 5e-3
    batch: int = 8
    weight_decay: float = 0.01


@contextmanager
def reproducible(seed: int, *, dtype: torch.dtype = torch.float64, threads: int = 1) -> Iterator[None]:
    """Seed torch, fix its default dtype and thread count, and put everything back afterwards."""
    before = torch.get_default_dtype(), torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_default_dtype(before[0])
            torch.set_num_threads(before[1])


def waves(batch: int, generator: torch.Generator) -> Batch:
    """u(t) = sum_j a_j cos(f_j t), t in [0, 2 pi), a ~ U[0, 1]: (batch, SAMPLES, 1) and the amplitudes (batch, 3).

    Source: Yu et al. 2024 (arXiv 2410.02035), the wave experiment; AnnanYu/FreqBiasSSM, waves.py.
    """
    amplitudes = torch.rand(batch, len(FREQUENCIES), generator=generator)
    time = 2 * math.pi / SAMPLES * torch.arange(SAMPLES)
    signal = amplitudes @ torch.cos(torch.tensor(FREQUENCIES)[:, None] * time)
    return signal[..., None], amplitudes


def quantized_waves(batch: int, generator: torch.Generator) -> Batch:
    """The same waves, each window of `TOKENS` samples starting anywhere: levels (batch, TOKENS), and the levels that follow them."""
    amplitudes = torch.rand(batch, len(FREQUENCIES), generator=generator)
    start = torch.randint(SAMPLES, (batch, 1), generator=generator)
    time = 2 * math.pi / SAMPLES * (start + torch.arange(TOKENS + 1))
    signal = (amplitudes[..., None] * torch.cos(torch.tensor(FREQUENCIES)[:, None] * time[:, None])).sum(1)
    levels = ((signal + 3) / 6 * LEVELS).long().clamp(0, LEVELS - 1)
    return levels[:, :-1], levels[:, 1:]


def amplitude_error(model: nn.Module, batch: Batch) -> Tensor:
    """Mean square error of the amplitudes; 1/12 for a model that always answers the mean."""
    signal, amplitudes = batch
    return functional.mse_loss(model(signal), amplitudes)


def next_level_error(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of the next level, nats per token; log(LEVELS) for a model that knows nothing."""
    levels, following = batch
    return functional.cross_entropy(model(input_ids=levels, use_cache=False).logits.flatten(0, 1), following.flatten())


@dataclass(frozen=True, slots=True)
class Task:
    """A source of batches and the loss on them."""

    draw: Callable[[int, torch.Generator], Batch]
    loss: Loss

    def held_out(self, model: nn.Module) -> float:
        """Loss on 256 sequences that are the same for every model and never trained on."""
        generator = torch.Generator().manual_seed(2**20)
        with torch.no_grad():
            return math.fsum(self.loss(model, self.draw(32, generator)).item() for _ in range(8)) / 8


AMPLITUDES = Task(waves, amplitude_error)
NEXT_LEVEL = Task(quantized_waves, next_level_error)


def train(model: nn.Module, task: Task, *, recipe: Recipe, seed: int) -> torch.optim.Optimizer:
    """Train in place with AdamW and a cosine schedule on batches drawn afresh in every step.

    Args:
        model: built inside the same `reproducible` block.
        task: where batches and loss come from.
        recipe: steps and rates.
        seed: seed of the batches.
    Returns:
        The optimizer in its final state.
    """
    groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for name, parameter in model.named_parameters():
        groups[name.rpartition(".")[2] in SSM_PARAMETERS].append(parameter)
    settings = ({"lr": recipe.rate, "weight_decay": recipe.weight_decay}, {"lr": recipe.ssm_rate, "weight_decay": 0.0})
    optimizer = torch.optim.AdamW({"params": group, **setting} for group, setting in zip(groups, settings, strict=True) if group)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(recipe.steps):
        optimizer.zero_grad()
        task.loss(model, task.draw(recipe.batch, generator)).backward()
        optimizer.step()
        schedule.step()
    return optimizer
