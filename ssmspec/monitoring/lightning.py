"""SpectralMonitor as a callback of Lightning, for `import lightning`; `pytorch_lightning.py` is for the older name."""

from lightning.pytorch import Callback

from ssmspec.monitoring.lightning_hooks import LightningHooks


class LightningMonitor(LightningHooks, Callback):
    """`Trainer(callbacks=[LightningMonitor("bias.jsonl", every=100)])`; arguments as for `LightningHooks`."""
