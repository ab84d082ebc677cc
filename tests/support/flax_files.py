"""Files of flax: msgpack as flax.serialization writes it."""

from pathlib import Path

import msgpack
import numpy as np


def array_bytes(array: np.ndarray) -> bytes:
    return msgpack.packb((array.shape, array.dtype.name, array.tobytes("C")), use_bin_type=True)


def extension(value: object) -> object:
    """As flax.serialization._msgpack_ext_pack."""
    if isinstance(value, np.ndarray):
        return msgpack.ExtType(1, array_bytes(value))
    if isinstance(value, np.generic):
        return msgpack.ExtType(3, array_bytes(np.asarray(value)))
    if isinstance(value, complex):
        return msgpack.ExtType(2, msgpack.packb((value.real, value.imag)))
    return value


def save(tree: object, path: Path) -> Path:
    path.write_bytes(msgpack.packb(tree, default=extension, strict_types=True))
    return path
