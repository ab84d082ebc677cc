"""Sums of powers, against cumulative products in float64, integer arithmetic, and finite differences."""

import pytest
import torch
from torch import Tensor

import ssmspec.nn.powers as under_test
from ssmspec.errors import BackendError
from ssmspec.nn.powers import power_sum

LENGTHS = [1, 2, 3, 5, 8, 9, 31, 32, 33, 1000, 1024]


def problem(ch: int = 2, H: int = 3, N: int = 4) -> tuple[Tensor, Tensor]:
    """Weights, and poles from the center of the unit circle to its edge."""
    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(ch, H, N, dtype=torch.complex128, generator=generator)
    radius = torch.tensor([0.0, 0.5, 0.99, 1.0], dtype=torch.float64)[torch.arange(H * N) % 4].reshape(H, N)
    angle = 6 * torch.rand(H, N, dtype=torch.float64, generator=generator)
    return weights, torch.polar(radius, angle)


def plain(weights: Tensor, z: Tensor, length: int) -> Tensor:
    steps = torch.cat([torch.ones_like(z)[..., None], z[..., None].expand(*z.shape, length - 1)], -1)
    return torch.einsum("chn,hnl->chl", weights, steps.cumprod(-1)).real


def naive(weights: Tensor, z: Tensor, length: int) -> Tensor:
    """The same by repeated products, which autograd can differentiate at z = 0, too."""
    powers = [torch.ones_like(z)]
    for _ in range(length - 1):
        powers.append(powers[-1] * z)
    return torch.einsum("chn,hnl->chl", weights, torch.stack(powers, -1)).real


@pytest.mark.parametrize("length", LENGTHS)
def test_values_are_those_of_cumulative_products(length) -> None:
    weights, z = problem()
    wanted = plain(weights, z, length)
    for precision, tolerance in ((torch.float64, 1e-13), (torch.float32, 1e-6)):
        found = power_sum(weights, z, length, precision)
        assert found.dtype == precision
        assert found.shape == (2, 3, length)
        assert (found - wanted).abs().max() < tolerance * wanted.abs().max()


@pytest.mark.parametrize("length", [1, 2, 7, 33, 200])
def test_gradients_are_those_of_autograd_in_float64(length) -> None:
    """Both precisions, also of a pole at zero."""
    cotangent = torch.randn(2, 3, length, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    leaves = [part.clone().requires_grad_() for part in problem()]
    wanted = torch.autograd.grad(naive(*leaves, length), leaves, cotangent, materialize_grads=True)
    for precision, tolerance in ((torch.float64, 1e-13), (torch.float32, 2e-6)):
        found = torch.autograd.grad(power_sum(*leaves, length, precision), leaves, cotangent.to(precision))
        for ours, theirs in zip(found, wanted, strict=True):
            assert ours.dtype == torch.complex128
            assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def test_gradients_are_those_of_finite_differences() -> None:
    leaves = [part.clone().requires_grad_() for part in problem(2, 2, 3)]
    assert torch.autograd.gradcheck(lambda *parts: power_sum(*parts, 11, torch.float64), leaves)


def test_powers_of_long_kernels_are_exact_where_they_are_whole_numbers() -> None:
    """z = i and z = -1 for 62832 samples, whose powers are 1, i, -1, -i in turn."""
    length = 62832
    z = torch.tensor([[1j, -1.0]], dtype=torch.complex128)
    weights = torch.tensor([[[1.0 - 2.0j, 3.0]]], dtype=torch.complex128)
    turns = torch.tensor([4.0, -1.0, 2.0, -5.0]).repeat(length // 4)  # Re((1 - 2i) i^l) + 3 (-1)^l
    for precision in (torch.float32, torch.float64):
        assert torch.equal(power_sum(weights, z, length, precision)[0, 0], turns.to(precision))


def test_a_slow_mode_of_a_long_kernel_keeps_its_digits() -> None:
    """exp(-l/1e6 + i l/10) for 2^17 samples, where a power by repeated products in float32 would have no digit."""
    length, x = 2**17, torch.complex(torch.tensor(-1e-6).double(), torch.tensor(0.1).double())
    wanted = torch.exp(x * torch.arange(length)).real
    for precision, tolerance in ((torch.float64, 1e-10), (torch.float32, 3e-7)):
        found = power_sum(torch.ones(1, 1, 1).cdouble(), torch.exp(x).reshape(1, 1), length, precision)[0, 0]
        assert (found - wanted).abs().max() < tolerance


def test_modes_that_are_gone_leave_no_denormal_numbers_in_the_tables() -> None:
    tables = under_test._tables(torch.full((1, 1), 0.5 + 0.1j, dtype=torch.complex128), 2**14, single=True)
    for parts in map(torch.view_as_real, tables):
        assert parts[parts != 0].abs().min() >= under_test.GONE
    found = power_sum(torch.ones(1, 1, 1).cdouble(), torch.full((1, 1), 0.5).cdouble(), 200, torch.float32)[0, 0]
    assert torch.equal(found[:50], 0.5 ** torch.arange(50))
    assert found.abs()[150:].max() < 1e-18


def test_autocast_leaves_the_precision_alone() -> None:
    weights, z = problem()
    found = []
    for narrow in (False, True):
        leaves = [part.clone().requires_grad_() for part in (weights, z)]
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            kernel = power_sum(*leaves, 300, torch.float32)
            found.append([kernel.detach(), *torch.autograd.grad(kernel.square().sum(), leaves)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("single", [False, True])
def test_the_operators_obey_the_rules_of_torch(single) -> None:
    weights, z = problem()
    torch.library.opcheck(under_test._sum, (weights.requires_grad_(), z.requires_grad_(), 19, single))


@pytest.mark.parametrize(
    ("weights", "z", "length", "precision", "message"),
    [
        (torch.zeros(1, 2, 3).cfloat(), torch.zeros(2, 3).cdouble(), 4, torch.float32, "weights are torch.complex64"),
        (torch.zeros(1, 2, 3).cdouble(), torch.zeros(2, 3).cdouble(), 4, torch.bfloat16, "the sum torch.bfloat16"),
        (torch.zeros(1, 2, 3).cdouble(), torch.zeros(1, 3).cdouble(), 4, torch.float32, "expected .ch, H, N. and .H, N."),
        (torch.zeros(1, 2, 3).cdouble(), torch.zeros(2, 3).cdouble(), 0, torch.float32, "for 0 samples"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(weights, z, length, precision, message) -> None:
    with pytest.raises(BackendError, match=message):
        power_sum(weights, z, length, precision)
