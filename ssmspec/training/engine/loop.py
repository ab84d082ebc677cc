"""The training loop: it does steps until the end or a signal, and shows and writes their results."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from ssmspec.nn import optimizer_groups
from ssmspec.training.engine.optimizer import EagerAdamW
from ssmspec.training.engine.processes import SharedError, ignore_end
from ssmspec.training.engine.record import Record
from ssmspec.training.engine.state import TrainingState
from ssmspec.training.engine.step import Stepper
from ssmspec.training.task import Problem, Settings

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))  # Windows has no SIGHUP

Progress = Callable[[int, float, float], None]


class Stopped(SharedError):  # noqa: N818  (not an error: the run was saved)
    """A signal ended the run after it had been saved. The exit code is what a shell reports for the signal."""

    def __init__(self, state: TrainingState, steps: int, number: int, folder: Path) -> None:
        done = f"stopped by {signal.Signals(number).name} after {state.step} of {steps} steps"
        super().__init__(f"{done}, which are saved in {folder}; continue with --resume")
        self.exit_code = 128 + number


@dataclass(slots=True)
class StopRequest:
    """The first signal that requested a stop, or 0."""

    number: int = 0


@contextmanager
def stoppable(*, impatient: bool) -> Iterator[StopRequest]:
    """Let Ctrl-C, SIGTERM and SIGHUP wait until the current step is done and saved, unless they are ignored anyway.

    Args:
        impatient: whether a second signal ends the process at once. With several processes, torchrun ends those that do not end by
            themselves.
    """
    request = StopRequest()
    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: FrameType | None) -> None:
        request.number = request.number or number
        if impatient:
            restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield request
    except BaseException:
        restore() if impatient else ignore_end()
        raise
    restore()


def new_state(problem: Problem, settings: Settings) -> TrainingState:
    """The state before the first step, with the learning-rate groups that the parameters request."""
    groups = optimizer_groups(problem.model, lr=settings.lr, weight_decay=settings.weight_decay)
    optimizer = EagerAdamW(groups, lr=settings.lr, weight_decay=0.0, fused=True)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return TrainingState(0, problem.model, optimizer, torch.Generator().manual_seed(settings.seed))


def train(stepper: Stepper, folder: Path, progress: Progress, *, follow: bool = True) -> float:
    """Do the remaining steps. The first process writes metrics, checkpoints and states into the folder.

    Args:
        follow: whether the model is measured at every checkpoint, or at the last one only.
    Returns:
        Seconds spent on steps, including those of earlier sessions.
    Raises:
        SsmspecError: the loss is not finite, a file cannot be written, or another process is gone.
        Stopped: a signal ended the run, after it was saved.
    """
    state, steps, team = stepper.state, stepper.settings.steps, stepper.team
    record = Record(stepper, folder, follow=follow) if team.first else None
    first, spent = state.step, 0.0
    with stoppable(impatient=team.alone) as request:
        while state.step < steps:
            start = time.perf_counter()
            loss, agreed = stepper(request.number)
            spent += time.perf_counter() - start
            progress(state.step, loss, spent / (state.step - first))
            stop = request.number if team.alone else agreed
            last = bool(stop) or state.step == steps
            if record:
                record.note(loss, spent, last=last)
            if stop and state.step < steps:
                raise Stopped(state, steps, stop, folder)
    if record is None:
        return spent
    record.finish()
    return record.earlier + spent
