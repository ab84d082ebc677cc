"""A live layer as `ssmspec.systems.statespace.StateSpace`, equal to what the family's reader returns for its state dict."""

import numpy as np
from torch import Tensor

from ssmspec.nn.kernel_dft import Diagonal
from ssmspec.nn.settings import Settings
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import FloatArray, StateSpace

_FAMILIES = {"minimal": "s4d"}  # the other layouts are named as their families


def state_spaces(settings: Settings, system: Diagonal, D: Tensor, weight: Sobolev | None, name: str) -> list[StateSpace]:
    """One StateSpace per direction, with copies ordered by channels, then by H.

    Args:
        settings: settings of the layer. system: its kernel. D: (channels, H) or (H,). weight: for its channels times H copies, or None.
        name: name of the layer.
    """
    if not settings.bidirectional:
        return [_direction(settings, system, as_array(D), weight, name)]
    forward, backward = system.residues.chunk(2)
    return [
        _direction(settings, system._replace(residues=forward), as_array(D), weight, f"{name}:forward"),
        _direction(settings, system._replace(residues=backward), 0 * as_array(D), weight, f"{name}:backward"),
    ]


def _direction(settings: Settings, system: Diagonal, D: FloatArray, weight: Sobolev | None, name: str) -> StateSpace:
    repeat = (len(system.residues), 1)
    poles = np.tile(system.poles.detach().cpu().numpy(), repeat)
    residues = system.residues.detach().cpu().numpy().reshape(poles.shape)
    lower = poles.imag < 0
    folded = np.where(lower, residues.conj(), residues)
    return StateSpace(
        name=name,
        family=_FAMILIES.get(settings.layout, settings.layout),
        poles=np.where(lower, poles.conj(), poles),
        B=np.ones((*poles.shape, 1), complex),
        C=folded[:, None, :],
        D=D.reshape(-1, 1, 1),
        step=np.tile(as_array(system.step), repeat),
        discretization=settings.discretization,
        sobolev=weight,
    )


def as_array(tensor: Tensor) -> FloatArray:
    """The values in float64, for NumPy."""
    return tensor.detach().double().cpu().numpy()
