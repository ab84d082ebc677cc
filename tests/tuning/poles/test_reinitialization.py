"""Layers drawn anew: from the named start, in the ties and ranges of the layer, the same for the same seed."""

from dataclasses import replace

import numpy as np
import pytest
from problems import random_system

from ssmspec.errors import LayerError, SsmspecError
from ssmspec.systems.statespace import StateSpace
from ssmspec.tuning.poles.initializations import Settings, initial_poles
from ssmspec.tuning.poles.reinitialization import DRAWS, Place, Reinitialization, reinitialize


def trained(rng: np.random.Generator, family: str = "s4d", **choices: object) -> StateSpace:
    return replace(random_system(rng, **choices), family=family)


def renewed(system: StateSpace, place: Place | None = None, features: int = 99, **how: object) -> StateSpace:
    (found,), _ = reinitialize([system], Reinitialization(**{"name": "s4d-lin", **how}), place or Place(), features=features)
    return found


@pytest.mark.parametrize("name", ["s4d-lin", "s4d-inv", "s4d-legs", "fout"])
def test_poles_are_those_of_the_named_start_with_alpha(rng: np.random.Generator, name: str) -> None:
    found = renewed(trained(rng, K=3, N=4), name=name, alpha=2.5)
    expected = initial_poles(name, Settings(copies=3, modes=4), alpha=2.5, rng=np.random.default_rng())
    np.testing.assert_allclose(found.poles, expected.exponents, rtol=1e-14)


def test_a_start_on_the_circle_follows_from_the_step_of_every_copy(rng: np.random.Generator) -> None:
    found = renewed(trained(rng, K=3, N=4), name="dfout", place=Place(layer=2, layers=4))
    np.testing.assert_allclose((found.poles * found.step).imag, np.pi * (np.arange(4)[None] + 0.25) / 4 * np.ones((3, 1)), rtol=1e-12)


def test_steps_are_drawn_within_their_range_and_fill_it(rng: np.random.Generator) -> None:
    found = renewed(trained(rng, K=400, N=1), step=(0.003, 0.02), features=400).step
    assert found.min() >= 0.003
    assert found.max() <= 0.02
    assert np.log(found).std() == pytest.approx(np.log(0.02 / 0.003) / np.sqrt(12), rel=0.1)


def test_only_the_dynamics_are_drawn(rng: np.random.Generator) -> None:
    system = trained(rng)
    found = renewed(system)
    assert found.D is system.D
    for part in ("poles", "C", "step"):
        assert not np.isclose(getattr(found, part), getattr(system, part)).any()


def test_seed_and_layer_decide_every_draw(rng: np.random.Generator) -> None:
    system = trained(rng)
    again = [renewed(system, place=Place(layer, 3), seed=seed) for layer, seed in ((1, 0), (1, 0), (2, 0), (1, 5))]
    np.testing.assert_array_equal(again[0].C, again[1].C)
    np.testing.assert_array_equal(again[0].step, again[1].step)
    for other in again[2:]:
        assert not (other.C == again[0].C).any()
        assert not (other.step == again[0].step).any()


def test_tied_copies_share_poles_and_b_and_channels_repeat_them(rng: np.random.Generator) -> None:
    """Two channels of six features with two tied copies: '(c (v s))'."""
    found = renewed(trained(rng, "s4-diag", K=12, N=3), name="random", inputs="normal", place=Place(groups=2), features=6)
    for part in (found.poles, found.B[:, :, 0]):
        np.testing.assert_array_equal(part, np.tile(part[:2], (6, 1)))
        assert not np.isclose(part[0, 1:], part[1, 1:]).any()
    np.testing.assert_array_equal(found.step[:6], found.step[6:])
    assert len(np.unique(found.step)) == 6
    assert len(np.unique(found.C.real)) == 36


def test_tied_poles_of_a_start_on_the_circle_have_tied_steps(rng: np.random.Generator) -> None:
    found = renewed(trained(rng, "s4-diag", K=6, N=3), name="dfout", place=Place(groups=2), features=6)
    np.testing.assert_array_equal(found.poles, np.tile(found.poles[:2], (3, 1)))
    np.testing.assert_array_equal(found.step, np.tile(found.step[:2], (3, 1)))


def test_two_directions_share_everything_but_c(rng: np.random.Generator) -> None:
    system = trained(rng, "s4-diag")
    (first, second), _ = reinitialize([system, replace(system, C=2 * system.C)], Reinitialization(name="s4d-lin"), Place(), features=3)
    for part in ("poles", "B", "step"):
        np.testing.assert_array_equal(getattr(first, part), getattr(second, part))
    assert not (first.C == second.C).any()


def test_an_lru_gets_normalized_inputs_and_halved_outputs(rng: np.random.Generator) -> None:
    """|B| of an LRU is Glorot times sqrt(1 - |z|^2), and Re is taken of its output: variances over many draws."""
    found = renewed(trained(rng, "lru", discretization="direct", K=1, N=400, I=50, O=50), name="lru-ring")
    size = np.abs(found.poles[0])
    assert 0.9 <= size.min() <= size.max() <= 0.999
    normalized = found.B[0] / np.sqrt(1 - size**2)[:, None]
    assert (np.abs(normalized) ** 2).mean() == pytest.approx(1 / 50, rel=0.05)
    assert (np.abs(found.C) ** 2).mean() == pytest.approx(2 / 400 / 4, rel=0.05)


def test_named_draws_of_b_and_c_are_used(rng: np.random.Generator) -> None:
    found = renewed(trained(rng, "s5", K=1, N=60, I=40, O=40), inputs="xavier", outputs="kaiming")
    assert (np.abs(found.B) ** 2).mean() == pytest.approx(2 / 100, rel=0.1)
    assert (np.abs(found.C) ** 2).mean() == pytest.approx(2 / 60, rel=0.1)


def test_starts_with_a_b_of_their_own_use_it_where_b_is_stored(rng: np.random.Generator) -> None:
    assert not np.allclose(renewed(trained(rng, "s4-diag"), name="s4d-legs").B, 1)
    np.testing.assert_array_equal(renewed(trained(rng, "s4d"), name="s4d-legs").B, 1)


def test_phases_that_alpha_takes_beyond_pi_stop_there_and_are_counted(rng: np.random.Generator) -> None:
    system = trained(rng, "lru", discretization="direct", K=1, N=8, I=2, O=2)
    (found,), clamped = reinitialize([system], Reinitialization(name="dfout", alpha=2), Place(), features=2)
    assert clamped == 3  # 2 pi n/8 > pi for n = 5, 6, 7
    assert (np.angle(found.poles) >= np.pi - 1e-12).sum() == 4


def test_continuous_poles_for_discrete_layers_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(LayerError, match=r"layer layer \(lru\) stores discrete poles.*choose dfout, lru-ring"):
        renewed(trained(rng, "lru", discretization="direct"), name="s4d-lin")


def test_families_without_a_known_start_are_refused_with_those_that_have_one(rng: np.random.Generator) -> None:
    with pytest.raises(LayerError, match=f"mamba-1.*cannot be re-initialized.*{', '.join(list(DRAWS)[:3])}"):
        renewed(trained(rng, "mamba-1"))


@pytest.mark.parametrize(("choice", "known"), [("name", "s4d-lin"), ("inputs", "ones"), ("outputs", "normal")])
def test_unknown_names_are_refused_with_the_choices(choice: str, known: str) -> None:
    with pytest.raises(SsmspecError, match=f"'wrong' is unknown; choose one of .*{known}"):
        Reinitialization(**{"name": "s4d-lin", choice: "wrong"})


def test_alpha_on_a_real_start_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(SsmspecError, match="alpha has no effect on s4d-real"):
        renewed(trained(rng), name="s4d-real", alpha=2)
