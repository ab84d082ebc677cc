"""Total variation of the response: how far the complex value H travels over a band, and a bound on how far it travels above a frequency.

    V_a^b(H) = int_a^b |dH/d theta| d theta,   d/d theta 1/(1 - u) = -i u/(1 - u)^2,   u = z e^{-i theta}

|dH/d theta| has kinks where the derivative comes close to zero, and the poles do not predict these places. The panels of `quadrature` are
therefore halved where 16 points on a panel and on its halves disagree.

Source: arXiv 2410.02035 (Tuning Frequency Bias of SSMs), section 3: the variation of G over a band limits what a loss there can change.
"""

from dataclasses import dataclass

import numpy as np

from ssmspec.statistics.quadrature import ORDER, TO_COEFFICIENTS, Panels, panels
from ssmspec.systems.grid import FloatArray, theta_nodes
from ssmspec.systems.statespace import ComplexArray, StateSpace, cayley_poles, discrete_poles, homogeneous_scale, mode_sizes

TOLERANCE = 1e-8  # fraction of a copy's variation, per panel and halving; the total error is far below the documented 1e-6
MOST_HALVINGS = 30
MOST_PIECES = 1 << 12  # limit of disagreeing pieces per copy (or its initial number): more are rounding noise, which halving never resolves
NUMBERS_AT_ONCE = 1 << 21
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(ORDER)


def _slope_matrix(at: FloatArray) -> FloatArray:
    """Derivative of the interpolating polynomial at the points `at` of [-1, 1], from its values at the nodes."""
    slopes = np.polynomial.legendre.legder(np.eye(ORDER))
    return np.asarray(np.polynomial.legendre.legvander(at, ORDER - 2) @ slopes @ TO_COEFFICIENTS)


_SLOPES = _slope_matrix(_NODES)
_HALF_SLOPES = _slope_matrix(np.concatenate([(_NODES - 1) / 2, (_NODES + 1) / 2]))


@dataclass(frozen=True, slots=True)
class Variation:
    """V over a band, (K,), in units of |H|, and an estimate of its relative error, (K,)."""

    value: FloatArray
    relative_error: FloatArray


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Panels of all copies in one list: index of the copy, left end, right end."""

    copy: np.ndarray
    left: FloatArray
    right: FloatArray

    def halves(self) -> "_Pieces":
        middle = (self.left + self.right) / 2
        return _Pieces(np.repeat(self.copy, 2), _interleave(self.left, middle), _interleave(middle, self.right))

    def pick(self, chosen: np.ndarray) -> "_Pieces":
        return _Pieces(self.copy[chosen], self.left[chosen], self.right[chosen])


def _interleave(first: FloatArray, second: FloatArray) -> FloatArray:
    return np.stack([first, second], axis=1).ravel()


def total_variation(diagonal: StateSpace, low: float = 0.0, high: float = np.pi) -> Variation:
    """V_low^high of the dynamic part of every copy, with beta weight; for several inputs or outputs, of the derivative's Frobenius norm.

    Args:
        diagonal: a system in modal form (`statespace.modal_form`).
        low, high: theta [rad/sample], 0 <= low < high <= pi.
    Returns:
        Variation; NaN if the poles are too sharp to resolve.
    """
    cut = panels(diagonal)
    if cut is None:
        return Variation(np.full(diagonal.copies, np.nan), np.full(diagonal.copies, np.inf))
    edges = np.clip(cut.edges, low, high)
    copy, panel = np.nonzero(np.diff(edges, axis=1) > 0)
    pieces = _Pieces(copy, edges[copy, panel], edges[copy, panel + 1])
    whole = _integrate(diagonal, pieces)
    return _refine(diagonal, pieces, whole, _integrate(diagonal, pieces.halves()))


def variation_from_samples(diagonal: StateSpace, cut: Panels, response: ComplexArray) -> Variation:
    """V_0^pi of copies with one input and one output, from the response at the nodes of the panels (a polynomial on each panel).

    Args:
        diagonal: the same system in modal form, used only to recompute panels near a zero of the derivative.
        cut: panels for its poles.
        response: (K, P * ORDER) dynamic part at `cut.nodes()`, with beta weight, without delay.
    """
    samples = response.reshape(diagonal.copies, -1, ORDER)
    copy, panel = np.nonzero(np.diff(cut.edges, axis=1) > 0)
    pieces = _Pieces(copy, cut.edges[copy, panel], cut.edges[copy, panel + 1])
    slopes = samples[copy, panel]
    whole = np.abs(slopes @ _SLOPES.T) @ _WEIGHTS
    halves = np.abs(slopes @ _HALF_SLOPES.T).reshape(-1, ORDER) @ _WEIGHTS / 2
    return _refine(diagonal, pieces, whole, halves)


def _refine(diagonal: StateSpace, pieces: _Pieces, whole: FloatArray, halves: FloatArray) -> Variation:
    """Halve pieces until the integral over each piece agrees with the sum over its halves."""
    copies = diagonal.copies
    scale = np.maximum(np.bincount(pieces.copy, whole, copies), np.finfo(float).tiny)
    most = np.maximum(np.bincount(pieces.copy, minlength=copies), MOST_PIECES)
    value, error = np.zeros(copies), np.zeros(copies)
    for _ in range(MOST_HALVINGS):
        both = halves.reshape(-1, 2).sum(axis=1)
        difference = np.abs(both - whole)
        done = difference <= TOLERANCE * scale[pieces.copy] * np.minimum(1, np.sqrt((pieces.right - pieces.left) / np.pi))
        done |= (
            np.bincount(pieces.copy, ~np.isfinite(both), copies)[pieces.copy] > 0
        )  # such a copy has no variation, however fine the pieces
        done |= 2 * np.bincount(pieces.copy[~done], minlength=copies)[pieces.copy] > most[pieces.copy]
        value += np.bincount(pieces.copy[done], both[done], copies)
        error += np.bincount(pieces.copy[done], difference[done], copies)
        again = np.repeat(~done, 2)
        pieces, whole = pieces.halves().pick(again), halves[again]
        if not len(whole):
            break
        halves = _integrate(diagonal, pieces.halves())
    value += np.bincount(pieces.copy, whole, copies)
    error += np.bincount(pieces.copy, whole, copies)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Variation(value, np.where(value > 0, error / value, 0.0))


def _integrate(diagonal: StateSpace, pieces: _Pieces) -> FloatArray:
    """16-point Gauss-Legendre integrals of |dH/d theta| over every piece."""
    block = max(1, NUMBERS_AT_ONCE // (ORDER * diagonal.modes * 2))
    parts = [
        _integrate_block(diagonal, pieces.pick(np.arange(s, min(s + block, len(pieces.copy))))) for s in range(0, len(pieces.copy), block)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def _integrate_block(diagonal: StateSpace, pieces: _Pieces) -> FloatArray:
    half = (pieces.right - pieces.left) / 2
    theta = (pieces.left + pieces.right)[:, None] / 2 + half[:, None] * _NODES
    result: FloatArray = half * (_speed(diagonal, pieces.copy, theta) @ _WEIGHTS)
    return result


def _speed(diagonal: StateSpace, copy: np.ndarray, theta: FloatArray) -> FloatArray:
    """|dH/d theta| at theta (P, ORDER) of the copies `copy` (P,); a delay of one sample, which only rotates H, is ignored."""
    if diagonal.copies == 1:  # one row for all pieces, so that pair matrices are not repeated
        copy = np.zeros(1, int)
    part = _Modes.of(diagonal, copy)
    x, y = theta_nodes(theta)
    f = (x + 1j * y)[:, :, None] * part.inverse[:, None, :] / (1j * y[:, :, None] - part.sigma[:, None, :] * x[:, :, None])
    derivative = -1j * part.z[:, None, :] * np.exp(-1j * theta)[:, :, None] * f**2 * part.gain[:, None, :]
    if diagonal.sobolev is not None:
        sobolev, step = diagonal.sobolev.pick(copy), diagonal.step[copy]
        turned = derivative + sobolev.log_slope(theta, step)[:, :, None] * f * part.gain[:, None, :]
        derivative = sobolev.weight(theta, step)[:, :, None] * turned
    if diagonal.outputs == diagonal.inputs == 1:
        residues = part.C[:, 0, :] * part.B[:, :, 0]
        return np.abs((derivative @ residues[:, :, None])[:, :, 0])
    pairs = (part.C.conj().transpose(0, 2, 1) @ part.C) * (part.B.conj() @ part.B.transpose(0, 2, 1))
    turned = (
        derivative.conj() @ pairs
        if len(pairs) > 1
        else (derivative.conj().reshape(-1, pairs.shape[1]) @ pairs[0]).reshape(derivative.shape)
    )
    squared = np.einsum("pfn,pfn->pf", turned, derivative).real
    return np.sqrt(np.maximum(squared, 0))


@dataclass(frozen=True, slots=True)
class _Modes:
    """The completed set of some copies (P, 2N): poles, 1/(1 + z), and the factor from C B to the discrete residue."""

    sigma: ComplexArray
    z: ComplexArray
    inverse: ComplexArray
    gain: ComplexArray
    C: ComplexArray
    B: ComplexArray

    @classmethod
    def of(cls, diagonal: StateSpace, copy: np.ndarray) -> "_Modes":
        sigma = cayley_poles(diagonal)
        inverse = (1 - sigma) / 2
        upper = (sigma, discrete_poles(diagonal), inverse, homogeneous_scale(diagonal, sigma) / inverse)
        s, z, inv, gain = (np.concatenate([part, part.conj()], axis=1)[copy] for part in upper)
        C = np.concatenate([diagonal.C, diagonal.C.conj()], axis=2)[copy]
        B = np.concatenate([diagonal.B, diagonal.B.conj()], axis=1)[copy]
        return cls(s, z, inv, gain, C, B)


def variation_bound(diagonal: StateSpace, band: FloatArray) -> FloatArray:
    """An upper bound on the variation of the continuous G above a frequency, V_band^inf(G), (K,).

        sum over the completed set of (|c|/|x|) (pi/2 - arctan((band - y)/|x|)),   a = x + i y,  |c| = |C_n| |B_n|

    Args:
        diagonal: a system in modal form with continuous poles.
        band: (K,) omega [rad per model time]; a copy with a pole at or above it gets NaN.
    Source: arXiv 2410.02035, section 3.
    """
    size = mode_sizes(diagonal)
    x, y = np.abs(diagonal.poles.real), diagonal.poles.imag
    terms = [size / x * np.arctan2(x, band[:, None] - sign * y) for sign in (1, -1)]
    return np.where((y < band[:, None]).all(axis=1), (terms[0] + terms[1]).sum(axis=1), np.nan)
