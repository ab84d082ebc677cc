"""The forward passes of published layers, written out from their equations with plain tensors: a Vandermonde matrix, then FFTs.

Every function takes a state dict of float64 tensors. Sources: state-spaces/s4, models/s4/s4d.py and models/s4/s4.py; AnnanYu/FreqBiasSSM,
src/models/sequence/modules/s4block.py, denoising.py and models/s4/s4d.py.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import gelu, glu, pad

Tensors = Mapping[str, Tensor]


def vandermonde(poles: Tensor, residues: Tensor, step: Tensor, length: int, rule: str = "zoh") -> Tensor:
    """k[l] = 2 Re sum_n g_n z_n^l of poles (H, N), residues (ch, H, N), step (H, 1|N): (ch, H, length)."""
    if rule == "zoh":
        z = torch.exp(poles * step)
        g = residues * (z - 1) / poles
    else:
        z = (1 + poles * step / 2) / (1 - poles * step / 2)
        g = residues * step / (1 - poles * step / 2)
    powers = torch.cumprod(torch.cat([torch.ones_like(z)[..., None], z[..., None].expand(*z.shape, length - 1)], -1), -1)
    return 2 * torch.einsum("chn,hnl->chl", g, powers).real


def minimal_parts(state: Tensors) -> tuple[Tensor, Tensor, Tensor]:
    poles = -torch.exp(state["kernel.log_A_real"]) + 1j * state["kernel.A_imag"]
    return poles, torch.view_as_complex(state["kernel.C"])[None], torch.exp(state["kernel.log_dt"])[:, None]


def block_parts(state: Tensors) -> tuple[Tensor, Tensor, Tensor]:
    C = torch.view_as_complex(state["layer.kernel.C"])
    tied = torch.cat(
        [-torch.exp(state["layer.kernel.A_real"]) - 1j * state["layer.kernel.A_imag"]] * (C.shape[1] // len(state["layer.kernel.A_real"]))
    )
    if "layer.kernel.B" in state:
        C = C * torch.cat([torch.view_as_complex(state["layer.kernel.B"])[0]] * (C.shape[1] // state["layer.kernel.B"].shape[1]))
    return tied, C, torch.exp(state["layer.kernel.inv_dt"])


def two_sided(kernel: Tensor, L: int) -> Tensor:
    """Kernels (2 ch, H, l) of both directions as one (ch, H, l + L), the backward one a sample late, as the blocks have it."""
    forward, backward = kernel.chunk(2)
    return pad(forward, (0, L)) + pad(backward.flip(-1), (L, 0))


def weighted_convolution(
    kernel: Tensor, u: Tensor, l_kernel: int, beta: Tensor | None, step: Tensor, convention: str, theta_ref: float | None
) -> Tensor:
    """(B, ch, H, L) from kernels (ch, H, <= l_kernel + L), inputs (B, H, L) and beta (ch, H)."""
    L = u.shape[-1]
    u = u[:, None]
    if beta is None or convention == "lra":
        n = l_kernel + L
        product = torch.fft.rfft(u, n=n) * torch.fft.rfft(kernel, n=n)
        if beta is not None:
            product = product * (1 + torch.arange(product.shape[-1], dtype=torch.float64) / n) ** beta[..., None]
        return torch.fft.irfft(product, n=n)[..., :L]
    if convention == "waves":
        ramp = (1 + torch.arange(L, dtype=torch.float64) / 10000) ** beta[..., None]
        return torch.fft.ifft(torch.fft.fft(kernel, n=L) * torch.fft.fft(u) * ramp).real
    if convention == "denoising":
        ramp = (1 + torch.arange(L, dtype=torch.float64) / 10000) ** beta[..., None]
        scales = torch.cat([ramp, ramp.flip(-1)], -1)
        return torch.fft.ifft(torch.fft.fft(u, n=2 * L) * torch.fft.fft(kernel, n=2 * L) * scales).real[..., :L]
    if convention == "causal":
        return causal(kernel, u, beta, theta_ref)
    n = l_kernel + L
    theta = 2 * math.pi * torch.fft.fftfreq(n, dtype=torch.float64).abs()
    weight = (1 + theta / (step if convention == "paper" else theta_ref)) ** beta[..., None]
    return torch.fft.ifft(torch.fft.fft(u, n=n) * torch.fft.fft(kernel, n=n) * weight).real[..., :L]


def causal(kernel: Tensor, u: Tensor, beta: Tensor, theta_ref: float) -> Tensor:
    """The taps are the inverse FFT of the weight on a circle of 8192 points; the convolutions are sums over time."""
    rho = math.exp(-2 * math.asinh(theta_ref / 2))
    theta = 2 * math.pi * torch.arange(8192, dtype=torch.float64) / 8192
    taps = torch.fft.ifft(torch.exp(beta[..., None] * torch.log((1 - rho * torch.exp(-1j * theta)) / (1 - rho)))).real
    return _sum_over_time(_sum_over_time(u, pad(kernel, (0, u.shape[-1] - kernel.shape[-1]))), taps)


def _sum_over_time(signal: Tensor, kernel: Tensor) -> Tensor:
    L = signal.shape[-1]
    return sum(pad(signal[..., : L - l], (l, 0)) * kernel[..., l : l + 1] for l in range(L))


def layer(
    state: Tensors,
    u: Tensor,
    *,
    rule: str = "zoh",
    l_max: int | None = None,
    bidirectional: bool = False,
    convention: str = "lra",
    theta_ref: float | None = None,
) -> Tensor:
    """(B, H, L) to (B, H, L): the whole layer, of whichever layout the names in the state dict belong to."""
    minimal = "kernel.C" in state
    prefix = "" if minimal else "layer."
    poles, residues, step = minimal_parts(state) if minimal else block_parts(state)
    H, L = u.shape[1:]
    l_kernel = L if l_max is None else min(L, l_max)
    kernel = vandermonde(poles, residues, step, l_kernel, rule)
    beta = state.get(prefix + "s", state.get(prefix + "beta"))
    y = weighted_convolution(
        two_sided(kernel, L) if bidirectional else kernel,
        u,
        l_kernel,
        None if beta is None else beta.reshape(-1, H),
        step,
        convention,
        theta_ref,
    )
    y = gelu((y + u[:, None] * state[prefix + "D"].reshape(-1, H, 1)).flatten(1, 2))
    weight, bias = state["output_linear.0.weight"], state["output_linear.0.bias"]
    return glu(torch.einsum("oi,bil->bol", weight.reshape(len(weight), -1), y) + bias[:, None], dim=1)
