"""Statistics against their definitions, evaluated in another way."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from problems import build, random_system
from scipy.integrate import quad

from ssmspec.statistics import STATISTICS, LayerSpectrum, Values, summarize
from ssmspec.statistics.energy import closed_energy
from ssmspec.statistics.quadrature import pole_distances
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.response import frequency_response, impulse_response, squared_magnitude
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import StateSpace, bilinear_realization, discrete_poles, discrete_residues, modal_form

GRID = FrequencyGrid.default()
KINDS = {
    "zoh": {},
    "bilinear": {"discretization": "bilinear"},
    "euler": {"discretization": "euler"},
    "direct": {"discretization": "direct"},
    "low rank": {"R": 1},
    "several inputs": {"I": 2, "O": 3},
}


def values(name: str, spectrum: LayerSpectrum) -> np.ndarray:
    return STATISTICS[name].function(spectrum).values


def integrate(function, poles_at: np.ndarray, top: float) -> float:
    """Adaptive quadrature cut at the resonances, an independent way to the same integral."""
    cuts = [0.0, *sorted(at for at in poles_at if 1e-9 < at < top), top]
    return sum(quad(function, a, b, epsabs=0, epsrel=1e-12, limit=400)[0] for a, b in pairwise(cuts))


@pytest.fixture(params=[(kind, skip) for kind in KINDS for skip in (False, True)], ids=lambda p: f"{p[0]}{', with D' if p[1] else ''}")
def spectrum(request, rng, engine) -> LayerSpectrum:
    kind, skip = request.param
    return LayerSpectrum(random_system(rng, K=2, **KINDS[kind]), GRID, engine, with_skip=skip)


def power_of(spectrum: LayerSpectrum, copy: int):
    part = spectrum.system.copy_slice(copy, copy + 1)

    def power(theta: float) -> float:
        H = frequency_response(part, FrequencyGrid(np.array([theta]), "theta"), spectrum.cauchy_sum)
        return float((np.abs(H.total if spectrum.with_skip else H.dynamic) ** 2).sum())

    return power


def test_shares_and_centroid_equal_adaptive_quadrature(spectrum: LayerSpectrum) -> None:
    at = pole_distances(spectrum.modal)[0]
    for copy in range(2):
        power = power_of(spectrum, copy)
        total, low = integrate(power, at[copy], np.pi), integrate(power, at[copy], np.pi / 4)
        moment = integrate(lambda theta, power=power: theta * power(theta), at[copy], np.pi)
        assert values("low_frequency_share", spectrum)[copy] == pytest.approx(low / total, rel=1e-9)
        assert values("centroid", spectrum)[copy] == pytest.approx(moment / total, rel=1e-9)
        rolloff = values("rolloff_95", spectrum)[copy]
        assert integrate(power, at[copy], rolloff) == pytest.approx(0.95 * total, rel=1e-9)


def test_energy_is_the_sum_of_squares_of_the_kernel(rng, engine) -> None:
    system = random_system(rng, I=2, O=2)
    spectrum = LayerSpectrum(system, GRID, engine)
    kernel = impulse_response(system, 60_000)
    np.testing.assert_allclose(spectrum.restored(np.sqrt(spectrum.band.total)) ** 2, (kernel**2).sum(axis=(1, 2, 3)), rtol=1e-10)


def test_closed_energy_equals_arbitrary_precision_for_lightly_damped_poles() -> None:
    mpmath = pytest.importorskip("mpmath")
    system = build([-1e-7 + 3j, -1e-7 + 3.0001j], [[1], [1]], [[0.5, -0.5]])
    with mpmath.workdps(60):
        step = mpmath.mpf(float(system.step[0, 0]))
        a = [mpmath.mpc(complex(p)) for p in system.poles[0]]
        g = [mpmath.mpc(complex(c)) * (mpmath.exp(p * step) - 1) / p for p, c in zip(a, system.C[0, 0], strict=True)]
        z = [mpmath.exp(p * step) for p in a]
        z, g = z + [mpmath.conj(v) for v in z], g + [mpmath.conj(v) for v in g]
        exact = sum(g[m] * mpmath.conj(g[n]) / (1 - z[m] * mpmath.conj(z[n])) for m in range(4) for n in range(4))
    found = closed_energy(system)
    relative = abs(found.up_to(np.array([np.pi]))[0] / float(exact.real) - 1)
    assert relative < max(1e-13, found.relative_error(np.array([np.pi]))[0])
    assert relative < 1e-9


def test_sensitivity_equals_its_definition_as_a_sum(rng, engine) -> None:
    for kind in KINDS.values():
        spectrum = LayerSpectrum(random_system(rng, **kind), GRID, engine)
        modal = modal_form(spectrum.system)[0]
        z, g = discrete_poles(modal), discrete_residues(modal)
        size = np.linalg.norm(modal.C, axis=1) * np.linalg.norm(modal.B, axis=2) * np.abs(g)
        both, sizes = np.concatenate([z, z.conj()], axis=1), np.concatenate([size, size], axis=1)
        terms = sizes[:, :, None] * np.abs(both)[:, :, None] / np.abs(1 - both[:, :, None] * np.exp(-1j * GRID.values)) ** 2
        np.testing.assert_allclose(spectrum.sensitivity, terms.sum(axis=1), rtol=1e-11)


def test_bias_slope_is_the_least_squares_slope_of_sensitivity(rng, engine) -> None:
    spectrum = LayerSpectrum(random_system(rng), GRID, engine)
    fits = [np.polyfit(np.log10(GRID.values), np.log10(K), 1)[0] for K in spectrum.sensitivity]
    np.testing.assert_allclose(values("bias_slope", spectrum), fits, rtol=1e-10)
    fits = [np.polyfit(np.log10(GRID.values), 2 * np.log10(H), 1)[0] for H in spectrum.magnitude]
    np.testing.assert_allclose(values("spectral_slope", spectrum), fits, rtol=1e-10)


@pytest.mark.parametrize(("corner", "slope"), [(1e-6, -2.0), (1e3, 0.0)])
def test_bias_slope_of_one_pole_far_from_the_grid(corner: float, slope: float, engine) -> None:
    """Far above its corner K falls by two decades per decade, far below it is flat; bilinear warping is undone at small theta."""
    spectrum = LayerSpectrum(build([-corner], [[1]], [[0.5]], step=1e-3, discretization="zoh"), GRID, engine)
    spectrum.grid = FrequencyGrid(np.geomspace(1e-4, 1e-2, 200), "theta")
    assert values("bias_slope", spectrum)[0] == pytest.approx(slope, abs=1e-2)


def test_center_frequency_halves_the_sum_of_the_magnitude(rng, engine) -> None:
    spectrum = LayerSpectrum(random_system(rng), GRID, engine)
    for center, magnitude in zip(values("center_frequency", spectrum), spectrum.magnitude, strict=True):
        below = magnitude[center >= GRID.values].sum() / magnitude.sum()
        assert 0.5 - magnitude.max() / magnitude.sum() <= below <= 0.5 + 1e-12


def test_peak_gain_is_not_below_any_dense_grid_and_barely_above_it(rng, engine) -> None:
    dense = np.linspace(0, np.pi, 200_001)[None]
    for kind in ("zoh", "bilinear", "low rank", "direct"):
        system = random_system(rng, K=3, **KINDS[kind])
        peak = LayerSpectrum(system, GRID, engine)
        brute = np.sqrt(squared_magnitude(system, dense, engine).max(axis=1))
        gain = values("peak_gain", peak)
        assert (gain >= brute * (1 - 1e-12)).all()
        np.testing.assert_allclose(gain, brute, rtol=1e-6)
        at = values("peak_frequency", peak)
        np.testing.assert_allclose(np.sqrt(squared_magnitude(system, at[:, None], engine)[:, 0]), gain, rtol=1e-12)


def test_peak_of_a_lightly_damped_pole_is_found_between_grid_points(engine) -> None:
    # |H| at resonance of a discrete pole g/(1 - z w): g/(1 - |z|) and a conjugate term of relative size 1e-6
    system = build([-1e-6 + 12.34j], [[1]], [[0.5]])
    spectrum = LayerSpectrum(system, GRID, engine)
    g = 0.5 * np.abs(discrete_residues(system)[0, 0])
    assert values("peak_gain", spectrum)[0] == pytest.approx(g / -np.expm1(-1e-7), rel=1e-5)
    assert values("peak_frequency", spectrum)[0] == pytest.approx(1.234, rel=1e-6)


def test_peak_gain_of_a_wide_system_is_the_largest_singular_value(rng, engine) -> None:
    system = random_system(rng, K=1, N=3, I=9, O=8)
    spectrum = LayerSpectrum(system, GRID, engine)
    H = frequency_response(system, FrequencyGrid(np.linspace(0, np.pi, 4001), "theta"), engine).dynamic[0]
    brute = np.linalg.norm(np.moveaxis(H, -1, 0), ord=2, axis=(1, 2)).max()
    assert values("peak_gain", spectrum)[0] == pytest.approx(brute, rel=1e-5)
    assert values("peak_gain", spectrum)[0] >= brute * (1 - 1e-12)


def test_peak_gain_of_a_low_rank_system_with_several_inputs_takes_the_low_rank_part_in(rng, engine) -> None:
    system = random_system(rng, K=1, N=4, I=2, O=3, R=1)
    H = frequency_response(system, FrequencyGrid(np.linspace(0, np.pi, 40_001), "theta"), engine).dynamic[0]
    brute = np.linalg.norm(np.moveaxis(H, -1, 0), ord=2, axis=(1, 2)).max()
    assert values("peak_gain", LayerSpectrum(system, GRID, engine))[0] == pytest.approx(brute, rel=1e-5)


@pytest.mark.filterwarnings("ignore:Poles close to, or on, the complex unit circle")  # what python-control says of light damping
def test_peak_gain_equals_python_control_on_hundreds_of_systems(engine) -> None:
    control = pytest.importorskip("control")
    rng, compared = np.random.default_rng(5), 0
    for _ in range(20):
        system = random_system(rng, K=10, discretization="bilinear", N=3)
        damping = np.where(rng.random((10, 3)) < 0.4, 10.0 ** -rng.uniform(1, 3, (10, 3)), 1.0)
        system = replace(system, poles=system.poles.real * damping + 1j * system.poles.imag)
        A, B, C = bilinear_realization(system)
        for copy, gain in enumerate(values("peak_gain", LayerSpectrum(system, GRID, engine))):
            model = control.ss(A[copy], B[copy], C[copy], np.zeros((1, 1)), True)
            wanted = control.norm(model, "inf", tol=1e-10)
            if np.isfinite(wanted):  # python-control gives up, with inf, where a pole is within about 1e-5 of the circle
                assert gain == pytest.approx(wanted, rel=1e-6)
                compared += 1
    assert compared > 150


def test_time_constant_is_that_of_the_slowest_pole(engine) -> None:
    spectrum = LayerSpectrum(build([-2 + 9j, -0.5], [[1], [1]], [[1, 1]], step=0.01), GRID, engine)
    assert values("time_constant", spectrum)[0] == pytest.approx(1 / (0.5 * 0.01), rel=1e-13)
    assert values("half_life", spectrum)[0] == pytest.approx(np.log(2) * 200, rel=1e-13)


@pytest.mark.parametrize("discretization", ["zoh", "bilinear", "euler", "direct"])
def test_time_constant_equals_log_of_the_pole_modulus(rng, engine, discretization: str) -> None:
    system = random_system(rng, discretization=discretization)
    wanted = (-1 / np.log(np.abs(discrete_poles(system)))).max(axis=1)
    np.testing.assert_allclose(values("time_constant", LayerSpectrum(system, GRID, engine)), wanted, rtol=1e-10)


def s4d_lin(alpha: float, modes: int = 16, step: float = 0.01) -> StateSpace:
    poles = -0.5 + 1j * alpha * np.pi * np.arange(modes)
    return build(poles, np.ones((modes, 1)), np.ones((1, modes)), step=step)


@pytest.mark.parametrize("alpha", [0.01, 1.0, 7.0])
def test_alpha_hat_recovers_the_alpha_of_the_initialization(engine, alpha: float) -> None:
    spectrum = LayerSpectrum(s4d_lin(alpha), GRID, engine)
    assert values("alpha_hat", spectrum)[0] == pytest.approx(alpha, rel=1e-13)
    assert values("alpha_residual", spectrum)[0] < 1e-13


def test_aliased_share_counts_poles_beyond_nyquist(engine) -> None:
    # alpha pi n step > pi for n > 10 of 0..15
    assert values("aliased_share", LayerSpectrum(s4d_lin(1.0, step=0.0999999), GRID, engine))[0] == pytest.approx(5 / 16)


@pytest.mark.parametrize("beta", [-1.0, 1.0])
def test_beta_moves_bias_slope_by_about_093_per_unit(engine, beta: float) -> None:
    """A reference figure of the house: with the weight (1 + theta/step)^beta at the step of the waves experiment."""
    step = 2 * np.pi / 2048
    plain = s4d_lin(10.0, modes=4, step=step)
    weighted = replace(plain, sobolev=Sobolev(np.array([beta]), "paper"))
    change = values("bias_slope", LayerSpectrum(weighted, GRID, engine)) - values("bias_slope", LayerSpectrum(plain, GRID, engine))
    assert change[0] == pytest.approx(0.93 * beta, abs=0.01)


def test_scaling_the_output_scales_gains_and_nothing_else(rng, engine) -> None:
    system = random_system(rng)
    before, after = LayerSpectrum(system, GRID, engine), LayerSpectrum(replace(system, C=7 * system.C), GRID, engine)
    for name in STATISTICS:
        factor = 7 if name in {"peak_gain", "total_variation", "total_variation_bound", "hankel_norm"} else 1
        np.testing.assert_allclose(values(name, after), factor * values(name, before), rtol=1e-6)


def test_a_dead_copy_has_no_value_and_does_not_disturb_the_others(rng, engine) -> None:
    system = random_system(rng, K=3)
    dead = replace(system, C=system.C * np.array([1, 0, 1])[:, None, None])
    for name, statistic in STATISTICS.items():
        found, wanted = statistic.function(LayerSpectrum(dead, GRID, engine)).values, values(name, LayerSpectrum(system, GRID, engine))
        np.testing.assert_allclose(found[[0, 2]], wanted[[0, 2]], rtol=1e-12)
        summary = summarize(statistic.function(LayerSpectrum(dead.copy_slice(1, 2), GRID, engine)), statistic.unit)
        assert (summary.median is None) == (summary.reason is not None)


def test_a_layer_too_sharp_to_integrate_is_null_not_wrong(engine) -> None:
    residues = np.array([[1e9, -1e9 * (1 + 1e-15)]])
    spectrum = LayerSpectrum(build([-1 + 2j, -1 + 2j], [[1], [1]], residues), GRID, engine)
    assert np.isnan(values("low_frequency_share", spectrum)[0]) or spectrum.band.relative_error[0] <= 1e-9


def test_summary_of_several_copies_has_quantiles_and_of_one_has_none() -> None:
    several = summarize(Values(np.array([1.0, 2.0, 3.0, np.nan])), "unit")
    assert (several.median, several.p5, several.p95) == (2.0, pytest.approx(1.1), pytest.approx(2.9))
    one = summarize(Values(np.array([4.0])), "unit")
    assert (one.median, one.p5, one.p95, one.reason) == (4.0, None, None, None)
    none = summarize(Values(np.array([np.nan]), "because"), "unit")
    assert (none.median, none.reason) == (None, "because")
