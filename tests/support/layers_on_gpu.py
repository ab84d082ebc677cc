"""How far S4D on a device is from S4D on the CPU, forward and backward."""

import copy

import torch
from kernel_values import kernels_in_operators
from layers_of_nn import BETAS, CASES, H

from ssmspec.nn import S4D

LAYERS: dict[str, dict[str, object]] = {
    **CASES,
    **{f"beta {name}": {"beta": 0.5, "trainable_beta": True, **options} for name, options in BETAS.items()},
}
MODES = ("default", "reduce-overhead")  # of torch.compile
CLOSE = 1e-3  # relative to the largest value, in float32
NARROW = 0.03  # likewise, in bf16, which has 8 bits


def layer_difference(options: dict[str, object], device: str) -> float:
    """Between a layer on a device and its copy on the CPU: output and all gradients, relative to the largest value of each."""
    torch.manual_seed(0)
    layer, u = S4D(H, 8, **options), torch.randn(3, H, 65)
    with kernels_in_operators(device) as place:
        found = _outcome(copy.deepcopy(layer).to(place), u.to(place))
    return _difference(found, _outcome(layer, u))


def compiled_difference(mode: str, device: str) -> float:
    """Between a layer and its compiled form. A CUDA graph is recorded in the second call and replayed in the third."""
    torch.manual_seed(0)
    layer, u = S4D(H, 8).to(device), torch.randn(3, H, 65, device=device)
    compiled = torch.compile(layer, mode=mode, fullgraph=True)
    return max(_difference(_outcome(compiled, u), _outcome(layer, u)) for _ in range(3))


def autocast_difference(device: str) -> float:
    """Between the outputs of a layer with and without autocast to bf16, relative to the largest value; the spectrum stays complex64."""
    torch.manual_seed(0)
    layer, u = S4D(H, 8).to(device), torch.randn(3, H, 65, device=device)
    with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16):
        y, (spectrum, _) = layer(u)[0], layer.spectrum(65)
    assert (y.dtype, spectrum.dtype) == (torch.bfloat16, torch.complex64)
    with torch.no_grad():
        return _difference([y], [layer(u)[0]])


def _outcome(layer: torch.nn.Module, u: torch.Tensor) -> list[torch.Tensor]:
    """Output, gradient of the input and of the parameters, on the CPU."""
    u = u.clone().requires_grad_()
    y, _ = layer(u)
    return [part.detach().cpu() for part in (y, *torch.autograd.grad(y.square().sum(), [u, *layer.parameters()]))]


def _difference(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    return max(float((ours - theirs).abs().max() / theirs.abs().max()) for ours, theirs in zip(found, wanted, strict=True))
