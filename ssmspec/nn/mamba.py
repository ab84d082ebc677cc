"""The block of Mamba-1: a state space model whose step, B and C depend on its input."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssmspec.nn.optim import mark
from ssmspec.nn.recurrence import linear_recurrence

SMALLEST_STEP = 1e-4


class Mamba(nn.Module):
    """(B, H, L) to (B, H, L): projection, short causal convolution, SiLU, selective state space model, gate, projection.

        Delta, B, C = x_proj(u);   Delta <- softplus(dt_proj Delta + bias)
        h_l = exp(a Delta_l) h_{l-1} + Delta_l B_l u_l;   y_l = C_l h_l + D u_l

    with N real poles a = -exp(A_log) per channel, initially -1 to -N. Its tensors have the names of the family `mamba-1`.

    Args:
        d_model: H. d_state: N. expand: the state space model has expand * H channels. d_conv: taps of the convolution.
        step_min, step_max: range of Delta at initialization, log-uniform, at least 1e-4.
        skip: whether there is a D, initialized with ones.
    Source: arXiv 2312.00752, section 3.4; state-spaces/mamba, mamba_ssm/modules/mamba_simple.py.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        *,
        expand: int = 2,
        d_conv: int = 4,
        step_min: float = 1e-3,
        step_max: float = 1e-1,
        skip: bool = True,
    ) -> None:
        super().__init__()
        width, rank = expand * d_model, math.ceil(d_model / 16)
        self.d_state = d_state
        self.in_proj = nn.Linear(d_model, 2 * width, bias=False)
        self.conv1d = nn.Conv1d(width, width, d_conv, groups=width, padding=d_conv - 1)
        self.x_proj = nn.Linear(width, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, width)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, d_state + 1)).repeat(width, 1))
        if skip:
            self.D = nn.Parameter(torch.ones(width))
        self.out_proj = nn.Linear(width, d_model, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        steps = torch.exp(torch.rand(width) * math.log(step_max / step_min)) * step_min
        steps = steps.clamp(min=SMALLEST_STEP)
        with torch.no_grad():
            self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))
        for name in ("A_log", "D"):
            if name in self._parameters:
                mark(getattr(self, name), {"weight_decay": 0.0})

    def forward(self, x: Tensor) -> Tensor:
        """y (B, H, L)."""
        length = x.shape[-1]
        u, gate = self.in_proj(x.mT).chunk(2, dim=-1)
        u = functional.silu(self.conv1d(u.mT)[..., :length]).mT
        y = self._select(u) * functional.silu(gate)
        result: Tensor = self.out_proj(y).mT
        return result

    def _select(self, u: Tensor) -> Tensor:
        """The selective state space model, (B, L, W) to (B, L, W); at least in float32."""
        with torch.autocast(u.device.type, enabled=False):
            u = u.to(self.A_log.dtype)
            low, B, C = self.x_proj(u).split([self.dt_proj.in_features, self.d_state, self.d_state], dim=-1)
            step = functional.softplus(self.dt_proj(low))
            shape = (*step.shape, self.d_state)
            factors = torch.exp(step[..., None] * -torch.exp(self.A_log)).transpose(0, 1)
            inputs = ((step * u)[..., None] * B[..., None, :]).transpose(0, 1)
            states = linear_recurrence(factors.flatten(1), inputs.flatten(1)).reshape(shape[1], shape[0], *shape[2:])
            y = torch.einsum("lbwn,bln->blw", states, C)
            return y + self.D * u if "D" in self._parameters else y
