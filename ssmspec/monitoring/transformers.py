"""SpectralMonitor as a callback of the Trainer of transformers."""

from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback

from ssmspec.monitoring.logs import Target
from ssmspec.monitoring.monitor import SpectralMonitor


class TransformersMonitor(TrainerCallback):
    """Use as `Trainer(..., callbacks=[TransformersMonitor("bias.jsonl", every=100)])`.

    Steps are those of the optimizer, `state.global_step`.

    Args:
        log, options: as for `SpectralMonitor`. The monitor is created when training starts and is the attribute `monitor` from then on.
    """

    def __init__(self, log: Target | Sequence[Target] = (), **options: Any) -> None:
        self.monitor: SpectralMonitor | None = None
        self._log, self._options = log, options

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Find the layers and measure them before the first step.

        Raises:
            SsmspecError: as `SpectralMonitor`.
        """
        self.monitor = SpectralMonitor(kwargs["model"], self._log, **self._options)
        self.monitor(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure if a measurement is due."""
        if self.monitor is not None:
            self.monitor(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure the last step."""
        if self.monitor is not None:
            self.monitor.finish(state.global_step)
