"""Families of explicit kernels against the kernels of their original modules; see examples_kernels.py."""

from collections.abc import Mapping

import numpy as np
import pytest
from examples_kernels import KERNELS, KernelExample, hyena, long_conv
from factories import Tensors, make, stored

from ssmspec.backends import load_backend
from ssmspec.errors import LayerError
from ssmspec.families import FAMILIES, LayerTensors, ReadOptions, detect
from ssmspec.families.layers import read_layer
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.kernel import KernelSystem
from ssmspec.systems.trust import assess

PREFIX = "encoder.layers.0"
THETA = np.append(np.linspace(-3, 3, 40), np.pi)


def only_layer(tensors: Tensors) -> LayerTensors:
    (layer,) = detect(stored(tensors), FAMILIES.values()).layers
    return layer


def read(example: KernelExample, **assume: str | float) -> KernelSystem:
    layer = only_layer(example.under(PREFIX))
    options = ReadOptions(assume={**example.assume, **assume}, config=example.config)
    (system,) = read_layer(FAMILIES[layer.family], layer, options)
    assert isinstance(system, KernelSystem)
    return system


def summed(kernel: np.ndarray, first_lag: int, theta: np.ndarray) -> np.ndarray:
    """H without D, term by term."""
    total = np.zeros((*kernel.shape[:3], len(theta)), complex)
    for place in range(kernel.shape[3]):
        total += kernel[..., place, None] * np.exp(-1j * theta * (first_lag + place))
    return total


@pytest.mark.parametrize("name", KERNELS)
def test_an_example_is_one_layer_of_its_family_and_no_near_miss(name: str) -> None:
    detection = detect(stored(KERNELS[name].under(PREFIX)), FAMILIES.values())
    assert [layer.family for layer in detection.layers] == [KERNELS[name].family]
    assert not detection.near_misses


@pytest.mark.parametrize("ending", ["", "-in-training"], ids=["inference", "training"])
def test_the_three_filters_of_evo_2_are_told_apart(ending: str) -> None:
    tensors = dict(KERNELS[f"evo-2-hcm{ending}"].under("blocks.0")) | KERNELS[f"evo-2-hcs{ending}"].under("blocks.1")
    example = make(f"evo-2-hcl{'-training' if ending else ''}")
    tensors |= {f"blocks.2.filter.{name}" if not ending else f"blocks.2.{name}": values for name, values in example.tensors.items()}
    detection = detect(stored(tensors), FAMILIES.values())
    assert sorted(layer.family for layer in detection.layers) == ["evo-2-hcl", "evo-2-hcm", "evo-2-hcs"]
    assert not detection.near_misses


@pytest.mark.parametrize("name", KERNELS)
def test_the_kernel_is_that_of_the_module(name: str) -> None:
    example, system = KERNELS[name], read(KERNELS[name])
    assert (system.shape, system.first_lag) == (example.kernel.shape, example.first_lag)
    np.testing.assert_allclose(system.impulse(system.length), example.kernel, rtol=0, atol=1e-13 * np.abs(example.kernel).max())
    np.testing.assert_array_equal(system.D, example.skip)
    assert not assess(system).faults


@pytest.mark.parametrize("name", KERNELS)
def test_the_response_is_the_transform_of_the_kernel(name: str) -> None:
    example = KERNELS[name]
    found = read(example).response(FrequencyGrid(THETA, "theta"), load_backend("reference"))
    wanted = summed(example.kernel, example.first_lag, THETA)
    assert np.abs(found.dynamic - wanted).max() <= 1e-12 * np.abs(wanted).max()
    assert np.abs(found.total - wanted - example.skip[..., None]).max() <= 1e-12 * max(np.abs(wanted).max(), np.abs(example.skip).max())


@pytest.mark.parametrize("name", KERNELS)
def test_parts_of_a_layer_have_the_kernels_of_their_copies(name: str) -> None:
    system = read(KERNELS[name])
    chosen = np.arange(0, system.copies, 2)
    part = system.pick(chosen)
    np.testing.assert_allclose(part.impulse(part.length), KERNELS[name].kernel[chosen], rtol=0, atol=1e-13)


REFUSED = {
    "hyena": ("hyena_shift=0 in safari, hyena_shift=0.05 in HyenaDNA", "--assume hyena_shift="),
    "long-conv": ("longconv_lam=0 for ConvKernel of S4", "--assume longconv_lam="),
    "ckconv": ("kernelcnn_omega_0", "--assume ckconv_omega_0="),
    "ckconv-without-length": ("older files lack train_length", "--assume ckconv_length="),
    "hyena-without-positions": ("longest input", "--assume hyena_length="),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_code_decides_in_two_ways_is_asked_for(name: str) -> None:
    example = KERNELS[name]
    layer = only_layer(example.under(PREFIX))
    asked = REFUSED[name][1].split()[1].rstrip("=")
    assume = {key: value for key, value in example.assume.items() if key != asked}
    with pytest.raises(LayerError) as refusal:
        read_layer(FAMILIES[layer.family], layer, ReadOptions(assume=assume))
    assert all(text in str(refusal.value) for text in REFUSED[name])
    assert layer.name in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "config", "line"),
    [
        ("hyena", {"model_type": "hyenadna"}, "hyena_shift=0.05 (that of HyenaDNA, which model_type of the configuration names)"),
        ("hyena", {"layer": {"shift": 0.05}}, "hyena_shift=0.05 (layer.shift of the configuration)"),
        ("long-conv", {"layer": {"lam": 0.003}}, "longconv_lam=0.003 (layer.lam of the configuration)"),
        ("ckconv", {"kernelcnn_omega_0": 12.5}, "ckconv_omega_0=12.5 (kernelcnn_omega_0 of the configuration)"),
    ],
)
def test_a_configuration_tells_it(name: str, config: Mapping[str, object], line: str) -> None:
    example = KERNELS[name]
    layer = only_layer(example.under(PREFIX))
    (system,) = read_layer(FAMILIES[layer.family], layer, ReadOptions(config=config))
    assert line in system.assumptions
    np.testing.assert_allclose(system.impulse(system.shape[3]), example.kernel, rtol=0, atol=1e-13)


def test_one_published_default_is_assumed_and_printed() -> None:
    lines = read(KERNELS["sgconv"]).assumptions
    assert any(line.startswith("sgconv_mode=cat_randn (the file does not say") for line in lines)


def test_another_value_of_an_assumption_is_another_kernel() -> None:
    example = hyena(np.random.default_rng(3), shift=0.0)
    assert np.abs(read(example, hyena_shift=0.05).impulse(24) - example.kernel).max() > 1e-3


def test_a_shrinkage_below_zero_is_refused() -> None:
    with pytest.raises(LayerError, match="longconv_lam is -1, expected at least 0"):
        read(long_conv(np.random.default_rng(3)), longconv_lam=-1)


@pytest.mark.parametrize("name", ["hyena", "long-conv", "sgconv", "ckconv", "evo-2-hcm"])
def test_a_kernel_with_a_value_that_is_not_finite_is_read_and_its_copies_are_not_trusted(name: str) -> None:
    example = KERNELS[name]
    role = {"hyena": "implicit_filter.6.weight", "long-conv": "kernel.kernel", "sgconv": "kernel_list.0", "evo-2-hcm": "filter.h"}
    key = role.get(name, "Kernel.kernel_net.8.bias")
    tensors = {suffix: values.copy() for suffix, values in example.tensors.items()}
    tensors[key].reshape(-1)[0] = np.nan
    layer = only_layer({f"{PREFIX}.{suffix}": values for suffix, values in tensors.items()})
    (system,) = read_layer(FAMILIES[layer.family], layer, ReadOptions(assume=example.assume))
    trust = assess(system)
    assert 0 not in trust.sound
    assert "of the kernel are NaN or infinite" in trust.faults[0].text
