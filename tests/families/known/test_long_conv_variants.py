"""LongConv with smoothing, and without causality, against its own steps in PyTorch (safari: long_conv_kernel.py, long_conv.py)."""

import warnings
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from factories import stored
from torch.nn import functional

from ssmspec.errors import LayerError
from ssmspec.families import FAMILIES, ReadOptions, detect
from ssmspec.families.layers import read_layer
from ssmspec.systems.kernel import KernelSystem

H, LAM = 3, 0.05


def read(kernel: np.ndarray, config: Mapping[str, object] | None = None, heads: int = 1, **assume: str | float) -> KernelSystem:
    tensors = {"layers.0.kernel.kernel": kernel, "layers.0.D": np.zeros((heads, H), np.float32)}
    (layer,) = detect(stored(tensors), FAMILIES.values()).layers
    options = ReadOptions(assume={"longconv_lam": LAM} | assume, config=config or {})
    (system,) = read_layer(FAMILIES[layer.family], layer, options)
    assert isinstance(system, KernelSystem)
    return system


def shrunk(k: torch.Tensor) -> torch.Tensor:
    return functional.relu(k.abs() - LAM) * k.sign()


def outputs(k: torch.Tensor, length: int) -> np.ndarray:
    """y[t] of a unit impulse at s, (H, s, t): the convolution of the module, which is circular over twice the length of its input."""
    k_f = torch.fft.rfft(k, n=2 * length)
    u_f = torch.fft.rfft(torch.eye(length, dtype=k.dtype), n=2 * length)
    return torch.fft.irfft(u_f * k_f[0, :, None], n=2 * length)[..., :length].numpy()


def check_lags(system: KernelSystem, y: np.ndarray) -> None:
    """Every output is the sample of the kernel at its lag, or zero beyond the kernel."""
    kernel = system.impulse(system.length)[:, 0, 0]
    for s in range(y.shape[1]):
        for t in range(y.shape[2]):
            place = t - s - system.first_lag
            wanted = kernel[:, place] if 0 <= place < system.length else np.zeros(H)
            np.testing.assert_allclose(y[:, s, t], wanted, atol=1e-13)


@pytest.fixture
def kernel(rng) -> np.ndarray:
    return rng.standard_normal((1, H, 12)).astype(np.float32)


@pytest.mark.parametrize("window", [1, 3, 7])
def test_a_moving_average_comes_before_the_shrinkage(kernel, window):
    k = functional.avg_pool1d(torch.tensor(kernel).double(), window, stride=1, padding=window // 2)
    config = {"layer": {"use_ma_smoothing": True, "ma_window_len": window}}
    check_lags(read(kernel, config), outputs(shrunk(k), 12))


@pytest.mark.parametrize("length", [12, 11])
@pytest.mark.parametrize("window", [3, 4, 7])
def test_bins_are_smoothed_by_a_gaussian(kernel, window, length):
    kernel = kernel[..., :length]
    weight = torch.exp(-0.5 * (torch.arange(window).double() - window // 2).abs() ** 2).repeat(H, 1, 1).to(torch.complex128)
    with warnings.catch_warnings(action="ignore"):  # once, PyTorch says that it pads a copy for even windows
        k_f = functional.conv1d(torch.fft.rfft(torch.tensor(kernel).double()), weight, padding="same", groups=H)
    system = read(kernel, longconv_smoothing="frequency", longconv_window=window)
    assert system.length == 2 * (length // 2)
    check_lags(system, outputs(shrunk(torch.fft.irfft(k_f)), system.length))


def test_without_causality_the_second_half_acts_on_later_inputs(kernel):
    system = read(kernel, {"layer": {"causal": False}})
    assert (system.first_lag, system.length) == (-5, 11)
    check_lags(system, outputs(shrunk(torch.tensor(kernel).double()), 6))
    assert "not causal: the kernel looks ahead, as it does for inputs of 6 samples" in system.assumptions


@pytest.mark.parametrize(
    ("rows", "length", "assume", "message"),
    [
        (1, 12, {"longconv_smoothing": "time", "longconv_window": 4}, "longconv_window is 4, expected an odd number up to 12"),
        (1, 12, {"longconv_smoothing": "frequency", "longconv_window": 13}, "longconv_window is 13, expected a whole number up to 12"),
        (2, 12, {"longconv_causal": "false"}, "longconv_causal is false, and a kernel of two directions"),
        (1, 11, {"longconv_causal": "false"}, "longconv_causal is false, and a kernel of 11 samples"),
    ],
)
def test_what_no_module_does_is_refused_with_the_reason(rng, rows, length, assume, message):
    with pytest.raises(LayerError) as refusal:
        read(rng.standard_normal((rows, H, length)).astype(np.float32), **assume)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
