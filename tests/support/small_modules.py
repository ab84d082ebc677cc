"""Modules of published layers with the names and shapes of their state dicts, written from the equations: they load files strictly.

Each computes its kernel in the type of its parameters; none of them uses ssmspec.
"""

import torch
from torch import Tensor, nn


def zeros(*shape: int, kind: torch.dtype = torch.float64) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*shape, dtype=kind))


class MinimalKernel(nn.Module):
    """state-spaces/s4, models/s4/s4d.py, S4DKernel."""

    def __init__(self, H: int, N: int) -> None:
        super().__init__()
        self.C, self.log_dt, self.log_A_real, self.A_imag = zeros(H, N, 2), zeros(H), zeros(H, N), zeros(H, N)

    def forward(self, L: int) -> Tensor:
        """(H, L)."""
        A = torch.complex(-self.log_A_real.exp(), self.A_imag)
        dtA = A * self.log_dt.exp()[:, None]
        C = torch.view_as_complex(self.C) * (dtA.exp() - 1) / A
        return 2 * torch.einsum("hn,hnl->hl", C, torch.exp(dtA[..., None] * torch.arange(L))).real


class MinimalS4D(nn.Module):
    """S4D of the same file, without its output map."""

    def __init__(self, H: int, N: int) -> None:
        super().__init__()
        self.kernel, self.D = MinimalKernel(H, N), zeros(H)


class S4DiagonalKernel(nn.Module):
    """state-spaces/s4, models/s4/s4.py, SSMKernelDiag with ZOH: S sets of N poles for H channels, `channels` kernels each."""

    def __init__(self, H: int, N: int, n_ssm: int, channels: int = 1) -> None:
        super().__init__()
        self.C, self.B = zeros(channels, H, N, 2), zeros(1, n_ssm, N, 2)
        self.inv_dt, self.A_real, self.A_imag = zeros(H, 1), zeros(n_ssm, N), zeros(n_ssm, N)

    def forward(self, L: int) -> Tensor:
        """(channels, H, L)."""
        repeats = (len(self.inv_dt) // len(self.A_real), 1)
        A = torch.complex(-self.A_real.exp(), -self.A_imag).repeat(repeats)
        dtA = A * self.inv_dt.exp()
        C = torch.view_as_complex(self.C) * torch.view_as_complex(self.B)[0].repeat(repeats) * (dtA.exp() - 1) / A
        powers = torch.exp(dtA[..., None] * torch.arange(L))
        return 2 * torch.einsum("chn,hnl->chl", C, powers).real


class S4Block(nn.Module):
    """The part of S4Block that a checkpoint of a layer holds beside its output map."""

    def __init__(self, H: int, N: int, n_ssm: int, channels: int = 1, skips: int = 1) -> None:
        super().__init__()
        self.kernel, self.D = S4DiagonalKernel(H, N, n_ssm, channels), zeros(skips, H)


class S5(nn.Module):
    """i404788/s5-pytorch, S5SSM: the whole spectrum, output Re, one step per mode, ZOH."""

    def __init__(self, H: int, P: int) -> None:
        super().__init__()
        self.Lambda, self.C = zeros(P, kind=torch.complex128), zeros(H, P, kind=torch.complex128)
        self.B, self.D, self.log_step = zeros(P, H, 2), zeros(H), zeros(P)

    def forward(self, L: int) -> Tensor:
        """(H, H, L)."""
        bar = torch.exp(self.Lambda * self.log_step.exp())
        B = ((bar - 1) / self.Lambda)[:, None] * torch.view_as_complex(self.B)
        return torch.einsum("op,pl,pi->oil", self.C, bar[:, None] ** torch.arange(L), B).real


class LRU(nn.Module):
    """arXiv 2303.06349, appendix A: x = exp(-exp(nu) + i exp(theta)) x + exp(gamma) B u, y = Re(C x) + D u."""

    def __init__(self, inputs: int, state: int, outputs: int) -> None:
        super().__init__()
        self.nu_log, self.theta_log, self.gamma_log = zeros(state), zeros(state), zeros(state)
        self.B_re, self.B_im = zeros(state, inputs), zeros(state, inputs)
        self.C_re, self.C_im, self.D = zeros(outputs, state), zeros(outputs, state), zeros(outputs)

    def forward(self, L: int) -> Tensor:
        """(O, I, L)."""
        Lambda = torch.exp(torch.complex(-self.nu_log.exp(), self.theta_log.exp()))
        B = torch.complex(self.B_re, self.B_im) * self.gamma_log.exp()[:, None]
        C = torch.complex(self.C_re, self.C_im)
        return torch.einsum("on,nl,ni->oil", C, Lambda[:, None] ** torch.arange(L), B).real
