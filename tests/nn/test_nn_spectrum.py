"""The kernel of a diagonal layer and its transform, against kernels by cumulative products and in many digits."""

import math

import mpmath
import numpy as np
import published
import pytest
import torch

import ssmspec.nn.kernel_dft as under_test
from ssmspec.errors import BackendError
from ssmspec.nn.kernel_dft import SMALL, Diagonal, diagonal_kernel, discretize, kernel_spectrum


def random_system(rule: str, *, H: int = 3, N: int = 5, ch: int = 2) -> Diagonal:
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    poles = torch.complex(-torch.exp(normal(H, N)), 4 * normal(H, N))
    return Diagonal(poles, torch.complex(normal(ch, H, N), normal(ch, H, N)), torch.exp(normal(H, 1) - 1), rule)


@pytest.mark.parametrize("rule", ["zoh", "bilinear"])
@pytest.mark.parametrize(("length", "n"), [(1, 2), (1, 1), (1, 9), (8, 16), (9, 18), (8, 8), (9, 9), (9, 14), (8, 15), (8, 30), (200, 400)])
def test_spectrum_is_the_fft_of_the_kernel(rule, length, n) -> None:
    system = random_system(rule)
    wanted = torch.fft.rfft(published.vandermonde(system.poles, system.residues, system.step, length, rule), n)
    for precision, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        found = kernel_spectrum(system, length, n, precision)
        assert found.dtype == precision.to_complex()
        assert found.shape == wanted.shape
        assert (found - wanted).abs().max() < tolerance * wanted.abs().max()


@pytest.mark.parametrize("rule", ["zoh", "bilinear"])
@pytest.mark.parametrize(("length", "n"), [(6, 12), (7, 7), (5, 9)])
def test_gradients_are_those_of_finite_differences(rule, length, n) -> None:
    system = random_system(rule, H=2, N=2)
    leaves = [part.clone().requires_grad_() for part in system[:3]]
    assert torch.autograd.gradcheck(lambda *parts: kernel_spectrum(Diagonal(*parts, rule), length, n, torch.float64), leaves)


def exact_spectrum(a: complex, r: complex, step: float, length: int, rule: str) -> np.ndarray:
    """By mpmath with 60 digits, sample by sample."""
    with mpmath.workdps(60):
        a, step = mpmath.mpc(a), mpmath.mpf(step)
        z, g = mpmath.exp(a * step), mpmath.mpc(r) * mpmath.expm1(a * step) / a
        if rule == "bilinear":
            z, g = (1 + a * step / 2) / (1 - a * step / 2), mpmath.mpc(r) * step / (1 - a * step / 2)
        kernel = [2 * mpmath.re(g * z**l) for l in range(length)]
    return np.fft.rfft(np.array([float(k) for k in kernel]), 2 * length)


def one_mode(a: complex, r: complex, step: float, rule: str) -> Diagonal:
    return Diagonal(*(torch.from_numpy(np.array(part)) for part in ([[a]], [[[r]]], [[step]])), rule)


@pytest.mark.parametrize("rule", ["zoh", "bilinear"])
@pytest.mark.parametrize("length", [15, 16])
@pytest.mark.parametrize(
    ("a", "step"),
    [
        (-1e-300 + 0j, 1.0),
        (-1e-12 + 1e-9j, 0.1),
        (-1e-8 + 3j, 0.7),
        (-0.019 + 0j, 1.0),
        (-0.021 + 0j, 1.0),
        (-5e4 + 2e4j, 1.0),
        (-900.0 + 0j, 1.0),
        (-2.0 + 0j, 1.0),
        (-20.0 + 0j, 0.1),
        (-1e-3 + 31.4159j, 0.1),
        (-1e-9 + np.pi * 1j, 1.0),
        (-0.5 - 40j, 0.1),
        (-1e-3 + 1e8j, 1.0),
        (-0.5 + 3j, 1e-30),
        (-0.5 + 3j, 1e20),
    ],
    ids=str,
)
def test_extreme_poles_are_accurate(a, step, length, rule) -> None:
    """From a pole at zero to one gone within a sample (z = 0 by the bilinear rule), at Nyquist, beyond it and in the lower half plane."""
    wanted = exact_spectrum(a, 1 - 2j, step, length, rule)
    lost = 4 * np.finfo(float).eps * abs(a * step)  # of the rounded angle of a pole that turns many times within a sample
    for precision, tolerance in ((torch.float64, 1e-13 + lost), (torch.float32, 2e-6 + lost)):
        system = one_mode(a, 1 - 2j, step, rule)
        found = kernel_spectrum(system, length, 2 * length, precision)[0, 0].numpy()
        assert np.abs(found - wanted).max() < tolerance * np.abs(wanted).max()


ON_NODES = [
    (length, damping, j) for length in (64, 1023) for damping in (1e-3, 1e-5, 1e-7, 1e-9, 1e-12, 1e-20) for j in (1, 29, length // 2)
]


@pytest.mark.parametrize("rule", ["zoh", "bilinear"])
@pytest.mark.parametrize(("length", "damping", "j"), ON_NODES)
def test_modes_on_a_node_lose_no_digit_however_little_they_decay(length, damping, j, rule) -> None:
    theta = np.pi * j / length
    system = one_mode(-damping + 1j * (theta if rule == "zoh" else 2 * np.tan(theta / 2)), 1.0 + 0j, 1.0, rule)
    wanted = torch.fft.rfft(published.vandermonde(system.poles, system.residues, system.step, length, rule), 2 * length)
    for precision, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        found = kernel_spectrum(system, length, 2 * length, precision)
        assert (found - wanted).abs().max() < tolerance * wanted.abs().max()


@pytest.mark.parametrize("damping", [1e-3, 1e-5, 1e-7])
def test_gradients_of_modes_on_a_node_keep_six_digits_in_float32(damping) -> None:
    length = 256
    cotangent = torch.randn(length, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gradients = []
    for ours in (True, False):
        logarithm = torch.full((1, 1), math.log(damping), dtype=torch.float64, requires_grad=True)
        theta = torch.full((1, 1), math.pi * 29 / length, dtype=torch.float64, requires_grad=True)
        parts = torch.complex(-logarithm.exp(), theta), torch.ones(1, 1, 1).cdouble(), torch.ones(1, 1).double()
        if ours:
            kernel = diagonal_kernel(Diagonal(*parts, "zoh"), length, torch.float32)[0, 0]
        else:
            kernel = published.vandermonde(*parts, length)[0, 0]
        gradients.append(torch.autograd.grad((kernel * cotangent).sum(), (logarithm, theta)))
    size = math.hypot(*range(length))  # of the derivative of the kernel by theta; by the logarithm it is that times the damping
    for found, wanted, scale in zip(*gradients, (damping * size, size), strict=True):
        assert abs(found - wanted).item() < 1e-6 * scale


@pytest.mark.parametrize("a", [0j, -1e-300 + 0j, -1e-5 + 1e-5j, -0.999 * SMALL + 0j, -1.001 * SMALL + 0j, -3 + 2j, -2000 + 5j], ids=str)
def test_gain_and_its_derivative_are_accurate(a) -> None:
    """gain(a) = (e^a - 1)/a at step 1."""
    poles = torch.from_numpy(np.array([[a]])).requires_grad_()
    gain = discretize(Diagonal(poles, torch.ones(1, 1, 1).cdouble(), torch.ones(1, 1).double(), "zoh")).gain
    gain.real.sum().backward()
    with mpmath.workdps(80):
        x = mpmath.mpc(a) if abs(a) > 1e-20 else mpmath.mpc(1e-20)
        value = mpmath.expm1(x) / x
        slope = (mpmath.exp(x) - value) / x
    assert abs(gain.item() - complex(value)) < 1e-14 * abs(complex(value))
    assert abs(poles.grad.item() - complex(slope).conjugate()) < 1e-13


def test_single_precision_keeps_its_digits_where_little_of_the_kernel_has_passed() -> None:
    """A mode that falls by 1e-3 over the kernel."""
    system = Diagonal(torch.from_numpy(np.array([[-1e-4 + 2j]])), torch.ones(1, 1, 1).cdouble(), torch.full((1, 1), 0.01).double(), "zoh")
    for n in (2000, 1500):
        wanted, found = (kernel_spectrum(system, 1000, n, kind) for kind in (torch.float64, torch.float32))
        assert (found - wanted).abs().max() < 1e-6 * wanted.abs().max()


@pytest.mark.parametrize("rule", ["zoh", "bilinear"])
def test_modes_that_are_gone_after_a_sample_have_gradients(rule) -> None:
    """a Delta = -2: z = 0 by the bilinear rule."""
    poles = torch.full((1, 1), -2.0 + 0j, dtype=torch.complex128)
    step = torch.ones(1, 1, dtype=torch.float64)
    gradients = []
    for ours in (True, False):
        leaves = [part.clone().requires_grad_() for part in (poles, step)]
        residues = torch.full((1, 1, 1), 1 - 2j, dtype=torch.complex128)
        system = Diagonal(leaves[0], residues, leaves[1], rule)
        wanted = torch.fft.rfft(published.vandermonde(leaves[0], residues, leaves[1], 9, rule), 18)
        spectrum = kernel_spectrum(system, 9, 18, torch.float64) if ours else wanted
        gradients.append(torch.autograd.grad((spectrum.real * torch.arange(10)).sum(), leaves))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_second_derivatives_are_refused() -> None:
    system = random_system("zoh")
    residues = system.residues.clone().requires_grad_()
    spectrum = kernel_spectrum(system._replace(residues=residues), 8, 16, torch.float64)
    (gradient,) = torch.autograd.grad(spectrum.abs().sum(), residues, create_graph=True)
    with pytest.raises(BackendError, match="second derivative of a kernel"):
        gradient.abs().sum().backward()


def test_the_operator_of_the_gain_obeys_the_rules_of_torch() -> None:
    x = torch.from_numpy(np.array([0, -1e-3 + 1e-3j, -0.5 + 2j])).requires_grad_()
    torch.library.opcheck(under_test._growth, (x,))
