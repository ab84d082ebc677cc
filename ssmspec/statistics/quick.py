"""What statistics compute by compiled loops where the engine is compiled: the same numbers up to rounding, without arrays in between.

The loops, which are in `inner_loops`, square |sigma|. NumPy does what has poles outside the range of `moderate`.
"""

import numpy as np

from ssmspec.backends.compiled import Kernel
from ssmspec.systems.grid import FloatArray
from ssmspec.systems.statespace import ComplexArray

SMALLEST, LARGEST = 1e-70, 1e70  # of |Re sigma| and |sigma|: fourth powers are in range
EDGES_AT_ONCE = 64

LOOPS = "ssmspec.statistics.inner_loops"
PANEL_EDGES, PANEL_NODES, PIECE_SLOPES = Kernel(LOOPS, "panel_edges", 7), Kernel(LOOPS, "panel_nodes", 5), Kernel(LOOPS, "piece_slopes", 8)
PAIR_FORM, PAIR_MOMENTS, PAIR_ROWS = Kernel(LOOPS, "pair_form", 4), Kernel(LOOPS, "pair_moments", 4), Kernel(LOOPS, "pair_rows", 4)
PAIR_LENGTHS = Kernel(LOOPS, "pair_lengths", 6)
KERNELS = PANEL_EDGES, PANEL_NODES, PIECE_SLOPES, PAIR_FORM, PAIR_MOMENTS, PAIR_ROWS, PAIR_LENGTHS


def moderate(sigma: ComplexArray) -> bool:
    """Whether all poles (K, N) are in the range where squares and their products neither overflow nor underflow."""
    return bool((np.abs(sigma.real) > SMALLEST).all() and (np.abs(sigma) < LARGEST).all())


def panel_edges(
    angle: FloatArray, squared: FloatArray, reach: FloatArray, knee: FloatArray, knots: tuple[float, ...], most: int
) -> FloatArray | None:
    """Edges (K, P + 1) of the panels as `quadrature.panels` describes them; None beyond the most.

    Args:
        angle, squared: (K, N) theta_n and squared w_n. reach, knee: (K, 1); knee is inf without a beta weight.
    """
    (K, N), first = angle.shape, np.zeros((len(angle), 1))
    arrays = *map(np.ascontiguousarray, (angle, squared, reach, knee)), np.array(knots, float)
    blocks = [first]
    while (first < np.pi).any():
        if len(blocks) > most // EDGES_AT_ONCE:
            return None
        edges = np.empty((K, EDGES_AT_ONCE + 1))
        edges[:, :1] = first
        PANEL_EDGES(0, K, (K, N, EDGES_AT_ONCE, len(knots)), *arrays, edges, np.empty(N))
        blocks.append(edges[:, 1:])
        first = edges[:, -1:]
    whole = np.concatenate(blocks, axis=1)
    return whole[:, : 1 + int((whole < np.pi).sum(axis=1).max())]


def panel_nodes(edges: FloatArray, places: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """theta at places (Q,) within [-1, 1] of every panel, 0 before and pi behind, and cos theta/2 and sin theta/2: each (K, P Q + 2)."""
    K, P, Q = len(edges), edges.shape[1] - 1, len(places)
    theta, x, y = (np.empty((K, P * Q + 2)) for _ in range(3))
    PANEL_NODES(0, K, (K, P, Q), np.ascontiguousarray(edges), places, theta, x, y)
    return theta, x, y


def pair_form(vectors: ComplexArray, sigma: ComplexArray) -> FloatArray:
    """`hankel.gramian_of` vectors (K, N) of one input, (K, 2N, 2N)."""
    K, N = sigma.shape
    form = np.empty((K, 2 * N, 2 * N))
    PAIR_FORM(0, K, (K, N), _pairs(vectors), _pairs(sigma), form, np.empty(4 * N))
    return form


def pair_moments(vectors: ComplexArray, sigma: ComplexArray) -> FloatArray:
    """Re sum_mn a_m conj(a_n)/(sigma_m + conj(sigma_n))^2 + a_m a_n/(sigma_m + sigma_n)^2, (K,), of a = vectors (K, N)."""
    (K, N), moments = sigma.shape, np.empty(len(sigma))
    PAIR_MOMENTS(0, K, (K, N), _pairs(vectors), _pairs(sigma), moments, np.empty(4 * N))
    return moments


def pair_lengths(
    form: FloatArray, logarithms: ComplexArray, allowed: FloatArray, low: FloatArray, high: FloatArray, before: int
) -> FloatArray:
    """The first lags L within low < L <= high, (K,), from which on no more than the allowed energy is left.

    Args:
        form: (K, 2N, 2N) and logarithms: (K, N) as in `extent`. before: samples before the first of the kernel.
    """
    K, N = logarithms.shape
    high = high.copy()
    PAIR_LENGTHS(0, K, (K, N, before), form, _pairs(logarithms), allowed, low.copy(), high, np.empty(2 * N))
    return high


def pair_rows(weights: ComplexArray, sigma: ComplexArray) -> tuple[ComplexArray, FloatArray]:
    """sum_n conj(w_n)/(sigma_m + conj(sigma_n)) + w_n/(sigma_m + sigma_n) of w = weights (K, N), (K, N), and the sum of all sizes."""
    K, N = sigma.shape
    rows = np.empty((K, N, 3))
    PAIR_ROWS(0, K, (K, N), _pairs(weights), _pairs(sigma), rows, np.empty(5 * N))
    return rows[:, :, 0] + 1j * rows[:, :, 1], rows[:, :, 2]


def piece_slopes(response: ComplexArray, edges: FloatArray, matrix: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Slopes (2 E, pieces, points) and measures (pieces, 5) of `inner_loops.piece_slopes`.

    Args:
        response: (K, E, P * points + 2). edges: (K, P + 1).
        matrix: (points, points) from samples to slopes. weights: (3, points) of an integral and the last two coefficients.
    """
    (K, E, _), (points, _) = response.shape, matrix.shape
    counts = (np.diff(edges, axis=1) > 0).sum(axis=1)
    begin, pieces = np.cumsum(counts) - counts, int(counts.sum())
    slopes, measures = np.empty((2 * E, pieces, points)), np.empty((pieces, 5))
    arrays = _pairs(response), *map(np.ascontiguousarray, (edges, begin.astype(float), matrix, weights))
    PIECE_SLOPES(0, K, (K, E, edges.shape[1] - 1, points, pieces), *arrays, slopes, measures, np.empty(3 * points))
    return slopes, measures


def _pairs(array: ComplexArray) -> FloatArray:
    return np.ascontiguousarray(array, complex).view(float)
