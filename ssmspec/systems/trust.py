"""Which copies of a layer have numbers that can be trusted, and what is wrong with the others.

The copies of a bank are independent systems, so a fault of one says nothing about its neighbors: statistics describe the sound copies.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ssmspec.systems.kernel import KernelSystem
from ssmspec.systems.statespace import FloatArray, StateSpace, real_realization
from ssmspec.systems.system import System

AnySystem = TypeVar("AnySystem", bound=System)
Numbers = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

NOT_FINITE = "NaN or infinite values"
STEP_NOT_POSITIVE = "a step that is not positive"
GROWING = "a growing pole"
UNDAMPED = "undamped poles by design"
ROUNDING = 1e-12  # of |z| of a pole that is on the unit circle by design


@dataclass(frozen=True, slots=True)
class Fault:
    """What some copies of a layer have in common that makes their numbers useless.

    Args:
        kind: NOT_FINITE, STEP_NOT_POSITIVE, GROWING or UNDAMPED, which is not a defect of the file.
        copies: their numbers, rising.
        text: one line with the figures; it says how many copies there are unless the fault is that of all.
    """

    kind: str
    copies: Numbers
    text: str


@dataclass(frozen=True, slots=True)
class Trust:
    """The sound copies of a layer.

    Args:
        copies: K. sound: numbers of the sound ones, rising. faults: of the others; a copy is counted in its first one.
    """

    copies: int
    sound: Numbers
    faults: tuple[Fault, ...]

    @property
    def problem(self) -> str | None:
        """Why no number of the layer can be trusted, or None where one copy is sound."""
        return None if self.sound.size else "; ".join(fault.text for fault in self.faults)

    @property
    def gaps(self) -> tuple[str, ...]:
        """A line for every fault of a layer that has sound copies, too."""
        return tuple(fault.text for fault in self.faults) if self.sound.size else ()

    def despite(self, kind: str) -> "Trust":
        """The same where one kind of fault does not count."""
        forgiven = [fault.copies for fault in self.faults if fault.kind == kind]
        sound = np.sort(np.concatenate([self.sound, *forgiven]))
        return Trust(self.copies, sound, tuple(fault for fault in self.faults if fault.kind != kind))

    def pick(self, system: AnySystem) -> AnySystem:
        """The sound copies as a system of their own; the system itself where all are."""
        return system if len(self.sound) == self.copies else system.pick(self.sound)

    def scatter(self, values: FloatArray) -> FloatArray:
        """Values (sound copies, ...) as those of all copies (K, ...), NaN for the others."""
        if len(self.sound) == self.copies:
            return values
        result = np.full((self.copies, *values.shape[1:]), np.nan, values.dtype)
        result[self.sound] = values
        return result


def assess(system: System) -> Trust:
    """Which copies have finite values, positive steps and poles that decay; of an explicit kernel, which are finite."""
    return _assess_values(system) if system.no_poles else _assess_state_space(system.state_space())


def within_range(trust: Trust, kernel: KernelSystem) -> Trust:
    """The sound copies of a layer whose samples of a finite kernel are finite, too."""
    if trust.problem:
        return trust
    found = _assess_values(trust.pick(kernel))
    lost = tuple(
        Fault(fault.kind, trust.sound[fault.copies], f"{fault.text} within the first {kernel.length} samples") for fault in found.faults
    )
    return Trust(trust.copies, trust.sound[found.sound], (*trust.faults, *lost))


def _assess_values(system: System) -> Trust:
    left, found = np.ones(system.copies, bool), system.not_finite()
    parts = [f"{int(counts.sum())} of {size} values of {label}" for label, (counts, size) in found.items() if counts.any()]
    bad = np.any([counts > 0 for counts, _ in found.values()], axis=0)
    fault = _fault(NOT_FINITE, left, np.asarray(bad), f"{', '.join(parts)} are NaN or infinite")
    return Trust(system.copies, np.flatnonzero(left), () if fault is None else (fault,))


def _assess_state_space(system: StateSpace) -> Trust:
    faults: list[Fault] = []
    left = np.ones(system.copies, bool)
    low_rank = () if system.P is None or system.Q is None else (("P", system.P), ("Q", system.Q))
    beta = () if system.sobolev is None else (("beta", system.sobolev.beta),)
    dynamics = (("the poles", system.poles), *low_rank, ("step", system.step))
    for found in (
        _not_finite(left, *dynamics),
        *_without_decay(system, left),
        _not_finite(left, ("B", system.B), ("C", system.C), ("D", system.D), *beta),
        _undamped(system, left),
    ):
        faults += [found] if found else []
    return Trust(system.copies, np.flatnonzero(left), tuple(faults))


def untrustworthy(system: System) -> str | None:
    """What is wrong with any copy of a layer, in one line; None where all are sound."""
    return "; ".join(fault.text for fault in assess(system).faults) or None


def _fault(kind: str, left: Mask, bad: Mask, text: str) -> Fault | None:
    """The fault of the bad copies among those that are left, which it takes from them."""
    copies = np.flatnonzero(left & bad)
    if not copies.size:
        return None
    left[copies] = False
    return Fault(kind, copies, text if copies.size == left.size else f"{_some(copies.size, left.size)} {kind}: {text}")


def _some(count: int, copies: int) -> str:
    return f"{count} of {copies} copies {'has' if count == 1 else 'have'}"


def _not_finite(left: Mask, *arrays: tuple[str, np.ndarray]) -> Fault | None:
    wrong = {label: ~np.isfinite(array.reshape(len(left), -1)) & left[:, None] for label, array in arrays}
    bad = np.logical_or.reduce([each.any(axis=1) for each in wrong.values()])
    if not bad.any():
        return None
    parts = [f"{int(each.sum())} of {each.size} values of {label}" for label, each in wrong.items() if each.any()]
    return _fault(NOT_FINITE, left, bad, f"{', '.join(parts)} are NaN or infinite")


def _without_decay(system: StateSpace, left: Mask) -> Iterator[Fault | None]:
    """Copies with a step that is not positive, then those with a growing pole."""
    wrong = np.asarray(system.step <= 0) & left[:, None]
    if wrong.any():
        text = f"{int(wrong.sum())} of {wrong.size} steps are not positive; the smallest is {system.step[left].min():.3g}"
        yield _fault(STEP_NOT_POSITIVE, left, np.asarray(wrong.any(axis=1)), text)
    if not left.any():
        return
    numbers = np.flatnonzero(left)
    growth, condition = _growth(system if left.all() else system.pick(numbers))
    lost, growing = np.zeros(len(left), bool), np.zeros(len(left), bool)
    lost[numbers], growing[numbers] = np.isnan(growth).any(axis=1), (growth >= 0).any(axis=1)
    yield _fault(NOT_FINITE, left, lost, "diag - P Q^* leaves the range of numbers")
    if growing.any():
        row, mode = np.unravel_index(int(np.nanargmax(growth)), growth.shape)
        worst = f"in copy {numbers[row]}" if system.rank else f"pole {mode} of copy {numbers[row]}"  # eigenvalues have no order
        count, everything = int((growth >= 0).sum()), len(growth) * system.modes
        count = -(-count * everything // growth.size)  # of eigenvalues a pair is one mode
        advice = f"; {system.if_growing}" if system.if_growing else ""
        yield _fault(GROWING, left, growing, f"{count} of {everything} poles do not decay ({condition}); the worst is {worst}{advice}")


def _growth(system: StateSpace) -> tuple[FloatArray, str]:
    """What must be negative for every pole (K, N), or for all eigenvalues (K, 2N) of a low-rank system, and the condition that it is not.

    A copy whose state matrix overflows has NaN.
    """
    if system.discretization == "direct":
        growth = np.abs(system.poles) - 1
        return np.where(_on_circle(system), -1.0, growth) if system.undamped else growth, "|z| >= 1"
    if system.P is None:
        return system.poles.real, "Re a >= 0" if system.continuous_time else "|z| >= 1"
    with np.errstate(over="ignore", invalid="ignore"):
        A = real_realization(system)[0]
    unique, inverse = np.unique(A.reshape(len(A), -1), axis=0, return_inverse=True)
    usable = np.isfinite(unique).all(axis=1)
    growth = np.full(unique.shape[:1] + A.shape[1:2], np.nan)
    growth[usable] = np.linalg.eigvals(unique[usable].reshape(-1, *A.shape[1:])).real
    return growth[inverse.reshape(-1)], "Re a >= 0"


def _undamped(system: StateSpace, left: Mask) -> Fault | None:
    """Copies with poles that are on the unit circle by design."""
    found = _on_circle(system) & left[:, None]
    if not system.undamped or not found.any():
        return None
    phases = np.abs(np.angle(system.poles[found]))
    text = (
        f"{phases.size} of {found.size} poles are undamped by design ({system.undamped}), at {phases.min():.3g}..{phases.max():.3g}"
        " rad/sample: they neither decay nor grow, so there is a kernel (ssmspec impulse) but no gain, energy or memory"
    )
    return _fault(UNDAMPED, left, np.asarray(found.any(axis=1)), text)


def _on_circle(system: StateSpace) -> Mask:
    """Which discrete poles lie on the unit circle to rounding and are not double poles at z = 1, (K, N)."""
    on_circle: Mask = (np.abs(np.abs(system.poles) - 1) < ROUNDING) & (system.poles.imag > 0)
    return on_circle
