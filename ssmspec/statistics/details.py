"""What only figures need of a layer, beside its statistics: Hankel singular values, and the poles in the z-plane."""

from dataclasses import replace

import numpy as np

from ssmspec.errors import LayerError
from ssmspec.statistics.curves import normalized_hankel, over_copies
from ssmspec.statistics.results import Details, Wanted
from ssmspec.statistics.spectra import Spectrum
from ssmspec.systems.statespace import ComplexArray, discrete_poles
from ssmspec.systems.system import System


@np.errstate(all="ignore")  # poles of copies that are not sound may overflow; they are not drawn then
def details_of(system: System, wanted: Wanted, poles: ComplexArray, spectrum: Spectrum | None, problem: str | None) -> Details:
    """The details of a layer.

    Args:
        wanted: "poles" for the poles in the z-plane alone.
        poles: of every copy, sound or not, as in `LayerAnalysis`.
        spectrum: that of the sound copies; None where there are none, for the reason `problem`.
    """
    if wanted == "poles":
        return Details(_in_z_plane(system, poles), None, None)
    hankel, missing = None, problem
    if spectrum is not None:
        try:
            hankel = over_copies(normalized_hankel(spectrum))
        except LayerError as error:
            missing = str(error).partition("nothing to draw: ")[2] or str(error)
    return Details(_in_z_plane(system, poles), hankel, missing)


def _in_z_plane(system: System, poles: ComplexArray) -> ComplexArray:
    if system.no_poles:
        return poles
    space = system.state_space()
    if not space.rank:
        return discrete_poles(space)
    copies, modes = poles.shape
    B, C = np.zeros((copies, modes, space.inputs), complex), np.zeros((copies, space.outputs, modes), complex)
    return discrete_poles(replace(space, poles=poles, B=B, C=C, P=None, Q=None))
