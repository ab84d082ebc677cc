"""Which float an engine may compute in that divides by a fourth power of its arguments: the range test the compiled engines share.

Such an engine scales the residues of a sum to 1 beforehand, so that only poles and nodes decide. With |sigma| x and y the two sizes that
a denominator is made of, the largest is about max(|sigma| x, y)^4, and the smallest, in the middle of a resonance, 4 (s x y)^2, where
x y is max(x, y)^2 min(|sigma|, 1/|sigma|).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


def extremes(poles: Any, x: Any, y: Any) -> list[Any]:
    """What `narrowest` judges by, each a scalar of the arguments' own library; NaN where an argument holds one.

    Written with what NumPy arrays and tensors of PyTorch have in common, so that the GPU looks at its own arguments.

    Args:
        poles: (K, N) complex128, not empty.
        x, y: (1, F) or (K, F) real, not empty.
    Returns:
        The largest |sigma|, |x| and |y|, the smallest |s| min(|sigma|, 1/|sigma|) and the smallest max(|x|, |y|).
    """
    size, abscissa, ordinate = abs(poles), abs(x), abs(y)
    damping = abs(poles.real) * (size.clip(max=1) / size.clip(min=1))
    return [size.max(), abscissa.max(), ordinate.max(), damping.min(), abscissa.clip(ordinate).min()]


def narrowest(bounds: Sequence[float], single: bool) -> np.dtype[Any] | None:
    """The narrowest of float32 (if `single`) and float64 in which no intermediate overflows or vanishes; None if there is none.

    Args:
        bounds: the numbers that `extremes` returns.
        single: the arguments are complex64, so that float32 may do.
    """
    largest, abscissa, ordinate, damping, node = map(float, bounds)
    for kind in map(np.dtype, ("f4", "f8") if single else ("f8",)):
        limits = np.finfo(kind)
        huge, tiny = float(limits.max) ** 0.25 / 16, 16 * float(limits.tiny) ** 0.5
        if all(value < huge for value in (largest, abscissa, ordinate, largest * abscissa)) and damping * node * node > tiny:
            return kind
    return None
