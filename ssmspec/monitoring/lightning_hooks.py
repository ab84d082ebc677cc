"""What the callbacks for both package names of Lightning have in common. Each callback adds the base class of its package."""

from collections.abc import Sequence
from typing import Any

from ssmspec.monitoring.logs import Target
from ssmspec.monitoring.monitor import SpectralMonitor


class LightningHooks:
    """Monitors the module that a Trainer fits. Steps are those of the optimizer, `trainer.global_step`.

    Args:
        log, options: as for `SpectralMonitor`. The monitor is created when the fit starts and is the attribute `monitor` from then on.
    """

    def __init__(self, log: Target | Sequence[Target] = (), **options: Any) -> None:
        super().__init__()
        self.monitor: SpectralMonitor | None = None
        self._log, self._options = log, options

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Find the layers and measure them before the first step.

        Raises:
            SsmspecError: as `SpectralMonitor`.
        """
        self.monitor = SpectralMonitor(pl_module, self._log, **self._options)
        self.monitor(trainer.global_step)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        """Measure if a measurement is due."""
        if self.monitor is not None:
            self.monitor(trainer.global_step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure the last step."""
        if self.monitor is not None:
            self.monitor.finish(trainer.global_step)
