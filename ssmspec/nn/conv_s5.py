"""ConvS5: a diagonal state space model whose inputs, states and outputs are images, parallel over frames.

    x_t = z x_{t-1} + (z - 1)/a (B * u_t),   y_t = 2 Re(C * x_t),   z = exp(a Delta)

* convolves over space, with zeros around an image. The poles a are those of the S5 family, one per channel of the state and the same at
every pixel. Every pixel of a channel therefore has the same kernel in time, (z - 1)/a z^l, which an FFT applies to all frames at once.

Source: arXiv 2310.19694; NVlabs/ConvSSM, src/models/convS5/diagonal_ssm.py, `ConvS5SSM`, whose names and shapes the state dict has.
"""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ssmspec.errors import LayerError
from ssmspec.nn.optim import register
from ssmspec.nn.powers import COMPLEX
from ssmspec.nn.weighting import Weighting, weighted
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import ComplexArray
from ssmspec.tuning.poles.hippo import legs_normal_part
from ssmspec.tuning.poles.initializations import Settings, initial_poles

CLIP = -1e-4  # the largest real part of a pole: `clip_eigs`


class ConvS5(nn.Module):
    """The linear part of a ConvS5 layer, with alpha for the initial poles and beta, a Sobolev weight over time on the response.

    Parameters Lambda_re, Lambda_im (P,), log_step (P, 1), B (P, U k k, 2), C (k, k, P, U, 2), float32. The half of every conjugate pair
    with Im <= 0 is stored, as in the original. Unlike there, B and C are normal instead of truncated normal, with the same variances.

    Args:
        d_model: U, channels of the images. d_state: 2P, even; P channels of the state are stored. blocks: J of HiPPO-N, a divisor of P.
        kernel_size: k, odd, of B and C [pixels].
        alpha: factor on the imaginary parts of the initial poles.
        beta: Sobolev exponent, fixed. theta_ref: its knee [rad/frame], needed if beta is not zero. The convention is "causal" (see
            `ssmspec.nn.weighting`), because with all others a frame would depend on later ones.
        step_min, step_max: initial Delta is log-uniform between them, one per channel of the state [model time per frame].
        poles: (P,) complex initial poles, Re < 0 [1/model time]; HiPPO-N in J blocks by default. alpha scales only the default.
        lr: learning rate of poles and steps, which have no weight decay; None means that of the other parameters. Zero makes them buffers.

    Raises:
        LayerError: a size or number is out of range. SsmspecError: blocks does not divide P.
    Source: arXiv 2310.19694, section 3; arXiv 2410.02035, section 4 (alpha and beta).
    """

    Lambda_re: Tensor
    Lambda_im: Tensor
    log_step: Tensor
    B: Tensor
    C: Tensor

    def __init__(
        self,
        d_model: int,
        d_state: int = 256,
        *,
        blocks: int = 1,
        kernel_size: int = 3,
        alpha: float = 1.0,
        beta: float = 0.0,
        theta_ref: float | None = None,
        step_min: float = 1e-3,
        step_max: float = 1e-1,
        poles: npt.ArrayLike | None = None,
        lr: float | None = None,
    ) -> None:
        super().__init__()
        if d_model < 1 or d_state < 2 or d_state % 2 or kernel_size < 1 or not kernel_size % 2:
            sizes = f"d_model {d_model}, d_state {d_state} and kernel_size {kernel_size}"
            raise LayerError(f"{sizes} are not valid; expected at least 1, an even number, and an odd number")
        if not 0 < step_min <= step_max < math.inf:
            raise LayerError(f"step_min and step_max are {step_min} and {step_max}; expected positive finite values, the smaller one first")
        modes = d_state // 2
        self.kernel_size = kernel_size
        self.weight = Sobolev(np.array([beta], float), "causal", theta_ref) if beta else None
        first = _poles(modes, blocks, alpha, poles)
        basis = torch.from_numpy(legs_normal_part(modes // blocks)[1]).conj()  # of the half with Im <= 0
        taps = kernel_size**2
        inputs = torch.randn(blocks, d_state // blocks, d_model * taps, dtype=torch.float64) * math.sqrt(2 / (d_model * taps))
        outputs = torch.randn(taps, d_model, blocks, d_state // blocks, dtype=torch.float64) * math.sqrt(2 / (d_state * taps))
        B = torch.einsum("ip,jim->jpm", basis.conj(), inputs.to(basis.dtype)).flatten(0, 1)
        C = torch.einsum("tuji,ip->tjpu", outputs.to(basis.dtype), basis).reshape(kernel_size, kernel_size, modes, d_model)
        log_step = torch.rand(modes, 1) * (math.log(step_max) - math.log(step_min)) + math.log(step_min)
        register(self, "Lambda_re", torch.from_numpy(first.real).float(), lr=lr)
        register(self, "Lambda_im", torch.from_numpy(first.imag).float(), lr=lr)
        register(self, "log_step", log_step, lr=lr)
        self.register_buffer("clip_eigs", torch.tensor(True))  # says in files what `_modes` does
        for name, matrix in (("B", B), ("C", C)):
            register(self, name, torch.view_as_real(matrix.contiguous()).float(), lr=None, weight_decay=None)

    def forward(self, u: Tensor) -> Tensor:
        """Images in, images out; a frame depends only on itself and earlier frames.

        Args:
            u: (B, L, U, height, width), real, of the type of the parameters.
        Returns:
            The same shape as u.
        Raises:
            LayerError: u has another shape.
        """
        self._check(u, 5)
        batch, length, _, height, width = u.shape
        driven = self._driven(u.flatten(0, 1))
        n = 2 * length
        kernel = torch.fft.fft(self.kernel(length), n).to(driven.dtype)[:, None]
        spectrum = torch.fft.fft(driven.reshape(batch, length, len(kernel), -1).permute(0, 2, 3, 1), n)
        states = torch.fft.ifft(spectrum * kernel, n)[..., :length].permute(0, 3, 1, 2)
        return self._read(states.reshape(batch * length, len(kernel), height, width)).reshape(u.shape)

    def kernel(self, length: int) -> Tensor:
        """The response of each channel of the state to one of its inputs B * u, with the weight of beta: (P, length) complex128."""
        log_z, gain = self._modes()
        kernel = gain[:, None] * torch.exp(log_z[:, None] * torch.arange(length, dtype=torch.float64, device=gain.device))
        if self.weight is None:
            return kernel
        n, weighting = 2 * length, Weighting("causal", self.weight.theta_ref or 0.0)
        parts = torch.fft.rfft(torch.view_as_real(kernel).permute(2, 0, 1), n)
        beta = torch.full(parts.shape[:2], float(self.weight.beta[0]), dtype=torch.float64, device=gain.device)
        filtered = torch.fft.irfft(weighted(parts, beta, self.log_step.double().exp(), weighting, n), n)[..., :length]
        return torch.complex(filtered[0], filtered[1])

    def default_state(self, batch: int, height: int, width: int) -> Tensor:
        """The initial (zero) state for `step`, (batch, P, height, width) complex."""
        shape = (batch, len(self.Lambda_re), height, width)
        return torch.zeros(shape, dtype=COMPLEX[self.B.dtype], device=self.B.device)

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One frame of `forward` as a recurrence.

        Args:
            u: (B, U, height, width). state: from `default_state` or an earlier step.
        Returns:
            y, with the shape of u, and the next state.
        Raises:
            LayerError: another shape, or a nonzero beta, for which no recurrence exists.
        """
        self._check(u, 4)
        if self.weight is not None:
            raise LayerError(f"step needs beta 0, but it is {self.weight.beta[0]:g}, which has no recurrence; use forward instead")
        log_z, gain = (part.to(state.dtype)[:, None, None] for part in self._modes())
        state = torch.exp(log_z) * state + gain * self._driven(u)
        return self._read(state), state

    def _modes(self) -> tuple[Tensor, Tensor]:
        """log z [1/frame] and (z - 1)/a [model time], (P,) complex128."""
        poles = torch.complex(self.Lambda_re.double().clamp(max=CLIP), self.Lambda_im.double())
        log_z = poles * self.log_step.double().exp()[:, 0]
        return log_z, torch.expm1(log_z) / poles

    def _driven(self, frames: Tensor) -> Tensor:
        """B * u of frames (F, U, height, width): (F, P, height, width) complex."""
        taps = self.B.reshape(len(self.B), -1, self.kernel_size, self.kernel_size, 2)
        parts = nn.functional.conv2d(frames, torch.cat(taps.unbind(-1)), padding="same")
        return torch.complex(*parts.to(self.B.dtype).chunk(2, dim=1))  # autocast may have narrowed them

    def _read(self, states: Tensor) -> Tensor:
        """2 Re(C * x) of states (F, P, height, width)."""
        real, imag = self.C.permute(4, 3, 2, 0, 1)
        parts = torch.cat([states.real, states.imag], dim=1)
        return nn.functional.conv2d(parts, torch.cat([2 * real, -2 * imag], dim=1), padding="same")

    def _check(self, u: Tensor, axes: int) -> None:
        channels = self.C.shape[3]
        if u.ndim != axes or u.shape[-3] != channels:
            wanted = "(B, L, U, height, width)" if axes == 5 else "(B, U, height, width)"
            raise LayerError(f"the input has shape {tuple(u.shape)}, expected {wanted} with U = {channels}")


def _poles(modes: int, blocks: int, alpha: float, poles: npt.ArrayLike | None) -> ComplexArray:
    """(P,) with Im <= 0."""
    if poles is None:
        sizes = Settings(copies=1, modes=modes, blocks=blocks)
        return initial_poles("s5-hippo", sizes, alpha=alpha, rng=np.random.default_rng(0)).exponents[0].conj()
    given = np.asarray(poles, complex)
    if given.shape != (modes,) or not np.isfinite(given).all() or (given.real >= 0).any():
        raise LayerError(f"poles have shape {given.shape}, expected ({modes},), with finite values and Re < 0")
    return np.where(given.imag > 0, given.conj(), given)
