"""Runs of a second."""

from dataclasses import replace
from pathlib import Path

from small_runs import TINY

from ssmspec.training.engine.record import read_metrics
from ssmspec.training.engine.run import environment, run
from ssmspec.training.engine.run_folder import RunConfig, new_folder, write_config

QUICK = replace(TINY, length=64, step=0.09, tones=(1.0, 8.0), steps=60, batch=4)


def config(settings=QUICK, task: str = "waves", **changes) -> RunConfig:
    plain = {"device": "cpu", "threads": 1, "closed_form": False, "command": "ssmspec train", "environment": environment()}
    return RunConfig(task=task, preset="small", settings=settings, **(plain | changes))


def started(folder: Path, settings=QUICK, **changes) -> RunConfig:
    made = config(settings, **changes)
    new_folder(folder, force=False)
    write_config(folder, made)
    return made


def finished(folder: Path, settings=QUICK, *, pictures: bool = False, **changes):
    return run(started(folder, settings, **changes), folder, pictures=pictures)


def losses(folder: Path) -> list[tuple[float, float]]:
    return [(line["step"], line["loss"]) for line in read_metrics(folder / "metrics.jsonl")]
