"""What rules look at: one layer as a state space, as it is stored, and as it was analyzed."""

from dataclasses import dataclass
from functools import cached_property

from ssmspec.families import LayerTensors
from ssmspec.statistics import LayerAnalysis
from ssmspec.statistics.quadrature import pole_distances
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace, modal_form


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """One layer.

    Args:
        system: its state space; its numbers can be trusted where `problem` is None.
        tensors: its stored tensors by role, to be read when asked; two directions of a block share them.
        problem: why no number of the layer can be trusted.
        analysis: its statistics; None where no threshold asks for them.
    """

    system: StateSpace
    tensors: LayerTensors
    problem: str | None
    analysis: LayerAnalysis | None = None

    @cached_property
    def modal(self) -> StateSpace:
        """The diagonal form, whose poles are the system's poles."""
        return modal_form(self.system)[0]

    @cached_property
    def decay(self) -> FloatArray:
        """-log|z| of every pole, (K, N) [1/sample]."""
        return pole_distances(self.modal)[1]

    @property
    def poles(self) -> ComplexArray:
        """Poles of the diagonal form; continuous, or of the z-plane for "direct"."""
        return self.modal.poles
