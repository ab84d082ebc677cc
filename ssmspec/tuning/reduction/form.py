"""Layers that cannot hold every set of modes: the nearest that they can, and whether a reduced system is one of them to rounding."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssmspec.systems.statespace import ComplexArray, FloatArray
from ssmspec.tuning.reduction.discrete_modes import Modes, as_direct

FITS = 1e-9  # H-infinity norm, relative to that of the layer, of what rounding may change: the slack of the bound
NEAR = 1e-6  # about what moving one pole changes in the response, relative to that norm; far more than rounding


@dataclass(frozen=True, slots=True)
class Form:
    """What modes a layer can hold.

    Args:
        title: the family in words. parts: modes of one place; part i of place n is column n + i count.
        nearest_poles: the nearest poles that the layer can have, (N,) -> (N,); NaN where there are none.
        nearest: of the modes of one system, of which the poles may be off, and the size below which residues over 1 - |z| are rounding, the
            modes that the layer can hold.
        possible: whether the poles of a real state matrix (n, n) may be such, from what costs less than the poles.
        relation: what is wrong with a pole, in words.
        norm: H-infinity norm of the layer.
    """

    title: str
    parts: int
    nearest_poles: Callable[[ComplexArray], ComplexArray]
    nearest: Callable[[Modes, float], Modes]
    possible: Callable[[FloatArray], bool]
    relation: Callable[[complex], str]
    norm: float = 1.0

    def held(self, modes: Modes) -> Modes:
        """The nearest modes of one system."""
        return self.nearest(modes, FITS / 10 * self.norm)

    def places(self, modes: Modes) -> int:
        """Places that one system takes."""
        return self.held(modes).poles.shape[1] // self.parts

    def distances(self, poles: ComplexArray) -> FloatArray:
        """Distances (N,) of poles from the nearest that the layer can have, relative to 1 - |z|; infinite where there are none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found = np.abs(poles - self.nearest_poles(poles)) / (1 - np.abs(poles))
        return np.where(np.isnan(found), np.inf, found)

    def misfit(self, modes: Modes) -> float:
        """H-infinity norm of what changes if one system is held, relative to that of the layer."""
        from ssmspec.tuning.reduction.certificate import difference, norms  # readers of families import this module, and need no norms

        pair = (as_direct(modes), as_direct(self.held(modes)))
        return float(norms(difference(*pair)).peak[0]) / (self.norm or 1.0)

    def fits(self, modes: Modes) -> bool:
        """Whether the layer can hold one system, but for rounding."""
        poles, sizes = self._heard(modes)
        return bool((self.distances(poles) * sizes <= NEAR).all()) and self.misfit(modes) <= FITS

    def _heard(self, modes: Modes) -> tuple[ComplexArray, FloatArray]:
        """The poles of one system that are more than rounding in its response, and the peaks of these modes relative to the norm."""
        poles = modes.poles[0]
        sizes = np.linalg.norm(modes.B[0], axis=1) * np.linalg.norm(modes.C[0], axis=0) / (1 - np.abs(poles)) / (self.norm or 1.0)
        heard = sizes > FITS
        return poles[heard], sizes[heard]

    def problem(self, modes: Modes) -> str:
        """How far one system is from what the layer can hold."""
        if self.fits(modes):
            return f"takes {self.places(modes)}"
        poles = self._heard(modes)[0]
        real = int((poles.imag == 0).sum())
        pairs = poles[poles.imag != 0]
        texts = [f"{real} real pole{'s' if real > 1 else ''}, which it cannot have"] if real else []
        if len(pairs) and self.distances(pairs).max() > NEAR:
            texts.append(self.relation(complex(pairs[np.argmax(self.distances(pairs))])))
        elif not real:
            texts.append("residues that its B and C cannot have")
        off = f"in the nearest {self.title} the response is off by {self.misfit(modes):.2g} of its H-infinity norm"
        return f"has {', and '.join(texts)}; {off}"
