"""A linear forecast as a reference for `ssmspec train forecast`: least squares on the last samples of the bundled series.

python docs/reproduction_linear.py HORIZON ORDER...      # skill as the command defines it: over the last value, on the same samples
"""

import sys

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ssmspec.training.datasets.membrane import SAMPLES, read_membrane

HELD_OUT = SAMPLES // 5  # the last fifth, which the command holds out as well


def skill(horizon: int, order: int) -> float:
    """1 - squared error / that of the last value, mean over the samples 1 to horizon ahead."""
    pieces = sliding_window_view(read_membrane(), order + horizon)
    known, wanted = pieces[:, :order], pieces[:, order:]
    inputs = np.column_stack([known, np.ones(len(known))])
    training = slice(0, SAMPLES - HELD_OUT - order - horizon + 1)
    held_out = slice(SAMPLES - HELD_OUT - order, None)
    weights = np.linalg.lstsq(inputs[training], wanted[training], rcond=None)[0]
    errors = inputs[held_out] @ weights - wanted[held_out]
    return float(1 - np.square(errors).mean() / np.square(known[held_out, -1:] - wanted[held_out]).mean())


if __name__ == "__main__":
    horizon, *orders = map(int, sys.argv[1:])
    for order in orders:
        sys.stdout.write(f"order {order}: skill {skill(horizon, order):.3g}\n")
