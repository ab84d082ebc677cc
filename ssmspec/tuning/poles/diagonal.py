"""Convert a low-rank system (DPLR, S4) to a diagonal one with the same number of stored modes, so that its poles can be scaled.

The eigenvalues of diag(a) - P Q^* are the poles of the same response. A complex pair fits in one stored mode, but two real eigenvalues need
two modes where the low-rank form had one. A copy with real eigenvalues therefore has too many modes: the weakest are dropped, and C is
refitted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ssmspec.backends.reference import cauchy_sum
from ssmspec.errors import LayerError
from ssmspec.statistics.quadrature import Panels, panels
from ssmspec.systems.grid import theta_nodes
from ssmspec.systems.response import completed_response, discrete_response
from ssmspec.systems.statespace import ComplexArray, FloatArray, StateSpace, discrete_poles, discrete_residues, modal_form, mode_sizes


@dataclass(frozen=True, slots=True)
class Diagonalized:
    """A system whose low-rank part is zero, and for every copy, (K,):

    error: relative error of the response, L2 over theta. condition: condition number of the eigenvectors. dropped: number of dropped modes.
    cancellation: square root of the summed energies of the single modes over that of the response. If it is large, the residues are large
    and cancel only at exactly these poles; scaling the poles, or storing them in float32, spoils the response.
    """

    system: StateSpace
    error: FloatArray
    condition: FloatArray
    dropped: FloatArray
    cancellation: FloatArray


def diagonalize(systems: Sequence[StateSpace]) -> list[Diagonalized]:
    """The systems with their eigenvalues as poles and P = Q = 0, with the same number of stored modes.

    Args:
        systems: the directions of one layer; copies that share poles still share them afterwards.
    Raises:
        LayerError: there is no low-rank part, or the poles are too close to the unit circle to measure the error.
    """
    for system in systems:
        if not system.rank:
            raise LayerError(f"layer {system.name} ({system.family}) is already diagonal; remove --diagonalize")
    forms = [modal_form(system) for system in systems]
    kept = _kept_modes([modal for modal, _ in forms], systems[0].modes)
    return [_diagonalize(system, *form, order) for system, form, order in zip(systems, forms, kept, strict=True)]


def _diagonalize(system: StateSpace, modal: StateSpace, condition: FloatArray, kept: np.ndarray) -> Diagonalized:
    cut = panels(modal)
    if cut is None:
        raise LayerError(f"layer {system.name}: its poles are too close to the unit circle to be converted with a known error")
    fitted, errors, dropped, cancellations = [], [], [], []
    for k in range(system.copies):
        nodes = Panels(cut.edges[k : k + 1])
        target = discrete_response(system.copy_slice(k, k + 1), *theta_nodes(nodes.nodes()), cauchy_sum)[0]
        copy, excess = _picked(modal.copy_slice(k, k + 1), kept[k], system.modes)
        copy, error, cancellation = _refitted(copy, target, nodes, refit=excess > 0)
        fitted.append(copy)
        errors.append(error)
        dropped.append(excess)
        cancellations.append(cancellation)
    none = np.zeros((system.copies, system.modes, system.rank), complex)
    poles, B, C = (np.concatenate([getattr(copy, letter) for copy in fitted]) for letter in ("poles", "B", "C"))
    diagonal = replace(system, poles=poles, B=B, C=C, P=none, Q=none)
    return Diagonalized(diagonal, np.array(errors), condition, np.array(dropped), np.array(cancellations))


def _kept_modes(modals: Sequence[StateSpace], count: int) -> list[np.ndarray]:
    """Which modes (K, count or fewer) every copy keeps: those with the most energy, summed over all copies with the same poles."""
    width = max(modal.modes for modal in modals)
    padded = [np.pad(modal.poles, ((0, 0), (0, width - modal.modes))) for modal in modals]
    energies = [np.pad(_energies(modal), ((0, 0), (0, width - modal.modes)), constant_values=-1) for modal in modals]
    inverse = np.unique(np.concatenate(padded), axis=0, return_inverse=True)[1].reshape(-1)
    total = np.zeros((int(inverse.max()) + 1, width))
    np.add.at(total, inverse, np.concatenate(energies))
    order = np.sort(np.argsort(-total, axis=1, kind="stable")[:, : min(count, width)], axis=1)[inverse]
    return np.split(order, np.cumsum([modal.copies for modal in modals])[:-1])


def _energies(modal: StateSpace) -> FloatArray:
    """Energy of every single mode, as a share of the sum over its copy, (K, N)."""
    size = mode_sizes(modal) * np.abs(discrete_residues(modal))
    energy = size**2 / np.maximum(1 - np.abs(discrete_poles(modal)) ** 2, np.finfo(float).tiny)
    return np.asarray(energy / np.maximum(energy.sum(axis=1, keepdims=True), np.finfo(float).tiny))


def _picked(copy: StateSpace, kept: np.ndarray, count: int) -> tuple[StateSpace, int]:
    """One copy with the modes `kept`, padded with modes of residue zero, and the number of dropped modes with a nonzero residue."""
    kept = kept[kept < copy.modes]
    silent = (copy.B[0] == 0).all(axis=1)
    missing = count - len(kept)
    poles = np.concatenate([copy.poles[:, kept], np.repeat(copy.poles[:, :1], missing, axis=1)], axis=1)
    B = np.concatenate([copy.B[:, kept], np.zeros((1, missing, copy.inputs))], axis=1)
    C = np.concatenate([copy.C[:, :, kept], np.zeros((1, copy.outputs, missing))], axis=2)
    return replace(copy, poles=poles, B=B, C=C), int((~silent).sum() - (~silent[kept]).sum())


def _refitted(copy: StateSpace, target: ComplexArray, nodes: Panels, *, refit: bool) -> tuple[StateSpace, float, float]:
    """One copy whose C is fitted to the target (O, I, F) if modes are missing, its relative error, and its cancellation."""
    weights = np.sqrt(nodes.weights()[0])
    phi = completed_response(copy, *theta_nodes(nodes.nodes()))[0]
    V = np.concatenate([copy.B[0], copy.B[0].conj()], axis=0)
    basis = (phi.T[:, None, :] * V[:, :, None]) * weights
    wanted = target * weights
    if refit:
        copy = replace(copy, C=_least_squares(basis, wanted, copy.modes)[None])
    U = np.concatenate([copy.C[0], copy.C[0].conj()], axis=1)
    size = float(np.linalg.norm(wanted))
    if not size:
        return copy, 0.0, 0.0
    alone = float(np.linalg.norm(np.linalg.norm(U, axis=0) * np.linalg.norm(basis.reshape(len(basis), -1), axis=1)))
    return copy, float(np.linalg.norm(np.einsum("on,nif->oif", U, basis) - wanted)) / size, alone / size


def _least_squares(basis: ComplexArray, wanted: ComplexArray, modes: int) -> ComplexArray:
    """C (O, N) such that C and its conjugate on the basis (2N, I, F) best approximate the wanted values (O, I, F), in real unknowns."""
    upper, lower = basis[:modes].reshape(modes, -1), basis[modes:].reshape(modes, -1)
    columns = np.concatenate([upper + lower, 1j * (upper - lower)]).T
    rows = np.concatenate([columns.real, columns.imag])
    right = wanted.reshape(len(wanted), -1).T
    solution = np.linalg.lstsq(rows, np.concatenate([right.real, right.imag]), rcond=1e-12)[0]
    return np.asarray(solution[:modes] + 1j * solution[modes:]).T
