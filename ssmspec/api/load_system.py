"""`ssmspec.load_system`: one layer without statistics."""

from pathlib import Path
from typing import Any

from ssmspec.api.keywords import read_options
from ssmspec.families.layers import load_system as load
from ssmspec.systems.system import System


def load_system(path: Path | str, layer: str | int, family: str | None = None, **read: Any) -> System:
    """Read one layer of a checkpoint with all of its copies.

        >>> import ssmspec
        >>> system = ssmspec.load_system("sample_checkpoints/s4d_trained.safetensors", 0)
        >>> system.name, system.poles.shape
        ('s4_layers.0', (16, 16))

    Args:
        path: a checkpoint file, folder or address. layer: exact name, glob or index.
        family, read: as for `ssmspec.analyze`.
    Returns:
        StateSpace, or the explicit kernel of a layer without poles.
    Raises:
        SsmspecError: as `ssmspec.analyze`; the layer has no finite kernel.
    """
    return load(path, str(layer), read_options(**read), family)
