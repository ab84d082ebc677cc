"""Responses against closed forms, SciPy, python-control, and the definition of the impulse response."""

from dataclasses import replace

import numpy as np
import pytest
from problems import PROBLEMS, Problem, random_system
from scipy import signal

from ssmspec.backends import load_backend
from ssmspec.errors import LayerError
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.response import frequency_response, impulse_response, squared_magnitude
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import DISCRETIZATIONS, StateSpace, bilinear_realization, discrete_poles, modal_form, real_realization

OMEGA = FrequencyGrid(np.concatenate([[0.0], np.geomspace(1e-3, 1e4, 97)]), "omega")
THETA = FrequencyGrid(np.linspace(0, np.pi, 129), "theta")
BACKENDS = ["reference", "cpu"]


def exact(problem: Problem, s: np.ndarray) -> np.ndarray:
    return np.stack([problem.G(value) for value in s], axis=-1)


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_continuous_response_equals_the_closed_form(problem: Problem, backend: str) -> None:
    found = frequency_response(problem.system, OMEGA, load_backend(backend)).total[0]
    assert relative(found, exact(problem, 1j * OMEGA.values)) < 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_bilinear_response_is_the_continuous_one_at_warped_frequencies(problem: Problem, backend: str) -> None:
    system = replace(problem.system, discretization="bilinear")
    step = system.step[0, 0]
    theta = FrequencyGrid(np.linspace(0.001, np.pi - 0.001, 201), "theta")
    warped = 2j / step * np.tan(theta.values / 2)
    # S4 samples the input without averaging it: Bbar = (1 - a step/2)^-1 step B, which is Tustin's rule times 2/(1 + e^{-i theta})
    wanted = exact(problem, warped) * 2 / (1 + np.exp(-1j * theta.values))
    found = frequency_response(system, theta, load_backend(backend)).total[0]
    assert relative(found, wanted) < 1e-11  # a sharp pole leaves that of the last digit of a tangent


@pytest.mark.parametrize("problem", [p for p in PROBLEMS if not p.system.rank], ids=lambda problem: problem.name)
def test_zoh_response_equals_scipy_cont2discrete(problem: Problem, engine) -> None:
    A, B, C = (part[0] for part in real_realization(problem.system))
    step = problem.system.step[0, 0]
    Ad, Bd, Cd, Dd, _ = signal.cont2discrete((A, B, C, np.zeros((C.shape[0], B.shape[1]))), step, method="zoh")
    shift = np.exp(1j * THETA.values)
    # SciPy's C (z - A)^-1 B has one sample of delay, the family's codes have none
    wanted = np.stack([z * (Cd @ np.linalg.solve(z * np.eye(len(Ad)) - Ad, Bd)) + Dd for z in shift], axis=-1)
    found = frequency_response(problem.system, THETA, engine).total[0]
    condition = np.abs(problem.system.poles.imag).max() / np.abs(problem.system.poles.real).min()
    assert relative(found, wanted) < 1e-13 * max(10.0, condition)


def test_bilinear_response_equals_python_control(rng, engine) -> None:
    control = pytest.importorskip("control")
    system = random_system(rng, K=1, N=5, I=2, O=3, R=1, delay=1)
    A, B, C = (part[0] for part in bilinear_realization(system))
    model = control.ss(A, B, C, system.D[0], system.step[0, 0])
    wanted = control.frequency_response(model, THETA.values[1:-1] / system.step[0, 0])
    found = frequency_response(system, THETA, engine).total[0, :, :, 1:-1]
    assert relative(found, wanted.complex) < 1e-11


@pytest.mark.parametrize("delay", [0, 1])
@pytest.mark.parametrize(("discretization", "rank"), [(d, 0) for d in DISCRETIZATIONS] + [("bilinear", 1), ("bilinear", 2)])
def test_response_is_the_transform_of_the_impulse_response(rng, engine, discretization: str, rank: int, delay: int) -> None:
    system = random_system(rng, discretization=discretization, R=rank, delay=delay, I=2, O=3)
    slowest = np.abs(discrete_poles(modal_form(system)[0])).max()
    length = 2 ** int(np.ceil(np.log2(np.log(1e-14) / np.log(slowest))))
    grid = FrequencyGrid(2 * np.pi * np.arange(length // 2 + 1) / length, "theta")
    transform = np.fft.rfft(impulse_response(system, length), axis=-1)
    assert relative(frequency_response(system, grid, engine).dynamic, transform) < 1e-12


@pytest.mark.parametrize("discretization", DISCRETIZATIONS)
def test_impulse_response_equals_a_loop_over_time(rng, discretization: str) -> None:
    system = random_system(rng, discretization=discretization, I=2, O=2)
    z = discrete_poles(system)
    a, step = system.poles, system.step
    gain = {"zoh": (z - 1) / a, "bilinear": step / (1 - a * step / 2), "euler": step + 0 * a, "direct": 1 + 0 * a}[discretization]
    state = gain[:, :, None] * system.B
    wanted = []
    for _ in range(300):
        wanted.append(2 * (system.C @ state).real)
        state = z[:, :, None] * state
    assert relative(impulse_response(system, 300), np.stack(wanted, axis=-1)) < 1e-12


def test_impulse_response_of_a_low_rank_system_equals_a_loop_over_time(rng) -> None:
    system = random_system(rng, R=1, I=2, O=2)
    A, B, C = bilinear_realization(system)
    wanted = []
    for _ in range(50):
        wanted.append(C @ B)
        B = A @ B
    assert relative(impulse_response(system, 50), np.stack(wanted, axis=-1)) < 1e-12


def test_low_rank_response_equals_a_dense_solve(rng, engine) -> None:
    system = random_system(rng, N=16, R=2, I=2, O=2)
    A, B, C = real_realization(system)
    solves = [C @ np.linalg.solve(1j * w * np.eye(32) - A, B.astype(complex)) for w in OMEGA.values]
    assert relative(frequency_response(system, OMEGA, engine).dynamic, np.stack(solves, axis=-1)) < 1e-12


def test_modal_form_is_the_same_system(rng, engine) -> None:
    system = random_system(rng, N=6, R=1)
    modal, condition = modal_form(system)
    assert condition.max() < 1e4
    assert relative(frequency_response(modal, THETA, engine).dynamic, frequency_response(system, THETA, engine).dynamic) < 1e-10


def test_negative_theta_gives_the_conjugate(rng, engine) -> None:
    system = random_system(rng)
    forward = frequency_response(system, THETA, engine).total
    backward = frequency_response(system, FrequencyGrid(-THETA.values, "theta"), engine).total
    np.testing.assert_allclose(backward, forward.conj(), rtol=1e-13, atol=1e-13)


def test_a_step_per_mode_is_used_per_mode(rng, engine) -> None:
    steps = np.exp(rng.uniform(-4, -1, size=(1, 4)))
    system = random_system(rng, K=1, step=steps)
    parts = [
        frequency_response(
            random_like(system, n, steps[:, n : n + 1]),
            THETA,
            engine,
        ).dynamic
        for n in range(4)
    ]
    np.testing.assert_allclose(frequency_response(system, THETA, engine).dynamic, sum(parts), rtol=1e-12, atol=1e-12)


def random_like(system: StateSpace, mode: int, step: np.ndarray) -> StateSpace:
    return replace(
        system, poles=system.poles[:, [mode]], B=system.B[:, [mode]], C=system.C[:, :, [mode]], step=step, D=np.zeros_like(system.D)
    )


def test_beta_weight_multiplies_the_dynamic_part_only(rng, engine) -> None:
    beta = np.array([0.5, -1.0, 0.0])
    plain = random_system(rng)
    weighted = replace(plain, sobolev=Sobolev(beta, "lra"))
    factor = (1 + THETA.values / (2 * np.pi)) ** beta[:, None, None, None]
    found = frequency_response(weighted, THETA, engine)
    bare = frequency_response(plain, THETA, engine)
    np.testing.assert_allclose(found.total, bare.dynamic * factor + plain.D[..., None], rtol=1e-13)
    np.testing.assert_allclose(frequency_response(weighted, THETA, engine, with_beta=False).total, bare.total, rtol=1e-13)


@pytest.mark.parametrize(("convention", "knee"), [("lra", [2 * np.pi] * 3), ("angular", [0.3] * 3), ("paper", None)])
def test_beta_conventions_differ_by_their_knee(rng, convention: str, knee: list[float] | None) -> None:
    step = np.array([[0.1], [0.2], [0.3]])
    beta = np.array([1.0, -0.5, 2.0])
    weight = Sobolev(beta, convention, 0.3 if convention == "angular" else None).weight(THETA.values[None], step)
    knees = step if knee is None else np.array(knee)[:, None]
    np.testing.assert_allclose(weight, (1 + THETA.values / knees) ** beta[:, None], rtol=1e-14)


@pytest.mark.parametrize("with_skip", [False, True])
def test_pair_sum_of_a_wide_system_equals_the_materialized_norm(rng, engine, with_skip: bool) -> None:
    system = random_system(rng, K=1, N=3, I=9, O=8)
    H = frequency_response(system, THETA, engine)
    wanted = (np.abs(H.total if with_skip else H.dynamic) ** 2).sum(axis=(1, 2))
    found = squared_magnitude(system, THETA.values[None], engine, with_skip=with_skip)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_pair_sum_that_cancels_is_computed_in_full(rng, engine) -> None:
    system = random_system(rng, K=1, N=2, I=9, O=8)
    # two nearly equal modes with opposite residues: what is left is 1e-7 of either, 1e-14 in the pair sum
    close = replace(
        system,
        poles=np.array([[-1 + 2j, -1 + 2j * (1 + 1e-7)]]),
        B=np.repeat(system.B[:, :1], 2, axis=1),
        C=system.C[:, :, [0, 0]] * [1, -1],
    )
    wanted = (np.abs(frequency_response(close, THETA, engine).dynamic) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(squared_magnitude(close, THETA.values[None], engine), wanted, rtol=1e-6)


def test_discrete_layers_have_no_continuous_response(rng, engine) -> None:
    with pytest.raises(LayerError, match="only in discrete time"):
        frequency_response(random_system(rng, discretization="direct"), OMEGA, engine)


def test_low_rank_layers_are_only_discretized_bilinearly(rng, engine) -> None:
    with pytest.raises(LayerError, match="discretized bilinearly"):
        frequency_response(random_system(rng, R=1, discretization="zoh"), THETA, engine)
