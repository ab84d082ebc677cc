"""Which float may be computed in: how much a resonance costs, and the range test that the compiled engines share.

A sum is as accurate as its arguments let it be: rounding each of them once moves phi = 1/(i y - sigma x) by |phi| (|y| + |sigma x|) of
itself, and the engines stay within a few times that (8 in the tests). On a resonance it is 2 eps |sigma|/|Re sigma|: in float32 four
digits are left of a pole whose imaginary part is a thousand times its real part, and none of one without damping.

The compiled engines divide by a fourth power of their arguments. They scale the residues of a sum to 1 beforehand, so that only poles and
nodes decide. With |sigma| x and y the two sizes that a denominator is made of, the largest is about max(|sigma| x, y)^4, and the smallest,
in the middle of a resonance, 4 (s x y)^2, where x y is max(x, y)^2 min(|sigma|, 1/|sigma|).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

SHARPEST = 1024.0  # |sigma|/|Re sigma| up to which float32 will do: 2e-4 on the resonance
MODERATE = 2.0**40  # |sigma| and 1/|Re sigma| up to which squares of phi, as in gradients, stay far inside float32


def resolved(poles: Any) -> bool:
    """Whether float32 keeps nodes and these poles well apart; False where one is NaN.

    Args:
        poles: (K, N) complex128, not empty, of NumPy or PyTorch.
    """
    size, damping = abs(poles), abs(poles.real)
    return bool((size <= SHARPEST * damping).all() and damping.min() * MODERATE >= 1 and size.max() <= MODERATE)


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
