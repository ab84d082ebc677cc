"""The input of the rules: one layer as a state space, with its stored tensors and its analysis."""

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
        system: its state space; its values can be trusted if `problem` is None.
        tensors: its stored tensors by role, read on demand; two directions of a block share them.
        problem: why the values of the layer cannot be trusted, or None.
        analysis: its statistics; None if no threshold needs them.
    """

    system: StateSpace
    tensors: LayerTensors
    problem: str | None
    analysis: LayerAnalysis | None = None

    @cached_property
    def modal(self) -> StateSpace:
        """The diagonal form, which has the same poles as the system."""
        return modal_form(self.system)[0]

    @cached_property
    def decay(self) -> FloatArray:
        """-log|z| of every pole, (K, N) [1/sample]."""
        return pole_distances(self.modal)[1]

    @property
    def poles(self) -> ComplexArray:
        """Poles of the diagonal form: continuous, or in the z-plane for "direct"."""
        return self.modal.poles
