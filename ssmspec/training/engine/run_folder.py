"""The folder of a run: which files it has, how they are written, and its config, which is enough to repeat the run.

config.toml            task, preset, settings, environment
start.state            tensors of a checkpoint that the run began with, if it did
metrics.jsonl          a line per logged step: step, loss, lr, seconds
initial.safetensors    before training; step-<n>.safetensors between; final.safetensors after
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
from ssmspec.files.reading import characters, exists, read_toml, shown
from ssmspec.files.replacing import is_temporary, new_file
from ssmspec.files.writing import look_up
from ssmspec.training.task import PRECISIONS, Precision, Task, changed, optional
from ssmspec.training.tasks import TASKS
from ssmspec.tuning.poles.initializations import unknown

SCHEMA = "ssmspec.run/1"
CONFIG, METRICS, STATE, RESULTS, CARD = "config.toml", "metrics.jsonl", "resume.state", "results.json", "README.md"
START, INITIAL, FINAL = "start.state", "initial.safetensors", "final.safetensors"
OWN_FILES = (METRICS, START, STATE, RESULTS, CARD, "*.safetensors", "*.png", "table.csv")  # besides the config


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """A run before it starts.

    Args:
        task, preset: names. settings: of the task. device: torch's name. threads: of torch. closed_form: solve instead of train.
        accumulate: parts in which a batch is done. precision: of matrix products, "float32" or "bf16".
        command: what repeats the run. environment: versions, for comparison only.
        start: the path of the checkpoint that it began with, and the SHA-256 of start.state; empty for a new model.

    Raises:
        SsmspecError: a precision that is unknown or that the task has no use for, or less than one part.
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
            raise SsmspecError(
                f"{self.task} is done in {' or '.join(self.kind.precisions)}, not in {self.precision}; leave --precision out"
            )
        if self.accumulate < 1:
            raise SsmspecError(f"accumulate is {self.accumulate}; expected at least 1")

    @property
    def kind(self) -> Task:
        """The task itself."""
        return find_task(self.task)


def find_task(name: str) -> Task:
    """A task by its name.

    Raises:
        SsmspecError: an unknown name.
    """
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]


def step_name(step: int, steps: int) -> str:
    """The file of a checkpoint: initial, final, or with the number of steps done, as wide as the last."""
    if step in (0, steps):
        return FINAL if step else INITIAL
    return f"step-{step:0{len(str(steps))}d}.safetensors"


def write(path: Path, content: bytes | str) -> Path:
    """A file of a run, whole or not at all.

    Raises:
        SsmspecError: it cannot be written.
    """
    mask = os.umask(0)
    os.umask(mask)
    with new_file(path, 0o666 & ~mask) as file:
        # bytes of a path that are no characters in the locale are in the text as surrogates, which become the escapes of JSON
        file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
    return path


def new_folder(path: Path, *, force: bool, schema: str = SCHEMA) -> None:
    """Makes the folder of a new run or sweep; with `force` the files of an earlier one are removed.

    Raises:
        SsmspecError: there is a run and no `force`, there is something else, or the folder cannot be made.
    """
    if look_up(path) is not None and not path.is_dir():
        raise SsmspecError(f"{path} is a file; name a folder for the run with --out")
    if path.is_dir() and _contents(path):
        if _schema(path) != schema:
            raise SsmspecError(f"{path} has files that are not of a run like this; name another folder with --out")
        if not force:
            raise SsmspecError(f"{path} holds a run already; go on with --resume, start anew with --force, or name another with --out")
        _clear(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SsmspecError(f"cannot make the folder {path}: {error.strerror or error}") from error


def _contents(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if not is_temporary(entry.name)]


def _clear(path: Path) -> None:
    """Removes what a run left, or a sweep with its runs, but the config: it is replaced, and says until then what the folder is."""
    for run in path.iterdir():
        if run.is_dir() and _schema(run) == SCHEMA:
            _clear(run)
            (run / CONFIG).unlink()
            with suppress(OSError):  # files that are not of a run stay
                run.rmdir()
    for pattern in OWN_FILES:
        for file in path.glob(pattern):
            file.unlink()


def _schema(path: Path) -> object:
    try:
        return read_toml(path / CONFIG).get("schema")
    except SsmspecError:
        return SCHEMA if (path / CONFIG).is_file() else None


def read_document(path: Path, schema: str) -> dict[str, Any]:
    """The config of a folder.

    Raises:
        SsmspecError: there is none, or it is damaged or of something else.
    """
    file = path / CONFIG
    if not exists(file):
        raise SsmspecError(f"{path} holds no run to resume: it has no {CONFIG}; leave --resume out to start one")
    try:
        document = read_toml(file)
    except SsmspecError as error:
        raise SsmspecError(f"{error}; start anew with --force, or in another folder with --out") from error
    if document.get("schema") != schema:
        raise SsmspecError(f"{file} is of schema {document.get('schema')!r}, expected {schema}; name another folder with --out")
    return document


def write_config(path: Path, config: RunConfig) -> None:
    """config.toml.

    Raises:
        SsmspecError: it cannot be written, or a setting is a path that is no text.
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
        SsmspecError: there is no run, or its config is damaged.
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
    """Keys and tables as TOML; None is left out.

    Raises:
        SsmspecError: a text that TOML cannot hold.
    """
    parts = [_toml_lines(head), *(f"[{name}]\n{_toml_lines(table)}" for name, table in tables.items())]
    return "\n".join(parts)


def _toml_lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in table.items() if value is not None)


def _toml_value(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, str):
        if characters(value) != value:  # TOML knows no surrogates
            raise SsmspecError(f"{CONFIG} cannot hold {shown(value)}, which is not valid UTF-8; rename the file")
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
