"""Convolution in the frequency domain, against PyTorch's own FFTs and finite differences."""

import pytest
import torch

import ssmspec.nn.convolution as under_test
from ssmspec.errors import BackendError
from ssmspec.nn.convolution import fft_convolution, one_sided_fft


def problem(B: int, ch: int, H: int, L: int, n: int, kind: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    u = torch.randn(B, H, L, dtype=kind, generator=generator)
    return u.requires_grad_(), torch.randn(ch, H, n // 2 + 1, dtype=kind.to_complex(), generator=generator).requires_grad_()


def plain(u: torch.Tensor, spectrum: torch.Tensor, n: int) -> torch.Tensor:
    return torch.fft.irfft(torch.fft.rfft(u, n)[:, None] * spectrum, n)[..., : u.shape[-1]]


SIZES = [(3, 1, 2, 8, 16), (2, 3, 2, 8, 15), (1, 2, 1, 7, 7), (2, 1, 2, 8, 8), (1, 1, 1, 1, 1), (1, 1, 1, 1, 2)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("block", [1, 40, 2**17])
def test_values_and_gradients_do_not_depend_on_the_block(size, block, monkeypatch) -> None:
    monkeypatch.setattr(under_test, "BLOCK", block)
    u, spectrum = problem(*size)
    twins = [part.detach().clone().requires_grad_() for part in (u, spectrum)]
    y, wanted = fft_convolution(u, spectrum, size[-1]), plain(*twins, size[-1])
    torch.testing.assert_close(y, wanted, rtol=1e-13, atol=1e-13)
    cotangent = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    y.backward(cotangent)
    wanted.backward(cotangent)
    for part, twin in zip((u, spectrum), twins, strict=True):
        torch.testing.assert_close(part.grad, twin.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(2, 2, 1, 4, 8), (2, 1, 2, 4, 7)])
def test_gradients_are_those_of_finite_differences(size) -> None:
    assert torch.autograd.gradcheck(lambda u, spectrum: fft_convolution(u, spectrum, size[-1]), problem(*size))


def test_inputs_that_are_views_are_read_right() -> None:
    u, spectrum = problem(4, 1, 6, 10, 20)
    turned = u.detach().mT.contiguous().mT
    torch.testing.assert_close(fft_convolution(turned, spectrum, 20), plain(u, spectrum, 20), rtol=1e-13, atol=1e-13)


def test_single_precision_stays_single() -> None:
    u, spectrum = problem(2, 1, 3, 100, 200, torch.float32)
    y = fft_convolution(u, spectrum, 200)
    assert y.dtype == torch.float32
    wanted = plain(u.double(), spectrum.cdouble(), 200)
    assert (y - wanted).abs().max() < 1e-6 * wanted.abs().max()


def test_the_operators_obey_the_rules_of_torch() -> None:
    torch.library.opcheck(under_test._convolve, (*problem(3, 2, 2, 8, 15), 15))


def test_second_derivatives_are_refused() -> None:
    u, spectrum = problem(1, 1, 2, 8, 16)
    (gradient,) = torch.autograd.grad(fft_convolution(u, spectrum, 16).square().sum(), u, create_graph=True)
    with pytest.raises(BackendError, match="second derivative of the convolution"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("u", "spectrum", "n", "message"),
    [
        (torch.zeros(1, 2, 8), torch.zeros(1, 2, 9, dtype=torch.cdouble), 16, "expected float32 and complex64"),
        (torch.zeros(1, 2, 8).half(), torch.zeros(1, 2, 9, dtype=torch.cfloat), 16, "u is torch.float16"),
        (torch.zeros(1, 2, 8), torch.zeros(1, 2, 8, dtype=torch.cfloat), 16, "expected .B, H, L. and .ch, H, n//2"),
        (torch.zeros(1, 3, 8), torch.zeros(1, 2, 9, dtype=torch.cfloat), 16, "expected .B, H, L."),
        (torch.zeros(1, 2, 20), torch.zeros(1, 2, 9, dtype=torch.cfloat), 16, "n at least L"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(u, spectrum, n, message) -> None:
    with pytest.raises(BackendError, match=message):
        fft_convolution(u, spectrum, n)


@pytest.mark.parametrize(("L", "n"), [(1, 1), (1, 2), (5, 5), (5, 8), (6, 9), (8, 16)])
def test_transforms_and_their_gradients_are_those_of_torch(L, n) -> None:
    x = torch.randn(2, 3, L, dtype=torch.float64, generator=torch.Generator().manual_seed(L)).requires_grad_()
    found, wanted = one_sided_fft(x, n), torch.fft.rfft(x, n)
    assert torch.equal(found, wanted)
    cotangent = torch.randn(wanted.shape, dtype=wanted.dtype, generator=torch.Generator().manual_seed(n))
    ours, theirs = (torch.autograd.grad(each, x, cotangent)[0] for each in (found, wanted))
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


def test_a_transform_obeys_the_rules_of_torch_and_is_differentiated_once() -> None:
    x = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(under_test._transform, (x, 8))
    (gradient,) = torch.autograd.grad(one_sided_fft(x, 8).abs().square().sum(), x, create_graph=True)
    with pytest.raises(BackendError, match="second derivative of the convolution"):
        gradient.sum().backward()
