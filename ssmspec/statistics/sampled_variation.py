"""Total variation of the response of explicit kernels: int_0^pi |dH/d theta| d theta with dH/d theta = -i sum_l l k[l] e^(-i theta l).

[0, pi] is cut into panels that are so short that the derivative turns at most once on each; counted from the middle of the kernel it is a
polynomial of degree 15 to 1e-10 there. Its values at the same 16 Gauss points of all panels are one FFT per point. |dH/d theta| has kinks
near zeros of the derivative, so panels are halved, by the polynomial, where 16 points on a panel and on its halves disagree.
"""

import numpy as np
import numpy.typing as npt

from ssmspec.systems.statespace import ComplexArray, FloatArray
from ssmspec.systems.trigonometric import smooth_size

ORDER = 16
TOLERANCE = 1e-7  # of the variation, all panels together, per halving; the documented error is 1e-6
MOST_HALVINGS = 40
SAMPLES_AT_ONCE = 1 << 19  # each becomes four complex values
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(ORDER)
_TO_COEFFICIENTS = (np.polynomial.legendre.legvander(_NODES, ORDER - 1) * _WEIGHTS[:, None] * (np.arange(ORDER) + 0.5)).T
_HALVES = np.stack([np.polynomial.legendre.legvander((_NODES + side) / 2, ORDER - 1) @ _TO_COEFFICIENTS for side in (-1, 1)])


def sampled_variation(samples: FloatArray, lags: npt.NDArray[np.intp]) -> FloatArray:
    """V_0^pi of every copy, (K,), in units of |H|; of the derivative's Frobenius norm for several entries.

    Args:
        samples: (K, E, L), E = outputs times inputs. lags: (L,), of the samples.
    """
    count = max(1, SAMPLES_AT_ONCE // (samples.shape[1] * samples.shape[2]))
    parts = [_of_block(samples[k : k + count] * lags, lags) for k in range(0, len(samples), count)]
    return np.concatenate(parts)


def _of_block(moments: FloatArray, lags: npt.NDArray[np.intp]) -> FloatArray:
    values, width = _on_panels(moments)
    copies, panels = values.shape[:2]
    owner = np.repeat(np.arange(copies), panels)
    pieces = values.reshape(copies * panels, *values.shape[2:])
    whole, share = _integrals(pieces) * width, TOLERANCE / panels
    total: FloatArray = np.bincount(owner, whole, minlength=copies).astype(np.float64)
    for _ in range(MOST_HALVINGS):
        width /= 2
        halves = np.stack([pieces @ half.T for half in _HALVES], axis=1)  # (n, 2, E, ORDER)
        each = _integrals(halves) * width
        change = each.sum(axis=1) - whole
        total += np.bincount(owner, change, minlength=copies)
        rough = np.abs(change) > share * total[owner]
        if not rough.any():
            break
        pieces = halves[rough].reshape(-1, *halves.shape[2:])
        whole, owner = each[rough].reshape(-1), np.repeat(owner[rough], 2)
    return total


def _integrals(values: ComplexArray) -> FloatArray:
    """Over [-1, 1] of the norm of values (..., E, ORDER), halved: times the width of a panel it is the integral over the panel."""
    norms = np.abs(values[..., 0, :]) if values.shape[-2] == 1 else np.linalg.norm(values, axis=-2)
    return np.asarray(norms @ (_WEIGHTS / 2))


def _on_panels(moments: FloatArray) -> tuple[ComplexArray, float]:
    """sum_m g[m] e^(-i theta m), m counted from the middle, at the nodes of equal panels of [0, pi]: (K, panels, E, ORDER); their width."""
    copies, entries, length = moments.shape
    count = 4 * smooth_size(-(-length // 8))  # panels of the whole circle, at least half as many as samples
    width = 2 * np.pi / count
    places = np.arange(length) - length // 2
    result = np.empty((copies, count // 2, entries, ORDER), complex)
    turns = -(-length // count)
    for node, offset in enumerate((_NODES + 1) / 2 * width):
        turned = np.zeros((copies, entries, turns * count), complex)
        turned[..., :length] = moments * np.exp(-1j * offset * places)
        folded = turned.reshape(copies, entries, turns, count).sum(axis=2)  # whole turns of the circle fall on one another
        transformed = np.fft.fft(folded, axis=-1)[..., : count // 2]
        result[..., node] = transformed.swapaxes(1, 2)
    # the samples began at place -(length // 2), not at 0
    back = np.exp(2j * np.pi / count * ((np.arange(count // 2) * (length // 2)) % count))
    result *= back[None, :, None, None]
    return result, width
