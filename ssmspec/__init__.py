"""Spectral analysis of trained state space models: what every layer does to every frequency.

The public names are imported when they are first used, so `import ssmspec` takes almost no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ssmspec.api.names import HOMES
from ssmspec.version import __version__ as __version__

if TYPE_CHECKING:
    from ssmspec.api.analyze import analyze
    from ssmspec.api.check import check
    from ssmspec.api.compare import compare
    from ssmspec.api.load_system import load_system
    from ssmspec.api.reduce import reduce
    from ssmspec.api.retune import retune
    from ssmspec.backends import load_backend
    from ssmspec.errors import SsmspecError
    from ssmspec.families import FAMILIES, OperatingPoint
    from ssmspec.monitoring import SpectralMonitor
    from ssmspec.probing.calibrate import calibrate
    from ssmspec.probing.probe import probe
    from ssmspec.statistics import STATISTICS
    from ssmspec.systems.grid import FrequencyGrid
    from ssmspec.systems.response import frequency_response, impulse_response
    from ssmspec.systems.statespace import StateSpace

__all__ = [
    "FAMILIES",
    "STATISTICS",
    "FrequencyGrid",
    "OperatingPoint",
    "SpectralMonitor",
    "SsmspecError",
    "StateSpace",
    "analyze",
    "calibrate",
    "check",
    "compare",
    "frequency_response",
    "impulse_response",
    "load_backend",
    "load_system",
    "probe",
    "reduce",
    "retune",
]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'ssmspec' has no attribute {name!r}")
    return getattr(import_module(f"ssmspec.{HOMES[name]}"), name)
