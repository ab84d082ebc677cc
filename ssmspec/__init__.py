"""Spectral analysis of trained state space models: what every layer does to every frequency.

The public names are imported when they are first used, so `import ssmspec` takes almost no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ssmspec.api.names import HOMES
from ssmspec.version import __version__ as __version__

if TYPE_CHECKING:
    from ssmspec.backends import load_backend
    from ssmspec.commands.analyze import AnalysisOptions, analyze
    from ssmspec.commands.reduce import reduce
    from ssmspec.errors import SsmspecError
    from ssmspec.families import FAMILIES, OperatingPoint, ReadOptions
    from ssmspec.families.layers import load_system
    from ssmspec.monitoring import SpectralMonitor
    from ssmspec.statistics import STATISTICS
    from ssmspec.systems.grid import FrequencyGrid
    from ssmspec.systems.response import frequency_response, impulse_response
    from ssmspec.systems.statespace import StateSpace

__all__ = [
    "FAMILIES",
    "STATISTICS",
    "AnalysisOptions",
    "FrequencyGrid",
    "OperatingPoint",
    "ReadOptions",
    "SpectralMonitor",
    "SsmspecError",
    "StateSpace",
    "analyze",
    "frequency_response",
    "impulse_response",
    "load_backend",
    "load_system",
    "reduce",
]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'ssmspec' has no attribute {name!r}")
    return getattr(import_module(f"ssmspec.{HOMES[name]}"), name)
