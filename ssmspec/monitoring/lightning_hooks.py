"""What the callbacks for both names of Lightning have in common; each adds its package's base class."""

from collections.abc import Sequence
from typing import Any

from ssmspec.monitoring.logs import Target
from ssmspec.monitoring.monitor import SpectralMonitor


class LightningHooks:
    """Watches the module that a Trainer fits; steps are the optimizer's, `trainer.global_step`.

    Args:
        log, options: as for `SpectralMonitor`, which is made when the fit starts and is `monitor` from then on.
    """

    def __init__(self, log: Target | Sequence[Target] = (), **options: Any) -> None:
        super().__init__()
        self.monitor: SpectralMonitor | None = None
        self._log, self._options = log, options

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Finds the layers and measures them before the first step.

        Raises:
            SsmspecError: as `SpectralMonitor`.
        """
        self.monitor = SpectralMonitor(pl_module, self._log, **self._options)
        self.monitor(trainer.global_step)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        """Measures if it is time."""
        if self.monitor is not None:
            self.monitor(trainer.global_step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Measures the last step."""
        if self.monitor is not None:
            self.monitor.finish(trainer.global_step)
