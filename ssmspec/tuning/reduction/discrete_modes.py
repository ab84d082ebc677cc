"""Modes of discrete systems: z-plane poles and residues, from the systems of layers and back into their rules of discretization.

    k[l] = 2 Re sum_n C_n z_n^l B_n,   |z_n| < 1,   Im z_n >= 0; a real pole has half of its residue

which is what every rule gives a diagonal layer, up to its delay. Back, with step Delta and g the residue C B:

    zoh        a = log z/Delta,                  C B = g a/(z - 1)        log z with its angle in [0, pi]: a negative z has angle pi
    bilinear   a = (2/Delta) (z - 1)/(z + 1),    C B = g (1 - a Delta/2)/Delta
    direct     z and g themselves
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace, discrete_poles, discrete_residues, log_poles

SMALLEST = 1e-30  # |z| of a pole that forgets at once, whose logarithm must be finite


@dataclass(frozen=True, slots=True)
class Modes:
    """M modes of G systems with the formulas of the module docstring; a system with fewer has modes without residue behind its own.

    Args:
        poles: (G, M) complex. B: (G, M, I). C: (G, O, M).
    """

    poles: ComplexArray
    B: ComplexArray
    C: ComplexArray

    @property
    def alive(self) -> np.ndarray:
        """Which modes have a residue, (G, M)."""
        found: np.ndarray = (self.B != 0).any(axis=2) & (self.C != 0).any(axis=1)
        return found

    def packed(self) -> "Modes":
        """Modes with a residue first, in as many columns as the system with the most of them needs."""
        alive = self.alive
        order = np.argsort(~alive, axis=1, kind="stable")[:, : max(1, int(alive.sum(axis=1).max()))]
        return Modes(
            np.take_along_axis(self.poles, order, axis=1),
            np.take_along_axis(self.B, order[:, :, None], axis=1),
            np.take_along_axis(self.C, order[:, None, :], axis=2),
        )

    def pick(self, systems: Any) -> "Modes":
        """Some of the systems, by index or slice."""
        return Modes(self.poles[systems], self.B[systems], self.C[systems])

    def outputs(self, rows: slice) -> "Modes":
        """The same with some of the outputs."""
        return Modes(self.poles, self.B, self.C[:, rows])


def modes_of(system: StateSpace) -> Modes:
    """The modes of a diagonal system, without its delay, its skip connection and its beta weight."""
    return Modes(discrete_poles(system), system.B, system.C * discrete_residues(system)[:, None, :])


def as_direct(modes: Modes, name: str = "", family: str = "") -> StateSpace:
    """The systems of these modes, which are taken as they are."""
    ones = np.ones((len(modes.poles), 1))
    skip = np.zeros((len(modes.poles), modes.C.shape[1], modes.B.shape[2]))
    return StateSpace(name=name, family=family, poles=modes.poles, B=modes.B, C=modes.C, D=skip, step=ones, discretization="direct")


def padded(modes: Modes, count: int) -> Modes:
    """The same with modes of residue zero behind the others; their pole is the first of their system."""
    missing = count - modes.poles.shape[1]
    if missing <= 0:
        return modes
    poles = np.concatenate([modes.poles, np.repeat(modes.poles[:, :1], missing, axis=1)], axis=1)
    return Modes(poles, np.pad(modes.B, ((0, 0), (0, missing), (0, 0))), np.pad(modes.C, ((0, 0), (0, 0), (0, missing))))


def joined(parts: Sequence[Modes]) -> Modes:
    """Modes of the same systems side by side."""
    return Modes(
        np.concatenate([part.poles for part in parts], axis=1),
        np.concatenate([part.B for part in parts], axis=1),
        np.concatenate([part.C for part in parts], axis=2),
    )


def stacked(parts: Sequence[Modes]) -> Modes:
    """Systems one after the other, padded to the most modes."""
    most = max(part.poles.shape[1] for part in parts)
    wide = [padded(part, most) for part in parts]
    return Modes(*(np.concatenate([getattr(part, name) for part in wide]) for name in ("poles", "B", "C")))


def as_layer(modes: Modes, before: StateSpace) -> StateSpace:
    """The system with these modes that is sampled as another one is, with its skip connection, delay, step and weight.

    The rows of B keep the size that they have in the other system; C takes the rest. Where every mode has a step of its own, it is that
    of the nearest pole before. A low-rank part becomes zero.

    Raises:
        LayerError: the rule cannot have such poles.
    """
    poles = np.where(np.abs(modes.poles) < SMALLEST, SMALLEST, modes.poles)
    step = before.step if before.step.shape[1] == 1 else _nearest_steps(poles, before)
    if before.discretization == "direct":
        continuous = poles
    elif before.discretization == "zoh":
        continuous = np.asarray(np.log(poles) / step)
        continuous = np.where(continuous.imag < 0, continuous.conj(), continuous)  # -0.0 in the imaginary part of a negative pole
    elif before.discretization == "bilinear":
        continuous = 2 / step * (poles - 1) / (poles + 1)
    else:
        raise LayerError(f"layer {before.name}: modes of its rule ({before.discretization}) cannot be replaced")
    none = None if before.P is None else np.zeros((*poles.shape, before.P.shape[2]), complex)
    empty = replace(before, poles=continuous, B=modes.B, C=modes.C, step=step, P=none, Q=none)
    strength = np.linalg.norm(modes.B, axis=2)
    size = float(np.median(np.linalg.norm(before.B, axis=2))) or 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = modes.B[:, :, :1] / np.abs(modes.B[:, :, :1]) if before.inputs == 1 else 1.0
        factor = np.where(strength[:, :, None] > 0, turn * strength[:, :, None] / size, 1)
        B = np.where(strength[:, :, None] > 0, modes.B / factor, modes.B + (size if before.inputs == 1 else 0))
        C = modes.C * (factor[:, :, 0] / discrete_residues(empty))[:, None, :]
    return replace(empty, B=B, C=np.where((strength > 0)[:, None, :], C, 0))


def _nearest_steps(poles: ComplexArray, before: StateSpace) -> FloatArray:
    """The step (G, M) of the stored pole nearest to each, by decay and angle per sample."""
    wanted, known = np.log(poles), log_poles(before)
    nearest = np.argmin(np.abs(wanted[:, :, None] - known[:, None, :]), axis=2)
    return np.take_along_axis(np.broadcast_to(before.step, known.shape), nearest, axis=1)
