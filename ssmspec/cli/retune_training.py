"""Training within the command `retune`: the run folder, and the plan that training produces."""

import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssmspec.cli.terminal import message
from ssmspec.cli.train import resumed
from ssmspec.errors import SsmspecError

if TYPE_CHECKING:
    from ssmspec.commands.retune import RetunePlan


@dataclass(frozen=True, slots=True)
class Training:
    """What was requested: the task, its preset or None, settings by name, torch's device and threads, and the folder of the run."""

    task: str
    preset: str | None
    given: Mapping[str, Any]
    device: str
    threads: int
    folder: Path


def check_folder(folder: Path, files: Iterable[Path]) -> None:
    """Refuse a run folder that contains a file to be read or written, because a new run would delete the file.

    Raises:
        SsmspecError: the message names the first such file.
    """
    for path in files:
        if folder.resolve() in (path.resolve(), *path.resolve().parents):
            raise SsmspecError(f"{path} is in {folder}, the folder of the run; choose another folder with --out")


def train_plan(plan: "RetunePlan", asked: Training, *, resume: bool, force: bool) -> "RetunePlan":
    """Train the retuned model in a run folder. Returns the plan with the trained values of the checkpoint's tensors.

    Args:
        resume: continue the run in the folder. force: replace it.
    Raises:
        SsmspecError: as `plan_start` and `run`, or the folder holds another run.
    """
    from ssmspec.files.reading import characters
    from ssmspec.training.engine.processes import processes
    from ssmspec.training.engine.run import checked_device, environment, run
    from ssmspec.training.engine.run_folder import RunConfig, find_task, new_folder, write_config
    from ssmspec.training.retrain import begin, plan_start, trained_plan

    if processes() > 1:
        raise SsmspecError("--retrain runs in one process; start it without torchrun")
    if resume and force:
        raise SsmspecError("--resume continues a run and --force replaces it; give one of them")
    start = plan_start(plan, asked.task, asked.preset, asked.given)
    config = RunConfig(
        task=asked.task,
        preset=asked.preset or "small",
        settings=start.settings if resume else find_task(asked.task).prepare(start.settings),
        device=checked_device(asked.device),
        threads=asked.threads,
        closed_form=False,
        command=characters(shlex.join(["ssmspec", *sys.argv[1:]])),
        environment=environment(),
        start=start.record(plan),
    )
    if resume:
        config = resumed(config, asked.folder, dict(asked.given))
    else:
        new_folder(asked.folder, force=force)
        begin(asked.folder, start)
        write_config(asked.folder, config)
    finished = run(config, asked.folder, note=message)
    message(f"wrote {asked.folder}")
    return trained_plan(plan, start, finished, asked.folder)
