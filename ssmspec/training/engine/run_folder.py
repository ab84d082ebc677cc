"""The folder of a run: which files it has, how they are written, and its config, which is sufficient to repeat the run.

config.toml            task, preset, settings, environment
start.state            tensors of the checkpoint that the run started from, if any
metrics.jsonl          one line per logged step: step, loss, lr, seconds
measures.jsonl         one line per checkpoint: step, and the measures of the model then
initial.safetensors    before training; step-<n>.safetensors in between; final.safetensors after training
resume.state           parameters, optimizer, generators and step, for --resume
results.json, README.md, *.png    when the run is finished
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ssmspec.errors import SsmspecError
from ssmspec.families.provenance import sidecar_path
from ssmspec.files.reading import characters, exists, read_toml, shown
from ssmspec.files.replacing import is_temporary, new_file
from ssmspec.files.writing import look_up
from ssmspec.training.task import PRECISIONS, Precision, Task, changed, optional
from ssmspec.training.tasks import TASKS
from ssmspec.tuning.poles.initializations import unknown

SCHEMA = "ssmspec.run/1"
CONFIG, METRICS, MEASURES, STATE = "config.toml", "metrics.jsonl", "measures.jsonl", "resume.state"
RESULTS, CARD = "results.json", "README.md"
START, INITIAL, FINAL = "start.state", "initial.safetensors", "final.safetensors"
OWN_FILES = (METRICS, MEASURES, START, STATE, RESULTS, CARD, "*.safetensors", "*.png", "table.csv", "journal.log*")  # besides the config


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """A run before it starts.

    Args:
        task, preset: their names. settings: settings of the task. device: name of torch's device. threads: number of torch's threads.
        closed_form: whether to solve instead of train. accumulate: number of parts in which a batch is processed.
        precision: precision of matrix products, "float32" or "bf16".
        command: the command that repeats the run. environment: versions, for comparison only.
        start: the path of the checkpoint that the run started from, and the SHA-256 of start.state; empty for a new model.

    Raises:
        SsmspecError: the precision is unknown or not supported by the task, or accumulate is less than one.
    """

    task: str
    preset: str
    settings: Any
    device: str
    threads: int
    closed_form: bool
    accumulate: int = 1
    precision: Precision = "float32"
    command: str
    environment: Mapping[str, Any]
    start: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.precision not in self.kind.precisions:
            raise SsmspecError(f"{self.task} runs in {' or '.join(self.kind.precisions)}, not in {self.precision}; leave --precision out")
        if self.accumulate < 1:
            raise SsmspecError(f"accumulate is {self.accumulate}; expected at least 1")

    @property
    def kind(self) -> Task:
        """The task of the run."""
        return find_task(self.task)


def find_task(name: str) -> Task:
    """The task of this name.

    Raises:
        SsmspecError: the name is unknown.
    """
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]


def step_name(step: int, steps: int) -> str:
    """The file name of a checkpoint: initial, final, or the number of steps done, padded to the width of the last."""
    if step in (0, steps):
        return FINAL if step else INITIAL
    return f"step-{step:0{len(str(steps))}d}.safetensors"


def write(path: Path, content: bytes | str) -> Path:
    """Write a file of a run, completely or not at all.

    Raises:
        SsmspecError: the file cannot be written.
    """
    mask = os.umask(0)
    os.umask(mask)
    with new_file(path, 0o666 & ~mask) as file:
        # bytes of a path that the locale cannot decode are surrogates in the text, and become JSON escapes
        file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
    return path


def new_folder(path: Path, *, force: bool, schema: str = SCHEMA) -> None:
    """Create the folder of a new run or sweep. With `force`, the files of an earlier one are removed.

    Raises:
        SsmspecError: the folder holds a run and `force` is false, it holds something else, or it cannot be created.
    """
    if look_up(path) is not None and not path.is_dir():
        raise SsmspecError(f"{path} is a file; give a folder for the run with --out")
    if path.is_dir() and _contents(path):
        if _schema(path) != schema:
            raise SsmspecError(f"{path} has files that do not belong to such a run; choose another folder with --out")
        if not force:
            raise SsmspecError(
                f"{path} already holds a run; continue it with --resume, start anew with --force, or choose another folder with --out"
            )
        _clear(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SsmspecError(f"cannot create the folder {path}: {error.strerror or error}") from error


def discard_unstarted(path: Path) -> None:
    """Remove the folder of a run that failed before it wrote more than its config."""
    with suppress(OSError, SsmspecError):
        if [entry.name for entry in _contents(path)] == [CONFIG]:
            (path / CONFIG).unlink()
            path.rmdir()


def _contents(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if not is_temporary(entry.name)]


def _clear(path: Path) -> None:
    """Remove the files of a run, or of a sweep with its runs, except the config, which identifies the folder until it is replaced."""
    for run in path.iterdir():
        if run.is_dir() and _schema(run) == SCHEMA:
            _clear(run)
            (run / CONFIG).unlink()
            with suppress(OSError):  # files that do not belong to a run are kept
                run.rmdir()
    for pattern in OWN_FILES:
        for file in path.glob(pattern):
            if not sidecar_path(file).exists():  # written by retune or reduce, and not by a run
                file.unlink()


def _schema(path: Path) -> object:
    try:
        return read_toml(path / CONFIG).get("schema")
    except SsmspecError:
        return SCHEMA if (path / CONFIG).is_file() else None


def read_document(path: Path, schema: str) -> dict[str, Any]:
    """The config of a folder.

    Raises:
        SsmspecError: there is no config, or it is damaged or has another schema.
    """
    file = path / CONFIG
    if not exists(file):
        raise SsmspecError(f"{path} holds no run to resume, since it has no {CONFIG}; leave --resume out to start one")
    try:
        document = read_toml(file)
    except SsmspecError as error:
        raise SsmspecError(f"{error}; start anew with --force, or in another folder with --out") from error
    if document.get("schema") != schema:
        raise SsmspecError(f"{file} has the schema {document.get('schema')!r}, expected {schema}; choose another folder with --out")
    return document


def write_config(path: Path, config: RunConfig) -> None:
    """Write config.toml.

    Raises:
        SsmspecError: the file cannot be written, or a setting is a path that is not valid text.
    """
    settings = {each.name: getattr(config.settings, each.name) for each in fields(config.settings)}
    head: dict[str, Any] = {"schema": SCHEMA, "task": config.task, "preset": config.preset, "device": config.device}
    head |= {"threads": config.threads, "closed_form": config.closed_form}
    head |= {"accumulate": config.accumulate, "precision": config.precision, "command": config.command}
    tables = {"settings": settings, "environment": config.environment} | ({"start": config.start} if config.start else {})
    write(path / CONFIG, toml_text(head, tables))


def read_config(path: Path) -> RunConfig:
    """The config of a run folder.

    Raises:
        SsmspecError: the folder has no run, or the config is damaged.
    """
    document = read_document(path, SCHEMA)
    try:
        task = find_task(document["task"])
        start = task.preset(document["preset"])
        missing = {each.name for each in fields(start)} - optional(start) - set(document["settings"])
        if missing:
            raise SsmspecError(f"settings lack {', '.join(sorted(missing))}")
        return RunConfig(
            task=task.name,
            preset=document["preset"],
            settings=changed(start, document["settings"]),
            device=str(document["device"]),
            threads=int(document["threads"]),
            closed_form=bool(document["closed_form"]),
            accumulate=int(document["accumulate"]),
            precision=document["precision"],
            command=str(document["command"]),
            environment=document["environment"],
            start={key: str(document["start"][key]) for key in ("checkpoint", "sha256")} if "start" in document else {},
        )
    except (KeyError, TypeError, ValueError, SsmspecError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise SsmspecError(f"{path / CONFIG} is damaged ({reason}); start anew with --force, or in another folder with --out") from error


def toml_text(head: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Keys and tables as TOML. Values of None are omitted.

    Raises:
        SsmspecError: TOML cannot hold a text.
    """
    parts = [_toml_lines(head), *(f"[{name}]\n{_toml_lines(table)}" for name, table in tables.items())]
    return "\n".join(parts)


def _toml_lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in table.items() if value is not None)


def _toml_value(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, str):
        if characters(value) != value:  # TOML allows no surrogates
            raise SsmspecError(f"{CONFIG} cannot hold {shown(value)}, which is not valid UTF-8; rename the file")
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
