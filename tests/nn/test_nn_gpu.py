"""S4D on a GPU, where there is one, against the CPU."""

import sys

import pytest
import torch

if sys.platform != "linux":
    pytest.skip("Triton exists for Linux only", allow_module_level=True)

from layers_on_gpu import CLOSE, LAYERS, MODES, NARROW, autocast_difference, compiled_difference, layer_difference


@pytest.fixture
def device() -> str:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    return "cuda"


@pytest.mark.gpu
@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)
def test_a_layer_computes_what_it_computes_on_the_cpu(options, device) -> None:
    assert layer_difference(options, device) <= CLOSE


@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings("ignore")  # compilers warn of complex operators and of skipped CUDA graphs
def test_a_compiled_layer_computes_the_same(mode, device) -> None:
    assert compiled_difference(mode, device) <= CLOSE


@pytest.mark.gpu
def test_autocast_on_a_gpu_keeps_the_kernel_in_single_precision(device) -> None:
    assert autocast_difference(device) < NARROW
