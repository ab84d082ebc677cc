"""Total variation of the response: how far the complex value H travels over a band, and a bound on how far it travels above a frequency.

    V_a^b(H) = int_a^b |dH/d theta| d theta,   d/d theta 1/(1 - u) = -i u/(1 - u)^2,   u = z e^{-i theta}

|dH/d theta| has kinks where the derivative comes close to zero, and the poles do not predict these places. The panels of `quadrature` are
therefore halved where 16 points do not resolve it. Samples of H on a panel define a polynomial, which gives the derivative at the points of
every half without further samples.

Source: arXiv 2410.02035 (Tuning Frequency Bias of SSMs), section 3: the variation of G over a band limits what a loss there can change.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssmspec.statistics.quadrature import NODES, ORDER, TO_COEFFICIENTS, WEIGHTS, Panels, panels, pole_distances
from ssmspec.systems.grid import FloatArray, theta_nodes
from ssmspec.systems.statespace import (
    ComplexArray,
    StateSpace,
    cayley_poles,
    discrete_poles,
    discrete_residues,
    homogeneous_scale,
    mode_sizes,
)

TOLERANCE = 1e-8  # fraction of a copy's variation, per panel and halving; the total error is far below the documented 1e-6
POLYNOMIAL_TOLERANCE = 1e-10  # the same, per piece of a polynomial
ACCEPTED = 1e-8  # relative error up to which the variation from samples is used; otherwise it is computed from the modes
MISSED = 30.0  # times the squared tail of a series divided by its size: an upper estimate of what 16 points miss, as measured on halves
MOST_HALVINGS = 30
MOST_PIECES = 1 << 12  # limit of disagreeing pieces per copy (or its initial number): more are rounding noise, which halving never resolves
ROUNDED = 4.0  # spacings of theta: at most 1.6 in poles of widths from 1e-7 down to 1e-10
NUMBERS_AT_ONCE = 1 << 21

# values at the nodes of a piece -> derivatives there, and values at the nodes of its halves, exact for polynomials of degree < ORDER
_SLOPES = np.polynomial.legendre.legvander(NODES, ORDER - 2) @ np.polynomial.legendre.legder(np.eye(ORDER)) @ TO_COEFFICIENTS
_HALVES = np.polynomial.legendre.legvander(np.concatenate([(NODES - 1) / 2, (NODES + 1) / 2]), ORDER - 1) @ TO_COEFFICIENTS
_TAIL = TO_COEFFICIENTS[-2:].T  # -> the last two Legendre coefficients
_MEASURES = np.concatenate([WEIGHTS[:, None], _TAIL], axis=1)  # -> the integral and the last two Legendre coefficients


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


@dataclass(frozen=True, slots=True)
class _Measured:
    """A size at the nodes of pieces: its integral over [-1, 1], the sizes of the last two coefficients, and the largest, each (P,)."""

    integral: FloatArray
    tail: FloatArray
    highest: FloatArray

    @classmethod
    def of(cls, sizes: FloatArray) -> "_Measured":
        """From sizes (P, ORDER)."""
        measured = sizes @ _MEASURES
        return cls(measured[:, 0], np.abs(measured[:, 1]) + np.abs(measured[:, 2]), sizes.max(axis=1))

    def missed(self) -> FloatArray:
        """What ORDER points miss of the integral, (P,), estimated from above."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.tail > 0, MISSED * self.tail**2 / self.highest, 0)


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


def variation_from_samples(
    diagonal: StateSpace, cut: Panels, response: ComplexArray, accepted: float = ACCEPTED, *, compiled: bool = False
) -> Variation:
    """V_0^pi of copies from every entry S of e^{-i theta/2} H at the nodes of the panels, which is a polynomial on each.

    |dH/d theta| = |dS/d theta + i S/2|.

    Args:
        diagonal: the same system in modal form, from which copies are computed whose samples do not suffice.
        cut: panels for its poles.
        response: (K, ..., P * ORDER + 2) S of the dynamic part at `cut.nodes_between_ends()`, beta weight included, a delay not.
        accepted: relative error up to which the samples suffice.
        compiled: whether to do the panels in the loops of `quick`.
    """
    copy, slopes, tails, first = _compiled_slopes(cut, response) if compiled else _slopes(cut, response)
    found = _polynomial_pieces(diagonal.copies, copy, np.ones(len(copy)), slopes, _length, np.zeros(len(copy)), first)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = found.relative_error + np.where(found.value > 0, np.bincount(copy, tails, diagonal.copies) / found.value, 0)
    return _completed(diagonal, Variation(found.value, error), accepted)


def _slopes(cut: Panels, response: ComplexArray) -> tuple[np.ndarray, FloatArray, FloatArray, "_Measured"]:
    """Of the panels with a length: copy (P,), dS/d theta + i S/2 times half the length (planes, P, ORDER), what S misses (P,), its size."""
    width = np.diff(cut.edges, axis=1)
    copy, panel = np.nonzero(width > 0)
    samples = np.moveaxis(response[..., 1:-1].reshape(len(width), -1, width.shape[1], ORDER), 1, 0)
    chosen = slice(None) if len(copy) == width.size else (slice(None), copy, panel)
    parts = [part[chosen].reshape(len(samples), -1, ORDER) for part in (samples.real, samples.imag)]
    planes = np.concatenate(parts)
    half, entries = width[copy, panel][:, None] / 4, len(samples)
    slopes = _mapped(planes, _SLOPES)
    slopes[:entries] -= half * planes[entries:]
    slopes[entries:] += half * planes[:entries]
    tails = np.abs(_mapped(planes, _TAIL.T)).sum(axis=(0, 2))  # missed of S, and about as much of its length
    return copy, slopes, tails, _Measured.of(_length(slopes))


def _compiled_slopes(cut: Panels, response: ComplexArray) -> tuple[np.ndarray, FloatArray, FloatArray, "_Measured"]:
    """`_slopes` by the loops of `quick`."""
    from ssmspec.statistics.quick import piece_slopes  # here, since it loads LLVM

    entries = response.reshape(len(cut.edges), -1, response.shape[-1])
    slopes, measures = piece_slopes(entries, cut.edges, _SLOPES, _MEASURES.T)
    copy, tails, whole, tail, highest = measures.T
    return copy.astype(np.intp), slopes, tails, _Measured(whole, tail, highest)


def _mapped(planes: FloatArray, matrix: FloatArray) -> FloatArray:
    """A matrix (m, ORDER) applied to the nodes of every piece, (planes, P, m), in one product."""
    return (planes.reshape(-1, ORDER) @ matrix.T).reshape(*planes.shape[:2], -1)


def variation_from_speeds(diagonal: StateSpace, cut: Panels, squared: FloatArray) -> Variation:
    """V_0^pi of copies from the norm of their derivative at the nodes of the panels, whose square is nearly a polynomial on each.

    Args:
        diagonal, cut: as in `variation_from_samples`.
        squared: (K, P * ORDER) squared Frobenius norm of dH/d theta at `cut.nodes()`.
    """
    width = np.diff(cut.edges, axis=1)
    copy, panel = np.nonzero(width > 0)
    values, half = squared.reshape(diagonal.copies, -1, ORDER)[copy, panel], width[copy, panel] / 2
    between = half * np.abs(values @ _TAIL).sum(axis=1) / np.sqrt(np.maximum(values.max(axis=1), np.finfo(float).tiny))
    first = _Measured.of(_root(values[None]))
    return _completed(diagonal, _polynomial_pieces(diagonal.copies, copy, half, values[None], _root, between, first), ACCEPTED)


def _length(planes: FloatArray) -> FloatArray:
    """Norm (P, ORDER) of real and imaginary parts (planes, P, ORDER)."""
    total = planes[0] * planes[0]
    for plane in planes[1:]:
        total += plane * plane
    return np.sqrt(total, out=total)


def _root(squares: FloatArray) -> FloatArray:
    """Square roots (P, ORDER) of (1, P, ORDER); a polynomial may fall below zero where it should touch it."""
    return np.sqrt(np.maximum(squares[0], 0))


def _polynomial_pieces(
    copies: int,
    copy: np.ndarray,
    half: FloatArray,
    values: FloatArray,
    size: Callable[[FloatArray], FloatArray],
    between: FloatArray,
    measured: "_Measured",
) -> Variation:
    """The sum over all pieces of a copy of half times the integral of `size` over [-1, 1], (K,).

    Args:
        copy, half: (P,) of every piece.
        values: (planes, P, ORDER) polynomials at the nodes of every piece.
        between: (P,) what a polynomial may miss elsewhere, which counts where a piece is halved.
        measured: the sizes at the nodes of every piece.
    """
    value, error, scale = np.zeros(copies), np.zeros(copies), np.zeros(copies)
    for halving in range(MOST_HALVINGS):
        whole, missed = half * measured.integral, half * measured.missed()
        if not halving:
            scale = np.maximum(np.bincount(copy, whole, copies), np.finfo(float).tiny)
            most = np.maximum(np.bincount(copy, minlength=copies), MOST_PIECES)
        done = ~(missed > POLYNOMIAL_TOLERANCE * scale[copy])
        done |= 2 * np.bincount(copy[~done], minlength=copies)[copy] > most[copy]
        if halving == MOST_HALVINGS - 1:
            done[:] = True
        value += np.bincount(copy[done], whole[done], copies)
        error += np.bincount(copy[done], missed[done], copies)
        if done.all():
            break
        if not halving:
            error += np.bincount(copy[~done], between[~done], copies)
        copy, half = np.repeat(copy[~done], 2), np.repeat(half[~done] / 2, 2)
        values = _mapped(values[:, ~done], _HALVES).reshape(len(values), -1, ORDER)
        measured = _Measured.of(size(values))
    with np.errstate(divide="ignore", invalid="ignore"):
        return Variation(value, np.where(value > 0, error / value, 0.0))


def _completed(diagonal: StateSpace, found: Variation, accepted: float) -> Variation:
    """The variation from samples, or from the modes where its error is above the accepted one."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        value, error = found.value, found.relative_error + np.where(found.value > 0, _rounding(diagonal) / found.value, 0.0)
    again = np.flatnonzero(~(found.relative_error <= accepted))
    if len(again):
        better = total_variation(diagonal.pick(again))
        value[again], error[again] = better.value, better.relative_error
    return Variation(value, error)


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
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return Variation(value, np.where(value > 0, (error + _rounding(diagonal)) / value, 0.0))


def _rounding(diagonal: StateSpace) -> FloatArray:
    """What the rounding of theta leaves uncertain of V, (K,).

    A resonance of width w moves the response by pi |g|/w. Its nodes are off by up to half a spacing of theta, which is what that part of V
    is uncertain by, relative to w; ROUNDED is measured.
    """
    angle, width = pole_distances(diagonal)
    travel = np.pi * mode_sizes(diagonal) * np.abs(discrete_residues(diagonal)) / width
    if diagonal.sobolev is not None:
        travel = travel * diagonal.sobolev.gain(angle, diagonal.step)
    return np.asarray(np.where(travel > 0, travel * ROUNDED * np.spacing(angle) / width, 0.0).sum(axis=1))


def _integrate(diagonal: StateSpace, pieces: _Pieces) -> FloatArray:
    """16-point Gauss-Legendre integrals of |dH/d theta| over every piece."""
    block = max(1, NUMBERS_AT_ONCE // (ORDER * diagonal.modes * 2))
    parts = [
        _integrate_block(diagonal, pieces.pick(np.arange(s, min(s + block, len(pieces.copy))))) for s in range(0, len(pieces.copy), block)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def _integrate_block(diagonal: StateSpace, pieces: _Pieces) -> FloatArray:
    half = (pieces.right - pieces.left) / 2
    theta = (pieces.left + pieces.right)[:, None] / 2 + half[:, None] * NODES
    result: FloatArray = half * (_speed(diagonal, pieces.copy, theta) @ WEIGHTS)
    return result


def squared_speed(diagonal: StateSpace, theta: FloatArray) -> FloatArray:
    """Squared Frobenius norm of d/d theta of the weighted response without delay of the only copy at theta (F,), by pairs of modes."""
    width = max(1, NUMBERS_AT_ONCE // (2 * diagonal.modes))
    parts = [_speed(diagonal, np.zeros(1, int), theta[None, f : f + width])[0] for f in range(0, len(theta), width)]
    return np.concatenate(parts) ** 2


def _speed(diagonal: StateSpace, copy: np.ndarray, theta: FloatArray) -> FloatArray:
    """|dH/d theta| at theta (P, ORDER) of the copies `copy` (P,); a delay of one sample, which only rotates H, is ignored."""
    if diagonal.copies == 1:  # one row for all pieces, so that pair matrices are not repeated
        copy = np.zeros(1, int)
    part = _Modes.of(diagonal, copy)
    x, y = theta_nodes(theta)
    f = part.inverse[:, None, :] / (1j * y[:, :, None] - part.sigma[:, None, :] * x[:, :, None])  # of 1/(z - pole), less e^(-i theta/2)
    single = diagonal.outputs == diagonal.inputs == 1
    factor = part.gain * (part.C[:, 0, :] * part.B[:, :, 0] if single else 1)
    slope = -1j * part.z * factor  # the factor e^(-i theta) of the derivative is gone with those of both f
    if diagonal.sobolev is None:
        derivative = np.multiply(f, f, out=f)
    else:
        sobolev, step = diagonal.sobolev.pick(copy), diagonal.step[copy]
        turned = (x + 1j * y) * sobolev.log_slope(theta, step)
        derivative = sobolev.weight(theta, step)[:, :, None] * (slope[:, None, :] * f**2 + turned[:, :, None] * f * factor[:, None, :])
        slope = np.ones_like(slope)
    if single:
        return np.abs((derivative @ slope[:, :, None])[:, :, 0])
    derivative *= slope[:, None, :]
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
