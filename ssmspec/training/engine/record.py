"""What a run writes while it trains: a line of metrics per logged step, checkpoints, and the state from which it can be resumed."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ssmspec.errors import SsmspecError
from ssmspec.report.documents.train import Measure
from ssmspec.training.engine.run_folder import FINAL, MEASURES, METRICS, STATE, step_name, write
from ssmspec.training.engine.state import TrainingState, save_state, write_checkpoint
from ssmspec.training.engine.step import Stepper, rate_factor
from ssmspec.training.task import Problem

BETWEEN = 4  # number of parts into which checkpoints divide a run
SAVES = 20  # number of saved states in a run
PATIENCE = 60.0  # longest time between two saved states, in seconds
MOST_LINES = 2000  # at most this many lines of metrics


@dataclass(slots=True)
class Metrics:
    """Lines of metrics.jsonl. They are on the disk before the state, which is what counts. `cut` drops the lines that are ahead of it."""

    path: Path
    waiting: list[str] = field(default_factory=list)

    def add(self, **values: float) -> None:
        self.waiting.append(json.dumps(values))

    def flush(self) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in self.waiting)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SsmspecError(f"cannot write {self.path}: {error.strerror or error}") from error
        self.waiting.clear()

    def cut(self, step: int) -> list[dict[str, float]]:
        """Drop the lines of steps after `step`, which will be redone, and a line that a killed writer left unfinished. Returns the rest."""
        lines = [line for line in read_metrics(self.path) if line["step"] <= step]
        write(self.path, "".join(f"{json.dumps(line)}\n" for line in lines))
        return lines


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The complete lines of metrics.jsonl. Empty if there is no file."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and type(line.get("step")) is int and type(line.get("loss")) is float:
            lines.append(line)
    return lines


@dataclass(slots=True)
class Measured:
    """The measures of a model at its checkpoints, one line of measures.jsonl each. They are taken once, when a checkpoint is written."""

    path: Path
    by_step: dict[int, list[Measure]] = field(default_factory=dict)

    @classmethod
    def up_to(cls, path: Path, step: int) -> "Measured":
        """The measures of a run that is resumed at a step. Later measures will be taken again."""
        return cls(path, {each: measures for each, measures in read_measures(path).items() if each <= step})

    def take(self, step: int, problem: Problem) -> None:
        """Measure the model, unless this step was measured already.

        Raises:
            SsmspecError: the file cannot be written.
        """
        if step not in self.by_step:
            self.by_step[step] = problem.measures()
            lines = ({"step": each, "measures": [asdict(one) for one in found]} for each, found in sorted(self.by_step.items()))
            write(self.path, "".join(f"{json.dumps(line)}\n" for line in lines))


def read_measures(path: Path) -> dict[int, list[Measure]]:
    """The measures of a run by step. Empty if there is no file, as in folders that an earlier version wrote."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return {line["step"]: [Measure(**values) for values in line["measures"]] for line in lines}


class Record:
    """Writes into the folder of a run.

    Args:
        stepper: stepper of the run. folder: folder of the run.
        follow: whether the model is measured at every checkpoint, or at the last one only.
    Raises:
        SsmspecError: a file cannot be written. The last saved state is kept, and the message names its step.
    """

    def __init__(self, stepper: Stepper, folder: Path, *, follow: bool) -> None:
        self.stepper, self.folder, self.follow = stepper, folder, follow
        self.metrics = Metrics(folder / METRICS)
        self.measured = Measured.up_to(folder / MEASURES, self.state.step)
        lines = self.metrics.cut(self.state.step)
        self.earlier = float(lines[-1].get("seconds", 0.0)) if lines else 0.0
        self.saved, self.moment = self.state.step, time.monotonic()
        self._checkpoint()

    @property
    def state(self) -> TrainingState:
        """The state of the run."""
        return self.stepper.state

    def note(self, loss: float, seconds: float, *, last: bool) -> None:
        """Write what has to be written after a step.

        Args:
            loss: loss of the step. seconds: time spent on steps since the record was started. last: whether this is the last step now.
        """
        step, settings = self.state.step, self.stepper.settings
        if step % max(1, settings.steps // MOST_LINES) == 0 or step == settings.steps:
            rate = settings.lr * rate_factor(step - 1, settings)
            self.metrics.add(step=step, loss=loss, lr=rate, seconds=self.earlier + seconds)
        try:
            self._checkpoint()
            if last or step % max(1, settings.steps // SAVES) == 0 or time.monotonic() - self.moment > PATIENCE:
                self.metrics.flush()
                save_state(self.folder / STATE, self.state)
                self.saved, self.moment = step, time.monotonic()
        except SsmspecError as error:
            kept = (
                f"{self.saved} of {settings.steps} steps are saved; continue from there with --resume"
                if self.saved
                else "no step was saved"
            )
            raise SsmspecError(f"{error}; {kept}") from error

    def finish(self) -> None:
        """Write the last checkpoint and its measures."""
        write_checkpoint(self.folder / FINAL, self.stepper.problem)
        self.measured.take(self.stepper.settings.steps, self.stepper.problem)

    def _checkpoint(self) -> None:
        steps = self.stepper.settings.steps
        if self.state.step in {steps * part // BETWEEN for part in range(BETWEEN)}:
            write_checkpoint(self.folder / step_name(self.state.step, steps), self.stepper.problem)
            if self.follow:
                self.measured.take(self.state.step, self.stepper.problem)


def checkpoints_of(folder: Path, steps: int) -> Sequence[Path]:
    """The checkpoints of a finished run in order."""
    numbers = sorted({0, steps, *(steps * part // BETWEEN for part in range(1, BETWEEN))})
    return [path for number in numbers if (path := folder / step_name(number, steps)).exists()]
