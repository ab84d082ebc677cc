"""SpectralMonitor as a callback of the Trainer of transformers."""

from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback

from ssmspec.monitoring.logs import Target
from ssmspec.monitoring.monitor import SpectralMonitor


class TransformersMonitor(TrainerCallback):
    """`Trainer(..., callbacks=[TransformersMonitor("bias.jsonl", every=100)])`; steps are those of the optimizer, `state.global_step`.

    Args:
        log, options: as for `SpectralMonitor`, which is made when the training begins and is `monitor` from then on.
    """

    def __init__(self, log: Target | Sequence[Target] = (), **options: Any) -> None:
        self.monitor: SpectralMonitor | None = None
        self._log, self._options = log, options

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Finds the layers and measures them before the first step.

        Raises:
            SsmspecError: as `SpectralMonitor`.
        """
        self.monitor = SpectralMonitor(kwargs["model"], self._log, **self._options)
        self.monitor(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measures if it is time."""
        if self.monitor is not None:
            self.monitor(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measures the last step."""
        if self.monitor is not None:
            self.monitor.finish(state.global_step)
