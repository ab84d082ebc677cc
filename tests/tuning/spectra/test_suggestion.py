"""Suggestions for data whose answer is known, with uncertainties that hold."""

import math
from dataclasses import replace

import numpy as np
import pytest
from initial_layers import ring, s4d_lin, task
from problems import random_system
from scipy import signal
from scipy.integrate import quad

from ssmspec.errors import LayerError, SsmspecError
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import cayley_poles, discrete_poles
from ssmspec.tuning.spectra.estimate import Spectrum, cross_spectrum, power_spectrum
from ssmspec.tuning.spectra.power_law import correlation_time, power_law
from ssmspec.tuning.spectra.signals import as_signals
from ssmspec.tuning.spectra.suggest import StartingLayer, SuggestSettings, gain_at_nyquist, noise_amplification, rounded, suggest

LAYER = StartingLayer.s4d_lin(32)


def spectrum_of(name: str, **choices: object) -> Spectrum:
    return power_spectrum(task(name, **choices))


@pytest.mark.parametrize(("name", "gamma"), [("white", 0.0), ("1/f", 1.0), ("1/f^2", 2.0)])
@pytest.mark.parametrize("batch", [4, 64])
def test_gamma_of_power_laws_is_met_within_its_uncertainty(name: str, gamma: float, batch: int) -> None:
    law = power_law(spectrum_of(name, batch=batch))
    assert abs(law.gamma - gamma) < 3 * law.uncertainty
    assert law.uncertainty < 0.2
    assert not law.bends


def test_uncertainty_of_gamma_covers_what_repetition_shows() -> None:
    found = [power_law(power_spectrum(as_signals(np.random.default_rng(seed).normal(size=(8, 2048))))) for seed in range(40)]
    gammas, claimed = np.array([law.gamma for law in found]), np.array([law.uncertainty for law in found])
    assert 0.4 * np.sqrt((claimed**2).mean()) < gammas.std() < 1.3 * np.sqrt((claimed**2).mean())
    assert abs(gammas.mean()) < 4 * gammas.std() / np.sqrt(len(gammas))


def test_gamma_is_negative_where_power_rises_and_beta_follows_its_sign() -> None:
    rising = as_signals(np.diff(task("white").values[:, :, 0], axis=1), layout="BL")
    suggestion = suggest(power_spectrum(rising), LAYER)
    assert suggestion["gamma"].value == pytest.approx(-2, abs=0.2)
    assert suggestion["beta"].value == pytest.approx(-1, abs=0.1)
    assert suggestion["noise_amplification"].value < 0


def test_white_noise_asks_for_no_beta() -> None:
    beta = suggest(spectrum_of("white"), LAYER)["beta"]
    assert abs(beta.value) <= 2 * beta.uncertainty
    assert "leave beta at 0" in beta.note


def test_a_spectrum_that_is_no_power_law_gives_no_beta() -> None:
    suggestion = suggest(spectrum_of("band"), LAYER)
    assert suggestion.power_law.bends
    assert "not a power law" in suggestion["gamma"].note
    assert suggestion["beta"].value is None
    assert suggestion["noise_amplification"].value is None


def test_a_step_that_both_halves_miss_is_no_power_law() -> None:
    """10 dB between two flat halves: either has a gamma near 0, the whole one near 1."""
    noise = np.fft.rfft(np.random.default_rng(0).normal(size=(32, 4096)))
    theta = np.linspace(0, np.pi, noise.shape[1])
    spectrum = power_spectrum(as_signals(np.fft.irfft(noise * np.where(theta < 0.2, 10**0.5, 1.0))))
    suggestion = suggest(spectrum, LAYER)
    law = suggestion.power_law
    assert max(np.abs(law.halves)) < 0.2 < law.gamma
    assert law.bends
    assert law.uncertainty > 0.4 * law.gamma
    assert not suggestion.has_beta


def test_only_a_beta_that_is_told_from_zero_is_one_to_apply() -> None:
    assert suggest(spectrum_of("1/f"), LAYER).has_beta
    assert not suggest(spectrum_of("white"), LAYER).has_beta
    selective = suggest(spectrum_of("1/f"), replace(LAYER, selective=True))
    assert not selective.has_beta
    assert selective["beta"].value is selective["nyquist_gain"].value is None
    assert "operating point" in selective["beta"].note


def test_paper_is_refused_for_layers_with_a_step_per_mode() -> None:
    with pytest.raises(SsmspecError, match="one step per copy"):
        suggest(spectrum_of("1/f"), replace(LAYER, step_per_mode=True), SuggestSettings(convention="paper"))


def test_a_low_rank_layer_starts_from_its_eigenvalues() -> None:
    system = random_system(np.random.default_rng(0), K=1, N=4, R=1, discretization="bilinear")
    A = np.diag(np.concatenate([system.poles[0], system.poles[0].conj()])) - np.concatenate([system.P[0], system.P[0].conj()]) @ (
        np.concatenate([system.Q[0], system.Q[0].conj()]).conj().T
    )
    layer, eigenvalues = StartingLayer.of(system), np.linalg.eigvals(A)
    assert layer.highest == pytest.approx(np.abs(eigenvalues.imag).max(), rel=1e-9)
    assert layer.decay == pytest.approx(-eigenvalues.real.max(), rel=1e-9)


def test_memory_that_hangs_on_the_lowest_bins_is_a_lower_bound() -> None:
    """1/f noise has no correlation time: the longer the segments, the longer it is."""
    x = task("1/f", batch=16)
    found = {size: correlation_time(power_spectrum(x, segment=size)) for size in (256, 512, 1024)}
    for (time, error, falls), longer in zip(found.values(), [*found.values()][1:], strict=False):
        assert not falls
        assert time < longer[0] < time + 3 * error
    assert correlation_time(spectrum_of("resonance"))[2]
    assert correlation_time(spectrum_of("white"))[2]


def test_beta_is_half_of_gamma_and_no_finer_than_a_guideline() -> None:
    suggestion = suggest(spectrum_of("1/f"), LAYER)
    assert suggestion["beta"].value == pytest.approx(suggestion.power_law.gamma / 2, abs=0.005)
    assert suggestion["beta"].uncertainty >= 0.05
    assert "37 %" in suggestion["beta"].source


@pytest.mark.parametrize(
    "weight", [("lra", None, None), ("angular", 0.01, None), ("paper", None, None), ("causal", 0.1, None), ("waves", None, 500)]
)
@pytest.mark.parametrize("beta", [-0.5, 0.0, 0.7])
def test_noise_amplification_is_the_mean_square_of_the_weight(weight: tuple, beta: float) -> None:
    sobolev, step = Sobolev(np.array([beta]), *weight), np.array([[1e-3]])
    square = lambda theta: sobolev.gain(np.array([[theta]]), step).item() ** 2  # noqa: E731
    mean = quad(square, 0, np.pi, points=[1e-4, 1e-3, 1e-2, 0.1], limit=200)[0] / np.pi
    assert noise_amplification(sobolev, step).item() == pytest.approx(10 * math.log10(mean), abs=1e-6)
    assert gain_at_nyquist(sobolev, step).item() == pytest.approx(10 * math.log10(square(np.pi)), abs=1e-9)


def test_noise_amplification_of_the_published_weight_in_closed_form() -> None:
    """beta = 1, theta_ref = 2 pi: the mean of (1 + u)^2 over u in [0, 1/2] is 19/12."""
    assert noise_amplification(Sobolev(np.ones(1), "lra"), np.ones((1, 1))).item() == pytest.approx(10 * math.log10(19 / 12), abs=1e-10)


def test_alpha_range_reaches_the_data_and_stays_below_nyquist() -> None:
    spectrum = spectrum_of("resonance")
    suggestion = suggest(spectrum, LAYER)
    fastest = math.pi * 31 * 0.1
    lowest, highest = suggestion["alpha_min"].value, suggestion["alpha_max"].value
    assert spectrum.rolloff()[0] <= lowest * fastest < 1.2 * spectrum.rolloff()[0]
    assert 0.9 * math.pi < highest * fastest <= math.pi
    assert "alias" in suggestion["alpha_max"].note


def test_alpha_of_a_bilinear_layer_follows_the_warp_and_has_no_limit() -> None:
    spectrum = spectrum_of("white")
    layer = StartingLayer.of(s4d_lin(4, 32, discretization="bilinear"))
    suggestion = suggest(spectrum, layer)
    assert suggestion["alpha_max"].value is None
    pole = -1e-9 + 1j * suggestion["alpha_min"].value * layer.highest
    edge = 2 * math.atan((pole * layer.step[1] / 2).imag)
    assert spectrum.rolloff()[0] <= edge < 1.02 * spectrum.rolloff()[0]


def test_a_layer_says_what_it_starts_from() -> None:
    system = s4d_lin(4, 8)
    layer = StartingLayer.of(system)
    assert layer == StartingLayer((system.step.min(), system.step.max()), 7 * math.pi, 0.5, "zoh")
    discrete = StartingLayer.of(ring(2, 6))
    poles = discrete_poles(ring(2, 6))
    assert discrete.highest == pytest.approx(np.angle(poles).max())
    assert discrete.decay == pytest.approx(-np.log(np.abs(poles)).max())
    assert np.isfinite(cayley_poles(system)).all()
    real = suggest(spectrum_of("1/f"), StartingLayer((0.01, 0.1), 0.0))
    assert real["alpha_min"].value is real["alpha_max"].value is None
    assert "all poles are real" in real["alpha_max"].note


def test_memory_of_an_exponential_correlation_is_its_time_constant(rng: np.random.Generator) -> None:
    decay = math.exp(-1 / 20)
    x = signal.lfilter([1], [1, -decay], rng.normal(size=(64, 5000)), axis=1)[:, 904:]
    time, error, falls = correlation_time(power_spectrum(as_signals(x)))
    assert falls
    assert time == pytest.approx(20, rel=0.1)
    assert error < 2


def test_memory_of_a_resonance_is_half_of_its_time_constant_and_of_white_noise_one_sample() -> None:
    """|pole| = 0.97: -1/log 0.97 = 33 samples."""
    assert correlation_time(spectrum_of("resonance"))[0] == pytest.approx(-0.5 / math.log(0.97), rel=0.1)
    assert correlation_time(spectrum_of("white"))[0] == pytest.approx(1, abs=0.01)


def test_step_gives_the_memory_to_the_slowest_mode() -> None:
    spectrum = spectrum_of("resonance")
    own = suggest(spectrum, LAYER)
    assert 1 / (0.5 * own["step"].value) == pytest.approx(own["memory"].value, rel=0.1)
    given = suggest(spectrum, LAYER, SuggestSettings(memory=1000))
    assert (given["memory"].value, given["step"].value) == (1000, 0.002)
    slow = suggest(power_spectrum(as_signals(np.sin(0.2 * np.arange(4000)) + 0.01 * task("white").values[0, :4000, 0]), segment=32), LAYER)
    assert "a lower bound" in slow["memory"].note
    assert "an upper bound" in slow["step"].note


def test_cross_spectra_are_read_above_their_floor_only(rng: np.random.Generator) -> None:
    x = task("1/f").values[:, :, 0]
    spectrum = cross_spectrum(as_signals(x), as_signals(x + rng.normal(size=x.shape) * x.std()))
    assert power_law(spectrum).gamma == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("value", "uncertainty", "expected"),
    [
        (0.4312, 0.027, (0.43, 0.03)),
        (0.4312, 0.0149, (0.431, 0.015)),
        (123.4, 31.0, (120.0, 30.0)),
        (1.0, 0.2, (1.0, 0.2)),
        (2.0, 0.0, (2.0, 0.0)),
    ],
)
def test_rounding_keeps_what_the_uncertainty_justifies(value: float, uncertainty: float, expected: tuple[float, float]) -> None:
    assert rounded(value, uncertainty) == pytest.approx(expected, rel=1e-12)


def test_every_item_has_a_source_and_a_unit_and_the_data_are_described() -> None:
    suggestion = suggest(spectrum_of("1/f"), LAYER)
    names = ["gamma", "beta", "noise_amplification", "nyquist_gain", "alpha_min", "alpha_max", "memory", "step"]
    assert [item.name for item in suggestion.items] == names
    assert all(item.source for item in suggestion.items)
    assert {item.unit for item in suggestion.items} == {"", "dB", "samples"}
    assert any("Hann" in said for said in suggestion.assumptions)


def test_wishes_that_mean_nothing_are_refused() -> None:
    with pytest.raises(LayerError, match="convention 'lre' is unknown"):
        SuggestSettings(convention="lre")
    with pytest.raises(LayerError, match="needs theta_ref"):
        SuggestSettings(convention="angular")
    with pytest.raises(SsmspecError, match="memory is 0"):
        SuggestSettings(memory=0)
    with pytest.raises(SsmspecError, match="expected two positive finite values"):
        StartingLayer((0.1, 0.01), 3.0)
    with pytest.raises(SsmspecError, match="expected a frequency of at least 0 and a positive decay"):
        StartingLayer((0.01, 0.1), 3.0, 0.0)
    with pytest.raises(SsmspecError, match="expected at least 1"):
        StartingLayer.s4d_lin(0)
    with pytest.raises(SsmspecError, match="expected at least 4"):
        suggest(spectrum_of("white"), LAYER, SuggestSettings(fit_range=(1.0, 1.01)))
