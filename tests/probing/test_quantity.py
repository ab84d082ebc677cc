"""S of models that are known: closed forms, Jacobians of torch.autograd.functional, injected tones."""

import numpy as np
import pytest
import torch
from probed_models import Filter, Squashed, low_pass, spectrum
from torch import nn

import ssmspec
from ssmspec.statistics.frequency_sensitivity import Band


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def misses(bands: tuple[Band, ...], theta: np.ndarray, expected: np.ndarray) -> list[float]:
    """By how many standard errors every resolved band misses the mean of the expected values in it."""
    found = []
    for band in bands:
        if band.resolved:
            inside = (theta >= band.low - 1e-9) & ((theta < band.high - 1e-9) | (band.high > np.pi - 1e-9))
            found.append(abs(band.mean - expected[inside].mean()) / band.error)
    return found


def test_a_filter_that_spans_six_decades_needs_the_window_and_is_right_with_it() -> None:
    length = 2048
    kernel, squared = low_pass(6, 0.9, length)
    model, u = Filter(kernel), noise(16, length, 1)
    place = ssmspec.probe(model, u)["input"]
    expected = squared(place.theta)
    assert expected.max() / expected.min() > 1e12  # |H| spans six decades
    assert place.per_step
    assert len(misses(place.bands(), place.theta, expected)) == 7
    assert max(misses(place.bands(), place.theta, expected)) < 4
    without = ssmspec.probe(model, u, per_step=False)["input"]
    assert max(misses(without.bands(), without.theta, expected)) > 4
    assert without.bands()[-1].mean > 1e3 * expected[-1]


def test_two_layers_of_several_channels_give_the_norm_of_the_product() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(4, 3, 6)), rng.normal(size=(2, 4, 6))
    model = nn.Sequential(Filter(first), Filter(second))
    result = ssmspec.probe(model, noise(32, 512, 3), layers=["1"])
    theta = result["input"].theta
    H1, H2 = spectrum(first, theta), spectrum(second, theta)
    product = np.einsum("omf,mif->oif", H2, H1)
    expected = (np.abs(product) ** 2).sum(axis=(0, 1)) / 2
    apart = (np.abs(H1) ** 2).sum(axis=(0, 1)) * (np.abs(H2) ** 2).sum(axis=(0, 1)) / 2
    assert max(misses(result["input"].bands(2), theta, expected)) < 4
    assert min(misses(result["input"].bands(2), theta, apart)) > 4
    assert max(misses(result["1"].bands(2), theta, (np.abs(H2) ** 2).sum(axis=(0, 1)) / 2)) < 4
    channels = (np.abs(product) ** 2).sum(axis=0) / 2
    np.testing.assert_allclose(result["input"].channels.mean(axis=1), channels.mean(axis=1), rtol=0.05)
    assert result.passes == 4 * 8


def test_the_last_step_hears_the_kernel_cut_at_the_length() -> None:
    kernel = np.random.default_rng(0).normal(size=(1, 2, 300)) * 0.99 ** np.arange(300)
    place = ssmspec.probe(Filter(kernel, "last"), noise(2, 128, 2))["input"]
    expected = np.abs(spectrum(kernel[0, :, :128], place.theta)) ** 2
    np.testing.assert_allclose(place.channels, expected, rtol=1e-10)
    np.testing.assert_allclose(place.curve, expected.sum(axis=0), rtol=1e-10)
    assert place.exact
    assert not place.per_step


def test_a_mean_over_time_hears_zero_and_next_to_nothing_else_which_is_said() -> None:
    length, pole = 1024, np.exp(-1 / 100)
    kernel = (1 - pole) * pole ** np.arange(length)
    place = ssmspec.probe(Filter(kernel, "mean"), noise(2, length, 1))["input"]
    assert place.curve[1] / place.curve[0] == pytest.approx(0.01, rel=0.2)
    assert "the output averages over time" in place.notes[0]
    place = ssmspec.probe(Filter(np.ones(1), "mean"), noise(2, length, 1))["input"]
    assert place.curve[0] == pytest.approx(1)
    assert place.curve[1:].max() < 1e-25
    assert "the output averages over time" in place.notes[0]


def tones(length: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    at = 2 * np.pi * k * np.arange(length) / length
    return np.cos(at), np.sin(at)


def test_ten_logits_are_exact_with_ten_samples() -> None:
    model, u = Squashed(2, 10), noise(3, 64, 2)
    place = ssmspec.probe(model, u, samples=10)["input"]
    jacobian = np.stack([torch.autograd.functional.jacobian(model, each[None])[0, :, 0].numpy() for each in u])  # (B, O, L, C)
    transformed = np.stack([(jacobian * np.exp(-1j * theta * np.arange(64))[:, None]).sum(axis=2) for theta in place.theta], axis=-1)
    np.testing.assert_allclose(place.channels, (np.abs(transformed) ** 2).mean(axis=(0, 1)), rtol=1e-10)
    np.testing.assert_allclose(place.draws[:, 0], (np.abs(transformed) ** 2).sum(axis=2).mean(axis=1), rtol=1e-10)
    assert place.relative_error is None
    random = ssmspec.probe(model, u, samples=9)["input"]
    assert random.relative_error == pytest.approx(1 / np.sqrt(27))
    assert not np.allclose(random.curve, place.curve, rtol=1e-3)


def test_a_real_tone_gives_half_of_s() -> None:
    kernel = np.random.default_rng(0).normal(size=(3, 1, 64))
    model = Filter(kernel, "last")
    place = ssmspec.probe(model, noise(1, 64, 1))["input"]
    for k in (1, 5, 31):
        cosine, sine = (model(torch.from_numpy(tone)[None, :, None]).detach().numpy()[0] for tone in tones(64, k))
        assert np.mean([np.mean(cosine**2), np.mean(sine**2)]) == pytest.approx(place.curve[k] / 2, rel=1e-10)  # over two phases


def test_finite_differences_with_injected_tones() -> None:
    model, u, step = Squashed(1, 4), noise(2, 64, 1), 1e-5
    place = ssmspec.probe(model, u)["input"]
    for k in (0, 3, 20, 32):
        parts = []
        for tone in tones(64, k):
            change = step * torch.from_numpy(tone)[:, None]
            parts.append(((model(u + change) - model(u - change)) / (2 * step)).detach().numpy())
        assert (parts[0] ** 2 + parts[1] ** 2).mean() == pytest.approx(place.curve[k], rel=1e-6)


def test_the_error_is_that_over_seeds() -> None:
    model, u = Filter(np.random.default_rng(0).normal(size=(2, 1, 4))), noise(8, 64, 1)
    bands = [ssmspec.probe(model, u, samples=2, seed=seed)["input"].bands()[-1] for seed in range(60)]
    spread, stated = np.std([band.mean for band in bands]), np.mean([band.error for band in bands])
    assert 0.7 < spread / stated < 1.4
    slopes = [ssmspec.probe(model, noise(8, 256, 1), samples=2, seed=seed)["input"].slope for seed in range(40)]
    assert 0.6 < np.std([slope.value for slope in slopes]) / np.mean([slope.error for slope in slopes]) < 1.6


def test_bands_half_sensitivity_and_slope_of_known_curves() -> None:
    place = ssmspec.probe(Filter(np.ones(1)), noise(64, 512, 1))["input"]  # hears every frequency alike
    bands = place.bands()
    assert [band.resolved for band in bands] == [False, True, True, True, True, True]
    assert sum(band.bins for band in bands) == 257
    assert bands[1].low == pytest.approx(place.resolved_from)
    assert place.half_frequency.value == pytest.approx(np.pi / 2, abs=4 * place.half_frequency.error)
    assert abs(place.slope.value) < 4 * place.slope.error
    difference = ssmspec.probe(Filter(np.array([1.0, -1.0])), noise(64, 512, 1))["input"]
    exact = 2 - 2 * np.cos(difference.theta)
    assert max(misses(difference.bands(), difference.theta, exact)) < 4
    assert 1.5 < difference.slope.value < 2  # theta^2, flatter near pi
    short = ssmspec.probe(Filter(np.ones(1)), noise(4, 32, 1))["input"]
    assert short.slope == (None, None)
    assert "slope none" in short.summary()


def test_one_input_has_errors_of_its_draws_and_an_exact_one_has_none() -> None:
    model = Filter(np.array([1.0, 0.5]))
    assert ssmspec.probe(model, noise(1, 128, 1))["input"].bands()[-1].error > 0
    assert ssmspec.probe(Filter(np.array([1.0, 0.5]), "last"), noise(1, 128, 1))["input"].bands()[-1].error is None


def test_pictures_are_measured_along_their_diagonal() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.LazyLinear(4)).double()
    u = noise(3, 2, 8, 8)
    model(u)
    place = ssmspec.probe(model, u)["input"]
    jacobian = torch.autograd.functional.jacobian(model, u[:1])[0, :, 0].numpy()  # (O, C, H, W)
    grid = np.add.outer(np.arange(8), np.arange(8))
    expected = [(np.abs((jacobian * np.exp(-1j * theta * grid)).sum(axis=(2, 3))) ** 2).mean(axis=0) for theta in place.theta]
    np.testing.assert_allclose(place.channels.T, expected, rtol=1e-10)
