"""Means of GELU for mixtures of signals, against PyTorch's own operators in float64."""

import pytest
import torch
from torch import Tensor, nn

import ssmspec.training.banks.mixtures as under_test

SIZES = [(3, 2, 4, 10), (5, 3, 1, 7), (1, 1, 3, 1), (16, 4, 2, 300)]


def problem(B: int, S: int, H: int, L: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(B + L)
    return tuple(2 * torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((B, S), (S, H, L), (B, H)))


def outcome(function, mixture: Tensor, responses: Tensor, cotangent: Tensor) -> list[Tensor]:
    responses = responses.clone().requires_grad_()
    means = function(mixture, responses)
    return [means.detach(), *torch.autograd.grad(means, responses, cotangent)]


def plain(mixture: Tensor, responses: Tensor) -> Tensor:
    return nn.functional.gelu(torch.einsum("bs,shl->bhl", mixture, responses)).mean(-1)


@pytest.mark.parametrize("block", [1, 7, 64, 2**18])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 2e-6)])
def test_values_and_gradients_are_those_of_the_whole_batch(size, block, kind, tolerance, monkeypatch) -> None:
    monkeypatch.setattr(under_test, "BLOCK", block)
    mixture, responses, cotangent = problem(*size)
    wanted = outcome(plain, mixture, responses, cotangent)
    found = outcome(under_test.mean_gelu_of_mixtures, mixture.to(kind), responses.to(kind), cotangent.to(kind))
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == kind
        assert (one - other).abs().max() <= tolerance * other.abs().max()


def test_autocast_narrows_the_mixtures_but_not_their_sums() -> None:
    mixture, responses, cotangent = (part.float() for part in problem(4, 3, 2, 500))
    wanted = outcome(plain, mixture, responses, cotangent)
    with torch.autocast("cpu", torch.bfloat16):
        found = outcome(under_test.mean_gelu_of_mixtures, mixture, responses, cotangent)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.float32
        assert 1e-5 * other.abs().max() < (one - other).abs().max() < 0.06 * other.abs().max()  # bf16 has 8 bits


def test_a_second_derivative_is_refused() -> None:
    mixture, responses, _ = problem(2, 2, 2, 5)
    responses.requires_grad_()
    means = under_test.mean_gelu_of_mixtures(mixture, responses)
    with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
        torch.autograd.grad(means.sum(), responses, create_graph=True)
