"""What rules look at: one layer as a state space, as it is stored, and as it was analyzed."""

from dataclasses import dataclass
from functools import cached_property

from ssmspec.families import LayerTensors
from ssmspec.statistics import LayerAnalysis
from ssmspec.statistics.quadrature import pole_distances
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace, modal_form
from ssmspec.systems.trust import Trust


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """One layer.

    Args:
        system: its state space.
        tensors: its stored tensors by role, to be read when asked; two directions of a block share them.
        trust: which copies can be trusted.
        analysis: its statistics; None where no threshold asks for them.
    """

    system: StateSpace
    tensors: LayerTensors
    trust: Trust
    analysis: LayerAnalysis | None = None

    @cached_property
    def sound(self) -> StateSpace:
        """The copies whose numbers can be trusted; there are none where the layer as a whole has a problem."""
        return self.trust.pick(self.system)

    @cached_property
    def modal(self) -> StateSpace:
        """The diagonal form of the sound copies, whose poles are the system's poles."""
        return modal_form(self.sound)[0]

    @cached_property
    def decay(self) -> FloatArray:
        """-log|z| of every pole of the sound copies, (K, N) [1/sample]."""
        return pole_distances(self.modal)[1]

    @property
    def poles(self) -> ComplexArray:
        """Poles of the diagonal form; continuous, or of the z-plane for "direct"."""
        return self.modal.poles

    def copy(self, row: int) -> int:
        """The number of a copy from its place among the sound ones."""
        return int(self.trust.sound[row])

    def some(self, count: int) -> str:
        """The subject of a sentence about so many of the sound copies."""
        if self.system.copies == 1:
            return "the layer has"
        sound = " sound" if self.trust.faults else ""
        return f"{count} of {self.sound.copies}{sound} copies {'has' if count == 1 else 'have'}"
