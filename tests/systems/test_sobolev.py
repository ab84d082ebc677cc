"""Beta weights: each convention against the code or formula of its source, and its effect on the statistics."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from problems import random_system

from ssmspec.errors import LayerError
from ssmspec.statistics import STATISTICS, LayerSpectrum
from ssmspec.statistics.variation import total_variation
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.response import frequency_response
from ssmspec.systems.sobolev import CONVENTIONS, Convention, Sobolev
from ssmspec.systems.statespace import StateSpace

GRID = FrequencyGrid.default()
BETAS = np.array([-1.0, 0.5, 1.5])
STEP = np.array([[0.02], [0.1], [0.5]])
CHOICES: dict[Convention, dict[str, float]] = {
    "lra": {},
    "paper": {},
    "angular": {"theta_ref": 0.2},
    "causal": {"theta_ref": 0.2},
    "denoising": {"length": 784},
    "waves": {"length": 4096},
}
every_convention = pytest.mark.parametrize("convention", CONVENTIONS)


def chosen(convention: Convention, beta: object = BETAS) -> Sobolev:
    return Sobolev(np.asarray(beta, float), convention, **CHOICES[convention])


def weighted(rng: np.random.Generator, convention: Convention, **choices: object) -> StateSpace:
    return replace(random_system(rng, step=STEP, **choices), sobolev=chosen(convention))


def impulse_through(response: np.ndarray, length: int) -> np.ndarray:
    """The real part of an impulse filtered by a circular FFT of that length."""
    return np.fft.ifft(response * np.fft.fft(np.eye(1, length)[0])).real


def test_denoising_is_the_published_two_sided_ramp(rng: np.random.Generator) -> None:
    """denoising.py: scales = (1 + arange(L)/10000)**beta, followed by its mirror image, on fft of length 2L, then real."""
    L, beta = 24, -1.5
    half = (1 + np.arange(L) / 10000) ** beta
    taps = impulse_through(np.concatenate([half, half[::-1]]), 2 * L)
    theta = np.pi * np.arange(L + 1)[None] / L
    found = Sobolev(np.array([beta]), "denoising", length=L).weight(theta, np.ones((1, 1)))
    np.testing.assert_allclose(found[0], np.fft.rfft(taps).real, rtol=1e-13)


def test_waves_is_the_published_ramp_without_its_mirror_image() -> None:
    """models/s4/s4d.py of FreqBiasSSM: (1 + arange(L)/10000)**beta on fft of length L, then real."""
    L, beta = 64, 2.0
    taps = impulse_through((1 + np.arange(L) / 10000) ** beta, L)
    theta = 2 * np.pi * np.arange(L // 2 + 1)[None] / L
    found = Sobolev(np.array([beta]), "waves", length=L).weight(theta, np.ones((1, 1)))
    np.testing.assert_allclose(found[0], np.fft.rfft(taps).real, rtol=1e-13)


def test_waves_with_beta_one_is_constant_but_at_zero() -> None:
    weight = Sobolev(np.ones(1), "waves", length=100).weight(np.array([[0, 0.1, 1, np.pi]]), np.ones((1, 1)))
    np.testing.assert_allclose(weight, [[1, 1.005, 1.005, 1.005]], rtol=1e-12)


def test_lra_is_the_published_ramp_on_an_rfft() -> None:
    """s4block.py of FreqBiasSSM: (1 + arange(bins)/n)**s on rfft(n = l_kernel + L)."""
    n, s = 50, 0.7
    theta = 2 * np.pi * np.arange(n // 2 + 1)[None] / n
    found = Sobolev(np.array([s]), "lra").weight(theta, np.ones((1, 1)))
    np.testing.assert_allclose(found[0], (1 + np.arange(n // 2 + 1) / n) ** s, rtol=1e-14)
    assert found.max() == pytest.approx(1.5**s)


def test_paper_counts_radians_of_model_time() -> None:
    found = chosen("paper").weight(np.array([[0.3]]), STEP)
    np.testing.assert_allclose(found[:, 0], (1 + 0.3 / STEP[:, 0]) ** BETAS, rtol=1e-14)


@pytest.mark.parametrize("beta", [-2.0, -0.5, 1.0, 1.7])
def test_causal_has_the_taps_of_its_recursion_and_none_before_zero(beta: float) -> None:
    theta_ref, length = 0.2, 4096
    rho = np.exp(-2 * np.arcsinh(theta_ref / 2))
    taps = np.empty(200)
    taps[0] = (1 - rho) ** -beta
    for order in range(1, len(taps)):
        taps[order] = taps[order - 1] * rho * (order - 1 - beta) / order
    theta = np.pi * np.arange(length // 2 + 1)[None] / (length // 2)
    found = np.fft.irfft(Sobolev(np.array([beta]), "causal", theta_ref).weight(theta, np.ones((1, 1)))[0])
    np.testing.assert_allclose(found[: len(taps)], taps, atol=1e-12 * np.abs(taps).max())
    assert np.abs(found[length // 2 :]).max() < 1e-13 * np.abs(taps).max()


def test_causal_has_the_magnitude_of_a_bessel_potential() -> None:
    theta = np.linspace(0, np.pi, 33)[None]
    expected = (1 + (2 * np.sin(theta / 2) / 0.2) ** 2) ** (BETAS[:, None] / 2)
    np.testing.assert_allclose(chosen("causal").gain(theta, STEP), expected, rtol=1e-12)


@every_convention
def test_log_slope_is_the_derivative_of_the_logarithm(convention: Convention) -> None:
    """Away from the knots of "denoising", where one of its ramps starts or stops; both ends are in."""
    knot = np.pi / 784
    theta = np.concatenate([[0.3 * knot, 0.9 * knot, 1.1 * knot], np.linspace(0.05, 3.1, 40), [np.pi - 0.6 * knot, np.pi - 0.2 * knot]])[
        None
    ]
    weight, width = chosen(convention), 1e-7
    around = [weight.weight(theta + side * width, STEP) for side in (1, -1)]
    expected = (around[0] - around[1]) / (2 * width) / weight.weight(theta, STEP)
    found = np.broadcast_to(weight.log_slope(theta, STEP), expected.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)


@every_convention
def test_a_beta_of_zero_weighs_nothing(convention: Convention) -> None:
    weight = chosen(convention, np.zeros(3))
    np.testing.assert_array_equal(weight.weight(np.linspace(0, np.pi, 9)[None], STEP) * np.ones((3, 9)), np.ones((3, 9)))
    assert weight.causal


@pytest.mark.parametrize("convention", [name for name in CONVENTIONS if name != "causal"])
def test_every_other_weight_is_real_and_so_looks_ahead(convention: Convention) -> None:
    assert np.isrealobj(chosen(convention).weight(np.ones((1, 1)), STEP))
    assert not chosen(convention).causal


@every_convention
def test_every_statistic_with_a_weight_is_finite(convention: Convention, rng: np.random.Generator, engine: Callable) -> None:
    spectrum = LayerSpectrum(weighted(rng, convention), GRID, engine)
    for name, statistic in STATISTICS.items():
        found = statistic.function(spectrum)
        assert found.values is None or found.by_definition or np.isfinite(found.values).all(), (name, found)


@every_convention
def test_centroid_and_low_frequency_share_with_a_weight_equal_dense_sums(
    convention: Convention, rng: np.random.Generator, engine: Callable
) -> None:
    system = weighted(rng, convention)
    spectrum = LayerSpectrum(system, GRID, engine)
    theta = (np.arange(200_000) + 0.5) * np.pi / 200_000
    power = np.abs(frequency_response(system, FrequencyGrid(theta, "theta"), engine).dynamic[:, 0, 0]) ** 2
    expected = {
        "centroid": (theta * power).sum(axis=1) / power.sum(axis=1),
        "low_frequency_share": power[:, :50_000].sum(axis=1) / power.sum(axis=1),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(STATISTICS[name].function(spectrum).values, values, rtol=1e-5)


@every_convention
@pytest.mark.parametrize("discretization", ["zoh", "direct"])
def test_total_variation_with_a_weight_is_the_length_of_a_dense_polygon(
    convention: Convention, discretization: str, rng: np.random.Generator, engine: Callable
) -> None:
    step = np.ones((3, 1)) if discretization == "direct" else STEP
    system = replace(random_system(rng, discretization=discretization, step=step), sobolev=chosen(convention))
    theta = np.linspace(0.01, 3.0, 100_001)
    H = frequency_response(system, FrequencyGrid(theta, "theta"), engine).dynamic[:, 0, 0]
    found = np.asarray(total_variation(system, 0.01, 3.0).value)
    np.testing.assert_allclose(found, np.abs(np.diff(H)).sum(axis=1), rtol=1e-6)


@every_convention
def test_sensitivity_and_center_frequency_carry_the_weight(convention: Convention, rng: np.random.Generator, engine: Callable) -> None:
    """Dense sums over the grid of the definitions: K times |W|; half of |H W| below."""
    system = weighted(rng, convention)
    gain = system.sobolev.gain(GRID.values[None], system.step)
    bare = LayerSpectrum(replace(system, sobolev=None), GRID, engine)
    full = LayerSpectrum(system, GRID, engine)
    logs = np.log10(GRID.values)
    slope = np.polyfit(logs, np.log10(gain).T, 1)[0]
    moved = STATISTICS["bias_slope"].function(full).values - STATISTICS["bias_slope"].function(bare).values
    np.testing.assert_allclose(moved, slope, atol=1e-9)
    np.testing.assert_allclose(full.magnitude, bare.magnitude * gain, rtol=1e-10)


@pytest.mark.parametrize(
    ("convention", "more", "words"),
    [
        ("fourier", {}, "choose one of lra, paper"),
        ("angular", {}, "needs theta_ref"),
        ("causal", {"theta_ref": 0.0}, "needs theta_ref"),
        ("causal", {"theta_ref": float("nan")}, "needs theta_ref"),
        ("waves", {}, "needs the length"),
        ("denoising", {"length": -3}, "needs the length"),
    ],
)
def test_a_convention_that_is_unknown_or_incomplete_is_refused(convention: str, more: dict[str, float], words: str) -> None:
    with pytest.raises(LayerError, match=words):
        Sobolev(np.ones(1), convention, **more)


def test_paper_refuses_a_step_per_mode() -> None:
    with pytest.raises(LayerError, match="use 'angular' or 'lra'"):
        chosen("paper").weight(np.ones((1, 1)), np.ones((3, 4)))
