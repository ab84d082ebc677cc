"""A log for Weights & Biases: numbers per statistic and layer, pictures of |H|, and reasons for missing numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import SsmspecError, needed
from ssmspec.monitoring.scalars import PROBLEM, RESPONSE, Problems, scalars
from ssmspec.report.documents.monitoring import Timing
from ssmspec.statistics import Measurement

STEP = "ssmspec/step"  # the axis of everything that is logged here


class WandbLog:
    """Writes to a run of Weights & Biases, which is the user's own or begun here.

        SpectralMonitor(model, WandbLog(wandb.init(project="tones")))
        SpectralMonitor(model, WandbLog(project="tones", mode="offline"))

    Names are `<statistic>/<layer>`, with `<statistic>.p5/` and `.p95/` for the range over copies; `response/<layer>` for pictures;
    `monitor/seconds` and `monitor/share`. Their axis is `ssmspec/step`, so that they do not depend on how often the user logs. Reasons for
    missing numbers are in the summary as `problem/<layer>`.

    Args:
        run: a run, which the caller has to finish. settings: without a run, arguments of `wandb.init`, which is called before the first
            measurement; this run is finished after the last one.

    Raises:
        SsmspecError: the package wandb is missing, or both a run and settings are given.
    """

    def __init__(self, run: Any = None, **settings: Any) -> None:
        if run is not None and settings:
            raise SsmspecError(f"WandbLog takes a run or settings for a new one, not both; leave out {', '.join(settings)}")
        self._run, self._own, self._settings = run, run is None, settings
        self._wandb = needed("wandb", "a WandbLog")
        self._problems = Problems()
        self._pictures: dict[str, Any] = {}
        self._groups: set[str] = set()

    def begin(self, step: int) -> None:
        """Begin a run, unless the user has one, and set the axis. W&B keeps what an earlier run logged there for later steps."""
        if self._run is None:
            self._run = self._wandb.init(**self._settings)
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric(f"{RESPONSE}*", step_metric=STEP)

    def picture(self, step: int, layer: str, part: str, image: npt.NDArray[np.uint8]) -> None:
        """Keep the picture of a layer for the measurement, so that both have one step."""
        self._pictures[f"{RESPONSE}{layer}"] = self._wandb.Image(image)

    def write(self, measurement: Measurement, timing: Timing | None, pictures: Mapping[str, str] | None) -> None:
        """Log the numbers that exist, the pictures, and the reasons that are new."""
        numbers = scalars(measurement, timing)
        for group in sorted({name.partition("/")[0] for name in numbers} - self._groups):
            self._run.define_metric(f"{group}/*", step_metric=STEP)
            self._groups.add(group)
        self._run.log({STEP: measurement.step, **numbers, **self._pictures})
        self._pictures = {}
        for layer, text in self._problems.new(measurement).items():
            self._run.summary[f"{PROBLEM}{layer}"] = text

    def close(self) -> None:
        """Finish the run if it was begun here."""
        if self._own and self._run is not None:
            self._run.finish()
            self._run = None
