"""One layer through a recipe: the order of its steps, its figures and notes, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from problems import build, random_system

from ssmspec.errors import LayerError, SsmspecError
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import StateSpace
from ssmspec.tuning.poles.reinitialization import Place, Reinitialization
from ssmspec.tuning.poles.scaling import Scaling
from ssmspec.tuning.recipe import Recipe, Tuned, Weighting, apply, leak

CONVENTIONS = [("lra", {}), ("paper", {}), ("angular", {"theta_ref": 0.2}), ("causal", {"theta_ref": 0.2})]
CONVENTIONS += [("denoising", {"length": 100}), ("waves", {"length": 100})]


def tuned(system: StateSpace, *, slot: bool = False, **recipe: object) -> Tuned:
    return apply(Recipe(**recipe), [system], Place(), features=99, slot=slot)


def expected_gain(convention: str, beta: float, step: np.ndarray) -> np.ndarray:
    """|W| at Nyquist, from the table of theory."""
    knees = {"lra": 1.5, "paper": 1 + np.pi / step, "angular": 1 + np.pi / 0.2, "causal": np.sqrt(1 + (2 / 0.2) ** 2)}
    knees |= {"denoising": 1 + 99 / 1e4, "waves": 1 + 50 / 1e4}
    return knees[convention] ** beta * np.ones_like(step)


@pytest.mark.parametrize(("convention", "more"), CONVENTIONS)
@pytest.mark.parametrize("beta", [-1.0, 0.5])
def test_gain_at_nyquist_is_told_in_decibels(rng: np.random.Generator, convention: str, more: dict, beta: float) -> None:
    system = random_system(rng)
    found = tuned(system, weighting=Weighting(beta=beta, convention=convention, **more))
    decibels = 20 * np.log10(expected_gain(convention, beta, system.step))
    assert found.figures["nyquist_gain_db_min"] == pytest.approx(decibels.min(), abs=1e-9)
    assert found.figures["nyquist_gain_db_max"] == pytest.approx(decibels.max(), abs=1e-9)
    assert any(f"beta {beta:g} ({convention}): gain at Nyquist" in note and "dB" in note for note in found.notes)
    np.testing.assert_array_equal(found.systems[0].sobolev.beta, beta)


def test_convention_is_that_of_the_slot_or_else_the_paper(rng: np.random.Generator) -> None:
    weighting = Weighting(beta=1)
    assert tuned(random_system(rng), weighting=weighting).systems[0].sobolev.convention == "paper"
    assert tuned(random_system(rng), weighting=weighting, slot=True).systems[0].sobolev.convention == "lra"


def test_another_convention_than_that_of_the_slot_is_refused_unless_baked(rng: np.random.Generator) -> None:
    with pytest.raises(LayerError, match="reads beta in the convention lra"):
        tuned(random_system(rng), weighting=Weighting(beta=0.3, convention="paper"), slot=True)
    weighting = Weighting(beta=0.3, convention="causal", theta_ref=1.0, bake=True, max_bake_error=1)
    weight = tuned(random_system(rng), weighting=weighting, slot=True).systems[0].sobolev
    assert (weight.convention, weight.beta.any()) == ("lra", False)


@pytest.mark.parametrize("convention", ["lra", "paper", "angular"])
def test_leak_is_the_largest_tap_of_the_weight_before_time_zero(convention: str) -> None:
    """A direct sum of cosines at a few negative times; the largest is the one just before zero."""
    beta, step = 0.8, np.array([[0.05], [0.3]])
    theta_ref = 0.2 if convention == "angular" else None
    theta = (np.arange(40_000) + 0.5) * np.pi / 40_000
    knee = {"lra": 2 * np.pi, "paper": step, "angular": 0.2}[convention]
    taps = np.array([((1 + theta / knee) ** beta * np.cos(theta * time)).mean(axis=-1) * np.ones(2) for time in range(8)])
    expected = (np.abs(taps[1:]).max(axis=0) / np.abs(taps).max(axis=0)).max()
    assert leak(Sobolev(np.full(2, beta), convention, theta_ref), step) == pytest.approx(expected, rel=1e-5)


def test_leak_is_told_for_one_direction_with_the_way_out_and_not_where_there_is_none(rng: np.random.Generator) -> None:
    system = random_system(rng)
    recipe = Recipe(weighting=Weighting(beta=1))
    alone = apply(recipe, [system], Place(), features=3, slot=False)
    assert alone.figures["leak"] > 0.1
    assert any("--beta-convention causal" in note and f"{alone.figures['leak']:.2g} of the peak" in note for note in alone.notes)
    assert "leak" not in apply(recipe, [system, system], Place(), features=3, slot=False).figures
    causal = tuned(system, weighting=Weighting(beta=1, convention="causal", theta_ref=0.1))
    assert "leak" not in causal.figures
    assert leak(causal.systems[0].sobolev, system.step) < 1e-12


def test_steps_are_taken_in_their_order(rng: np.random.Generator) -> None:
    """Diagonal form, alpha and the step, then the weight with the new step, baked: all four leave their mark."""
    system = random_system(rng, R=1, P=0.05 * np.ones((3, 4, 1), complex), Q=0.05 * np.ones((3, 4, 1), complex))
    found = tuned(
        system,
        diagonalize=True,
        scaling=Scaling(alpha=2, step_scale=0.5),
        weighting=Weighting(beta=-0.2, bake=True, max_bake_error=1),
        max_diagonalize_error=1,
    )
    assert not found.systems[0].P.any()
    np.testing.assert_array_equal(found.systems[0].step, 0.5 * system.step)
    decibels = -0.2 * 20 * np.log10(1 + np.pi / (0.5 * system.step))
    assert found.figures["nyquist_gain_db_min"] == pytest.approx(decibels.min())
    assert set(found.figures) >= {
        "condition",
        "modes_left_out",
        "diagonalize_error",
        "diagonalize_worst_error",
        "bake_error",
        "bake_growth",
    }
    assert found.systems[0].sobolev is None


def test_alpha_of_a_new_start_is_used_once(rng: np.random.Generator) -> None:
    system = replace(random_system(rng), family="s4d")
    found = tuned(system, start=Reinitialization(name="s4d-lin", alpha=3), scaling=Scaling(alpha=3, step_scale=2))
    np.testing.assert_allclose(found.systems[0].poles[0].imag, 3 * np.pi * np.arange(4), rtol=1e-14)
    again = tuned(system, start=Reinitialization(name="s4d-lin", alpha=3))
    np.testing.assert_array_equal(found.systems[0].step, 2 * again.systems[0].step)
    assert any("s4d-lin, alpha 3, B ones, C normal, step 0.001..0.1, seed 0" in note for note in found.notes)


def test_a_diagonal_layer_passes_diagonalize(rng: np.random.Generator) -> None:
    system = random_system(rng)
    found = tuned(system, diagonalize=True, scaling=Scaling(alpha=2))
    assert "diagonalize_error" not in found.figures
    np.testing.assert_array_equal(found.systems[0].poles.imag, 2 * system.poles.imag)


def hard_to_diagonalize() -> StateSpace:
    poles = [-1 + 0.1j, -1.2 + 6j]
    return build(poles, [[1], [1]], [[0.5, 0.3]], P=[[0.8], [0.1]], Q=[[0.8], [0.1]], discretization="bilinear", step=0.05)


def test_a_conversion_beyond_its_limit_is_refused_with_its_error_and_the_option() -> None:
    with pytest.raises(LayerError, match=r"response is off by 0\.\d+ .*above 1e-09; raise --max-diagonalize-error"):
        tuned(hard_to_diagonalize(), diagonalize=True, max_diagonalize_error=1e-9)
    figures = tuned(hard_to_diagonalize(), diagonalize=True, max_diagonalize_error=1).figures
    assert figures["modes_left_out"] == 1
    assert figures["diagonalize_error"] > 1e-9


def test_a_weight_that_bakes_badly_is_refused_with_its_error_and_the_option(rng: np.random.Generator) -> None:
    weighting = Weighting(beta=2, bake=True, max_bake_error=0.01)
    with pytest.raises(LayerError, match=r"miss the weighted response by 0\.\d+ .*above 0.01; raise --max-bake-error"):
        tuned(random_system(rng), weighting=weighting)
    assert tuned(random_system(rng), weighting=replace(weighting, max_bake_error=1)).figures["bake_error"] > 0.01


def test_a_weight_on_a_selective_layer_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(LayerError, match=r"linear only at an operating point.*--step-scale"):
        tuned(random_system(rng, operating_point="bias point"), weighting=Weighting(beta=1))


def test_paper_on_a_layer_with_a_step_per_mode_is_refused_with_the_options(rng: np.random.Generator) -> None:
    system = random_system(rng, step=np.full((3, 4), 0.1))
    with pytest.raises(LayerError, match=r"use 'angular' or 'lra'.*--beta-convention"):
        tuned(system, weighting=Weighting(beta=1))
    assert tuned(system, weighting=Weighting(beta=1, convention="lra")).figures["nyquist_gain_db_max"] == pytest.approx(3.52, abs=0.01)


def test_a_convention_without_its_knee_is_refused_with_the_options(rng: np.random.Generator) -> None:
    with pytest.raises(LayerError, match=r"needs theta_ref.*--theta-ref"):
        tuned(random_system(rng), weighting=Weighting(beta=1, convention="causal"))


@pytest.mark.parametrize("beta", [float("nan"), float("inf")])
def test_a_beta_that_is_no_number_is_refused(beta: float) -> None:
    with pytest.raises(SsmspecError, match="expected a finite exponent"):
        Weighting(beta=beta)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"theta_ref": 0.1}, "--theta-ref needs --beta-convention angular or causal"),
        ({"theta_ref": 0.1, "convention": "lra"}, "--theta-ref needs"),
        ({"length": 8, "convention": "causal"}, "--sequence-length needs --beta-convention denoising or waves"),
    ],
)
def test_a_knee_or_length_that_would_be_ignored_is_refused(more: dict, words: str) -> None:
    with pytest.raises(SsmspecError, match=words):
        Weighting(beta=1, **more)


def test_a_recipe_that_changes_nothing_is_refused() -> None:
    with pytest.raises(SsmspecError, match="nothing to change"):
        Recipe(scaling=Scaling(preserve_gain=True))
