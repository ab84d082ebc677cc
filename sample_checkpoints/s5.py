"""S5 in PyTorch with the parameter tree of the flax original (nested names, kernels stored as (in, out)).

Symbols: B batch, L samples, H features, P stored half of the state, Delta step of each state.
"""

import torch
from inits import lecun_normal, legs_nplr, log_uniform
from models import diagonal_states
from torch import Tensor, nn
from torch.nn import functional

LARGEST_REAL_PART = -1e-4
"""Upper limit of Re a in the forward pass: `clip_eigs` of lindermanlab/S5, s5/ssm.py."""


class Dense(nn.Module):
    """flax.linen.Dense: x kernel + bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(lecun_normal((inputs, outputs), inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.kernel + self.bias


class LayerNorm(nn.Module):
    """flax.linen.LayerNorm: parameters `scale` and `bias`, epsilon 1e-6."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.scale.shape, self.scale, self.bias, eps=1e-6)


class S5SSM(nn.Module):
    """One system with H inputs and outputs, started from the normal part of HiPPO-LegS (HiPPO-N) in one block.

        a = min(Lambda_re, -1e-4) + i Lambda_im,  Delta = exp(log_step),  zero-order hold:
        x_t = e^{a Delta} x_{t-1} + (e^{a Delta} - 1)/a B u_t,   y_t = 2 Re(C x_t) + D u_t

    B and C start as V^* B_0 and C_0 V with real B_0 and complex C_0, V the eigenvectors of the half with Im < 0.

    Source: Smith et al. 2023 (arXiv 2208.04933); lindermanlab/S5, s5/ssm.py and s5/ssm_init.py.
    """

    def __init__(self, features: int, states: int) -> None:
        super().__init__()
        start = legs_nplr(states)
        inputs = start.basis.conj().T @ lecun_normal((2 * states, features), 2 * states).to(start.basis)
        outputs = torch.view_as_complex(lecun_normal((features, 2 * states, 2), 2 * states)) @ start.basis
        self.Lambda_re = nn.Parameter(start.poles.real.clone())
        self.Lambda_im = nn.Parameter(start.poles.imag.clone())
        self.B = nn.Parameter(torch.view_as_real(inputs).clone())
        self.C = nn.Parameter(torch.view_as_real(outputs).clone())
        self.D = nn.Parameter(torch.randn(features))
        self.log_step = nn.Parameter(log_uniform((states, 1), 1e-3, 1e-1))

    def forward(self, u: Tensor) -> Tensor:
        """(B, L, H) to (B, L, H)."""
        poles = torch.complex(self.Lambda_re.clamp(max=LARGEST_REAL_PART), self.Lambda_im)
        log_z = poles * torch.exp(self.log_step[:, 0])
        inputs = (torch.expm1(log_z) / poles)[:, None] * torch.view_as_complex(self.B)
        states = diagonal_states(log_z, u.to(inputs) @ inputs.T)
        return 2 * (states @ torch.view_as_complex(self.C).T).real + u * self.D


class SequenceLayer(nn.Module):
    """Norm, S5, GELU gated by its own mixing (`half_glu1`), residual. Source: lindermanlab/S5, s5/layers.py."""

    def __init__(self, features: int, states: int) -> None:
        super().__init__()
        self.norm = LayerNorm(features)
        self.out2 = Dense(features, features)
        self.seq = S5SSM(features, states)

    def forward(self, x: Tensor) -> Tensor:
        # flax's gelu is the tanh approximation.
        y = functional.gelu(self.seq(self.norm(x)), approximate="tanh")
        return x + y * torch.sigmoid(self.out2(y))


class StackedEncoder(nn.Module):
    """`encoder`, then `layers_0`, `layers_1`, ... Source: lindermanlab/S5, s5/seq_model.py, `StackedEncoderModel`."""

    def __init__(self, features: int, states: int, *, layers: int) -> None:
        super().__init__()
        self.encoder = Dense(1, features)
        self.names = [f"layers_{index}" for index in range(layers)]
        for name in self.names:
            self.add_module(name, SequenceLayer(features, states))

    def forward(self, u: Tensor) -> Tensor:
        x = self.encoder(u)
        for name in self.names:
            x = self.get_submodule(name)(x)
        return x


class S5Model(nn.Module):
    """Encoder, layers, mean over time, decoder: (B, L, 1) to (B, outputs)."""

    def __init__(self, features: int, states: int, *, layers: int, outputs: int) -> None:
        super().__init__()
        self.encoder = StackedEncoder(features, states, layers=layers)
        self.decoder = Dense(features, outputs)

    def forward(self, u: Tensor) -> Tensor:
        return self.decoder(self.encoder(u).mean(1))
