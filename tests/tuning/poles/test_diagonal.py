"""Low-rank systems converted to diagonal form, compared with dense matrices, and the reported error compared with the true one."""

from dataclasses import replace

import numpy as np
import pytest
from problems import build, low_rank, random_system

from ssmspec.errors import LayerError
from ssmspec.systems.statespace import StateSpace, bilinear_realization, discrete_poles, discrete_residues, real_realization
from ssmspec.tuning.poles.diagonal import diagonalize

THETA = np.concatenate([[1e-6], (np.arange(20_000) + 0.5) * np.pi / 20_000])


def dense_response(system: StateSpace) -> np.ndarray:
    """(K, O, I, F): C (I - Abar e^{-i theta})^{-1} Bbar by eigenvectors of the bilinearly discretized dense matrix."""
    A, B, C = bilinear_realization(system)
    values, vectors = np.linalg.eig(A)
    inputs, outputs = np.linalg.solve(vectors, B.astype(complex)), C @ vectors
    return np.einsum("kon,knf,kni->koif", outputs, 1 / (1 - values[:, :, None] * np.exp(-1j * THETA)), inputs)


def diagonal_response(system: StateSpace) -> np.ndarray:
    z, scaled = discrete_poles(system), system.B * discrete_residues(system)[:, :, None]
    halves = ((system.C, z, scaled), (system.C.conj(), z.conj(), scaled.conj()))
    return sum(np.einsum("kon,knf,kni->koif", C, 1 / (1 - p[:, :, None] * np.exp(-1j * THETA)), B) for C, p, B in halves)


def relative_error(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return np.sqrt((np.abs(found - wanted) ** 2).sum(axis=(1, 2, 3)) / (np.abs(wanted) ** 2).sum(axis=(1, 2, 3)))


def oscillating(rng: np.random.Generator, **choices: object) -> StateSpace:
    """A low-rank part too weak to make eigenvalues real."""
    system = random_system(rng, R=1, **choices)
    shift = 2j + 3j * np.arange(system.modes)
    return replace(system, poles=system.poles.real + shift, P=0.3 * system.P, Q=0.3 * system.Q)


def crowded() -> StateSpace:
    """Two slow real modes that the low-rank part turns into real eigenvalues, which need a stored mode each."""
    poles, B, C = [-1 + 0.1j, -1.2 + 6j, -0.7 + 11j], [[1], [1], [1]], [[0.5 - 0.1j, 0.2 + 0.1j, 0.1]]
    return build(poles, B, C, P=[[0.8], [0.1], [0.1]], Q=[[0.8], [0.1], [0.1]], discretization="bilinear", step=0.05)


def test_eigenvalues_become_poles_and_nothing_is_lost(rng: np.random.Generator) -> None:
    system = oscillating(rng, K=3, N=4, I=2, O=2)
    (found,) = diagonalize([system])
    eigenvalues = np.linalg.eigvals(real_realization(system)[0])
    for copy in range(3):
        upper = eigenvalues[copy][eigenvalues[copy].imag > 0]
        np.testing.assert_allclose(np.sort_complex(found.system.poles[copy]), np.sort_complex(upper), rtol=1e-11)
    np.testing.assert_array_equal(found.dropped, 0)
    assert found.error.max() < 1e-11
    assert relative_error(diagonal_response(found.system), dense_response(system)).max() < 1e-11
    assert found.system.P is not None
    assert not found.system.P.any()
    assert not found.system.Q.any()
    assert found.system.P.shape == system.P.shape


def test_a_mode_too_many_is_left_out_and_the_error_is_the_one_on_a_dense_grid() -> None:
    system = crowded()
    (found,) = diagonalize([system])
    assert found.dropped[0] == 1
    assert found.system.modes == 3
    assert 1e-6 < found.error[0] < 0.3
    np.testing.assert_allclose(found.error, relative_error(diagonal_response(found.system), dense_response(system)), rtol=2e-3)


def test_c_on_the_kept_poles_is_the_one_of_dense_least_squares() -> None:
    """min over C of |wanted - C phi - conj-pair|, the real and the imaginary parts of C being the unknowns."""
    system = crowded()
    (found,) = diagonalize([system])
    wanted = dense_response(system)
    columns = []
    for mode in range(3):
        for part in (1, 1j):
            C = np.zeros((1, 1, 3), complex)
            C[0, 0, mode] = part
            columns.append(diagonal_response(replace(found.system, C=C))[0, 0, 0])
    basis = np.stack(columns, axis=1)
    right = wanted[0, 0, 0]
    stacked = [np.concatenate([part.real, part.imag]) for part in (basis, right)]
    residual = stacked[1] - stacked[0] @ np.linalg.lstsq(stacked[0], stacked[1], rcond=None)[0]
    least = np.linalg.norm(residual) / np.linalg.norm(stacked[1])
    assert found.error[0] == pytest.approx(least, rel=2e-3)


def test_real_and_complex_poles_of_a_companion_matrix_are_all_kept() -> None:
    """1/((s + 1)(s^2 + 2 s + 5)) with feedback: two stored modes for three poles and one that the realization cancels."""
    system = low_rank().system
    (found,) = diagonalize([system])
    np.testing.assert_allclose(found.error, relative_error(diagonal_response(found.system), dense_response(system)), atol=1e-4, rtol=2e-3)


def test_copies_with_the_same_matrix_keep_the_same_poles_and_inputs(rng: np.random.Generator) -> None:
    one = crowded()
    weak = 1e-3 * rng.normal(size=(1, 1, 3)) + one.C[::-1] * 1j
    parts = {name: np.concatenate([getattr(one, name)] * 2) for name in ("poles", "B", "D", "P", "Q")}
    both = replace(one, **parts, C=np.concatenate([one.C, weak]), step=np.array([[0.05], [0.2]]))
    (found,) = diagonalize([both])
    np.testing.assert_array_equal(found.system.poles[0], found.system.poles[1])
    np.testing.assert_array_equal(found.system.B[0], found.system.B[1])


def test_two_directions_keep_the_same_poles_and_inputs(rng: np.random.Generator) -> None:
    forward = crowded()
    backward = replace(forward, C=1j * forward.C[:, :, ::-1])
    first, second = diagonalize([forward, backward])
    np.testing.assert_array_equal(first.system.poles, second.system.poles)
    np.testing.assert_array_equal(first.system.B, second.system.B)
    for found, system in ((first, forward), (second, backward)):
        np.testing.assert_allclose(found.error, relative_error(diagonal_response(found.system), dense_response(system)), rtol=2e-3)


def test_a_diagonal_system_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(LayerError, match="already diagonal"):
        diagonalize([random_system(rng)])
