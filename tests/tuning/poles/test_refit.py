"""Weights baked into residues: the reported error is the true error, and growth is bounded."""

from dataclasses import replace

import numpy as np
import pytest
from problems import build, random_system

from ssmspec.errors import LayerError
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import StateSpace, discrete_poles, discrete_residues
from ssmspec.tuning.poles.refit import bake

THETA = (np.arange(40_000) + 0.5) * np.pi / 40_000


def naive_response(system: StateSpace) -> np.ndarray:
    """(K, O, I, F) at THETA: the sum over the completed set, without a weight."""
    step_back = np.exp(-1j * THETA)
    z, scaled = discrete_poles(system), system.B * discrete_residues(system)[:, :, None]
    halves = ((system.C, z, scaled), (system.C.conj(), z.conj(), scaled.conj()))
    total = sum(np.einsum("kon,knf,kni->koif", C, 1 / (1 - p[:, :, None] * step_back), B) for C, p, B in halves)
    return total * step_back**system.delay


def relative_error(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return np.sqrt((np.abs(found - wanted) ** 2).sum(axis=(1, 2, 3)) / (np.abs(wanted) ** 2).sum(axis=(1, 2, 3)))


def target(system: StateSpace) -> np.ndarray:
    assert system.sobolev is not None
    return naive_response(system) * system.sobolev.weight(THETA[None], system.step)[:, None, None]


def weighted(system: StateSpace, beta: float, convention: str = "causal", theta_ref: float | None = 0.1) -> StateSpace:
    return replace(system, sobolev=Sobolev(np.full(system.copies, beta), convention, theta_ref))


@pytest.mark.parametrize("discretization", ["zoh", "bilinear", "euler", "direct"])
@pytest.mark.parametrize(("beta", "convention"), [(-1.0, "causal"), (0.7, "causal"), (0.5, "lra"), (1.0, "angular")])
def test_reported_error_is_that_of_the_response_on_a_dense_grid(
    rng: np.random.Generator, discretization: str, beta: float, convention: str
) -> None:
    system = random_system(rng, K=2, N=6, I=2, O=2, discretization=discretization, delay=int(discretization == "direct"))
    system = weighted(system, beta, convention, None if convention == "lra" else 0.1)
    found = bake(system)
    np.testing.assert_allclose(found.error, relative_error(naive_response(found.system), target(system)), rtol=1e-3)
    assert found.system.sobolev is None
    for part in ("poles", "B", "D", "step"):
        assert getattr(found.system, part) is getattr(system, part)


def test_error_is_least_among_nearby_outputs(rng: np.random.Generator) -> None:
    """Without a ridge, which well separated poles do not need, no change of C comes nearer."""
    poles = [-0.2 + 2j, -0.3 + 9j, -0.25 + 19j]
    system = weighted(build(poles, np.ones((3, 1)), rng.normal(size=(1, 3)) + 1j * rng.normal(size=(1, 3))), -0.6)
    found, wanted = bake(system, growth=1e3), target(system)
    least = relative_error(naive_response(found.system), wanted)[0]
    for _ in range(20):
        nudge = 1e-2 * (rng.normal(size=(1, 1, 3)) + 1j * rng.normal(size=(1, 1, 3)))
        assert relative_error(naive_response(replace(found.system, C=found.system.C + nudge)), wanted)[0] > least


@pytest.mark.parametrize("beta", [-1.5, 1.5])
@pytest.mark.parametrize("limit", [1.0, 2.0, 10.0])
def test_growth_stays_below_its_bound_and_is_what_it_says(rng: np.random.Generator, beta: float, limit: float) -> None:
    """Poles so close together that plain least squares would blow up; norms of modes as the response has them."""
    poles = -0.5 + 1j * np.linspace(3, 3.3, 12)
    system = weighted(build(poles, np.ones((12, 1)), rng.normal(size=(1, 12)) + 1j * rng.normal(size=(1, 12))), beta)
    found = bake(system, growth=limit)
    z, g = np.abs(discrete_poles(system)[0]), np.abs(discrete_residues(system)[0])
    norms = [np.linalg.norm(np.abs(s.C[0, 0]) * g / np.sqrt(1 - z**2)) for s in (system, found.system)]
    assert found.growth[0] == pytest.approx(norms[1] / norms[0], rel=1e-6)
    assert found.growth[0] <= limit * system.sobolev.gain(np.array([[0, np.pi]]), system.step).max()


def test_a_tighter_bound_costs_accuracy(rng: np.random.Generator) -> None:
    poles = -0.5 + 1j * np.linspace(3, 6, 12)
    system = weighted(build(poles, np.ones((12, 1)), np.ones((1, 12))), 1.0)
    tight, loose = bake(system, growth=1.0), bake(system, growth=1e6)
    assert loose.error[0] < tight.error[0]
    assert tight.growth[0] < loose.growth[0]


def test_a_beta_of_zero_leaves_c_to_the_bit(rng: np.random.Generator) -> None:
    system = weighted(random_system(rng, K=3, N=5, I=2, O=2), 0.0)
    found = bake(system)
    np.testing.assert_array_equal(found.system.C, system.C)
    np.testing.assert_array_equal(found.growth, 1.0)
    assert found.error.max() < 1e-7


def test_a_silent_copy_stays_silent(rng: np.random.Generator) -> None:
    system = weighted(random_system(rng, K=1, C=np.zeros((1, 1, 4), complex)), 1.0)
    found = bake(system)
    assert not found.system.C.any()
    assert found.error[0] == 0


def test_a_low_rank_system_is_refused_and_one_made_diagonal_is_not(rng: np.random.Generator) -> None:
    system = weighted(random_system(rng, R=1), 0.5)
    with pytest.raises(LayerError, match="add --diagonalize"):
        bake(system)
    none = np.zeros_like(system.P)
    system = replace(system, P=none, Q=none)
    np.testing.assert_allclose(bake(system).error, relative_error(naive_response(bake(system).system), target(system)), rtol=1e-3)


def test_a_system_without_weight_has_nothing_to_bake(rng: np.random.Generator) -> None:
    with pytest.raises(LayerError, match="no beta weight"):
        bake(random_system(rng))


@pytest.mark.parametrize(("inputs", "outputs"), [(1.0, 1e-200), (1.0, 1e200), (1e-150, 1e-150), (1e150, 1e150), (1e-300, 1e300)])
def test_the_size_of_residues_does_not_matter(rng: np.random.Generator, inputs: float, outputs: float) -> None:
    """Powers of two, so that everything stays to the bit; squares that underflow once made an error of 0."""
    system = weighted(random_system(rng, K=2, N=5), -0.7)
    inputs, outputs = 2.0 ** np.round(np.log2([inputs, outputs]))
    wanted, found = bake(system), bake(replace(system, B=system.B * inputs, C=system.C * outputs))
    np.testing.assert_array_equal(found.error, wanted.error)
    np.testing.assert_array_equal(found.growth, wanted.growth)
    np.testing.assert_array_equal(found.system.C, wanted.system.C * outputs)
