"""One step: draw the batch, divide it among processes and parts, and update the parameters with the gradient of its mean loss."""

import gc
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ssmspec.errors import SsmspecError
from ssmspec.training.engine.processes import SharedError, Team, contact, gradient_group
from ssmspec.training.engine.state import TrainingState
from ssmspec.training.task import Precision, Problem, Settings

ALONE = Team()


class NotFiniteError(SharedError):
    """The loss is not finite. All processes see the same loss."""


class _Loss(nn.Module):
    """The loss in the form of a forward pass, which DistributedDataParallel needs."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.model = problem.model
        self.problem = problem

    def forward(self, batch: Any) -> Tensor:
        return self.problem.loss(batch)


class Stepper:
    """Does the steps of a run, in place.

    The loss of a batch is the mean over its examples. Each process has a share of them, and divides it into parts again. The weight of a
    part is its number of examples, so the sum of the gradients is that of the whole batch, however the batch is divided.

    Args:
        problem, state, settings: those of the run. accumulate: number of parts of a process's share of a batch, to save memory.
        precision: with "bf16", autocast narrows matrix products and what follows them; parameters and kernels stay float32.
        team: the processes.
    """

    def __init__(
        self,
        problem: Problem,
        state: TrainingState,
        settings: Settings,
        *,
        accumulate: int = 1,
        precision: Precision = "float32",
        team: Team = ALONE,
    ) -> None:
        self.problem, self.state, self.settings = problem, state, settings
        self.accumulate, self.precision, self.team = accumulate, precision, team
        self.device = next(problem.model.parameters()).device
        self._loss: Any = problem.loss
        if not team.alone:
            with contact("before the first step"):
                self._loss = DistributedDataParallel(_Loss(problem), process_group=gradient_group(self.device))

    def close(self) -> None:
        """Release what the processes share, before they disconnect.

        DistributedDataParallel is part of a reference cycle. If the cycle were collected after the process group is left, it would destroy
        the group. Destroying it waits for the threads of gloo, and these may wait for the interpreter.
        """
        if not self.team.alone:
            self._loss = self.problem.loss
            gc.collect()

    def __call__(self, stop: int = 0) -> tuple[float, int]:
        """Do one step.

        Args:
            stop: the signal that asked this process to stop, or 0.
        Returns:
            The loss of the whole batch, and a signal that asked any process to stop, or 0.
        Raises:
            NotFiniteError: the loss is not finite; the message names the step and the layer.
            SsmspecError: memory is too small, or a process is gone.
        """
        state, step = self.state, self.state.step
        factor = rate_factor(step, self.settings)
        for group in state.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        with contact(f"in step {step + 1}"), _memory(f"in step {step + 1}"):
            loss, stop = self._gradient(stop)
        state.optimizer.step()
        state.step += 1
        return loss, stop

    def _gradient(self, stop: int) -> tuple[float, int]:
        step = self.state.step
        *others, last = shares(self.problem.draw(step, self.state.generator), self.team, self.accumulate)
        if not self.team.alone:  # for dropout, each draws its own numbers, and the same ones again after a resume
            torch.manual_seed(((self.settings.seed * 2**32 + step) * self.team.count + self.team.rank) % 2**63)
        self.state.optimizer.zero_grad()
        done = []
        for part, weight in others:
            with self._no_exchange():
                loss = self._weighted(part, weight)
                self._backward(loss)
            done.append(loss.detach())
        loss = self._weighted(*last)
        answers = self.team.gather([float(sum(done, start=loss.detach())), stop])
        value = sum(answer[0] for answer in answers)
        if not math.isfinite(value):
            raise NotFiniteError(f"the loss is {value} in step {step + 1}: {culprit(self.problem.model)}; start again with a smaller --lr")
        self._backward(loss)
        return value, int(max(answer[1] for answer in answers))

    def _weighted(self, part: Any, weight: float) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext():
            loss: Tensor = self._loss(part)
        return loss if weight == 1 else loss * weight

    def _backward(self, loss: Tensor) -> None:
        """Backpropagate the sum over the processes, since DistributedDataParallel would take the mean."""
        (loss if self.team.alone else loss * self.team.count).backward()  # type: ignore[no-untyped-call]

    def _no_exchange(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.team.alone else self._loss.no_sync()


def shares(batch: Any, team: Team, accumulate: int) -> list[tuple[Any, float]]:
    """The parts of a batch that a process handles, at least one, and the share of each in the whole batch.

    Args:
        batch: a tensor or a tuple of tensors, whose first axis is that of the examples.
    """
    size = len(batch[0] if isinstance(batch, tuple) else batch)
    first, last = (size * rank // team.count for rank in (team.rank, team.rank + 1))
    if first == last:  # more processes than examples: the loss is needed for its graph, but has weight zero
        return [(_examples(batch, slice(0, 1)), 0.0)]
    count = min(accumulate, last - first)
    bounds = [first + (last - first) * part // count for part in range(count + 1)]
    return [(_examples(batch, slice(a, b)), (b - a) / size) for a, b in pairwise(bounds)]


def _examples(batch: Any, rows: slice) -> Any:
    return tuple(part[rows] for part in batch) if isinstance(batch, tuple) else batch[rows]


def rate_factor(step: int, settings: Settings) -> float:
    """The factor on all learning rates in a step, counted from 0. It rises during the warm-up and then follows the schedule."""
    if step < settings.warmup:
        return step / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 1.0 if settings.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * done))


def culprit(model: nn.Module) -> str:
    """A text that names the layer with values that are not finite, or the largest values if all are finite."""
    sizes = {name: float(parameter.detach().abs().max()) for name, parameter in model.named_parameters()}
    for name, size in sizes.items():
        if not math.isfinite(size):
            layer, _, tensor = name.rpartition(".")
            return f"layer {layer} has values in {tensor} that are not finite"
    name = max(sizes, key=lambda each: sizes[each])
    layer, _, tensor = name.rpartition(".")
    return f"all parameters are finite; the largest are those of layer {layer}, {tensor} up to {sizes[name]:.3g}"


@contextmanager
def _memory(when: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise SsmspecError(f"out of memory {when}; process a batch in more parts with --accumulate, or use a smaller batch") from error
        raise
