"""The loop: AdamW and its schedule, what it logs, when it saves, and how it stops."""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from ssmspec.errors import SsmspecError
from ssmspec.nn import optimizer_groups
from ssmspec.training.folder import METRICS, STATE, step_name, write
from ssmspec.training.state import TrainingState, save_state, write_checkpoint
from ssmspec.training.task import Problem, Settings

BETWEEN = 4  # parts into which checkpoints divide a run
SAVES = 20  # states in a run, but
PATIENCE = 60.0  # seconds are the longest time between two
MOST_LINES = 2000  # of metrics

Progress = Callable[[int, float, float], None]


class Stopped(Exception):  # noqa: N818  (not an error: the run was saved)
    """A run that a signal ended after it had been saved; `code` is what a shell reports for the signal."""

    def __init__(self, step: int, steps: int, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} after {step} of {steps} steps, which are saved; --resume goes on")
        self.code = 128 + number


@dataclass(slots=True)
class StopRequest:
    """The first signal that asked for an end, or None."""

    number: int | None = None


@contextmanager
def stoppable() -> Iterator[StopRequest]:
    """Ctrl-C and SIGTERM wait until the step in hand is done and saved; a second one ends at once."""
    request = StopRequest()
    before: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        request.number = number
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before |= {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore()


@dataclass(slots=True)
class Metrics:
    """Lines of metrics.jsonl: written when the state is saved, so that file and state agree."""

    path: Path
    waiting: list[str] = field(default_factory=list)

    def add(self, **values: float) -> None:
        self.waiting.append(json.dumps(values))

    def flush(self) -> None:
        """Appends what waits.

        Raises:
            SsmspecError: it cannot be written.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in self.waiting)
        except OSError as error:
            raise SsmspecError(f"cannot write {self.path}: {error.strerror or error}") from error
        self.waiting.clear()

    def cut(self, step: int) -> None:
        """Drops lines of steps after `step`, which will be done again, and a line that a killed writer left unfinished."""
        write(self.path, "".join(f"{json.dumps(line)}\n" for line in read_metrics(self.path) if line["step"] <= step))


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl that are whole; none where there is no file."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and type(line.get("step")) is int and type(line.get("loss")) is float:
            lines.append(line)
    return lines


def new_state(problem: Problem, settings: Settings) -> TrainingState:
    """The state before the first step; learning-rate groups as the parameters ask for them, and no weight decay."""
    groups = optimizer_groups(problem.model, lr=settings.lr)
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, weight_decay=0.0, fused=True)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return TrainingState(0, problem.model, optimizer, torch.Generator().manual_seed(settings.seed))


def rate_factor(step: int, settings: Settings) -> float:
    """The factor on all learning rates in a step, counted from 0."""
    return 1.0 if settings.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * step / settings.steps))


def train_step(problem: Problem, state: TrainingState, settings: Settings) -> float:
    """One step in place; returns its loss.

    Raises:
        SsmspecError: the loss is not finite; names the step and the layer.
    """
    factor = rate_factor(state.step, settings)
    for group in state.optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    loss = problem.loss(problem.draw(state.step, state.generator))
    value = float(loss.detach())
    if not math.isfinite(value):
        raise SsmspecError(f"the loss is {value} in step {state.step + 1}: {culprit(problem.model)}; start again with a smaller --lr")
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    state.step += 1
    return value


def culprit(model: nn.Module) -> str:
    """Which layer has values that are not finite, in words; the largest values where all are."""
    sizes = {name: float(parameter.detach().abs().max()) for name, parameter in model.named_parameters()}
    for name, size in sizes.items():
        if not math.isfinite(size):
            layer, _, tensor = name.rpartition(".")
            return f"layer {layer} has values in {tensor} that are not finite"
    name = max(sizes, key=lambda each: sizes[each])
    layer, _, tensor = name.rpartition(".")
    return f"all parameters are finite; the largest are those of layer {layer}, {tensor} up to {sizes[name]:.3g}"


def train(problem: Problem, state: TrainingState, settings: Settings, folder: Path, progress: Progress) -> float:
    """Does the steps that are left; writes metrics, checkpoints and states into the folder.

    Returns:
        Seconds spent on steps.
    Raises:
        SsmspecError: the loss is not finite, or a file cannot be written. Stopped: by a signal, after saving.
    """
    steps, metrics = settings.steps, Metrics(folder / METRICS)
    metrics.cut(state.step)
    every, save_every = max(1, steps // MOST_LINES), max(1, steps // SAVES)
    between = {steps * part // BETWEEN for part in range(BETWEEN)}
    first, spent, saved = state.step, 0.0, time.monotonic()
    with stoppable() as request:
        _checkpoint(problem, state, folder, steps, between)
        while state.step < steps:
            start = time.perf_counter()
            loss = train_step(problem, state, settings)
            spent += time.perf_counter() - start
            if state.step % every == 0 or state.step == steps:
                metrics.add(step=state.step, loss=loss, lr=settings.lr * rate_factor(state.step - 1, settings), seconds=spent)
            progress(state.step, loss, spent / (state.step - first))
            _checkpoint(problem, state, folder, steps, between)
            if request.number or state.step % save_every == 0 or state.step == steps or time.monotonic() - saved > PATIENCE:
                metrics.flush()
                save_state(folder / STATE, state)
                saved = time.monotonic()
            if request.number and state.step < steps:
                raise Stopped(state.step, steps, request.number)
    return spent


def _checkpoint(problem: Problem, state: TrainingState, folder: Path, steps: int, between: set[int]) -> None:
    if state.step in between:
        write_checkpoint(folder / step_name(state.step, steps), problem.model, problem.weights())


def checkpoints_of(folder: Path, steps: int) -> Sequence[Path]:
    """The checkpoints of a finished run in order."""
    numbers = sorted({0, steps, *(steps * part // BETWEEN for part in range(1, BETWEEN))})
    return [path for number in numbers if (path := folder / step_name(number, steps)).exists()]
