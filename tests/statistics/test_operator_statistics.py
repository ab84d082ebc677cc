"""Total variation, Hankel singular values and the kernel spectrum against brute force, SciPy and theorems."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import build, random_system
from scipy.linalg import solve_discrete_lyapunov
from scipy.stats import wasserstein_distance

from ssmspec.backends import load_backend
from ssmspec.statistics import STATISTICS, LayerSpectrum
from ssmspec.statistics.hankel import effective_order, hankel_singular_values
from ssmspec.statistics.kernel_spectrum import kernel_spectrum
from ssmspec.statistics.quadrature import panels
from ssmspec.statistics.variation import total_variation, variation_bound, variation_from_samples
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.response import discrete_response, frequency_response, impulse_response, squared_magnitude
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import StateSpace, discrete_poles, discrete_residues, modal_form

GRID = FrequencyGrid.default()
KINDS = {
    "zoh": {},
    "bilinear": {"discretization": "bilinear"},
    "direct": {"discretization": "direct"},
    "low rank": {"R": 1},
    "several inputs": {"I": 2, "O": 3},
    "with beta": {"sobolev": Sobolev(np.array([1.0, -0.5, 0.3]), "lra")},
}


def brute_variation(system: StateSpace, low: float, high: float) -> np.ndarray:
    """Length of the polygon through dense samples of H."""
    theta = np.linspace(low, high, 400_001)
    H = frequency_response(replace(system, delay=0), FrequencyGrid(theta, "theta"), load_backend("cpu")).dynamic
    return np.sqrt((np.abs(np.diff(H, axis=-1)) ** 2).sum(axis=(1, 2))).sum(axis=-1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("low", "high"), [(0.0, np.pi), (0.3, 1.1)])
def test_total_variation_equals_the_length_of_a_dense_polygon(rng, kind: str, low: float, high: float) -> None:
    system = random_system(rng, **KINDS[kind])
    found = total_variation(modal_form(system)[0], low, high)
    assert (found.relative_error < 1e-6).all()
    np.testing.assert_allclose(found.value, brute_variation(system, low, high), rtol=1e-6)


@pytest.mark.parametrize("kind", ["zoh", "low rank", "with beta"])
def test_total_variation_from_samples_equals_that_from_the_modes(rng, engine, kind: str) -> None:
    system = random_system(rng, **KINDS[kind])
    modal = modal_form(system)[0]
    cut = panels(modal)
    theta, x, y = cut.nodes_between_ends()
    S = discrete_response(system, x, y, engine)[:, 0, 0] * np.exp(-0.5j * theta)
    if system.sobolev is not None:
        S = S * system.sobolev.weight(theta, system.step)
    np.testing.assert_allclose(variation_from_samples(modal, cut, S).value, total_variation(modal).value, rtol=1e-7)


def test_total_variation_of_one_resonance_is_half_a_circle_and_more() -> None:
    """A lone sharp pole g/(1 - u) with |g| = 1 and |z| = 1 - w walks around a circle of diameter 1/w: pi/w, up to the rest of the band."""
    width = 1e-5
    system = build([np.log(1 - width) / 0.1 + 1j * 10], [[1]], [[1]], discretization="euler")
    gain = np.abs(system.step[0, 0])
    assert total_variation(system).value[0] == pytest.approx(np.pi * gain / width, rel=1e-4)


@pytest.mark.parametrize("width", [1e-8, 3e-9, 1e-9, 4e-10, 1.4e-10, 5e-11, 1e-11])
def test_total_variation_of_a_resonance_beside_the_circle_is_null_or_right(width: float) -> None:
    """g/(1 - z e^{-i theta}) walks along a circle at the speed |g| r/|1 - z e^{-i theta}|^2, whose integral is elementary.

    The conjugate pole adds a part of about the width, and the rounding of theta one of 1e-16 over the width.
    """
    angles = np.random.default_rng(3).uniform(0.02, 3.12, 24)
    one = build([-width], [[1]], [[1]], step=1.0, discretization="euler")
    poles = -width + 1j * angles[:, None]
    parts = {name: np.repeat(getattr(one, name), 24, axis=0) for name in ("B", "C", "D", "step")}
    system = replace(one, poles=poles, **parts)
    found = STATISTICS["total_variation"].of(LayerSpectrum(system, FrequencyGrid.default(64), load_backend("reference"))).values
    less = -np.expm1(-width)  # 1 - r
    turns = [np.arctan((2 - less) / less * np.tan(part / 2)) for part in (angles, np.pi - angles)]
    wanted = 2 * (1 - less) / (less * (2 - less)) * sum(turns)
    known = np.isfinite(found)
    np.testing.assert_allclose(found[known], wanted[known], rtol=1e-6)
    assert known.all() if width >= 3e-9 else not known[angles > 2].any() if width <= 4e-10 else True


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), factor=st.floats(1.0001, 30))
def test_variation_above_a_frequency_never_exceeds_its_bound(seed: int, factor: float) -> None:
    system = random_system(np.random.default_rng(seed), K=2)
    band = np.full(2, system.poles.imag.max() * factor)
    bound = variation_bound(system, band)
    omega = band[0] + np.concatenate([[0], np.geomspace(1e-6, 1e7, 20_001)]) * np.abs(system.poles).max()
    G = frequency_response(system, FrequencyGrid(omega, "omega"), load_backend("reference")).dynamic[:, 0, 0]
    assert (np.abs(np.diff(G, axis=1)).sum(axis=1) <= bound * (1 + 1e-12)).all()


def test_the_bound_is_null_with_a_pole_above_it(rng) -> None:
    system = random_system(rng)
    assert np.isnan(variation_bound(system, np.full(3, system.poles.imag.max() / 2))).any()


@pytest.mark.parametrize("kind", ["zoh", "bilinear", "direct", "several inputs"])
def test_hankel_singular_values_equal_those_of_dense_lyapunov_solutions(rng, kind: str) -> None:
    system = random_system(rng, **KINDS[kind])
    z, g = discrete_poles(system), discrete_residues(system)[:, :, None] * system.B
    diagonal = np.eye(system.modes) * z[:, None, :]
    A = np.block([[diagonal.real, -diagonal.imag], [diagonal.imag, diagonal.real]])
    B, C = np.concatenate([g.real, g.imag], axis=1), 2 * np.concatenate([system.C.real, -system.C.imag], axis=2)
    for copy, found in enumerate(hankel_singular_values(system)):
        P = solve_discrete_lyapunov(A[copy], B[copy] @ B[copy].T)
        Q = solve_discrete_lyapunov(A[copy].T, C[copy].T @ C[copy])
        wanted = np.sqrt(np.sort(np.linalg.eigvals(P @ Q).real)[::-1].clip(0))
        np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-8 * wanted[0])


def test_hankel_singular_values_equal_those_of_the_hankel_matrix(rng) -> None:
    system = random_system(rng, K=1, N=3, step=np.array([[0.3]]))
    kernel = impulse_response(system, 1000)[0, 0, 0]
    hankel = kernel[np.add.outer(np.arange(500), np.arange(500))]
    np.testing.assert_allclose(hankel_singular_values(system)[0], np.linalg.svd(hankel, compute_uv=False)[:6], rtol=1e-6, atol=1e-7)


def test_hankel_norm_lies_between_half_the_peak_gain_over_the_order_and_the_peak_gain(rng, engine) -> None:
    """sigma_1 <= ||H||_inf <= 2 sum sigma_i for the strictly delayed response, whose magnitude is that of H."""
    system = random_system(rng)
    peak = STATISTICS["peak_gain"].function(LayerSpectrum(system, GRID, engine)).values
    sigma = hankel_singular_values(system)
    assert (sigma[:, 0] <= peak * (1 + 1e-9)).all()
    assert (peak <= 2 * sigma.sum(axis=1) * (1 + 1e-9)).all()


def test_effective_order_counts_the_directions_that_matter() -> None:
    values = np.array([[1.0, 0.5, 0.011, 0.009], [1.0, 1e-9, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(effective_order(values), [3, 1, np.nan])


def test_kernel_spectrum_equals_the_eigenvalues_of_the_explicit_product(rng) -> None:
    system = random_system(rng, K=2)
    kernel = impulse_response(system, 64)[:, 0, 0]
    for found, samples in zip(kernel_spectrum(system, 64), kernel, strict=True):
        T = np.array([[samples[i - j] if i >= j else 0.0 for j in range(64)] for i in range(64)])
        wanted = np.sort(np.linalg.eigvalsh(T.T @ T))[::-1]
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12 * wanted[0])


def test_kernel_spectrum_of_several_inputs_is_that_of_the_block_map(rng) -> None:
    system = random_system(rng, K=1, I=2, O=3)
    kernel, length = impulse_response(system, 20)[0], 20
    u = rng.normal(size=(2, length))
    y = np.stack([sum(np.convolve(kernel[o, i], u[i])[:length] for i in range(2)) for o in range(3)])
    top = kernel_spectrum(system, length)[0, 0]
    assert (y**2).sum() <= top * (u**2).sum() * (1 + 1e-12)


def test_kernel_spectrum_approaches_the_squared_magnitude_in_distribution(rng) -> None:
    """Szego: quantiles of the eigenvalues tend to quantiles of |H|^2 over a uniform theta; the distance falls as L grows."""
    system = random_system(rng, K=1, N=2, step=np.array([[0.5]]))
    theta = FrequencyGrid((np.arange(20_000) + 0.5) * np.pi / 20_000, "theta")
    power = np.abs(frequency_response(system, theta, load_backend("reference")).dynamic[0, 0, 0]) ** 2
    distances = [wasserstein_distance(kernel_spectrum(system, length)[0], power) / power.mean() for length in (32, 128, 512)]
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 0.05
    assert kernel_spectrum(system, 512)[0, 0] <= power.max() * (1 + 1e-4)


def test_curves_are_the_same_numbers_as_the_statistics_made_from_them(rng, engine) -> None:
    from ssmspec.statistics.curves import CURVES

    spectrum = LayerSpectrum(random_system(rng, K=2), GRID, engine)
    curves = {name: curve.function(spectrum) for name, curve in CURVES.items()}
    assert {name: len(values) for name, values in curves.items()} == dict.fromkeys(CURVES, 2)
    np.testing.assert_allclose(curves["hankel_singular_values"][:, 0], STATISTICS["hankel_norm"].function(spectrum).values)
    peak = STATISTICS["peak_gain"].function(spectrum).values
    assert (np.sqrt(curves["kernel_spectrum"].max(axis=1)) <= peak * (1 + 1e-9)).all()
    assert (curves["magnitude"].max(axis=1) <= peak * (1 + 1e-9)).all()
    assert (np.diff(curves["energy_shares"], axis=1) >= 0).all()
    slopes = [np.polyfit(np.log10(GRID.values), np.log10(K), 1)[0] for K in curves["sensitivity"]]
    np.testing.assert_allclose(slopes, STATISTICS["bias_slope"].function(spectrum).values, rtol=1e-9)


def test_peak_gain_of_hundreds_of_random_systems_is_never_missed(engine) -> None:
    """Against grids that are dense around every pole, down to a hundredth of its width; quality factors up to 1e7."""
    rng = np.random.default_rng(11)
    for _ in range(30):
        system = random_system(rng, K=10, N=5, discretization=rng.choice(["zoh", "bilinear", "direct"]))
        if system.discretization != "direct":
            sharp = np.where(rng.random((10, 5)) < 0.4, 10.0 ** -rng.uniform(2, 7, (10, 5)), 1.0)
            system = replace(system, poles=system.poles.real * sharp + 1j * system.poles.imag)
        gain = STATISTICS["peak_gain"].function(LayerSpectrum(system, GRID, engine)).values
        log_z = np.log(discrete_poles(system))
        local = np.abs(log_z.imag)[:, :, None] + np.abs(log_z.real)[:, :, None] * np.linspace(-8, 8, 1601)
        theta = np.concatenate([local.reshape(10, -1), np.tile(np.linspace(0, np.pi, 4001), (10, 1))], axis=1).clip(0, np.pi)
        brute = np.sqrt(squared_magnitude(system, theta, engine).max(axis=1))
        assert (gain >= brute * (1 - 1e-9)).all()
        np.testing.assert_allclose(gain, brute, rtol=2e-4)
