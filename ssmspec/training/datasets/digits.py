"""The handwritten digits that scikit-learn ships: 1797 pictures of 8 x 8 pixels."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import missing_package

SIDE = 8


def read_digits() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Pictures (B, 8, 8) in 0..255, and the digit of each.

    Raises:
        MissingPackageError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise missing_package("this preset, which learns from its digits,", "scikit-learn", "tasks") from error
    found: Any = load_digits()
    return found.images * (255 / 16), found.target.astype(np.int64)
