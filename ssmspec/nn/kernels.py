"""The parameters of a diagonal system in the form of published code: the modules named `kernel` in a layer.

    minimal          a = -exp(log_A_real) + i A_imag    step = exp(log_dt)    B = 1
    s4-diag          a = -exp(A_real) - i A_imag        step = exp(inv_dt)    B stored, shared by tied copies
    freqbias-block   like s4-diag, with B = 1

Source: state-spaces/s4, models/s4/s4d.py, `S4DKernel`, and models/s4/s4.py, `SSMKernelDiag`; AnnanYu/FreqBiasSSM,
src/models/sequence/modules/s4block.py, `SSMKernelDiag`.
"""

import math

import torch
from torch import Tensor, nn

from ssmspec.nn.kernel_dft import Diagonal
from ssmspec.nn.optim import register
from ssmspec.nn.settings import Settings


class MinimalKernel(nn.Module):
    """Parameters C (H, N, 2), log_dt (H,), log_A_real (H, N), A_imag (H, N), from poles (H, N) complex128."""

    C: Tensor
    log_dt: Tensor
    log_A_real: Tensor  # noqa: N815 - its name in files
    A_imag: Tensor

    def __init__(self, settings: Settings, poles: Tensor) -> None:
        super().__init__()
        self.discretization = settings.discretization
        log_dt = _log_steps(settings, settings.d_model)
        C = torch.view_as_real(torch.randn(settings.d_model, settings.modes, dtype=torch.cfloat))
        register(self, "C", C, lr=settings.rate("C"), weight_decay=None)
        register(self, "log_dt", log_dt, lr=settings.rate("dt"))
        register(self, "log_A_real", torch.log(-poles.real).float(), lr=settings.rate("A"))
        register(self, "A_imag", poles.imag.float(), lr=settings.rate("A"))

    def system(self) -> Diagonal:
        """The H systems with one channel, in float64, differentiable."""
        poles = torch.complex(-torch.exp(self.log_A_real.double()), self.A_imag.double())
        return Diagonal(poles, _complex(self.C)[None], torch.exp(self.log_dt.double())[:, None], self.discretization)


class BlockKernel(nn.Module):
    """Parameters inv_dt (H, 1|N), A_real (S, N), A_imag (S, N), C (ch, H, N, 2) and, for s4-diag, B (1, S, N, 2), from poles (S, N)."""

    B: Tensor
    C: Tensor
    inv_dt: Tensor
    A_real: Tensor
    A_imag: Tensor

    def __init__(self, settings: Settings, poles: Tensor) -> None:
        super().__init__()
        self.discretization = settings.discretization
        channels = settings.channels * (2 if settings.bidirectional else 1)
        inv_dt = _log_steps(settings, settings.d_model, 1 if settings.tie_step else settings.modes)
        C = torch.view_as_real(torch.randn(channels, settings.d_model, settings.modes, dtype=torch.cfloat))
        steps, outputs = ("inv_dt", inv_dt, settings.rate("dt"), 0.0), ("C", C, settings.rate("C"), None)
        for name, tensor, rate, decay in (outputs, steps) if settings.layout == "freqbias-block" else (steps, outputs):
            register(self, name, tensor, lr=rate, weight_decay=decay)
        if settings.layout == "s4-diag":
            B = torch.view_as_real(torch.ones(1, *poles.shape, dtype=torch.cfloat))
            register(self, "B", B, lr=settings.rate("B"))
        register(self, "A_real", torch.log(-poles.real).float(), lr=settings.rate("A"))
        register(self, "A_imag", poles.imag.float(), lr=settings.rate("A"))

    def system(self) -> Diagonal:
        """The H systems with ch channels, in float64, differentiable; tied copies are assigned to the channels in turn."""
        tile = self.C.shape[1] // self.A_real.shape[0]
        poles = torch.complex(-torch.exp(self.A_real.double()), -self.A_imag.double()).repeat(tile, 1)
        residues = _complex(self.C)
        if hasattr(self, "B"):
            residues = residues * _complex(self.B).repeat(1, tile, 1)
        return Diagonal(poles, residues, torch.exp(self.inv_dt.double()), self.discretization)


def linear_poles(copies: int, modes: int) -> Tensor:
    """S4D-Lin, a_n = -1/2 + i pi n: (copies, modes) complex128. Source: arXiv 2206.11893, section 4.2."""
    imag = math.pi * torch.arange(modes, dtype=torch.float64).repeat(copies, 1)
    return torch.complex(torch.full_like(imag, -0.5), imag)


def _log_steps(settings: Settings, *shape: int) -> Tensor:
    low, high = math.log(settings.step_min), math.log(settings.step_max)
    return torch.rand(*shape) * (high - low) + low


def _complex(pairs: Tensor) -> Tensor:
    return torch.view_as_complex(pairs.double())
