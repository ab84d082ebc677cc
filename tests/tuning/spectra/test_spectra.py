"""Welch estimates against SciPy and against processes whose spectrum is known."""

import numpy as np
import pytest
from scipy import signal

from ssmspec.errors import SsmspecError
from ssmspec.tuning.spectra.estimate import cross_spectrum, jackknife, power_spectrum
from ssmspec.tuning.spectra.signals import as_signals

AR = [1, -1.6, 0.9]  # resonance at 0.57 rad/sample


def autoregressive(rng: np.random.Generator, batch: int, length: int) -> np.ndarray:
    return signal.lfilter([1], AR, rng.normal(size=(batch, length + 500)), axis=1)[:, 500:]


@pytest.mark.parametrize(("shape", "segment"), [((3, 700), 64), ((1, 5000), None), ((40, 100), None), ((9, 90), 90)])
def test_power_equals_scipy(rng: np.random.Generator, shape: tuple[int, int], segment: int | None) -> None:
    x = autoregressive(rng, *shape)
    found = power_spectrum(as_signals(x), segment=segment)
    theta, power = signal.welch(x, fs=2 * np.pi, window="hann", nperseg=found.segment, return_onesided=False)
    keep = slice(2, found.segment // 2 + 1)
    power = power.mean(axis=0)[keep]
    np.testing.assert_allclose(found.power, power / power.mean(), rtol=1e-12)
    np.testing.assert_allclose(found.theta, np.abs(theta[keep]), rtol=1e-12)


def test_channels_and_sequences_are_averaged(rng: np.random.Generator) -> None:
    x = autoregressive(rng, 12, 200)
    alone = power_spectrum(as_signals(x), segment=64)
    together = power_spectrum(as_signals(x.reshape(6, 2, 200), layout="BCL"), segment=64)
    np.testing.assert_allclose(together.power, alone.power, rtol=1e-12)


def seen_through_hann(theta: np.ndarray, n: int) -> np.ndarray:
    """Expected periodogram of the process: the transform of its autocorrelation times that of the window."""
    fine = np.linspace(0, 2 * np.pi, 65536, endpoint=False)
    correlation = np.fft.ifft(np.abs(signal.freqz([1], AR, fine)[1]) ** 2).real[:n]
    window = signal.get_window("hann", n)
    weighted = correlation * np.correlate(window, window, "full")[n - 1 :]
    return weighted[0] + 2 * np.cos(theta[:, None] * np.arange(1, n)) @ weighted[1:]


def test_known_spectrum_is_met_within_its_standard_error(rng: np.random.Generator) -> None:
    """Mean square of (estimate - expectation)/error over 63 correlated bins: 1, with a standard deviation of about 0.25."""
    found = power_spectrum(as_signals(autoregressive(rng, 200, 512)), segment=128)
    truth = seen_through_hann(found.theta, 128)
    misfit = (found.power - truth / truth.mean()) / found.standard_error
    assert 0.4 < (misfit**2).mean() < 2.0


@pytest.mark.parametrize("batch", [1, 64])
def test_standard_error_of_white_noise_is_that_of_its_degrees_of_freedom(rng: np.random.Generator, batch: int) -> None:
    found = power_spectrum(as_signals(rng.normal(size=(batch, 65536 // batch))), segment=128)
    nominal = 1 / np.sqrt(found.degrees_of_freedom / 2)
    assert np.sqrt((found.standard_error**2).mean()) == pytest.approx(nominal, rel=0.12)
    assert found.segments == batch * (65536 // batch // 64 - 1)
    assert found.degrees_of_freedom == pytest.approx(2 * found.segments / (1 + 2 / 36), rel=0.01)


def test_errors_of_nonstationary_data_are_larger_than_gaussian_theory(rng: np.random.Generator) -> None:
    cutoff = rng.uniform(-0.9, 0.9, size=64)
    x = np.stack([signal.lfilter([1], [1, -c], rng.normal(size=512)) for c in cutoff])
    found = power_spectrum(as_signals(x), segment=64)
    nominal = found.power / np.sqrt(found.degrees_of_freedom / 2)
    assert np.median(found.standard_error / nominal) > 2


def test_segments_are_the_longest_that_leave_enough(rng: np.random.Generator) -> None:
    sizes = {(1, 72): 16, (1, 1000): 32, (100, 100): 64, (1, 100_000): 1024}
    for shape, expected in sizes.items():
        assert power_spectrum(as_signals(rng.normal(size=shape))).segment == expected


def test_rolloff_holds_the_stated_share(rng: np.random.Generator) -> None:
    found = power_spectrum(as_signals(rng.normal(size=(64, 1024))), segment=128)
    edge, error = found.rolloff()
    assert edge == pytest.approx(0.95 * np.pi, abs=3 * error)
    assert np.pi / 128 <= error < 0.1


def test_cross_spectrum_equals_scipy_less_its_bias(rng: np.random.Generator) -> None:
    x = autoregressive(rng, 20, 600)
    y = signal.lfilter([1, 0.5], [1, -0.5], x, axis=1) + rng.normal(size=x.shape)
    found = cross_spectrum(as_signals(x), as_signals(y), segment=64)
    keep, options = slice(2, 33), {"window": "hann", "nperseg": 64, "return_onesided": False}
    cross, xx, yy = (signal.csd(a, b, **options)[1].mean(axis=0)[keep] for a, b in ((x, y), (x, x), (y, y)))
    bias = (xx * yy).real / (found.degrees_of_freedom / 2)
    expected = np.sqrt(np.abs(cross) ** 2 - bias)
    np.testing.assert_allclose(found.power, expected / expected.mean(), rtol=1e-9)
    np.testing.assert_allclose(found.floor, np.maximum(np.sqrt(bias) / expected.mean(), 1e-4), rtol=1e-9)


def test_floor_is_what_unrelated_signals_show(rng: np.random.Generator) -> None:
    """y follows x in the lower half of the band only; the upper half must come out at the floor, not above."""
    x, noise = rng.normal(size=(64, 1024)), rng.normal(size=(64, 1024))
    low = signal.sosfiltfilt(signal.butter(8, 0.4, output="sos"), x, axis=1)
    found = cross_spectrum(as_signals(x), as_signals(low + noise), segment=64)
    upper = found.theta > 0.6 * np.pi
    assert np.median(found.power[upper] / found.floor[upper]) < 1
    assert (found.power[found.theta < 0.3 * np.pi] > 10 * found.floor[0]).all()
    assert 0.3 < found.coherence < 0.6  # 1/2 where they are related: signal and noise have the same variance per frequency


def test_several_channels_add_in_square(rng: np.random.Generator) -> None:
    x = rng.normal(size=(40, 512))
    one = cross_spectrum(as_signals(x), as_signals(2 * x), segment=64)
    two = cross_spectrum(as_signals(x), as_signals(np.stack([x, np.roll(x, 1, axis=1)]), layout="CBL"), segment=64)
    np.testing.assert_allclose(two.power, one.power, rtol=0.02)
    assert one.kind == two.kind == "cross"


def test_unrelated_signals_are_refused() -> None:
    refused = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        try:
            cross_spectrum(as_signals(rng.normal(size=(8, 1024))), as_signals(rng.normal(size=(8, 1024))))
        except SsmspecError as error:
            refused += "not coherent" in str(error)
    assert refused >= 19


def test_jackknife_of_a_mean_is_its_standard_error(rng: np.random.Generator) -> None:
    x = rng.normal(size=20)
    left_out = (x.sum() - x) / 19
    assert jackknife(left_out) == pytest.approx(x.std(ddof=1) / np.sqrt(20), rel=1e-12)


def test_the_same_data_give_the_same_estimate_whatever_their_scale(rng: np.random.Generator) -> None:
    x = rng.normal(size=(10, 300))
    first, second = (power_spectrum(as_signals(scale * x)) for scale in (1.0, 1e120))
    np.testing.assert_allclose(first.power, second.power, rtol=1e-12)


@pytest.mark.parametrize(
    ("shape", "segment", "message"),
    [
        ((1, 40), None, "4 segments of 16 samples in 1 x 40; expected at least 8"),
        ((4, 100), 101, "expected an even number from 16 to 100"),
        ((4, 100), 17, "expected an even number from 16 to 100"),
        ((4, 100), 8, "expected an even number from 16 to 100"),
        ((2, 100), 100, "2 segments of 100 samples"),
    ],
)
def test_segments_that_do_not_fit_are_refused(rng: np.random.Generator, shape: tuple[int, int], segment: int | None, message: str) -> None:
    with pytest.raises(SsmspecError, match=message):
        power_spectrum(as_signals(rng.normal(size=shape)), segment=segment)


def test_sequences_that_are_constants_have_no_spectrum(rng: np.random.Generator) -> None:
    constants = np.repeat(1e6 + rng.normal(size=(20, 1)), 100, axis=1)
    with pytest.raises(SsmspecError, match="no power above"):
        power_spectrum(as_signals(constants))


def test_targets_that_do_not_pair_are_refused(rng: np.random.Generator) -> None:
    x = as_signals(rng.normal(size=(8, 100)))
    with pytest.raises(SsmspecError, match="labels of whole sequences have no cross-spectrum"):
        cross_spectrum(x, as_signals(rng.normal(size=(8, 90))))
    wide = as_signals(rng.normal(size=(2, 100, 65)))
    with pytest.raises(SsmspecError, match="4225 pairs of channels"):
        cross_spectrum(wide, wide)
