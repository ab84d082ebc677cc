"""Compiled loops of statistics against the same quantities by NumPy, and where they must give way to it."""

from dataclasses import replace

import numpy as np
import pytest
from problems import random_system

from ssmspec.backends import compiles, load_backend
from ssmspec.statistics import quick
from ssmspec.statistics.energy import closed_energy
from ssmspec.statistics.extent import extent_of_modes
from ssmspec.statistics.hankel import gramian_of, hankel_singular_values
from ssmspec.statistics.quadrature import REACH, SHORT_REACH, panels
from ssmspec.statistics.variation import total_variation, variation_from_samples
from ssmspec.systems.grid import theta_nodes
from ssmspec.systems.response import DiscreteSums
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import StateSpace, cayley_poles

RULES = ("zoh", "bilinear", "euler", "direct")
CONVENTIONS = (None, "angular", "paper", "denoising")
SHARP = 1e-7  # times the decay


@pytest.fixture(params=[(0, "plain"), (1, "plain"), (2, "plain"), (3, "plain"), (0, "sharp"), (1, "sharp"), (0, "real")], ids=str)
def system(request) -> StateSpace:
    seed, kind = request.param
    drawn = random_system(np.random.default_rng(seed), K=5, N=7, discretization=RULES[seed])
    if kind == "plain":
        return drawn
    poles = drawn.poles.real + 0j if kind == "real" else drawn.poles.real * SHARP + 1j * drawn.poles.imag
    return replace(drawn, poles=poles)


def biased(system: StateSpace, convention: str | None) -> StateSpace:
    if convention is None:
        return system
    length = 50 if convention == "denoising" else None
    bend = 0.1 if convention == "angular" else None
    return replace(system, sobolev=Sobolev(np.linspace(-1, 1, system.copies), convention, bend, length))


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("reach", [REACH, SHORT_REACH, np.linspace(SHORT_REACH, REACH, 5)[:, None]], ids=["long", "short", "mixed"])
def test_panels_are_those_of_numpy(system: StateSpace, convention: str | None, reach) -> None:
    weighted = biased(system, convention)
    found, wanted = panels(weighted, reach, compiled=True), panels(weighted, reach)
    assert found is not None
    assert wanted is not None
    assert (found.edges[:, -1] == np.pi).all()
    np.testing.assert_allclose(found.edges, wanted.edges, rtol=1e-12, atol=1e-300)
    theta, x, y = found.nodes_between_ends(compiled=True)
    np.testing.assert_allclose(theta, wanted.nodes_between_ends()[0], rtol=1e-12)
    np.testing.assert_allclose(x, theta_nodes(theta)[0], rtol=1e-15)
    np.testing.assert_allclose(y, theta_nodes(theta)[1], rtol=1e-15)


def test_the_last_node_is_nyquist_exactly(system: StateSpace) -> None:
    cut = panels(system)
    assert cut is not None
    theta, x, y = cut.nodes_between_ends(compiled=True)
    assert (theta[:, -1] == np.pi).all()
    assert (x[:, -1] == 0).all()
    assert (y[:, -1] == 1).all()


@pytest.mark.parametrize("compiled", [True, False])
def test_too_many_panels_are_refused_in_either_way(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator, compiled: bool) -> None:
    system = random_system(rng, K=2, N=7, discretization="zoh")
    sharp = replace(system, poles=system.poles.real * 1e-9 + 1j * system.poles.imag)
    assert panels(sharp, compiled=compiled) is not None
    monkeypatch.setattr("ssmspec.statistics.quadrature.MAX_PANELS", quick.EDGES_AT_ONCE)
    assert panels(sharp, compiled=compiled) is None


def test_gramians_energies_and_extents_are_those_of_numpy(system: StateSpace, rng: np.random.Generator) -> None:
    vectors, sigma = rng.normal(size=(5, 7, 1)) + 1j * rng.normal(size=(5, 7, 1)), cayley_poles(system)
    found, wanted = gramian_of(vectors, sigma, compiled=True), gramian_of(vectors, sigma)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-14 * np.abs(wanted).max())
    np.testing.assert_allclose(hankel_singular_values(system, compiled=True)[:, 0], hankel_singular_values(system)[:, 0], rtol=1e-12)
    energies = closed_energy(system, compiled=True), closed_energy(system)
    for name, size in (("tau", np.abs(energies[1].size)), ("size", np.abs(energies[1].size))):
        mine, theirs = (getattr(energy, name) for energy in energies)
        np.testing.assert_array_less(np.abs(mine - theirs), 1e-14 * size + 1e-300)
    for with_skip in (False, True):
        mine, theirs = (extent_of_modes(system, np.ones(5, bool), "", with_skip=with_skip, compiled=way) for way in (True, False))
        np.testing.assert_allclose(mine.delay, theirs.delay, rtol=1e-9)
        np.testing.assert_array_equal(mine.length, theirs.length)


@pytest.mark.parametrize("convention", [None, "angular"])
def test_variation_is_that_of_the_modes(system: StateSpace, convention: str | None) -> None:
    weighted = biased(system, convention)
    cut = panels(weighted, compiled=True)
    assert cut is not None
    theta, x, y = cut.nodes_between_ends(compiled=True)
    S = DiscreteSums.of(weighted).unturned(x, y, load_backend("reference"))
    if weighted.sobolev is not None:
        S = S * weighted.sobolev.weight(theta, weighted.step)[:, None, None, :]
    found = variation_from_samples(weighted, cut, S, compiled=True)
    np.testing.assert_allclose(found.value, variation_from_samples(weighted, cut, S).value, rtol=1e-11)
    np.testing.assert_allclose(found.value, total_variation(weighted).value, rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-90, 1e90])
def test_poles_out_of_range_go_the_way_of_numpy(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator, factor: float) -> None:
    sigma = (-rng.uniform(0.5, 1, (2, 3)) + 1j * rng.uniform(0, 1, (2, 3))) * factor
    monkeypatch.setattr(quick, "PAIR_FORM", None)
    vectors = np.sqrt(factor) * rng.normal(size=(2, 3, 1)) + 0j
    np.testing.assert_array_equal(gramian_of(vectors, sigma, compiled=True), gramian_of(vectors, sigma))
    with pytest.raises(TypeError):
        gramian_of(vectors, sigma / factor, compiled=True)


def test_only_the_compiled_engine_compiles() -> None:
    assert compiles(load_backend("cpu"))
    assert not compiles(load_backend("reference"))
