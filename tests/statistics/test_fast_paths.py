"""Fast paths of the statistics against slow ones, on drawn systems and where they must fall back."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import slow_statistics as slow
from exact import Exact
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import build, random_system
from scipy.integrate import quad

from ssmspec.backends import load_backend
from ssmspec.statistics import STATISTICS, LayerSpectrum
from ssmspec.statistics import hankel as hankel_statistics
from ssmspec.statistics.hankel import hankel_singular_values
from ssmspec.statistics.normalization import restored
from ssmspec.statistics.norms import pair_sums, squared_norms, squared_norms_and_speeds
from ssmspec.statistics.quadrature import panels, pole_distances
from ssmspec.statistics.singular_values import SMALL, Operator
from ssmspec.statistics.values import quantiles
from ssmspec.statistics.variation import squared_speed, total_variation
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.response import squared_magnitude
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import StateSpace, cayley_poles, discrete_poles, discrete_residues

GRID = FrequencyGrid.default(64)
REFERENCE = load_backend("reference")
RULES = ("zoh", "bilinear", "euler", "direct")
KINDS = ("plain", "sharp", "real", "repeated", "uneven")
SHAPES = [(3, 4, 3), (6, 5, 4), (12, 9, 20), (2, 30, 2)]  # N, I, O


def drawn(seed: int, kind: str = "plain", **sizes: int) -> StateSpace:
    """One copy: plain, or with sharp, real or coinciding poles, or residues of very different size."""
    rng = np.random.default_rng(seed)
    system = random_system(rng, discretization=RULES[seed % 4], **{"K": 1, "N": 6, **sizes})
    direct = system.discretization == "direct"
    if kind == "sharp":
        decays = 10.0 ** rng.uniform(-5, -1, system.poles.shape)
        sharp = system.poles / np.abs(system.poles) * (1 - decays) if direct else system.poles.real * decays + 1j * system.poles.imag
        return replace(system, poles=sharp)
    if kind == "real":
        poles = np.abs(system.poles.real) * (1 if direct else -1)
        return replace(system, poles=poles + 0j, B=system.B.real + 0j, C=system.C.real + 0j)
    if kind == "repeated":
        return replace(system, poles=np.where(np.arange(system.modes) % 2, np.roll(system.poles, 1, axis=1), system.poles))
    if kind == "uneven":
        return replace(system, C=system.C * 10.0 ** rng.uniform(-6, 6, system.modes))
    return system


def banks(poles: complex, B: np.ndarray, C: np.ndarray) -> StateSpace:
    """One copy whose modes are all at one pole."""
    size = B.shape[0]
    skip = np.zeros((1, C.shape[0], B.shape[1]))
    return StateSpace(
        name="layer",
        family="test",
        poles=np.full((1, size), poles),
        B=B[None] + 0j,
        C=C[None] + 0j,
        D=skip,
        step=np.array([[0.1]]),
        discretization="zoh",
    )


def value(name: str, system: StateSpace) -> float:
    return float(STATISTICS[name].function(LayerSpectrum(system, GRID, REFERENCE)).values[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_values_of_one_input_and_output_equal_slow_ones(kind: str, seed: int) -> None:
    system = drawn(seed, kind)
    assert value("peak_gain", system) == pytest.approx(slow.peak_gain(system), rel=1e-10)
    assert value("rolloff_95", system) == pytest.approx(slow.rolloff(system), rel=1e-7)
    share = slow.energy(system, np.pi / 4) / slow.energy(system, np.pi)
    assert value("low_frequency_share", system) == pytest.approx(share, rel=1e-8)
    assert value("total_variation", system) == pytest.approx(total_variation(system).value[0], rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_values_of_several_inputs_and_outputs_equal_slow_ones(kind: str, shape: tuple[int, int, int]) -> None:
    modes, inputs, outputs = shape
    system = drawn(modes, kind, N=modes, I=inputs, O=outputs)
    assert value("peak_gain", system) == pytest.approx(slow.peak_gain(system), rel=1e-10)
    assert value("rolloff_95", system) == pytest.approx(slow.rolloff(system), rel=1e-7)
    assert value("total_variation", system) == pytest.approx(total_variation(system).value[0], rel=1e-6)


@pytest.mark.parametrize("beta", [None, Sobolev(np.array([0.8]), "lra"), Sobolev(np.array([-0.6]), "denoising", None, 64)])
@pytest.mark.parametrize("kind", KINDS)
def test_norms_by_partial_fractions_equal_those_of_the_matrices(kind: str, beta: Sobolev | None) -> None:
    system = replace(drawn(5, kind, N=7, I=4, O=5), sobolev=beta)
    theta = np.concatenate([panels(system).nodes_between_ends()[0][:, :-1:7], [[np.pi]]], axis=1)
    squared, speeds = squared_norms_and_speeds(system, pair_sums(system), theta)
    H = slow.matrices(system, theta[0])
    np.testing.assert_allclose(squared[0], np.linalg.norm(H, axis=(1, 2)) ** 2, rtol=1e-8)
    np.testing.assert_allclose(speeds[0, 1:-1], squared_speed(system, theta[0, 1:-1]), rtol=1e-6)
    np.testing.assert_allclose(squared_norms(system, pair_sums(system), theta), squared, rtol=1e-12)


def test_norms_that_cancel_are_summed_over_pairs_of_modes() -> None:
    """Two modes that almost undo each other: their own terms are 1e14 times what is left."""
    rng = np.random.default_rng(3)
    b, c = rng.normal(size=4), rng.normal(size=4)
    system = banks(-0.5 + 3j, np.stack([b, b]), np.stack([c, -c * (1 + 1e-7)], axis=1))
    theta = np.linspace(0.01, 3, 40)[None]
    sums = pair_sums(system)
    norm, size = sums.squared_norm(theta)
    assert (size > 1e12 * norm).all()
    np.testing.assert_allclose(squared_norms(system, sums, theta), squared_magnitude(system, theta, REFERENCE), rtol=1e-12)


@pytest.mark.parametrize("with_skip", [False, True])
def test_singular_values_by_iterations_equal_those_of_the_matrix(with_skip: bool) -> None:
    system = drawn(8, "sharp", N=20, I=SMALL + 6, O=SMALL + 2)
    operator = Operator.of(system, with_skip)
    theta = np.concatenate([pole_distances(system)[0][0], np.linspace(0.1, 3, 7)])
    wanted = np.linalg.norm(slow.matrices(system, theta) + (system.D[0] if with_skip else 0), 2, axis=(1, 2)) ** 2
    np.testing.assert_allclose(operator.exact(theta), wanted, rtol=1e-12)
    np.testing.assert_allclose(operator.iterated(theta), wanted, rtol=1e-9)
    bounds = operator.lower_bounds(theta)
    assert (bounds <= wanted * (1 + 1e-12)).all()
    assert (bounds >= 0.5 * wanted).all()


def test_the_gain_of_equal_singular_values_is_that_of_one() -> None:
    size = SMALL + 4
    system, single = banks(-0.5 + 3j, np.eye(size), np.eye(size)), build([-0.5 + 3j], [[1]], [[1]])
    assert value("peak_gain", system) == pytest.approx(value("peak_gain", single), rel=1e-10)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), kind=st.sampled_from(("plain", "sharp", "real", "uneven")), several=st.booleans())
def test_hankel_values_equal_those_from_eigenvectors(seed: int, kind: str, several: bool) -> None:
    system = drawn(seed, kind, N=5, **({"I": 2, "O": 3} if several else {}))
    found = hankel_singular_values(system)
    wanted = hankel_statistics._factored_values(system, cayley_poles(system))
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-6 * wanted[0, 0])
    np.testing.assert_allclose(found[:, 0], wanted[:, 0], rtol=1e-9)


def test_hankel_values_of_positive_real_modes_are_eigenvalues_of_one_matrix() -> None:
    """sqrt(g_m g_n)/(1 - z_m z_n), and as many zeros for the halves that real modes do not have."""
    z, g = np.array([0.2, 0.9, 0.95]), np.array([0.3, 2.0, 0.1])
    system = build(z, np.ones((3, 1)), [g / 2], step=1.0, discretization="direct")
    wanted = np.linalg.eigvalsh(np.sqrt(g[:, None] * g) / (1 - z[:, None] * z))[::-1]
    np.testing.assert_allclose(hankel_singular_values(system)[0], [*wanted, 0, 0, 0], rtol=1e-11, atol=1e-15)


def test_an_imaginary_residue_of_a_real_pole_does_not_touch_hankel_values() -> None:
    """It cancels with its conjugate; arbitrary precision says what the values are."""
    poles, residues = [-1.28 + 25j, -10.0, -3.97 + 9.5j, -8.3e-11], [-0.97 + 0.49j, -0.97, 0.17 - 0.97j, -0.79j]
    system = build(poles, np.ones((4, 1)), [residues], discretization="bilinear")
    wanted = [float(sigma) for sigma in Exact(system, GRID.values, digits=60).hankel]
    np.testing.assert_allclose(hankel_singular_values(system)[0, :5], wanted[:5], rtol=1e-9)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), copies=st.integers(1, 300), points=st.integers(1, 40))
def test_quantiles_are_those_of_numpy_to_the_last_bit(seed: int, copies: int, points: int) -> None:
    values = np.random.default_rng(seed).lognormal(0, 3, (copies, points))
    np.testing.assert_array_equal(quantiles(values), np.percentile(values, [5, 50, 95], axis=0))


@pytest.mark.parametrize("exponents", [[0, 3], [-700, 900], [1200, -1200], [-1060, 1060]])
def test_restored_values_are_exact_or_null(exponents: list[int]) -> None:
    values = np.array([[0.3, 1.7e-5, 0.0], [0.9, 1.1, 2.0**-40]])
    with np.errstate(all="ignore"):
        wanted = np.ldexp(values, np.array(exponents)[:, None])
    wanted = np.where((wanted < np.finfo(float).tiny) & (values != 0) | np.isinf(wanted), np.nan, wanted)
    np.testing.assert_array_equal(restored(values, np.array(exponents)), wanted)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), kind=st.sampled_from(KINDS), reach=st.floats(1.5, 6))
def test_no_pole_lies_in_the_ellipse_of_a_panel(seed: int, kind: str, reach: float) -> None:
    system = drawn(seed, kind)
    edges = panels(system, reach).edges[0]
    angle, decay = (part[0] for part in pole_distances(system))
    left, right = edges[:-1, None], edges[1:, None]
    spread = np.hypot(angle - left, decay) + np.hypot(angle - right, decay)
    assert (spread >= reach * (right - left) * (1 - 1e-9) - 1e-13).all()
    assert (edges[0], edges[-1]) == (0, np.pi)


def test_the_gain_of_a_weight_that_rises_up_to_nyquist_is_that_at_nyquist() -> None:
    """The maximum is at the end, where the slope is not zero; beyond it the weight would go on rising."""
    system = replace(build([-1.0], [[1]], [[1]], step=1.0), sobolev=Sobolev(np.array([1.0]), "angular", 0.1))
    assert value("peak_frequency", system) == np.pi
    exact = Exact(system, GRID.values)
    assert value("peak_gain", system) == pytest.approx(float(exact.gain(exact.mp.pi)), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_energy_shares_are_integrals_of_the_squared_response(seed: int) -> None:
    """Against adaptive quadrature of |H|^2 that is written out here, from each frequency to the next."""
    system = drawn(seed)
    theta = np.array([0.0, 0.01, 0.3, 1.0, 2.0, np.pi])
    z, residues = discrete_poles(system), (system.C[:, 0] * system.B[:, :, 0]) * discrete_residues(system)
    found = LayerSpectrum(system, FrequencyGrid.default(), load_backend("reference")).energy_shares(theta)
    for k in range(system.copies):

        def squared(at: float, k: int = k) -> float:
            turn = np.exp(-1j * at)
            H = (residues[k] / (1 - z[k] * turn) + residues[k].conj() / (1 - z[k].conj() * turn)).sum()
            return float(abs(H) ** 2)

        peaks = np.abs(np.angle(z[k]))
        parts = [
            quad(squared, low, high, points=peaks[(peaks > low) & (peaks < high)], limit=2000, epsrel=1e-12, epsabs=0)[0]
            for low, high in pairwise(theta)
        ]
        np.testing.assert_allclose(found[k], np.concatenate([[0], np.cumsum(parts)]) / np.sum(parts), rtol=0, atol=1e-9)
