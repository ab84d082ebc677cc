"""CIFAR-10 in either of its published layouts, as gray pictures. The pickles of the Python layout are decoded, but never executed.

Source: the data set's own page (A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009), "Dataset layout";
the gray value is that of Pillow's conversion to mode L (ITU-R 601-2 luma in 16-bit fixed point).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ssmspec.checkpoint.formats.tree import NumpyArray
from ssmspec.checkpoint.formats.unpickler import BoundedReader, unpickle
from ssmspec.errors import SsmspecError
from ssmspec.training.datasets.release import find_files

Bytes = npt.NDArray[np.uint8]

SIDE = 32
RECORD = 3 * SIDE * SIDE  # bytes of a picture: red, green and blue, each row by row
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_PYTHON, _BINARY = _BATCHES, tuple(f"{name}.bin" for name in _BATCHES)
LAYOUTS = (
    [f"cifar-10-batches-py/{name}" for name in _PYTHON],
    [f"cifar-10-batches-bin/{name}" for name in _BINARY],
    [*_PYTHON],
    [*_BINARY],
)


class Pictures(NamedTuple):
    """Gray pictures (B, 32, 32) uint8 and their classes (B,) int64."""

    gray: Bytes
    classes: npt.NDArray[np.int64]


def read_cifar(folder: str) -> tuple[Pictures, Pictures]:
    """The five training batches, and the test batch.

    Args:
        folder: the folder of the batches, or its parent.
    Raises:
        SsmspecError: the folder has neither layout, or a file is damaged.
    """
    number, paths = find_files(folder, LAYOUTS, "CIFAR-10 (the python or the binary version)")
    batches = [_read_binary(path) if number % 2 else _read_pickle(path) for path in paths]
    training = Pictures(*(np.concatenate(parts) for parts in zip(*batches[:-1], strict=True)))
    return training, batches[-1]


def _read_binary(path: Path) -> Pictures:
    """Pictures from a file of records, each of which is a class and a picture."""
    values = np.fromfile(path, np.uint8)
    if not values.size or values.size % (1 + RECORD):
        raise SsmspecError(
            f"{path} has {values.size} bytes; expected a multiple of {1 + RECORD}, for a class and a picture; fetch it again"
        )
    records = values.reshape(-1, 1 + RECORD)
    return _pictures(path, records[:, 1:], records[:, 0])


def _read_pickle(path: Path) -> Pictures:
    """Pictures from a pickled dict with data (B, 3072) and labels."""
    try:
        with path.open("rb") as file:
            found = unpickle(BoundedReader(file, path.stat().st_size))
    except Exception as error:  # damaged bytes must never cause a traceback, whatever the opcodes do with them
        raise SsmspecError(f"{path}: its pickle is damaged ({type(error).__name__}); fetch it again") from error
    entries = {_text(key): value for key, value in found.items()} if isinstance(found, dict) else {}
    data, labels = entries.get("data"), entries.get("labels")
    if not isinstance(data, NumpyArray) or data.dtype != "uint8" or not isinstance(labels, list):
        raise SsmspecError(f"{path} is not a batch of CIFAR-10; expected a dict with data and labels; fetch it again")
    return _pictures(path, np.asarray(data.stored("data", path).read(), np.uint8), np.array(labels, dtype=object))


def _text(key: object) -> object:
    return key.decode("latin-1") if isinstance(key, bytes) else key


def _pictures(path: Path, data: npt.NDArray[np.uint8], labels: npt.NDArray[np.generic]) -> Pictures:
    if data.ndim != 2 or data.shape[1] != RECORD or len(data) != len(labels):
        raise SsmspecError(f"{path}: data {data.shape} and {len(labels)} labels; expected (B, {RECORD}) and B labels; fetch it again")
    try:
        classes = labels.astype(np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise SsmspecError(f"{path}: the labels are not integers; fetch it again") from error
    if not ((classes >= 0) & (classes < len(CLASSES))).all():
        raise SsmspecError(
            f"{path}: classes range from {classes.min()} to {classes.max()}; expected 0 to {len(CLASSES) - 1}; fetch it again"
        )
    red, green, blue = data.reshape(-1, 3, SIDE, SIDE).astype(np.uint32).transpose(1, 0, 2, 3)
    luma = (19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16
    return Pictures(luma.astype(np.uint8), classes)
