"""Small PyTorch models whose parameters carry the names, shapes, signs and transforms of the original code bases.

Symbols: B batch, L samples, H features, N stored modes, S tied copies (n_ssm).
a continuous pole, z discrete pole, Delta step. "2 Re" means that only half of each conjugate pair is stored.
"""

import math

import torch
from inits import complex_normal, legs_nplr, log_uniform, ring
from torch import Tensor, nn
from torch.nn import functional

BLOCK = 32
"""Samples per block in `geometric_sums`."""


def geometric_sums(weights: Tensor, log_z: Tensor, length: int) -> Tensor:
    """Truncated kernels k[l] = 2 Re sum_n weights_n z_n^l, l < length, with z^(32 i + j) = z^(32 i) z^j.

    Args:
        weights: (H, N) complex.
        log_z: (H, N) complex.
        length: a multiple of 32.
    Returns:
        (H, length) real.
    """
    coarse = torch.exp(log_z[..., None] * torch.arange(0, length, BLOCK))
    fine = torch.exp(log_z[..., None] * torch.arange(BLOCK))
    blocks = (weights[..., None] * coarse).transpose(-1, -2) @ fine
    return 2 * blocks.real.flatten(-2)


def convolve(u: Tensor, kernel: Tensor) -> Tensor:
    """Causal convolution of u (B, H, L) with kernel (H, L): y[t] = sum_{l <= t} kernel[l] u[t - l]."""
    length = u.shape[-1]
    product = torch.fft.rfft(u, n=2 * length) * torch.fft.rfft(kernel, n=2 * length)
    return torch.fft.irfft(product, n=2 * length)[..., :length]


def diagonal_states(log_z: Tensor, v: Tensor) -> Tensor:
    """States x_t = z x_{t-1} + v_t with x_{-1} = 0, for log_z (N,) and v (B, L, N), complex."""
    length = v.shape[1]
    powers = torch.exp(torch.arange(length)[:, None] * log_z)
    product = torch.fft.fft(v, n=2 * length, dim=1) * torch.fft.fft(powers, n=2 * length, dim=0)
    return torch.fft.ifft(product, dim=1)[:, :length]


class S4DKernel(nn.Module):
    """Diagonal kernel of minimal S4D, started from S4D-Lin.

        a = -exp(log_A_real) + i A_imag,  B = 1,  zero-order hold:  k[l] = 2 Re sum_n C_n (e^{a_n Delta} - 1)/a_n e^{a_n Delta l}

    Source: Gu et al. 2022 (arXiv 2206.11893); state-spaces/s4, models/s4/s4d.py.
    """

    def __init__(self, features: int, modes: int) -> None:
        super().__init__()
        self.C = nn.Parameter(torch.view_as_real(complex_normal(features, modes)))
        self.log_dt = nn.Parameter(log_uniform((features,), 1e-3, 1e-1))
        self.log_A_real = nn.Parameter(torch.full((features, modes), math.log(0.5)))
        self.A_imag = nn.Parameter(math.pi * torch.arange(modes, dtype=torch.float64).repeat(features, 1))

    def forward(self, length: int) -> Tensor:
        """(H, length) real."""
        poles = torch.complex(-torch.exp(self.log_A_real), self.A_imag)
        log_z = poles * torch.exp(self.log_dt)[:, None]
        return geometric_sums(torch.view_as_complex(self.C) * torch.expm1(log_z) / poles, log_z, length)


class S4D(nn.Module):
    """Convolution, skip D, GELU, 1x1 mixing with a gated linear unit. Source: state-spaces/s4, models/s4/s4d.py."""

    def __init__(self, features: int, modes: int) -> None:
        super().__init__()
        self.D = nn.Parameter(torch.randn(features))
        self.kernel = S4DKernel(features, modes)
        self.output_linear = nn.Sequential(nn.Conv1d(features, 2 * features, kernel_size=1), nn.GLU(dim=-2))

    def linear(self, u: Tensor) -> Tensor:
        """The state space model itself, (B, H, L) to (B, H, L)."""
        return convolve(u, self.kernel(u.shape[-1])) + u * self.D[:, None]

    def forward(self, u: Tensor) -> Tensor:
        return self.output_linear(functional.gelu(self.linear(u)))


class SSMKernelDPLR(nn.Module):
    """Diagonal-plus-rank-one kernel of S4, started from HiPPO-LegS; B, P and A are shared, head h reads copy h mod S.

        a = -exp(A_real) - i A_imag,  A = diag(a) - P P^*,  Delta = exp(inv_dt),  bilinear,  C stored as C~ = C (I - Abar^L), L = l_kernel

    At the L-th roots of unity w the kernel's DFT is, by Woodbury, with h = (1 + w)/2 and sums over both halves of each pair,

        k^(w) = s_CB - h s_CP s_PB / (1 + h s_PP),   s_XY = sum_n Delta X_n Y_n / ((1 - w) - a_n Delta h)

    Source: Gu et al. 2022 (arXiv 2111.00396), algorithm 1; state-spaces/s4, models/s4/s4.py, `SSMKernelDPLR`.
    """

    l_kernel: Tensor

    def __init__(self, features: int, modes: int, *, copies: int, length: int) -> None:
        super().__init__()
        start = legs_nplr(modes)
        # Upstream clips the imaginary part of B at 2 (`B_clip`).
        inputs = torch.complex(start.inputs.real, start.inputs.imag.clamp(-2.0, 2.0))
        self.inv_dt = nn.Parameter(log_uniform((features, 1), 1e-3, 1e-1))
        self.C = nn.Parameter(torch.view_as_real(complex_normal(1, features, modes)))
        self.B = nn.Parameter(torch.view_as_real(inputs.repeat(1, copies, 1)))
        self.A_real = nn.Parameter(torch.log(-start.poles.real).repeat(copies, 1))
        self.A_imag = nn.Parameter((-start.poles.imag).repeat(copies, 1))
        self.P = nn.Parameter(torch.view_as_real(start.low_rank.repeat(1, copies, 1)))
        self.register_buffer("l_kernel", torch.tensor(length))
        with torch.no_grad():
            self.C.copy_(self.truncated_output(length))

    def per_head(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Step (H, 1), and complex a, B and P (H, N) of every head."""
        heads, copies = self.inv_dt.shape[0], self.A_real.shape[0]
        poles = torch.complex(-torch.exp(self.A_real), -self.A_imag)
        stored = (poles, torch.view_as_complex(self.B)[0], torch.view_as_complex(self.P)[0])
        poles, inputs, low_rank = (value.repeat(heads // copies, 1) for value in stored)
        return torch.exp(self.inv_dt), poles, inputs, low_rank

    def truncated_output(self, length: int) -> Tensor:
        """C~ = C (I - Abar^length) for the C that `self.C` holds, (1, H, N, 2) real."""
        step, poles, _, low_rank = self.per_head()
        poles, low_rank = torch.cat([poles, poles.conj()], -1), torch.cat([low_rank, low_rank.conj()], -1)
        identity = torch.eye(poles.shape[-1], dtype=poles.dtype)
        half = (torch.diag_embed(poles) - low_rank[..., None] * low_rank[:, None].conj()) * step[..., None] / 2
        transition = torch.linalg.solve(identity - half, identity + half)
        output = torch.view_as_complex(self.C)[0]
        rows = torch.cat([output, output.conj()], -1)[:, None]
        truncated = rows - rows @ torch.linalg.matrix_power(transition, length)
        return torch.view_as_real(truncated[:, 0, : output.shape[-1]])[None]

    def forward(self) -> Tensor:
        """(H, l_kernel) real."""
        length = int(self.l_kernel)
        step, poles, inputs, low_rank = self.per_head()
        output = torch.view_as_complex(self.C)[0]
        angle = -2 * math.pi / length * torch.arange(length // 2 + 1)
        w = torch.polar(torch.ones_like(angle), angle)
        half = (1 + w) / 2

        def cauchy(product: Tensor) -> Tensor:
            value = product * step
            scaled = poles * step
            upper = value[..., None] / ((1 - w) - scaled[..., None] * half)
            lower = value.conj()[..., None] / ((1 - w) - scaled.conj()[..., None] * half)
            return (upper + lower).sum(-2)

        left, right = cauchy(output * low_rank), cauchy(low_rank.conj() * inputs)
        inner = cauchy(low_rank.conj() * low_rank)
        return torch.fft.irfft(cauchy(output * inputs) - half * left * right / (1 + half * inner), n=length)


class FFTConv(nn.Module):
    """Convolution, skip D of shape (1, H), GELU. Source: state-spaces/s4, models/s4/s4.py, `FFTConv` with one channel."""

    def __init__(self, features: int, modes: int, *, copies: int, length: int) -> None:
        super().__init__()
        self.D = nn.Parameter(torch.randn(1, features))
        self.kernel = SSMKernelDPLR(features, modes, copies=copies, length=length)

    def linear(self, u: Tensor) -> Tensor:
        """The state space model itself, (B, H, L) to (B, H, L), L = l_kernel."""
        return convolve(u, self.kernel()) + u * self.D[0, :, None]

    def forward(self, u: Tensor) -> Tensor:
        return functional.gelu(self.linear(u))


class S4Block(nn.Module):
    """`FFTConv` and position-wise mixing with a gated linear unit. Source: state-spaces/s4, models/s4/s4.py, `S4Block`."""

    def __init__(self, features: int, modes: int, *, copies: int, length: int) -> None:
        super().__init__()
        self.layer = FFTConv(features, modes, copies=copies, length=length)
        self.output_linear = nn.Sequential(nn.Linear(features, 2 * features), nn.GLU(dim=-1))

    def forward(self, u: Tensor) -> Tensor:
        return self.output_linear(self.layer(u).transpose(1, 2)).transpose(1, 2)


class S4Model(nn.Module):
    """Residual stack with normalization after each block and the mean over time. Source: state-spaces/s4, example.py, `S4Model`.

    Args:
        blocks: modules from (B, H, L) to (B, H, L).
        features: H.
        outputs: numbers to regress.
    """

    def __init__(self, blocks: list[nn.Module], *, features: int, outputs: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(1, features)
        self.s4_layers = nn.ModuleList(blocks)
        self.norms = nn.ModuleList(nn.LayerNorm(features) for _ in blocks)
        self.decoder = nn.Linear(features, outputs)

    def forward(self, u: Tensor) -> Tensor:
        """(B, L, 1) to (B, outputs)."""
        x = self.encoder(u).transpose(1, 2)
        for block, norm in zip(self.s4_layers, self.norms, strict=True):
            x = norm((x + block(x)).transpose(1, 2)).transpose(1, 2)
        return self.decoder(x.mean(-1))


class LRU(nn.Module):
    """Linear recurrent unit: x_t = z x_{t-1} + exp(gamma_log) (B u_t), y_t = Re(C x_t) + D u_t, where x_t includes u_t.

        z = exp(-exp(nu_log) + i exp(theta_log)),   shapes: B (N, H), C (H, N), D (H,)

    Source: Orvieto et al. 2023 (arXiv 2303.06349), appendix A.
    """

    def __init__(self, features: int, modes: int) -> None:
        super().__init__()
        values = ring(modes, radius=(0.9, 0.999), max_phase=2 * math.pi)
        self.nu_log, self.theta_log, self.gamma_log = (nn.Parameter(value) for value in values)
        self.B_re, self.B_im = (nn.Parameter(torch.randn(modes, features) / math.sqrt(2 * features)) for _ in range(2))
        self.C_re, self.C_im = (nn.Parameter(torch.randn(features, modes) / math.sqrt(modes)) for _ in range(2))
        self.D = nn.Parameter(torch.randn(features))

    def forward(self, u: Tensor) -> Tensor:
        """(B, L, H) to (B, L, H)."""
        log_z = torch.complex(-torch.exp(self.nu_log), torch.exp(self.theta_log))
        inputs = torch.complex(self.B_re, self.B_im) * torch.exp(self.gamma_log)[:, None]
        states = diagonal_states(log_z, u.to(inputs) @ inputs.T)
        return (states @ torch.complex(self.C_re, self.C_im).T).real + u * self.D


class LRUBlock(nn.Module):
    """Norm, LRU, GELU, gated linear unit, residual. Source: Orvieto et al. 2023 (arXiv 2303.06349), figure 1."""

    def __init__(self, features: int, modes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.lru = LRU(features, modes)
        self.out = nn.Linear(features, 2 * features)

    def forward(self, x: Tensor) -> Tensor:
        return x + functional.glu(self.out(functional.gelu(self.lru(self.norm(x)))))


class LRUModel(nn.Module):
    """Encoder, blocks, mean over time, decoder: (B, L, 1) to (B, outputs)."""

    def __init__(self, features: int, modes: int, *, layers: int, outputs: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(1, features)
        self.layers = nn.ModuleList(LRUBlock(features, modes) for _ in range(layers))
        self.decoder = nn.Linear(features, outputs)

    def forward(self, u: Tensor) -> Tensor:
        x = self.encoder(u)
        for block in self.layers:
            x = block(x)
        return self.decoder(x.mean(1))
