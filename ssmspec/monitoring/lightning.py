"""SpectralMonitor as a callback of Lightning, for `import lightning`. `pytorch_lightning.py` serves the older package name."""

from lightning.pytorch import Callback

from ssmspec.monitoring.lightning_hooks import LightningHooks


class LightningMonitor(LightningHooks, Callback):
    """Use as `Trainer(callbacks=[LightningMonitor("bias.jsonl", every=100)])`. The arguments are those of `LightningHooks`."""
