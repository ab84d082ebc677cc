"""Peak gain of explicit kernels: the largest singular value of H over theta, searched on a fine uniform grid and refined between points.

|H|^2 is a trigonometric polynomial whose degree is the length less one. At OVERSAMPLED times as many points none of its maxima is hidden.
"""

import numpy as np

from ssmspec.systems.statespace import ComplexArray, FloatArray
from ssmspec.systems.trigonometric import SampledSums, smooth_size

OVERSAMPLED = 4
CANDIDATES = 16  # local maxima refined per copy
GOLDEN = (np.sqrt(5) - 1) / 2
REFINEMENTS = 36
SAMPLES_AT_ONCE = 1 << 19
POINTS_AT_ONCE = 1 << 18  # entries of matrices whose singular values are computed at once


def sampled_peak(samples: FloatArray, outputs: int) -> tuple[FloatArray, FloatArray]:
    """Gain and theta [rad/sample] of every copy, each (K,), from samples (K, O I, L)."""
    count = max(1, SAMPLES_AT_ONCE // (samples.shape[1] * samples.shape[2]))
    parts = [_of_block(samples[k : k + count], outputs) for k in range(0, len(samples), count)]
    return np.concatenate([gain for gain, _ in parts]), np.concatenate([theta for _, theta in parts])


def _of_block(samples: FloatArray, outputs: int) -> tuple[FloatArray, FloatArray]:
    copies, entries, length = samples.shape
    size = 2 * smooth_size(max(8, OVERSAMPLED * length) // 2)
    gains = _gains(np.fft.rfft(samples, size, axis=2), outputs)
    theta = _maxima(gains) * (2 * np.pi / size)
    sums, spacing = SampledSums(samples.reshape(copies * entries, length)), 2 * np.pi / size

    def gain(at: FloatArray) -> FloatArray:
        return _gains(sums.at(np.repeat(at, entries, axis=0)).reshape(copies, entries, -1), outputs)

    low, high = np.maximum(theta - spacing, 0), np.minimum(theta + spacing, np.pi)
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = gain(left), gain(right)
    for _ in range(REFINEMENTS):
        rising = at_left < at_right
        low, high = np.where(rising, left, low), np.where(rising, high, right)
        probe = np.where(rising, low + GOLDEN * (high - low), high - GOLDEN * (high - low))
        at_probe = gain(probe)
        left, right = np.where(rising, right, probe), np.where(rising, probe, left)
        at_left, at_right = np.where(rising, at_right, at_probe), np.where(rising, at_probe, at_left)
    # both ends of [0, pi] may be maxima of their own
    everywhere = np.concatenate([np.zeros((copies, 1)), np.full((copies, 1), np.pi), theta, (left + right) / 2], axis=1)
    found = gain(everywhere)
    best = np.argmax(found, axis=1)[:, None]
    return np.take_along_axis(found, best, axis=1)[:, 0], np.take_along_axis(everywhere, best, axis=1)[:, 0]


def _maxima(gains: FloatArray) -> FloatArray:
    """Positions of the largest local maxima of every row (K, F), by the parabola through three points, (K, CANDIDATES)."""
    inner = gains[:, 1:-1]
    is_peak = (inner >= gains[:, :-2]) & (inner >= gains[:, 2:])
    bend = np.maximum(2 * inner - gains[:, :-2] - gains[:, 2:], np.finfo(float).tiny)
    height = np.where(is_peak, inner + (gains[:, 2:] - gains[:, :-2]) ** 2 / (8 * bend), -1.0)
    count = min(CANDIDATES, height.shape[1])
    ranked = np.argpartition(-height, count - 1, axis=1)[:, :count]
    return np.asarray(ranked + 1.0)


def _gains(response: ComplexArray, outputs: int) -> FloatArray:
    """Largest singular values (K, F) of H (K, O I, F)."""
    copies, entries, points = response.shape
    if entries == 1:
        return np.abs(response[:, 0])
    if outputs in (1, entries):
        return np.asarray(np.linalg.norm(response, axis=1))
    matrices = response.reshape(copies, outputs, entries // outputs, points).transpose(0, 3, 1, 2).reshape(-1, outputs, entries // outputs)
    count = max(1, POINTS_AT_ONCE // entries)
    parts = [np.linalg.svd(matrices[n : n + count], compute_uv=False)[:, 0] for n in range(0, len(matrices), count)]
    return np.concatenate(parts).reshape(copies, points)
