"""|H|^2 of a layer against `response`, and its gradients against differences."""

from dataclasses import replace

import numpy as np
import pytest
from problems import build, random_system

from ssmspec.systems.response import impulse_response, squared_magnitude
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import StateSpace
from ssmspec.tuning.spectra.layer_power import Engine, Parameters, layer_power

THETA = np.linspace(0.05, np.pi, 33)
ENGINE = Engine.named("reference")
CHOICES = [
    {},
    {"I": 2, "O": 3},
    {"sobolev": Sobolev(np.array([0.5, -0.3, 1.0]), "paper")},
    {"sobolev": Sobolev(np.array([0.5, -0.3, 1.0]), "causal", 0.1)},
]
RULES = ("zoh", "bilinear", "euler", "direct")


def drawn(rule: str, choices: dict[str, object]) -> StateSpace:
    return random_system(np.random.default_rng(5), discretization=rule, **choices)


@pytest.mark.parametrize("choices", CHOICES)
@pytest.mark.parametrize("rule", RULES)
def test_power_is_that_of_the_response(rule: str, choices: dict[str, object]) -> None:
    system = drawn(rule, choices)
    power, _, _ = layer_power(system, Parameters.of(system), THETA, 0.0, ENGINE)
    np.testing.assert_allclose(power, squared_magnitude(system, THETA[None], ENGINE.cauchy_sum), rtol=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_window_multiplies_the_autocorrelation_of_the_impulse_response(rule: str) -> None:
    system = drawn(rule, {"I": 2, "O": 3})
    eta, length = 0.1, 20_000
    kernel = impulse_response(system, length)
    transform = np.fft.rfft(kernel, 2 * length)
    correlation = np.fft.irfft((np.abs(transform) ** 2).sum(axis=(1, 2)))[:, :400]
    lags = np.arange(400)
    seen = correlation * (2 * np.exp(-eta * lags) - np.exp(-2 * eta * lags))
    expected = seen[:, :1] + 2 * seen[:, 1:] @ np.cos(THETA * lags[1:, None])
    power, total, _ = layer_power(system, Parameters.of(system), THETA, eta, ENGINE)
    np.testing.assert_allclose(power, expected, rtol=1e-8)
    np.testing.assert_allclose(total[:, 0], (kernel**2).sum(axis=(1, 2, 3)), rtol=1e-9)


def test_line_narrower_than_a_bin_keeps_its_power_wherever_it_is() -> None:
    """eta = 0.41 bins: the sum over bins is 1.32 of the power of a line on a bin, 0.73 of one between two."""
    bins = np.arange(1, 64) * np.pi / 64
    seen = []
    for place in (32.0, 32.25, 32.5):
        system = build([-1e-6 + 1j * place * np.pi / 64], [[1]], [[0.5]], step=1.0)
        power, total, _ = layer_power(system, Parameters.of(system), bins[None][0], np.pi / 64 / np.sqrt(6), ENGINE)
        seen.append(power.sum() / 64 / total.item())
    assert 0.72 < min(seen) < max(seen) < 1.33


@pytest.mark.parametrize("field", ["log_step", "log_decay", "frequency", "C"])
@pytest.mark.parametrize("choices", CHOICES)
@pytest.mark.parametrize("rule", RULES)
def test_gradients_equal_differences(rule: str, choices: dict[str, object], field: str, rng: np.random.Generator) -> None:
    """Central differences with h = 1e-5 are good to about 1e-10/h^0.5 of the scale: 1e-6 asks for every digit that they have."""
    if rule == "direct" and field == "log_step":
        pytest.skip("discrete poles have no step")
    system = drawn(rule, choices)
    start = Parameters.of(system)
    power, total, pull_back = layer_power(system, start, THETA, 0.05, ENGINE)
    seeds = rng.normal(size=power.shape), rng.normal(size=total.shape)
    value = getattr(start, field)
    direction = rng.normal(size=value.shape) + (1j * rng.normal(size=value.shape) if field == "C" else 0)

    def moved(h: float) -> float:
        at = replace(start, **{field: value + h * direction})
        power, total, _ = layer_power(system, at, THETA, 0.05, ENGINE)
        return float((seeds[0] * power).sum() + (seeds[1] * total).sum())

    slope = (getattr(pull_back(*seeds), field).conj() * direction).real.sum()
    assert (moved(1e-5) - moved(-1e-5)) / 2e-5 == pytest.approx(slope, rel=1e-6, abs=1e-6 * np.abs(power).max())


@pytest.mark.parametrize("size", [1e-2, 1.1e-3, 0.9e-3, 1e-6])
def test_slow_poles_lose_no_digits(size: float) -> None:
    """The series of kappa for |lambda| < 1e-3 meets the closed form there."""
    mpmath = pytest.importorskip("mpmath")
    from ssmspec.tuning.spectra.layer_power import _kappa

    exponent = size * np.exp(2j)
    ratio, slope = (part[()] for part in _kappa("zoh", np.array(exponent)))
    with mpmath.workdps(40):
        exact = mpmath.mpmathify(exponent)
        assert abs(ratio - complex(mpmath.expm1(exact) / exact)) < 1e-13
        assert abs(slope - complex(mpmath.exp(exact) / mpmath.expm1(exact) - 1 / exact)) < 1e-12


@pytest.mark.parametrize("rule", RULES)
def test_parameters_give_the_system_back_and_fold_what_left_the_upper_half(rule: str) -> None:
    system = drawn(rule, {})
    start = Parameters.of(system)
    same = start.system(system)
    np.testing.assert_allclose(same.poles, system.poles, rtol=1e-13)
    np.testing.assert_allclose(same.step, system.step, rtol=1e-13)
    lower = replace(start, frequency=-start.frequency).system(system)
    assert (lower.poles.imag >= 0).all()
    mirrored = replace(system, poles=system.poles.conj())
    np.testing.assert_allclose(impulse_response(lower, 50), impulse_response(mirrored, 50), rtol=1e-10, atol=1e-10)
