"""Hankel singular values of explicit kernels: those of the matrix k[i + j], which is symmetric where there is one input and one output.

Copies with the same kernel share their values.
"""

import numpy as np

from ssmspec.systems.statespace import FloatArray

MOST_SAMPLES = 4096  # of one kernel, as the matrix has their square
MOST_WORK = 4e11  # sum of cubes of the matrices' sizes of a layer: about a minute


def sampled_hankel(samples: FloatArray) -> FloatArray:
    """Values (K, M) in descending order, zeros where a copy has fewer; from samples (K, O, I, L).

    Trailing samples that are zero make no rows.
    """
    unique, which = np.unique(samples.reshape(len(samples), -1), axis=0, return_inverse=True)
    found = [_values(kernel) for kernel in unique.reshape(-1, *samples.shape[1:])]
    result = np.zeros((len(found), max(len(values) for values in found)))
    for row, values in zip(result, found, strict=True):
        row[: len(values)] = values
    return result[which.reshape(-1)]


def work_of(copies: int, outputs: int, inputs: int, length: int) -> float:
    """Cubes of the sizes of all matrices."""
    return float(copies) * (length * max(outputs, inputs)) ** 3


def _values(kernel: FloatArray) -> FloatArray:
    outputs, inputs = kernel.shape[:2]
    used = np.flatnonzero(kernel.any(axis=(0, 1)))
    count = int(used[-1]) + 1 if used.size else 1
    padded = np.zeros((outputs, inputs, 2 * count))
    padded[..., :count] = kernel[..., :count]
    matrix = np.lib.stride_tricks.sliding_window_view(padded, count, axis=2)[:, :, :count]  # (O, I, n, n)
    if outputs == inputs == 1:
        return np.asarray(np.sort(np.abs(np.linalg.eigvalsh(matrix[0, 0])))[::-1])
    block = matrix.transpose(0, 2, 1, 3).reshape(outputs * count, inputs * count)
    return np.asarray(np.linalg.svd(block, compute_uv=False))
