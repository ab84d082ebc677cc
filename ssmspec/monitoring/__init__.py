"""Monitor the frequency bias of a model while it trains: in any loop, in Lightning, or in the Trainer of transformers."""

from ssmspec.monitoring.monitor import SpectralMonitor

__all__ = ["SpectralMonitor"]
