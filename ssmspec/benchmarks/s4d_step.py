"""Forward and backward pass of `ssmspec.nn.S4D` against the usual implementation of the layer with a Vandermonde matrix."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ssmspec.benchmarks.cauchy import torch_threads
from ssmspec.benchmarks.cauchy_gpu import finished, require_device
from ssmspec.benchmarks.contest import Contest, Facts
from ssmspec.benchmarks.pairs import time_pairs
from ssmspec.benchmarks.sizes import Sizes, StepSize
from ssmspec.nn import S4D

SINGLE = 1e-3  # tolerance in float32: gradients sum B L terms of both signs, and exp(l a Delta) is rounded at |l a Delta| up to L

Step = Callable[[], list[Tensor]]


class VandermondeKernel(nn.Module):
    """k[l] = 2 Re sum_n C_n (exp(a_n Delta) - 1)/a_n exp(l a_n Delta), with a matrix of H x N x L exponentials."""

    def __init__(self, H: int, N: int) -> None:
        super().__init__()
        self.C = nn.Parameter(torch.randn(H, N, 2))
        self.log_dt = nn.Parameter(torch.empty(H).uniform_(math.log(1e-3), math.log(1e-1)))
        self.log_A_real = nn.Parameter(torch.full((H, N), math.log(0.5)))
        self.A_imag = nn.Parameter(math.pi * torch.arange(N, dtype=torch.float32).repeat(H, 1))

    def forward(self, L: int) -> Tensor:
        """(H, L)."""
        poles = torch.complex(-self.log_A_real.exp(), self.A_imag)
        scaled = poles * self.log_dt.exp()[:, None]
        residues = torch.view_as_complex(self.C) * (scaled.exp() - 1) / poles
        powers = torch.exp(scaled[..., None] * torch.arange(L, device=poles.device))
        return 2 * torch.einsum("hn,hnl->hl", residues, powers).real


class VandermondeS4D(nn.Module):
    """Minimal S4D in plain torch: kernel, convolution by FFT, skip, GELU, and a gated linear map of the features.

    Source: state-spaces/s4, models/s4/s4d.py, for the equations and the names of the parameters; arXiv 2206.11893.
    """

    def __init__(self, H: int, N: int) -> None:
        super().__init__()
        self.D = nn.Parameter(torch.randn(H))
        self.kernel = VandermondeKernel(H, N)
        self.output_linear = nn.Sequential(nn.Conv1d(H, 2 * H, kernel_size=1), nn.GLU(dim=-2))

    def forward(self, u: Tensor) -> tuple[Tensor, None]:
        """(B, H, L) to (B, H, L)."""
        L = u.shape[-1]
        spectrum = torch.fft.rfft(u, n=2 * L) * torch.fft.rfft(self.kernel(L), n=2 * L)
        y = torch.fft.irfft(spectrum, n=2 * L)[..., :L] + u * self.D[:, None]
        return self.output_linear(nn.functional.gelu(y)), None


@contextmanager
def versus_naive(sizes: Sizes, *, which: str, device: str = "cpu") -> Iterator[Contest]:
    """Both layers with the same parameters, input and cotangent, in float32; the output and all gradients are compared.

    Args:
        which: name of a StepSize in `sizes`.
        device: "cpu" or "cuda". On a GPU, every call waits until the GPU has finished, and convolutions do not round to TF32.
    Raises:
        PeerMissing: there is no such device.
    """
    require_device(device)
    size: StepSize = getattr(sizes, which)
    ours, naive = layers(size)
    ours.to(device)
    naive.to(device)
    with torch_threads(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        run_ours, run_naive = training_step(ours, size), training_step(naive, size)
        yield Contest(
            ours=run_ours,
            peer=run_naive,
            values=lambda: ([part.cpu().numpy() for part in run_ours()], [part.cpu().numpy() for part in run_naive()]),
            tolerance=SINGLE,
            size={"B": size.B, "H": size.H, "N": size.N, "L": size.L},
            observe=lambda timing: kernel_shares(ours, naive, size, min(3, len(timing.ours))),
        )


def layers(size: StepSize) -> tuple[S4D, VandermondeS4D]:
    """Our layer and the naive one with copies of its parameters."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(2410)
        ours, naive = S4D(size.H, d_state=2 * size.N), VandermondeS4D(size.H, size.N)
    naive.load_state_dict(ours.state_dict())
    return ours, naive


def training_step(layer: nn.Module, size: StepSize) -> Step:
    """Runs forward and backward; returns the output, the gradient of the input, and those of the parameters by name."""
    parameters = dict(sorted(layer.named_parameters()))
    u, cotangent = _input_and_cotangent(size, next(iter(parameters.values())).device)

    def step() -> list[Tensor]:
        y, _ = layer(u)
        gradients = torch.autograd.grad(y, [u, *parameters.values()], cotangent)
        return [finished(y.detach()), *gradients]

    return step


def _input_and_cotangent(size: StepSize, device: torch.device) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    u, cotangent = torch.randn(2, size.B, size.H, size.L, generator=generator).to(device)
    return u.requires_grad_(), cotangent


def kernel_shares(ours: S4D, naive: VandermondeS4D, size: StepSize, rounds: int) -> Facts:
    """The fraction of each step that is spent on the kernel, forward and backward, timed in pairs (step, kernel). Our kernel is timed up to
    its spectrum, the naive one up to its samples."""
    kernels = {"ours": _kernel_step(ours, lambda: ours.spectrum(size.L)[0]), "naive": _kernel_step(naive, lambda: naive.kernel(size.L))}
    steps = {"ours": training_step(ours, size), "naive": training_step(naive, size)}
    return {f"kernel_share_{side}": time_pairs(steps[side], kernels[side], rounds=rounds).ratio for side in steps}


def _kernel_step(layer: nn.Module, kernel: Callable[[], Tensor]) -> Callable[[], object]:
    parameters = [parameter for name, parameter in layer.named_parameters() if name.startswith("kernel.")]
    cotangent = torch.randn_like(kernel().detach())
    return lambda: finished(torch.autograd.grad(kernel(), parameters, cotangent)[0])
