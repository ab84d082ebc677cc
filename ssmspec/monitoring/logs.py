"""Where measurements go. The name of a file or folder selects the kind of log."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ssmspec.errors import SsmspecError
from ssmspec.files.writing import Kind
from ssmspec.monitoring.line_file import LineFile
from ssmspec.monitoring.tensorboard import TensorBoardLog
from ssmspec.report.documents.monitoring import COLUMNS_LINE, Timing, monitor_line, monitor_rows, step_of_line, step_of_row
from ssmspec.statistics import Measurement


@runtime_checkable
class Log(Protocol):
    """What receives the measurements of a run. Only one process uses it."""

    def begin(self, step: int) -> None:
        """Called once, before anything else, with the first step that the monitor sees. A resumed run starts at a larger step."""

    def picture(self, step: int, layer: str, part: str, image: npt.NDArray[np.uint8]) -> str | None:
        """Receive the picture of a layer, (height, width, 3). Returns its file name, if it is a file. `part` is the layer in file names."""

    def write(self, measurement: Measurement, timing: Timing | None, pictures: Mapping[str, str] | None) -> None:
        """Receive a measurement."""

    def close(self) -> None:
        """Called after the last measurement."""


Target = Path | str | Any


def open_logs(targets: Target | Sequence[Target]) -> list[Log]:
    """The logs for one or several targets: paths ending in .jsonl or .csv, folders for TensorBoard, SummaryWriters, or logs such as
    `WandbLog` and `MlflowLog`.

    Raises:
        SsmspecError: a target is none of these, an existing file is something else, or a package is missing.
    """
    return [open_log(target) for target in (targets if isinstance(targets, list | tuple) else [targets])]


def open_log(target: Target) -> Log:
    """One log, as `open_logs`."""
    if isinstance(target, Log):
        return target
    if hasattr(target, "add_scalar"):
        return TensorBoardLog(target)
    if not isinstance(target, str | Path):
        raise SsmspecError(f"a log must be a path, a SummaryWriter, a WandbLog or an MlflowLog, not {type(target).__name__}")
    path = Path(target)
    if path.suffix == ".jsonl":
        return LineFile(path, Kind.lines, text_of=monitor_line, step_of=step_of_line)
    if path.suffix == ".csv":
        return LineFile(path, Kind.table, text_of=monitor_rows, step_of=step_of_row, header=COLUMNS_LINE)
    if path.suffix and not path.is_dir():
        raise SsmspecError(
            f"{path} is not a valid log: end its name in .jsonl or .csv, or give a folder for TensorBoard (one that exists or has no dot)"
        )
    return TensorBoardLog(path)
