"""Pictures in idx files, the layout of MNIST, gzipped or not.

A file has a magic number (two zero bytes, 8 for unsigned bytes, the number of axes), the length of each axis as a big-endian 32-bit
number, and the values. Source: the page of the data set (Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits).
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssmspec.errors import SsmspecError
from ssmspec.files.reading import require_regular
from ssmspec.training.datasets.release import find_files

Bytes = npt.NDArray[np.uint8]

MAGIC = b"\x00\x00\x08\x03"  # unsigned bytes, three axes
HEADER = 16  # bytes: the magic number and three lengths
MOST = 2**30  # largest accepted number of bytes of pictures; MNIST has 47 MB
_PARTS = ("train", "t10k")
LAYOUTS = [[f"{folder}{part}-images-idx3-ubyte{end}" for part in _PARTS] for folder in ("", "MNIST/raw/") for end in ("", ".gz")]


def read_mnist(folder: str) -> tuple[Bytes, Bytes]:
    """The training pictures and the held-out pictures, (B, side, side) uint8.

    Args:
        folder: the folder of the files, or the parent folder that torchvision creates.
    Raises:
        SsmspecError: the files are missing, or one is damaged.
    """
    _, (training, held_out) = find_files(folder, LAYOUTS, "the pictures of MNIST")
    return read_pictures(training), read_pictures(held_out)


def read_pictures(path: Path) -> Bytes:
    """The square pictures of one file, (B, side, side) uint8.

    Raises:
        SsmspecError: the file cannot be read, is shorter or longer than it states, or holds something else.
    """
    require_regular(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(HEADER)
            if len(header) < HEADER or header[:4] != MAGIC:
                raise SsmspecError(
                    f"{path} begins with {header[:4].hex(' ') or 'nothing'}; expected {MAGIC.hex(' ')}, pictures of bytes; fetch it again"
                )
            count, rows, columns = (int(length) for length in np.frombuffer(header, ">u4", offset=4))
            size = math.prod((count, rows, columns))
            if not size or rows != columns or size > MOST:
                raise SsmspecError(f"{path} states {count} pictures of {rows} x {columns} pixels; expected at least one square picture")
            content = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise SsmspecError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); fetch it again") from error
    if len(content) != size:
        found = "more" if len(content) > size else f"only {len(content)}"
        raise SsmspecError(f"{path} should have {size} bytes of pictures, but has {found}; fetch it again")
    return np.frombuffer(content, np.uint8).reshape(count, rows, columns)
