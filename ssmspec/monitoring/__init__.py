"""Monitor the frequency bias of a model while it trains: in any loop, in Lightning, or in the Trainer of transformers."""

from ssmspec.errors import needing

with needing("torch", "a monitor"):
    from ssmspec.monitoring.monitor import SpectralMonitor

__all__ = ["SpectralMonitor"]
