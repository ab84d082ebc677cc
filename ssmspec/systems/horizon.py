"""The kernel of the first L samples of a system, which has a response and an energy even where poles do not decay."""

from dataclasses import dataclass

import numpy as np

from ssmspec.systems.kernel import KernelSystem
from ssmspec.systems.response import impulse_response
from ssmspec.systems.statespace import FloatArray, StateSpace
from ssmspec.systems.system import System

GROWN = "it has poles that do not decay, and this is not computed from a kernel of {length} samples (--horizon)"


@dataclass(frozen=True, slots=True)
class _FirstSamples:
    """The first samples of a state space, computed for some copies at a time; not finite where they leave the range of doubles."""

    system: StateSpace
    length: int
    shared: bool = False
    known_finite: bool = False

    def samples(self, start: int, stop: int) -> FloatArray:
        """As `KernelSource`."""
        with np.errstate(all="ignore"):
            return impulse_response(self.system.copy_slice(start, stop), self.length)


def first_samples(system: System, length: int) -> KernelSystem:
    """The first samples of every copy as an explicit kernel, without a beta weight; samples are computed when they are asked for.

    Args:
        system: K copies, whose poles may grow; an explicit kernel is what it is. length: L samples.
    Raises:
        LayerError: one copy has more samples than a kernel may have.
    """
    if isinstance(system, KernelSystem):
        return system
    return KernelSystem(
        name=system.name,
        family=system.family,
        shape=(system.copies, system.outputs, system.inputs, length),
        source=_FirstSamples(system.state_space(), length),
        D=system.D,
        operating_point=system.operating_point,
        assumptions=system.assumptions,
        assumed=system.assumed,
        no_poles=GROWN.format(length=length),
    )
