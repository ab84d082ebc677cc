"""Runs without a folder, for tests of what training does to a model."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import pi
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ssmspec.backends import load_backend
from ssmspec.nn.kernel_dft import Diagonal
from ssmspec.statistics import STATISTICS, LayerSpectrum
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.statespace import StateSpace
from ssmspec.training.engine.loop import new_state
from ssmspec.training.engine.run import torch_threads
from ssmspec.training.engine.step import Stepper
from ssmspec.training.tasks import TASKS

WAVES = TASKS["waves"].preset("small")
TINY = replace(WAVES, length=512, step=2 * pi / 512, tones=(1.0, 8.0, 64.0), steps=300)
DENOISE = TASKS["denoise"].preset("small")


@dataclass(frozen=True)
class Trained:
    """Measures of a trained model by name, its poles (H, N), and the median bias_slope of its bank before and after."""

    figures: dict[str, float]
    poles: np.ndarray
    slopes: tuple[float, float]


def problem_of(task: str, settings: Any, device: str = "cpu") -> Any:
    """The problem of a task, with the model that its seed gives."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return TASKS[task].problem(settings, torch.device(device))


def stepper(settings: Any, device: str = "cpu", **options: Any) -> Stepper:
    """Steps of `waves`, from the first one."""
    problem = problem_of("waves", settings, device)
    return Stepper(problem, new_state(problem, settings), settings, **options)


def train(task: str, settings: Any) -> Trained:
    """A run in memory, in one thread."""
    with torch_threads(1):
        problem = problem_of(task, settings)
        step, before = Stepper(problem, new_state(problem, settings), settings), bias_slope(problem)
        for _ in range(settings.steps):
            step()
        figures = {measure.name: measure.value for measure in problem.measures()}
        return Trained(figures, system_of(problem).poles, (before, bias_slope(problem)))


def system_of(problem: Any) -> StateSpace:
    """The bank with its weight."""
    system: Diagonal = problem.model.layer.kernel.system()
    poles, C = system.poles.detach().numpy(), system.residues[0].detach().numpy()
    return StateSpace(
        name="layer",
        family="s4d",
        poles=poles,
        B=np.ones((*poles.shape, 1), complex),
        C=C[:, None, :],
        D=np.zeros((len(poles), 1, 1)),
        step=system.step.detach().numpy(),
        discretization="zoh",
        sobolev=problem.weights()["layer"],
    )


def bias_slope(problem: Any) -> float:
    """The median bias_slope over the copies of the bank."""
    spectrum = LayerSpectrum(system_of(problem), FrequencyGrid.default(), load_backend("reference"))
    return float(np.median(STATISTICS["bias_slope"].function(spectrum).values))


def train_all(task: str, settings: Sequence[Any]) -> list[Trained]:
    """Train many models."""
    return [train(task, each) for each in settings]


class Transforms(TorchDispatchMode):
    """Counts Fourier transforms while it is active, by operator and shape of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[tuple[str, tuple[int, ...]]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "_fft_" in str(func):
            self.seen[str(func).split(".")[1], tuple(args[0].shape)] += 1
        return func(*args, **(kwargs or {}))


class Work(TorchDispatchMode):
    """Counts the operators that are called while it is active, and the elements of what they return."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls += 1
        self.elements += sum(tensor.numel() for tensor in tree_leaves(result) if isinstance(tensor, torch.Tensor))
        return result


def work_of_a_step(task: str, settings: Any) -> Work:
    """Of one that is not the first."""
    problem = problem_of(task, settings)
    step = Stepper(problem, new_state(problem, settings), settings)
    step()
    with Work() as found:
        step()
    return found


def transforms_of_a_step(task: str, settings: Any) -> dict[tuple[str, tuple[int, ...]], int]:
    """What a training step transforms."""
    problem = problem_of(task, settings)
    step = Stepper(problem, new_state(problem, settings), settings)
    with Transforms() as found:
        step()
    return dict(found.seen)
