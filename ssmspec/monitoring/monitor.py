"""SpectralMonitor: a callable that a training loop calls after every step, and that measures and logs at some of them."""

import logging
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, SupportsIndex, TypeVar

import numpy as np
from torch import distributed, nn

from ssmspec.api.keywords import analysis_options
from ssmspec.commands.analyze import AnalysisOptions
from ssmspec.errors import SsmspecError
from ssmspec.monitoring.logs import Target, open_logs
from ssmspec.monitoring.measure import Probe, Weights, check_statistics
from ssmspec.monitoring.pace import Lap, Pace
from ssmspec.report.documents.monitoring import Timing
from ssmspec.statistics import LayerAnalysis, Measurement
from ssmspec.systems.grid import FloatArray, FrequencyGrid

HEADLINES = ("bias_slope", "center_frequency")

P = ParamSpec("P")
R = TypeVar("R")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Overhead:
    """The cost of monitoring: number of measurements, seconds for all but the first, seconds of training meanwhile, seconds of setup.

    The first measurement counts as setup, because modules are imported and an engine may be compiled for it.
    """

    measurements: int
    seconds: float
    training_seconds: float
    setup_seconds: float

    @property
    def share(self) -> float:
        """Seconds spent on measurements divided by seconds of training."""
        return self.seconds / self.training_seconds if self.training_seconds > 0 else 0.0

    def __str__(self) -> str:
        return (
            f"{self.measurements} measurements: {self.setup_seconds:.2g} s for setup and the first one, then {self.seconds:.3g} s, "
            f"{100 * self.share:.2g} % of {self.training_seconds:.3g} s of training"
        )


class SpectralMonitor:
    """Logs statistics and |H| of the SSM layers of a model in training.

        monitor = SpectralMonitor(model, "bias.jsonl")
        monitor(0)                                  # before the first step
        for step in range(1, steps + 1):
            ...
            monitor(step)

    Layers are found by the names of the tensors in the state dict, as `ssmspec analyze` finds them in a checkpoint of the model. The
    numbers equal those of `ssmspec analyze --backend` with the engine that the log names, bit for bit. Calls never touch gradients,
    generators or modes. Under torch.distributed, only rank 0 measures, and it does not communicate, so models must not be sharded.

    Args:
        model: any torch module. `module.` of DistributedDataParallel and `_orig_mod.` of torch.compile are removed from names.
        log: a file ending in .jsonl (schema ssmspec.monitor/1) or .csv, a folder for TensorBoard, a SummaryWriter, a
            `ssmspec.monitoring.wandb.WandbLog` or `ssmspec.monitoring.mlflow.MlflowLog`, or several of these.
            If a file already exists and the first step seen continues it, its lines of that step and later steps are cut. If the step
            does not continue it, the file is renamed to `<stem>.1<suffix>`. Without a log, calls only return what they measured.
        every: measure after steps that are multiples of this number.
        statistics: names of `ssmspec.STATISTICS`. The default ones are cheap; those of energies and peaks cost many times as much.
        images: measurements between pictures of |H| (PNG beside a file, images in TensorBoard) and, in JSONL, curves; 0 for none.
        budget: share of training time that measuring may take after the first time, half of it for pictures. A measurement that would
            exceed it waits for a later multiple of `every`. With None it never waits, so the same run gives the same log, byte for byte.
        options: keywords as for `ssmspec.analyze`: layers, family, assume, operating_point, points, ...
        weights: function that returns the beta of layers whose tensors do not hold it, by name. `ssmspec.nn.S4D` needs none.
        strict: raise errors of a call. By default, training continues: a layer without trustworthy numbers is null with the reason, and
            any other error (such as a full disk) becomes a warning of the logger `ssmspec.monitoring`.

    Raises:
        SsmspecError: there is no SSM layer (the message lists near misses), a statistic is unknown, a log cannot be opened, or parameters
            are sharded.
    """

    def __init__(
        self,
        model: nn.Module,
        log: Target | Sequence[Target] = (),
        *,
        every: int = 100,
        statistics: Sequence[str] = HEADLINES,
        images: int = 10,
        budget: float | None = 0.02,
        options: AnalysisOptions | Mapping[str, Any] | None = None,
        weights: Weights | None = None,
        strict: bool = False,
    ) -> None:
        _check_pace(every, images, budget)
        check_statistics(statistics)
        self.strict = strict
        self._probe = Probe(model, _options(options), statistics, weights)
        self._logs = open_logs(log)
        self._pace = Pace(every, images if self._logs else 0, budget)
        self._last: int | None = None
        self._measurements = 0
        self._first_curves: dict[str, tuple[int, FloatArray]] = {}

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that are monitored."""
        return tuple(layer.sample.name for layer in self._probe.layers)

    @property
    def overhead(self) -> Overhead:
        """The cost of monitoring so far."""
        pace = self._pace
        return Overhead(self._measurements, pace.spent, 0.0 if pace.first is None else pace.training, pace.setup)

    def __call__(self, step: SupportsIndex) -> Measurement | None:
        """Measure if a measurement is due. Call this after every step.

        Args:
            step: steps done. It must grow from call to call; a step that was measured is not measured again.
        Returns:
            What was measured and logged, or None.
        """
        done = self._seen(step)
        return self._measure(done) if self._pace.due(done) else None

    def finish(self, step: SupportsIndex) -> Measurement | None:
        """Measure the last step regardless of the pace, unless it was measured already, and close the logs."""
        found = self._measure(self._seen(step))
        for log in self._logs:
            self._guarded(log.close)
        return found

    def _seen(self, step: SupportsIndex) -> int:
        done = operator.index(step)
        if self._pace.first is None:
            self._pace.start(done)
        return done

    def _measure(self, step: int) -> Measurement | None:
        if step == self._last or not is_first_rank():
            return None
        if self._last is not None and step < self._last:
            _logger.warning("step %d came after step %d and is not measured; count the steps of the whole run", step, self._last)
            return None
        new = self._last is None
        if new:
            self._set_up()
        self._last = step
        self._guarded(self._probe.settle)
        with self._pace.measure(free=new) as lap:
            found = self._guarded(self._probe.measure, step)
            if found is not None:
                self._write(found, lap)
        self._measurements += found is not None
        return found

    def _set_up(self) -> None:
        """Do what is done once, before the first measurement: open logs, import modules, compile an engine."""
        with self._pace.set_up():
            for log in self._logs:
                self._guarded(log.begin, self._pace.first or 0)
            rehearsed = self._guarded(self._probe.rehearse) or []
            if self._pace.images:
                self._guarded(_rehearse_drawing, rehearsed)

    def _write(self, measurement: Measurement, lap: Lap) -> None:
        drawn = None
        if self._pace.draws(measurement.step):
            with lap.draw():
                drawn = self._guarded(self._draw, measurement)
        timing = None if self._pace.budget is None else Timing(lap.seconds, self.overhead.share)
        for place, log in enumerate(self._logs):
            self._guarded(log.write, measurement, timing, drawn[place] if drawn else None)

    def _draw(self, measurement: Measurement) -> list[dict[str, str]]:
        """Draw the layers that have a curve. Returns for every log the files that it wrote, by layer."""
        from ssmspec.report.figures.live_layer import monitor_picture
        from ssmspec.report.figures.style import safe_names

        places: list[dict[str, str]] = [{} for _ in self._logs]
        for layer, part in zip(measurement.layers, safe_names(self.layers), strict=True):
            if layer.curve is None:
                continue
            image = monitor_picture(layer, measurement.grid.values, measurement.step, self._first_curves.get(layer.name))
            self._first_curves.setdefault(layer.name, (measurement.step, layer.curve.median))
            for log, files in zip(self._logs, places, strict=True):
                file = log.picture(measurement.step, layer.name, part, image)
                if file is not None:
                    files[layer.name] = file
        return places

    def _guarded(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        """The result of a call. If the call fails, the result is None with a warning, unless the monitor is strict."""
        try:
            return function(*args, **kwargs)
        except Exception as error:  # no error of monitoring may end the run
            if self.strict:
                raise
            _logger.warning("step %s could not be logged completely: %s: %s", self._last, type(error).__name__, error)
            return None


def _rehearse_drawing(layers: Sequence[LayerAnalysis]) -> None:
    """Draw one layer and discard it, because the first drawing has to look up fonts."""
    from ssmspec.report.figures.live_layer import monitor_picture

    for layer in layers[:1]:
        if layer.curve is not None:
            monitor_picture(layer, FrequencyGrid.default(len(layer.curve.median)).values, 0, None)


def is_first_rank() -> bool:
    """Whether this process is the one that writes. Without torch.distributed it always is."""
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def _options(given: AnalysisOptions | Mapping[str, Any] | None) -> AnalysisOptions:
    if isinstance(given, AnalysisOptions):
        return given
    keywords = dict(given or {})
    return analysis_options(keywords.pop("layers", None), keywords)


def _check_pace(every: int, images: int, budget: float | None) -> None:
    if every < 1 or images < 0:
        raise SsmspecError(f"every is {every} and images is {images}; every must be at least 1 step, and images at least 0 measurements")
    if budget is not None and not 0 < budget < np.inf:
        raise SsmspecError(f"budget is {budget}; it must be a positive share of the training time, such as 0.02, or None")
