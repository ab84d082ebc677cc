"""alpha, its relatives and the step on systems: what moves, what stays, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from problems import build, random_system

from ssmspec.errors import LayerError, SsmspecError
from ssmspec.systems.statespace import StateSpace, discrete_poles, discrete_residues
from ssmspec.tuning.poles.scaling import Scaling, scale

CONTINUOUS = pytest.mark.parametrize("discretization", ["zoh", "bilinear", "euler"])


def gains(system: StateSpace) -> np.ndarray:
    """|g_n| of every residue matrix, (K, O, I, N)."""
    return np.abs(np.einsum("kon,kni,kn->koin", system.C, system.B, discrete_residues(system)))


@CONTINUOUS
def test_alpha_multiplies_the_imaginary_part_alone(rng: np.random.Generator, discretization: str) -> None:
    system = random_system(rng, discretization=discretization)
    found = scale(system, Scaling(alpha=3.7)).system
    np.testing.assert_array_equal(found.poles, system.poles.real + 3.7j * system.poles.imag)
    for part in ("B", "C", "D", "step"):
        np.testing.assert_array_equal(getattr(found, part), getattr(system, part))


def test_alpha_real_multiplies_the_real_part_alone(rng: np.random.Generator) -> None:
    system = random_system(rng)
    np.testing.assert_array_equal(scale(system, Scaling(alpha_real=0.5)).system.poles, 0.5 * system.poles.real + 1j * system.poles.imag)


@CONTINUOUS
def test_step_scale_raises_the_discrete_poles_to_its_power(rng: np.random.Generator, discretization: str) -> None:
    system = random_system(rng, discretization=discretization)
    found = scale(system, Scaling(step_scale=2)).system
    np.testing.assert_array_equal(found.step, 2 * system.step)
    np.testing.assert_array_equal(found.poles, system.poles)
    if discretization != "bilinear":
        np.testing.assert_allclose(discrete_poles(found), discrete_poles(system) ** 2, rtol=1e-13)


@pytest.mark.parametrize("discretization", ["zoh", "bilinear", "euler", "direct"])
def test_kept_gain_keeps_every_discrete_residue_in_size_and_only_c_changes(rng: np.random.Generator, discretization: str) -> None:
    system = random_system(rng, discretization=discretization, K=2, I=2, O=3)
    scaling = Scaling(alpha=2, alpha_real=1.5, step_scale=1.2, preserve_gain=True)
    found = scale(system, scaling).system
    np.testing.assert_allclose(gains(found), gains(system), rtol=1e-13)
    assert found.B is system.B
    if discretization == "zoh":
        loose = scale(system, replace(scaling, preserve_gain=False)).system
        assert np.abs(gains(loose) / gains(system) - 1).max() > 0.1


def test_phases_on_the_circle_are_scaled_and_stop_at_pi() -> None:
    phases = np.array([0.0, 0.5, 1.5, 1.6, 3.0])
    system = build(0.9 * np.exp(1j * phases), np.ones((5, 1)), np.ones((1, 5)), discretization="direct", step=1.0)
    found = scale(system, Scaling(alpha=2))
    np.testing.assert_allclose(np.angle(found.system.poles[0]), [0, 1, 3, np.pi, np.pi], atol=1e-15)
    np.testing.assert_allclose(np.abs(found.system.poles[0]), 0.9, rtol=1e-15)
    assert found.clamped == 2


def test_decay_and_time_scale_of_discrete_poles_act_on_their_logarithm() -> None:
    z = np.array([0.9 * np.exp(0.4j), 0.5 * np.exp(1.0j)])
    system = build(z, np.ones((2, 1)), np.ones((1, 2)), discretization="direct", step=1.0)
    np.testing.assert_allclose(scale(system, Scaling(step_scale=2)).system.poles[0], z**2, rtol=1e-14)
    np.testing.assert_allclose(scale(system, Scaling(alpha_real=3)).system.poles[0], np.abs(z) ** 3 * np.exp(1j * np.angle(z)), rtol=1e-14)


def test_discrete_poles_that_no_factor_moves_stay_to_the_bit(rng: np.random.Generator) -> None:
    system = random_system(rng, discretization="direct")
    assert scale(system, Scaling(preserve_gain=True)).system.poles is system.poles


@pytest.mark.parametrize("factor", ["alpha", "alpha_real", "step_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_factors_that_are_not_positive_and_finite_are_refused(factor: str, value: float) -> None:
    with pytest.raises(SsmspecError, match=f"{factor.replace('_', '-')} is .*expected a positive finite factor"):
        Scaling(**{factor: value})


def test_alpha_on_real_poles_is_refused_and_the_step_is_named() -> None:
    system = build([-1, -2], [[1], [1]], [[1, 1]])
    with pytest.raises(LayerError, match=r"only real poles.*--step-scale"):
        scale(system, Scaling(alpha=2))
    assert scale(system, Scaling(step_scale=2)).system.step[0, 0] == pytest.approx(0.2)


@pytest.mark.parametrize("factors", [{"alpha": 2}, {"alpha_real": 2}])
def test_poles_of_a_low_rank_system_are_not_scaled_and_its_step_is(rng: np.random.Generator, factors: dict[str, float]) -> None:
    system = random_system(rng, R=1)
    with pytest.raises(LayerError, match=r"low-rank part.*--diagonalize"):
        scale(system, Scaling(**factors))
    np.testing.assert_array_equal(scale(system, Scaling(step_scale=2)).system.step, 2 * system.step)


def test_a_low_rank_part_of_zeros_is_none(rng: np.random.Generator) -> None:
    system = random_system(rng, R=1)
    none = np.zeros_like(system.P)
    found = scale(replace(system, P=none, Q=none), Scaling(alpha=2)).system
    np.testing.assert_array_equal(found.poles.imag, 2 * system.poles.imag)


def test_a_gain_that_no_tensor_could_keep_is_refused(rng: np.random.Generator) -> None:
    scaling = Scaling(step_scale=2, preserve_gain=True)
    with pytest.raises(LayerError, match="couples its modes; remove --preserve-gain"):
        scale(random_system(rng, R=1), scaling)
    with pytest.raises(LayerError, match="no stored C"):
        scale(random_system(rng, discretization="euler", operating_point="bias point"), scaling)


def test_what_counts_as_a_change() -> None:
    assert not Scaling(preserve_gain=True).changes
    assert Scaling(step_scale=2).changes
    assert not Scaling(step_scale=2).moves_poles
    assert Scaling(alpha_real=2).moves_poles
