"""Statistics of explicit kernels against quadrature of their definitions, and against state spaces with the same kernel."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import hankel

from ssmspec.backends import load_backend
from ssmspec.commands.analyze import analyze_layer
from ssmspec.statistics import STATISTICS, KernelSpectrum, spectrum_of
from ssmspec.statistics.distances import DISTANCES
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.kernel import NO_POLES, HeldKernel, KernelSystem
from ssmspec.systems.response import impulse_response
from ssmspec.systems.statespace import StateSpace

GRID = FrequencyGrid.default(300)
ENGINE = load_backend("reference")
WITHOUT_POLES = {name for name, statistic in STATISTICS.items() if not statistic.needs_poles}


def explicit(kernel: np.ndarray, D: np.ndarray | None = None, first_lag: int = 0) -> KernelSystem:
    D = np.zeros(kernel.shape[:3]) if D is None else D
    return KernelSystem(name="layer", family="test", shape=kernel.shape, source=HeldKernel(kernel), D=D, first_lag=first_lag)


def values(system: Any, name: str, **options: Any) -> np.ndarray:
    return STATISTICS[name].of(spectrum_of(system, GRID, ENGINE, **options)).values


def space(rng: np.random.Generator, K: int, N: int, I: int, O: int, delay: int) -> StateSpace:
    z = rng.uniform(0.2, 0.8, (K, N)) * np.exp(1j * rng.uniform(0, np.pi, (K, N)))
    B, C = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape) for shape in ((K, N, I), (K, O, N)))
    D, step = rng.standard_normal((K, O, I)), np.ones((K, 1))
    return StateSpace(name="layer", family="test", poles=z, B=B, C=C, D=D, step=step, discretization="direct", delay=delay)


@pytest.mark.parametrize("with_skip", [False, True])
@pytest.mark.parametrize(("I", "O"), [(1, 1), (2, 3), (1, 2)])
@pytest.mark.parametrize("delay", [0, 1])
def test_a_long_enough_kernel_has_the_statistics_of_its_state_space(rng, I, O, delay, with_skip):
    system = space(rng, 2, 3, I, O, delay)
    other = explicit(impulse_response(system, 160)[..., delay:], system.D, delay)
    spectra = [spectrum_of(each, GRID, ENGINE, with_skip=with_skip) for each in (other, system)]
    for name in WITHOUT_POLES:
        found, wanted = (STATISTICS[name].of(spectrum).values for spectrum in spectra)
        scale = np.maximum(np.abs(wanted), 1) if name in ("peak_frequency", "energy_delay", "spectral_slope") else np.abs(wanted)
        assert (np.abs(found - wanted) <= 1e-6 * scale).all(), name


def response(kernel: np.ndarray, lags: np.ndarray, theta: float) -> complex:
    return complex(kernel @ np.exp(-1j * theta * lags))


@pytest.mark.parametrize("first_lag", [0, -6])
@pytest.mark.parametrize("length", [1, 2, 3, 13])
def test_energies_variation_and_peak_are_those_of_their_definitions(rng, length, first_lag):
    k = rng.standard_normal(length)
    lags = np.arange(length) + first_lag
    system = explicit(k[None, None, None], first_lag=first_lag)

    def integral(function, top=np.pi):
        cuts = np.linspace(0, top, 8 * length + 1)
        return sum(quad(function, a, b, epsabs=1e-12, epsrel=1e-12)[0] for a, b in pairwise(cuts))

    def squared(theta):
        return abs(response(k, lags, theta)) ** 2

    total = integral(squared)
    assert values(system, "low_frequency_share")[0] == pytest.approx(integral(squared, np.pi / 4) / total, rel=1e-9)
    assert values(system, "centroid")[0] == pytest.approx(integral(lambda theta: theta * squared(theta)) / total, rel=1e-9)
    rolloff = values(system, "rolloff_95")[0]
    assert integral(squared, rolloff) / total == pytest.approx(0.95, rel=1e-9)
    slope = integral(lambda theta: abs(response(k * lags, lags, theta)))
    assert values(system, "total_variation")[0] == pytest.approx(slope, rel=1e-6, abs=1e-12)
    dense = np.abs(np.exp(-1j * np.outer(np.linspace(0, np.pi, 200_001), lags)) @ k)
    assert values(system, "peak_gain")[0] == pytest.approx(dense.max(), rel=1e-8)
    at = values(system, "peak_frequency")[0]
    assert abs(response(k, lags, at)) == pytest.approx(dense.max(), rel=1e-8)


def test_hankel_values_are_the_singular_values_of_the_hankel_matrix(rng):
    kernel = rng.standard_normal((2, 1, 1, 12))
    kernel[1, ..., 7:] = 0
    for copy, largest in enumerate(values(explicit(kernel), "hankel_norm")):
        wanted = np.linalg.svd(hankel(kernel[copy, 0, 0]), compute_uv=False)
        assert largest == pytest.approx(wanted[0], rel=1e-12)
        assert values(explicit(kernel), "effective_order")[copy] == (wanted > 0.01 * wanted[0]).sum()


def test_delay_and_length_are_those_of_the_squares():
    kernel = np.zeros((2, 1, 1, 200))
    kernel[0, 0, 0, [3, 10]] = 3, -1
    kernel[1, 0, 0, :100] = 1
    system = explicit(kernel)
    np.testing.assert_allclose(values(system, "energy_delay"), [(9 * 3 + 10) / 10, 49.5])
    np.testing.assert_array_equal(values(system, "length_99"), [11, 99])
    ahead = explicit(kernel, first_lag=-200)
    np.testing.assert_allclose(values(ahead, "energy_delay"), [3.7 - 200, 49.5 - 200])


def test_statistics_of_poles_are_absent_with_the_reason(rng):
    layer = analyze_layer(explicit(rng.standard_normal((3, 1, 1, 16))), GRID, ENGINE)
    assert set(layer.statistics) == set(STATISTICS)
    for name, summary in layer.statistics.items():
        if name in WITHOUT_POLES:
            assert summary.median is not None, name
        else:
            assert (summary.median, summary.reason) == (None, NO_POLES)
    assert {"time_constant", "half_life", "alpha_hat", "bias_slope", "aliased_share"} <= set(STATISTICS) - WITHOUT_POLES
    assert (layer.modes, layer.length, layer.first_lag, layer.poles.size) == (None, 16, 0, 0)


@pytest.mark.parametrize(("length", "lag", "reason"), [(4097, 0, "4097 samples"), (8, -4, "looks ahead")])
def test_hankel_values_that_are_not_computed_say_why(rng, length, lag, reason):
    layer = analyze_layer(
        explicit(rng.standard_normal((1, 1, 1, length)), first_lag=lag), GRID, ENGINE, chosen=("hankel_norm", "effective_order")
    )
    for summary in layer.statistics.values():
        assert summary.median is None
        assert reason in summary.reason


def test_a_kernel_of_zeros_has_no_statistics_and_is_counted(rng):
    kernel = rng.standard_normal((3, 1, 1, 16))
    kernel[1] = 0
    layer = analyze_layer(explicit(kernel), GRID, ENGINE)
    assert any(note.startswith("1 of 3 copies have no response (all samples are zero)") for note in layer.notes)
    assert all(np.isnan(found[1]) for found in layer.values.values())
    assert all(np.isfinite(layer.values[name][[0, 2]]).all() for name in WITHOUT_POLES)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_sizes_at_the_ends_of_double_precision_change_nothing_but_gains(rng, scale):
    kernel = rng.standard_normal((2, 1, 1, 16))
    small, other = explicit(kernel), explicit(kernel * scale)
    for name in WITHOUT_POLES - {"peak_gain", "total_variation", "hankel_norm"}:
        np.testing.assert_allclose(values(other, name), values(small, name), rtol=1e-9, err_msg=name)
    np.testing.assert_allclose(values(other, "peak_gain"), values(small, "peak_gain") * scale, rtol=1e-9)


def test_notes_say_what_the_grid_shows(rng):
    short = analyze_layer(explicit(rng.standard_normal((1, 1, 1, 16))), GRID, ENGINE).notes
    assert any("below 2 pi/L = 0.393 rad/sample" in note for note in short)
    kernel = rng.standard_normal((1, 1, 1, 8192))
    long = analyze_layer(explicit(kernel), GRID, ENGINE, chosen=("center_frequency",)).notes
    assert any("coarser than the structure of the kernel" in note for note in long)
    kernel[..., 40:] = 0  # long, but its energy lies in few samples
    assert not analyze_layer(explicit(kernel), GRID, ENGINE, chosen=("center_frequency",)).notes


def test_distances_of_responses_have_values_and_those_of_poles_a_reason(rng):
    kernel = rng.standard_normal((2, 1, 1, 16))
    before, after = (KernelSpectrum(explicit(kernel * factor), GRID, ENGINE) for factor in (1.0, 2.0))
    np.testing.assert_allclose(DISTANCES["log_spectral_distance"].of(before, after).values, 20 * np.log10(2), rtol=1e-12)
    np.testing.assert_allclose(DISTANCES["spectrum_distance"].of(before, after).values, 0, atol=1e-12)
