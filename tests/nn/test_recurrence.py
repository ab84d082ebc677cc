"""The blockwise recurrence and its gradient equal the plain recurrence, and the block of Mamba-1 equals that of its original code."""

import pytest
import torch

from ssmspec.nn.mamba import Mamba
from ssmspec.nn.recurrence import linear_recurrence


def one_by_one(factors: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    states = [inputs[0] + 0 * factors[0]]
    for factor, each in zip(factors[1:], inputs[1:], strict=True):
        states.append(factor * states[-1] + each)
    return torch.stack(states)


@pytest.mark.parametrize("length", [1, 2, 3, 9, 15, 17, 100])
def test_blocks_make_no_difference(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    factors = torch.rand(length, 5, generator=generator, dtype=torch.float64).requires_grad_()
    inputs = torch.randn(length, 5, generator=generator, dtype=torch.float64).requires_grad_()
    expected, found = one_by_one(factors, inputs), linear_recurrence(factors, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    cotangent = torch.randn(length, 5, generator=generator, dtype=torch.float64)
    both = [torch.autograd.grad(each, (factors, inputs), cotangent) for each in (found, expected)]
    torch.testing.assert_close(*both, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("skip", [True, False])
def test_the_block_is_that_of_mamba_ssm_step_by_step(skip: bool) -> None:
    """mamba_simple.py, `Mamba.forward` without its fused kernels, one sample after the other."""
    torch.manual_seed(4)
    block = Mamba(20, 3, expand=2, skip=skip).double()
    x = torch.randn(2, 20, 33, dtype=torch.float64)
    u, gate = torch.split(x.mT @ block.in_proj.weight.T, 40, dim=-1)
    padded = torch.nn.functional.pad(u, (0, 0, 3, 0))
    taps = block.conv1d.weight[:, 0]
    u = torch.nn.functional.silu(sum(padded[:, k : k + 33] * taps[:, k] for k in range(4)) + block.conv1d.bias)
    state, outputs = torch.zeros(2, 40, 3, dtype=torch.float64), []
    for t in range(33):
        rows = u[:, t] @ block.x_proj.weight.T
        step = torch.nn.functional.softplus(rows[:, :2] @ block.dt_proj.weight.T + block.dt_proj.bias)
        B, C = rows[:, None, 2:5], rows[:, None, 5:]
        state = torch.exp(step[..., None] * -torch.exp(block.A_log)) * state + step[..., None] * B * u[:, t, :, None]
        outputs.append((state * C).sum(-1) + (block.D * u[:, t] if skip else 0))
    expected = (torch.stack(outputs, 1) * torch.nn.functional.silu(gate)) @ block.out_proj.weight.T
    torch.testing.assert_close(block(x), expected.mT, rtol=1e-12, atol=1e-12)


def test_the_block_is_that_of_transformers() -> None:
    transformers = pytest.importorskip("transformers", reason="it has a Mamba-1 of its own")
    from transformers.models.mamba.modeling_mamba import MambaMixer

    config = transformers.MambaConfig(hidden_size=12, state_size=5, expand=2, conv_kernel=4, time_step_rank=1, num_hidden_layers=1)
    torch.manual_seed(0)
    theirs, ours = MambaMixer(config, layer_idx=0), Mamba(12, 5)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 30, 12)
    torch.testing.assert_close(ours(x.mT).mT, theirs(x), rtol=1e-5, atol=1e-6)


def test_steps_begin_in_their_range_and_poles_are_whole_numbers() -> None:
    torch.manual_seed(0)
    block = Mamba(64, 4, step_min=1e-2, step_max=1e-1)
    steps = torch.nn.functional.softplus(block.dt_proj.bias.double())
    assert 0.0099 < steps.min() < 0.012
    assert 0.08 < steps.max() < 0.101
    torch.testing.assert_close(torch.exp(block.A_log), torch.arange(1.0, 5).repeat(128, 1))
