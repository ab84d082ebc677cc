"""S4D on a GPU, where there is one, against the CPU."""

import copy

import pytest
import torch
from layers_of_nn import BETAS, CASES

from ssmspec.nn import S4D

H = 6
CONVENTIONS = {f"beta {name}": {"beta": 0.5, "trainable_beta": True, **options} for name, options in BETAS.items()}


@pytest.fixture
def device() -> str:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    return "cuda"


def outcome(layer: torch.nn.Module, u: torch.Tensor) -> list[torch.Tensor]:
    """Output, gradient of the input and of the parameters, on the CPU."""
    u = u.clone().requires_grad_()
    y, _ = layer(u)
    return [part.detach().cpu() for part in (y, *torch.autograd.grad(y.square().sum(), [u, *layer.parameters()]))]


def assert_close(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours - theirs).abs().max() <= 1e-3 * theirs.abs().max()


@pytest.mark.gpu
@pytest.mark.parametrize("options", [*CASES.values(), *CONVENTIONS.values()], ids=[*CASES, *CONVENTIONS])
def test_a_layer_computes_what_it_computes_on_the_cpu(options, device) -> None:
    torch.manual_seed(0)
    layer, u = S4D(H, 8, **options), torch.randn(3, H, 65)
    assert_close(outcome(copy.deepcopy(layer).to(device), u.to(device)), outcome(layer, u))


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
@pytest.mark.filterwarnings("ignore")  # compilers warn of complex operators and of skipped CUDA graphs
def test_a_compiled_layer_computes_the_same(mode, device) -> None:
    torch.manual_seed(0)
    layer, u = S4D(H, 8).to(device), torch.randn(3, H, 65, device=device)
    compiled = torch.compile(layer, mode=mode, fullgraph=True)
    for _ in range(3):  # a CUDA graph is recorded in the second call and replayed in the third
        assert_close(outcome(compiled, u), outcome(layer, u))


@pytest.mark.gpu
def test_autocast_on_a_gpu_keeps_the_kernel_in_single_precision(device) -> None:
    layer, u = S4D(H, 8).to(device), torch.randn(3, H, 65, device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        y, (spectrum, _) = layer(u)[0], layer.spectrum(65)
    assert (y.dtype, spectrum.dtype) == (torch.bfloat16, torch.complex64)
    assert (y - layer(u)[0]).abs().max() < 0.03 * layer(u)[0].abs().max()
