"""The input of the rules: one layer as a state space, with its stored tensors and its analysis."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ssmspec.families import LayerTensors
from ssmspec.statistics import LayerAnalysis
from ssmspec.statistics.quadrature import pole_distances
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace, modal_form
from ssmspec.systems.system import System
from ssmspec.systems.trust import Trust


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """One layer.

    Args:
        system: its state space or explicit kernel. Rules that need poles are not applied to the latter.
        tensors: its stored tensors by role, read on demand; two directions of a block share them.
        trust: which copies can be trusted.
        spoiled: name -> how many of how many values are NaN or infinite, of the tensors of its block that hold some. Of the directions of
            a block those that show it have them, and the first one where none does.
        analysis: its statistics; None if no threshold needs them.
    """

    system: System
    tensors: LayerTensors
    trust: Trust
    spoiled: Mapping[str, str] = field(default_factory=dict)
    analysis: LayerAnalysis | None = None

    @cached_property
    def sound(self) -> StateSpace:
        """The copies whose values can be trusted, of a state space. There are none if the layer as a whole has a problem."""
        return self.trust.pick(self.system.state_space())

    @cached_property
    def modal(self) -> StateSpace:
        """The diagonal form of the sound copies, which has the same poles."""
        return modal_form(self.sound)[0]

    @cached_property
    def decay(self) -> FloatArray:
        """-log|z| of every pole of the sound copies, (K, N) [1/sample]."""
        return pole_distances(self.modal)[1]

    @property
    def poles(self) -> ComplexArray:
        """Poles of the diagonal form: continuous, or in the z-plane for "direct"."""
        return self.modal.poles

    def copy(self, row: int) -> int:
        """The index of a copy in the layer, from its index among the sound copies."""
        return int(self.trust.sound[row])

    def some(self, count: int) -> str:
        """The subject of a sentence about `count` of the sound copies."""
        if self.system.copies == 1:
            return "the layer has"
        sound = " sound" if self.trust.faults else ""
        return f"{count} of {len(self.trust.sound)}{sound} copies {'has' if count == 1 else 'have'}"
