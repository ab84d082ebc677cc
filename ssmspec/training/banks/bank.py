"""A bank of diagonal systems with frozen steps, and its response to signals that do not change during training."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ssmspec.nn import S4D
from ssmspec.nn.kernel_dft import Diagonal, diagonal_kernel
from ssmspec.nn.optim import mark
from ssmspec.nn.weighting import Weighting, fft_length, weighted
from ssmspec.systems.statespace import ComplexArray


class Bank(nn.Module):
    """H diagonal systems with N stored modes each, without D, GELU and mixing: k[l] = 2 Re sum_n g_n z_n^l, zero-order hold.

    The state dict has the names of the minimal S4D (family `s4d`), or those of the stand-alone scripts of FreqBias with a skip weight.

    Args:
        poles: (H, N) complex [1/model time]. step: Delta of all channels [model time per sample], never trained.
        rates: learning rates of log_A_real, A_imag and C, if they differ from that of the other parameters. None for log_A_real and
            A_imag freezes both. skip: whether there is a trained skip weight D, which all channels share.
    Raises:
        LayerError: the poles are not finite, or do not decay.
    """

    def __init__(self, poles: ComplexArray, step: float, *, rates: Mapping[str, float | None], skip: bool = False) -> None:
        super().__init__()
        frozen = rates["A_imag"] is None and rates["log_A_real"] is None
        lr = {"dt": 0.0, "A": 0.0 if frozen else None}
        layer = S4D(poles.shape[0], 2 * poles.shape[1], poles=poles, step_min=step, step_max=step, lr=lr)
        if skip:
            self.D = nn.Parameter(torch.randn(1))
        self.kernel: Any = layer.kernel
        for name, rate in rates.items():
            if rate is not None:
                mark(getattr(self.kernel, name), {"lr": rate, "weight_decay": 0.0})

    def impulse_response(self, length: int) -> Tensor:
        """k, (H, length) float32, without beta and D. It has full precision even under autocast."""
        system: Diagonal = self.kernel.system()
        with torch.autocast(system.poles.device.type, enabled=False):
            return diagonal_kernel(system, length, torch.float32)[0]

    def responses(self, inputs: Tensor, length: int) -> Tensor:
        """Impulse responses when channel h receives inputs[j, h] times the impulse: (J, H) to (J, H, length)."""
        return self.impulse_response(length) * inputs[..., None]


class FixedSources(nn.Module):
    """Signals that a bank receives in every step. Their weighted transforms are computed once.

    Args:
        signals: (J, L) float32 or float64. weighting: the Sobolev weighting, or None. beta: its exponent. step: Delta, for the convention
            "paper".
    """

    spectra: Tensor
    signals: Tensor

    def __init__(self, signals: Tensor, weighting: Weighting | None, beta: float, step: float) -> None:
        super().__init__()
        self.length = signals.shape[-1]
        self.n = fft_length(weighting, self.length, self.length)
        spectra = torch.fft.rfft(signals.double(), self.n)
        if weighting is not None:
            exponent, steps = (torch.full((1, 1), value, dtype=torch.float64) for value in (beta, step))
            spectra = weighted(spectra[None], exponent, steps, weighting, self.n)[0]
        self.register_buffer("signals", signals.float(), persistent=False)
        self.register_buffer("spectra", spectra.to(torch.complex64), persistent=False)

    def forward(self, kernels: Tensor) -> Tensor:
        """The signals filtered by the kernels and cut to their length, (H, L) to (J, H, L).

        The result is linear in the kernels, and can be differentiated with respect to them.
        """
        result: Tensor = _FixedConvolution.apply(kernels, self.spectra, self.n)  # type: ignore[no-untyped-call]
        return result


class _FixedConvolution(torch.autograd.Function):
    """y_j = irfft(rfft(k) X_j)[:L]. PyTorch's own gradient of rfft uses a complex FFT of full length, which the transpose does not need."""

    @staticmethod
    def forward(ctx: Any, kernels: Tensor, spectra: Tensor, n: int) -> Tensor:
        ctx.save_for_backward(spectra)
        ctx.n = n
        product = torch.fft.rfft(kernels, n) * spectra[:, None]
        return torch.fft.irfft(product, n)[..., : kernels.shape[-1]]

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None]:
        (spectra,) = ctx.saved_tensors
        (cotangent,) = cotangents
        gradient = (torch.fft.rfft(cotangent, ctx.n) * spectra.conj()[:, None]).sum(0)
        return torch.fft.irfft(gradient, ctx.n)[..., : cotangent.shape[-1]], None, None


class _SumGelu(torch.autograd.Function):
    """Sum over time of GELU(x). A contiguous copy of the expanded cotangent makes the derivative three times as fast as a view."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return nn.functional.gelu(x).sum(-1, dtype=torch.promote_types(x.dtype, torch.float32))

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        spread = cotangents[0].to(x.dtype)[..., None].expand_as(x).contiguous()
        return torch.ops.aten.gelu_backward(spread, x)


def mean_gelu(x: Tensor) -> Tensor:
    """Mean of GELU(x) over the last axis."""
    result: Tensor = _SumGelu.apply(x)  # type: ignore[no-untyped-call]
    return result / x.shape[-1]
