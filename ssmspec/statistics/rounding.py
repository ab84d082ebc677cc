"""Check whether the value of a statistic survives rounding.

A value is computed again with every number of the layer perturbed by a few units in its last place. If the value changes by more than
`ERROR`, it was never known to that accuracy: terms cancel, poles nearly coincide, or a resonance is narrower than the precision of its
frequency. Only copies that are suspicious according to a cheap bound are computed again.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.statistics.values import Values
from ssmspec.systems.grid import FloatArray
from ssmspec.systems.statespace import ComplexArray, StateSpace, cayley_poles, homogeneous_scale, log_poles, mode_sizes

ERROR = 1e-6  # error of every reported value: relative; for slopes, residual shares and distances absolute
MOVED = 16 * np.finfo(float).eps  # several times the rounding error of the computation itself
ROUNDS = 2
ROWS_AT_ONCE = 256  # copies: thousands at once would take as much memory again as their response
UNSTEADY = "it changes by more than 1e-6 when the numbers of the layer change in their last digits (cancellation, or poles too sharp)"


def moved(system: StateSpace, seed: int) -> StateSpace:
    """The system with every number changed by between 0.5 and 1 times `MOVED`, differently for each mode but equally for all copies.

    Residues are changed relative to their magnitude, whatever their phase. The decay of a pole keeps its relative accuracy, as it does in
    the computation. The frequency is changed relative to itself and to the decay, so that a nearly real pole does not cancel its conjugate
    exactly.
    """
    rng = np.random.default_rng(seed)

    def noise(array: npt.NDArray[Any]) -> FloatArray:
        shape = (1, *array.shape[1:])
        return np.asarray(MOVED * rng.uniform(0.5, 1, shape) * rng.choice([-1, 1], shape))

    def turned(array: ComplexArray) -> ComplexArray:
        return np.asarray(array * (1 + noise(array) + 1j * noise(array)))

    a = system.poles
    poles = a.real * (1 + noise(a)) + 1j * (a.imag * (1 + noise(a)) + a.real * noise(a))
    changed = replace(system, poles=poles, B=turned(system.B), C=turned(system.C), step=system.step * (1 + noise(system.step)))
    return changed if system.P is None or system.Q is None else replace(changed, P=turned(system.P), Q=turned(system.Q))


def steady(values: FloatArray, others: Sequence[FloatArray], *, absolute: bool) -> npt.NDArray[np.bool_]:
    """Which of the values (K,) agree with all of the others (K,) to within `ERROR`."""
    scale = np.maximum(np.abs(values), 1.0 if absolute else 0.0)
    return np.asarray(np.logical_and.reduce([np.abs(other - values) <= ERROR * scale for other in others]))


def without(values: Values, copies: npt.NDArray[np.intp], known: npt.NDArray[np.bool_]) -> Values:
    """The values, with NaN for those of the given copies that are not known, and with the reason if there are any."""
    lost = np.isfinite(values.values[copies]) & ~known
    if not lost.any():
        return values
    kept = values.values.copy()
    kept[copies[lost]] = np.nan
    return replace(values, values=kept, reason=UNSTEADY)


@np.errstate(all="ignore")  # copies without a response and values out of range count as suspects
def suspects(modal: StateSpace, condition: FloatArray, magnitudes: Sequence[FloatArray]) -> npt.NDArray[np.bool_]:
    """Copies (K,) that may have lost digits, according to a bound that costs one pass over the modes.

    Every mode adds at most 2 |g|/|Re sigma| to the response, and changes it by up to |Im a|/|Re a| times that when its frequency changes.
    For Hankel singular values, which come from squares, the square counts.

    Args:
        modal: the normalized system in modal form. condition: (K,) condition numbers of its eigenvectors.
        magnitudes: each (K, F), |H| of the normalized system without beta weight, and with D if D is included.
    """
    sigma = cayley_poles(modal)
    terms = 2 * mode_sizes(modal) * np.abs(homogeneous_scale(modal, sigma)) / np.abs(sigma.real)
    decay = -log_poles(modal).real
    sharpness = 1 / decay if modal.discretization == "direct" else np.abs(modal.poles.imag) / np.abs(modal.poles.real)
    sharpness = np.where(
        condition[:, None] > 1, condition[:, None] * np.abs(modal.poles).max(axis=1, keepdims=True) / np.abs(modal.poles.real), sharpness
    )
    allowed = ERROR / MOVED
    steady = (np.where(terms > 0, sharpness, 0) < allowed).all(axis=1)
    for magnitude in magnitudes:
        rows = (magnitude[start : start + ROWS_AT_ONCE] for start in range(0, len(magnitude), ROWS_AT_ONCE))
        lowest, highest = 1 / np.concatenate([(1 / part).mean(axis=1) for part in rows]), magnitude.max(axis=1)
        steady &= ((terms * (1 + sharpness)).sum(axis=1) < allowed * lowest) & (terms.sum(axis=1) ** 2 < allowed * highest**2)
    return np.asarray(~steady & (terms > 0).any(axis=1))
