"""Choice of the float type: the precision lost at a resonance, and the range test shared by the compiled engines.

The accuracy of a sum is limited by that of its arguments: rounding each of them once changes phi = 1/(i y - sigma x) by a relative amount
eps |phi| (|y| + |sigma x|), and the engines stay within a few times that (8 in the tests). At a resonance it is 2 eps |sigma|/|Re sigma|.
In float32, four digits remain for a pole whose imaginary part is a thousand times its real part, and none for an undamped pole.

The compiled engines divide by a fourth power of their arguments. They first scale the residues of a sum to 1, so that only poles and nodes
determine the range. A denominator is made of |sigma| x and y: its largest value is about max(|sigma| x, y)^4, and its smallest value, in
the middle of a resonance, is 4 (s x y)^2, where x y is max(x, y)^2 min(|sigma|, 1/|sigma|).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

SHARPEST = 1024.0  # |sigma|/|Re sigma| up to which float32 is sufficient: a relative error of 2e-4 at the resonance
MARGIN = 2.0**14  # between the smallest denominator and the smallest float, for numerators of up to |sigma|^3
MODERATE = 2.0**40  # |sigma| and 1/|Re sigma| up to which squares of phi, as in gradients, stay well within the range of float32


def resolved(poles: Any) -> bool:
    """Whether float32 resolves the distance between nodes and these poles; False if a pole is NaN.

    Args:
        poles: (K, N) complex128, not empty, of NumPy or PyTorch.
    """
    size, damping = abs(poles), abs(poles.real)
    return bool((size <= SHARPEST * damping).all() and damping.min() * MODERATE >= 1 and size.max() <= MODERATE)


def extremes(poles: Any, abscissa: Any, ordinate: Any) -> list[Any]:
    """The quantities that `narrowest` uses, each a scalar of the arguments' own library; NaN if an argument contains NaN.

    Uses only operations that NumPy arrays and PyTorch tensors have in common, so that the GPU can examine its own arguments.

    Args:
        poles: (K, N) complex128, not empty.
        abscissa, ordinate: |x| and |y|, (1, F) or (K, F) real, not empty.
    Returns:
        The largest |sigma|, |x| and |y|, the smallest |s| min(|sigma|, 1/|sigma|) and the smallest max(|x|, |y|).
    """
    size = abs(poles)
    damping = abs(poles.real) * (size.clip(max=1) / size.clip(min=1))
    return [size.max(), abscissa.max(), ordinate.max(), damping.min(), abscissa.clip(ordinate).min()]


def narrowest(bounds: Sequence[float], single: bool) -> np.dtype[Any] | None:
    """The narrowest of float32 (if `single`) and float64 in which no intermediate value overflows or underflows; None if there is none.

    Args:
        bounds: the numbers that `extremes` returns.
        single: whether the arguments are complex64, so that float32 may be sufficient.
    """
    largest, abscissa, ordinate, damping, node = map(float, bounds)
    for kind in map(np.dtype, ("f4", "f8") if single else ("f8",)):
        limits = np.finfo(kind)
        huge, tiny = float(limits.max) ** 0.25 / 16, float(limits.tiny) ** 0.5 * MARGIN
        if all(value < huge for value in (largest, abscissa, ordinate, largest * abscissa)) and damping * min(node, 1) ** 2 > tiny:
            return kind
    return None
