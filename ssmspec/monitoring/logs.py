"""Where measurements go: a log by the name of its file or folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ssmspec.errors import SsmspecError
from ssmspec.files.writing import Kind
from ssmspec.monitoring.line_file import LineFile
from ssmspec.monitoring.tensorboard import TensorBoardLog
from ssmspec.report.documents.monitoring import COLUMNS_LINE, Timing, monitor_line, monitor_rows, step_of_line, step_of_row
from ssmspec.statistics import Measurement


class Log(Protocol):
    """What takes the measurements of a run; used by one process only."""

    def begin(self, step: int) -> None:
        """Called once, before anything else, with the first step that the monitor sees; later calls of a resumed run have larger ones."""

    def picture(self, step: int, layer: str, part: str, image: npt.NDArray[np.uint8]) -> str | None:
        """Takes the picture of a layer, (height, width, 3); returns its file, if it is one. `part` names the layer in files."""

    def write(self, measurement: Measurement, timing: Timing | None, pictures: Mapping[str, str] | None) -> None:
        """Takes a measurement."""

    def close(self) -> None:
        """Called after the last measurement."""


Target = Path | str | Any


def open_logs(targets: Target | Sequence[Target]) -> list[Log]:
    """The logs that a user names: paths ending in .jsonl or .csv, folders for TensorBoard, or SummaryWriters; one or several.

    Raises:
        SsmspecError: a name that is none of these, a file that is something else, or a missing package.
    """
    return [open_log(target) for target in (targets if isinstance(targets, list | tuple) else [targets])]


def open_log(target: Target) -> Log:
    """One log, as `open_logs`."""
    if hasattr(target, "add_scalar"):
        return TensorBoardLog(target)
    if not isinstance(target, str | Path):
        raise SsmspecError(f"a log is a path or a SummaryWriter; {type(target).__name__} was given")
    path = Path(target)
    if path.suffix == ".jsonl":
        return LineFile(path, Kind.lines, text_of=monitor_line, step_of=step_of_line)
    if path.suffix == ".csv":
        return LineFile(path, Kind.table, text_of=monitor_rows, step_of=step_of_row, header=COLUMNS_LINE)
    if path.suffix and not path.is_dir():
        raise SsmspecError(
            f"{path} is no log: end its name in .jsonl or .csv, or name a folder for TensorBoard (one that exists, or has no dot)"
        )
    return TensorBoardLog(path)
