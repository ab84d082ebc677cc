"""The rule about modes that repeat a pole of their copy: they add a residue, but no new frequency or memory."""

from itertools import product

import numpy as np

from ssmspec.checking.facts import LayerFacts
from ssmspec.systems.statespace import ComplexArray, FloatArray

TOLERANCE = 1e-6  # relative distance of two poles; float32 rounds each to 6e-8
TOLERATED = 1e-3  # share of modes: in layers with 1e5 real poles a few pairs coincide by chance
MIRRORED = 0.9  # if at least this share of complex modes has a twin, both halves of conjugate pairs seem to be stored
PAIRS_AT_ONCE = 1 << 22


def duplicated_modes(facts: LayerFacts) -> str | None:
    """More than the share TOLERATED of modes have the same pole as another mode of their copy.

    In a file that stores both halves of conjugate pairs (S5 without conj_sym, LinOSS, annotated S4), every complex pole appears twice after
    folding; there, only a third occurrence counts.
    """
    twins = _twins(_logarithms(facts))
    members = twins + 1.0
    complex_pole = facts.poles.imag != 0
    mirrored = bool(complex_pole.any()) and float((twins[complex_pole] > 0).mean()) >= MIRRORED
    allowed = np.where(complex_pole & mirrored, 2.0, 1.0)
    surplus = np.where(members > allowed, 1 - allowed / members, 0).sum(axis=1)  # modes of a copy that could be merged into others
    count = round(float(surplus.sum()))
    if count <= TOLERATED * twins.size:
        return None
    copy = int(surplus.argmax())
    pole = facts.poles[copy, int(members[copy].argmax())]
    where = f"copy {facts.copy(copy)} has {pole:.4g} {int(members[copy].max())} times"
    return f"{count} of {twins.size} modes repeat a pole of their copy; {where}"


def _logarithms(facts: LayerFacts) -> ComplexArray:
    """Poles in the s-plane, (K, N), or log z if discrete poles are stored; NaN for the padding of diagonal forms."""
    poles = facts.poles
    if facts.modal.discretization == "direct":
        with np.errstate(divide="ignore"):
            poles = np.log(poles)
    if facts.sound.rank:
        poles = np.where((facts.modal.B == 0).all(axis=2), np.nan, poles)
    return np.asarray(poles, dtype=np.complex128)


def _twins(poles: ComplexArray) -> FloatArray:
    """For each mode, the number of other modes of its copy with the same pole, (K, N)."""
    K, N = poles.shape
    twins = np.empty((K, N))
    copies, modes = max(1, PAIRS_AT_ONCE // (N * N)), max(1, PAIRS_AT_ONCE // N)
    with np.errstate(invalid="ignore"):
        for k, n in product(range(0, K, copies), range(0, N, modes)):
            part = poles[k : k + copies]
            some = part[:, n : n + modes, None]
            close = np.abs(some - part[:, None, :]) <= TOLERANCE * np.abs(some)
            twins[k : k + copies, n : n + modes] = np.maximum(close.sum(axis=2) - 1, 0)
    return twins
