"""H2-optimal reduction: iterate on poles and residues until the reduced system interpolates the whole one where it must.

A local minimum of |H - H_r|_2 interpolates H and its derivative at 1/z_i, for every pole z_i of H_r, in the directions of its residues.
From poles and directions follow the interpolation points, from them projections V, W on the states

    V_i = (s_i - A)^{-1} B b_i,   W_i = (s_i - A)^{-T} C^T c_i,   s_i = 1/z_i,        A_r = (W^T V)^{-1} W^T A V, ...

and from A_r the next poles. The iteration starts from a balanced truncation, and the best iterate that is stable and fits is kept, so the
result is never worse than the start, in the H2 norm.

Sources: Gugercin, Antoulas & Beattie 2008 (IRKA); Bunse-Gerstner, Kubalinska, Vossen & Wilczek 2010 (discrete time, several inputs and
outputs); applied to trained S4D in arXiv 2507.10078.
"""

from collections.abc import Callable

import numpy as np

from ssmspec.systems.statespace import ComplexArray, FloatArray
from ssmspec.tuning.reduction.balanced import eigenmodes
from ssmspec.tuning.reduction.discrete_modes import Modes, stacked
from ssmspec.tuning.reduction.orders import Kept, Places

MOST_ITERATIONS = 40
SETTLED = 1e-6  # relative change of the squared error
NEAREST = 1e-8  # |z| of a pole whose inverse is not taken further
AT_ONCE = 1 << 21


def improve(whole: Modes, start: Kept, places: Places) -> Kept:
    """The start, or better systems of the same orders.

    Args:
        whole: the systems that are reduced.
    """
    found: list[tuple[np.ndarray, Modes]] = []
    for order in np.unique(start.orders):
        which = np.flatnonzero(start.orders == order)
        size = max(1, AT_ONCE // max(1, whole.poles.shape[1] * int(order) * 8))
        for begin in range(0, len(which), size):
            part = which[begin : begin + size]
            modes = start.modes.pick(part)
            found.append((part, modes if order == 0 else _iterated(whole.pick(part), modes, int(order), places)))
    back = np.argsort(np.concatenate([where for where, _ in found]))
    return Kept(stacked([modes for _, modes in found]).pick(back), start.orders)


def _iterated(whole: Modes, start: Modes, order: int, places: Places) -> Modes:
    """Systems of one order; one that has settled is left alone."""
    best, error = start, squared_error(whole, start)
    now, before, active = start, error.copy(), np.arange(len(error))
    for _ in range(MOST_ITERATIONS):
        part = whole.pick(active)
        following, sound = _projected(part, now, order)
        reached = np.where(sound, squared_error(part, following), np.inf)
        better = sound & places.fit(following) & (reached < error[active])
        best = _replaced(best, active[better], following.pick(better))
        error[active[better]] = reached[better]
        with np.errstate(invalid="ignore"):
            moving = np.isfinite(reached) & ~(np.abs(reached - before) <= SETTLED * np.abs(before))
        moving |= ~sound & following.alive.any(axis=1)
        if not moving.any():
            break
        now, before, active = _reflected(following.pick(moving)), reached[moving], active[moving]
    return best


def _replaced(modes: Modes, where: np.ndarray, others: Modes) -> Modes:
    """Systems of which some are others."""
    rest = np.setdiff1d(np.arange(len(modes.poles)), where)
    return stacked([modes.pick(rest), others]).pick(np.argsort(np.concatenate([rest, where])))


def _reflected(modes: Modes) -> Modes:
    """Poles outside the unit circle, or on it, reflected into it: only the next interpolation points follow from them."""
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = np.where(np.abs(modes.poles) > 1, 1 / modes.poles.conj(), modes.poles)
    return Modes(np.where(np.abs(inside) >= 1 - 1e-12, inside * (1 - 1e-12) / np.abs(inside), inside), modes.B, modes.C)


def _projected(whole: Modes, now: Modes, order: int) -> tuple[Modes, np.ndarray]:
    """The systems that interpolate at the inverse poles of others, and which of them are stable and finite."""
    poles = np.where(np.abs(now.poles) < NEAREST, NEAREST + 0j, now.poles)
    inverse: ComplexArray = np.reciprocal(poles)
    V = _states(whole.poles, whole.B, inverse, now.B.transpose(0, 2, 1) if whole.B.shape[2] > 1 else None)
    W = _states(whole.poles, whole.C.transpose(0, 2, 1), inverse, now.C if whole.C.shape[1] > 1 else None, 1j)
    pairs, alive = now.poles.imag != 0, now.alive
    right, left = (_real_columns(part, pairs, alive, order) for part in (V, W))
    with np.errstate(all="ignore"):
        usable = np.asarray(np.isfinite(right).all(axis=(1, 2)) & np.isfinite(left).all(axis=(1, 2)))
        right, left = (np.linalg.qr(np.where(usable[:, None, None], part, 0))[0] for part in (right, left))
        N = whole.poles.shape[1]
        moved = (right[:, :N] + 1j * right[:, N:]) * whole.poles[:, :, None]
        across = left.transpose(0, 2, 1)
        E = across @ right
        usable &= np.abs(np.linalg.det(E)) > 0
        E = np.where(usable[:, None, None], E, np.eye(order))
        A = np.linalg.solve(E, across @ np.concatenate([moved.real, moved.imag], axis=1))
        B = np.linalg.solve(E, across @ (np.sqrt(2) * np.concatenate([whole.B.real, whole.B.imag], axis=1)))
        C = (np.sqrt(2) * np.concatenate([whole.C.real, -whole.C.imag], axis=2)) @ right
        usable &= np.isfinite(A).all(axis=(1, 2)) & np.isfinite(B).all(axis=(1, 2))
        found, sound = eigenmodes(*(np.where(usable[:, None, None], part, 0) for part in (A, B, C)))
    return found, usable & sound & (np.abs(found.poles) < 1).all(axis=1)


def _states(
    poles: ComplexArray, vectors: ComplexArray, at: ComplexArray, directions: ComplexArray | None, turn: complex = -1j
) -> ComplexArray:
    """(s - A)^{-1} B b in the coordinates sqrt 2 (Re x, Im x), (G, 2N, M), for s of `at` (G, M) and b the columns of `directions`.

    Rows, which multiply such states, have i in the place of -i for `turn`.
    """
    upper, lower = vectors, vectors.conj()
    if directions is not None:
        upper, lower = upper @ directions, lower @ directions
    upper = upper / (at[:, None, :] - poles[:, :, None])
    lower = lower / (at[:, None, :] - poles.conj()[:, :, None])
    return np.concatenate([upper + lower, turn * (upper - lower)], axis=1) / np.sqrt(2)


def _real_columns(states: ComplexArray, pairs: np.ndarray, alive: np.ndarray, order: int) -> FloatArray:
    """A real basis (G, n, order) of columns (G, n, M): both parts of those that belong to pairs, one of those to real poles."""
    both = np.concatenate([states.real, states.imag], axis=2)
    wanted = np.concatenate([alive, alive & pairs], axis=1)
    places = np.argsort(~wanted, axis=1, kind="stable")[:, :order]
    return np.take_along_axis(both, places[:, None, :], axis=2)


def squared_error(whole: Modes, reduced: Modes) -> FloatArray:
    """Squared H2 norm of the difference, (G,), to about 1e-15 of that of the whole."""
    return _inner(whole, whole) - 2 * _inner(whole, reduced) + _inner(reduced, reduced)


def _inner(first: Modes, second: Modes) -> FloatArray:
    """sum_l trace k_1[l]^T k_2[l] = 2 Re sum_mn (C_1m^* C_2n)(B_2n B_1m^*)/(1 - conj(z_1m) z_2n), and the same of one conjugate half."""
    return 2 * (_sum(first, second, np.conj) + _sum(first, second, np.asarray))


def _sum(first: Modes, second: Modes, form: Callable[[ComplexArray], ComplexArray]) -> FloatArray:
    outputs = form(first.C).transpose(0, 2, 1) @ second.C
    inputs = form(first.B) @ second.B.transpose(0, 2, 1)
    return np.asarray((outputs * inputs / (1 - form(first.poles)[:, :, None] * second.poles[:, None, :])).real.sum(axis=(1, 2)))
