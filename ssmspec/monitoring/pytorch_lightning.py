"""SpectralMonitor as a callback of Lightning, for `import pytorch_lightning`, whose classes are not those of `lightning`."""

from pytorch_lightning import Callback

from ssmspec.monitoring.lightning_hooks import LightningHooks


class LightningMonitor(LightningHooks, Callback):
    """Use as `Trainer(callbacks=[LightningMonitor("bias.jsonl", every=100)])`. The arguments are those of `LightningHooks`."""
