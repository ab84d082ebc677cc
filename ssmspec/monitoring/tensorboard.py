"""A log for TensorBoard: scalars per statistic and layer, pictures of |H|, and reasons for missing numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import SsmspecError
from ssmspec.monitoring.scalars import PROBLEM, RESPONSE, Problems, scalars
from ssmspec.report.documents.monitoring import Timing
from ssmspec.statistics import Measurement

SUFFIX = ".ssmspec"  # suffix of the event files


class TensorBoardLog:
    """Writes through a SummaryWriter, which is the user's own or made for a folder.

    Tags are `<statistic>/<layer>`, with `<statistic>.p5/` and `.p95/` for the range over copies; `response/<layer>` for pictures;
    `problem/<layer>` for reasons, written when they change; `monitor/seconds` and `monitor/share`.

    Args:
        target: a folder, or an object with the methods of `torch.utils.tensorboard.SummaryWriter`, which the caller has to close.

    Raises:
        SsmspecError: the target is a folder, and the package tensorboard is missing.
    """

    def __init__(self, target: Path | Any) -> None:
        self._folder = target if isinstance(target, Path) else None
        self._writer: Any = None if self._folder else target
        self._problems = Problems()
        if self._folder:
            _summary_writer()

    def begin(self, step: int) -> None:
        """Open the folder. TensorBoard hides, but does not remove, what an earlier run wrote there for `step` and later steps.

        This would also hide what other programs wrote there, so nothing is hidden if the folder has event files of others.
        """
        if self._folder and self._writer is None:
            own = all(path.name.endswith(SUFFIX) for path in self._folder.glob("*tfevents*"))
            self._writer = _summary_writer()(str(self._folder), purge_step=step if own else None, filename_suffix=SUFFIX)

    def picture(self, step: int, layer: str, part: str, image: npt.NDArray[np.uint8]) -> None:
        """Add the picture of a layer."""
        self._writer.add_image(f"{RESPONSE}{layer}", image, step, dataformats="HWC")

    def write(self, measurement: Measurement, timing: Timing | None, pictures: Mapping[str, str] | None) -> None:
        """Add the numbers that exist, and the reasons that are new."""
        for tag, number in scalars(measurement, timing).items():
            self._writer.add_scalar(tag, number, measurement.step)
        for layer, text in self._problems.new(measurement).items():
            self._writer.add_text(f"{PROBLEM}{layer}", text, measurement.step)
        self._writer.flush()

    def close(self) -> None:
        """Close the writer if it was opened here."""
        if self._folder and self._writer is not None:
            self._writer.close()
            self._writer = None


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SsmspecError(
            "logging to a folder needs TensorBoard, which is not installed; install ssmspec[tensorboard], or log to a .jsonl or .csv file"
        ) from error
    return SummaryWriter
