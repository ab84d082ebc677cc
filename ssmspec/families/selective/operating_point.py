"""The text form of an operating point: delta=0.01,B=1,C=c.npy."""

from pathlib import Path

import numpy as np

from ssmspec.errors import SsmspecError
from ssmspec.families.template import OperatingPoint
from ssmspec.files.reading import read_numbers
from ssmspec.systems.statespace import FloatArray

KEYS = ("delta", "B", "C")


def parse_operating_point(text: str) -> OperatingPoint:
    """An operating point from `key=value` pairs separated by commas; values are numbers or .npy files.

    Raises:
        SsmspecError: an unknown key, a value that is neither a number nor a readable .npy file, or a delta that is not positive.
    """
    values: dict[str, FloatArray] = {}
    for part in text.split(","):
        key, separator, value = part.partition("=")
        key = key.strip()
        if not separator or key not in KEYS or key in values:
            raise SsmspecError(f"operating point {text!r}: {part!r} is not valid; expected delta=, B= and C=, each at most once")
        values[key] = _value(key, value.strip())
    if "delta" in values and (values["delta"] <= 0).any():
        raise SsmspecError(f"operating point {text!r}: delta must be positive")
    return OperatingPoint(**values)


def _value(key: str, text: str) -> FloatArray:
    try:
        result = read_numbers(Path(text)) if text.endswith(".npy") else np.array(float(text))
    except (SsmspecError, ValueError) as error:
        raise SsmspecError(f"operating point: {key}={text} is neither a number nor a readable .npy file ({error})") from error
    if not np.isfinite(result).all():
        raise SsmspecError(f"operating point: {key}={text} holds NaN or infinite values")
    return result
