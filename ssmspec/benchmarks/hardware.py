"""The hardware and software on which the numbers were measured."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ssmspec.backends.threads import thread_count
from ssmspec.version import __version__

PACKAGES = ("torch", "numpy", "numba", "control", "triton")


def hardware() -> dict[str, str | int | None]:
    """Processor, threads in use, system, GPU if there is one, and the versions of the timed packages; None means not installed."""
    return {
        "cpu": cpu_model(),
        "threads": thread_count(),
        "system": platform.platform(terse=True),
        "gpu": _gpu(),
        "python": platform.python_version(),
        "ssmspec": __version__,
        **{name: _version(name) for name in PACKAGES},
    }


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as reported by the system."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
