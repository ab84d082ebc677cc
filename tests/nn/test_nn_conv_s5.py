"""ConvS5: over frames in parallel and one by one, against its definition written out, and as analysis reads its tensors."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

from ssmspec.backends.reference import cauchy_sum
from ssmspec.errors import LayerError, SsmspecError
from ssmspec.families import FAMILIES, ReadOptions, detect
from ssmspec.families.template import Held
from ssmspec.nn import ConvS5, optimizer_groups
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.response import frequency_response, impulse_response
from ssmspec.systems.statespace import StateSpace
from ssmspec.tuning.poles.hippo import legs_normal_part

SIZES = [
    {"d_model": 3, "d_state": 8, "blocks": 2},
    {"d_model": 1, "d_state": 2, "kernel_size": 1},
    {"d_model": 2, "d_state": 6, "kernel_size": 5},
]
LENGTH, HEIGHT, WIDTH = 11, 5, 6


def layer(seed: int = 0, **options: Any) -> ConvS5:
    torch.manual_seed(seed)
    return ConvS5(**{"d_model": 3, "d_state": 8, "step_min": 0.05, "step_max": 0.5} | options).double()


def frames(module: ConvS5, batch: int = 2, length: int = LENGTH) -> torch.Tensor:
    shape = (batch, length, module.C.shape[3], HEIGHT, WIDTH)
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


def one_by_one(module: ConvS5, u: torch.Tensor) -> torch.Tensor:
    state, found = module.default_state(len(u), HEIGHT, WIDTH), []
    for t in range(u.shape[1]):
        y, state = module.step(u[:, t], state)
        found.append(y)
    return torch.stack(found, 1)


def written_out(module: ConvS5, u: np.ndarray) -> np.ndarray:
    """One clip (L, U, height, width) by the formulas of the original, in its layouts: B.reshape(P, U, k, k), C (k, k, P, U)."""
    stored = {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}
    Lambda = stored["Lambda_re"] + 1j * stored["Lambda_im"]
    A = np.exp(Lambda * np.exp(stored["log_step"][:, 0]))
    B, C = stored["B"] @ [1, 1j], stored["C"] @ [1, 1j]
    P, U, k = len(A), C.shape[3], C.shape[0]
    B_bar = (((A - 1) / Lambda)[:, None] * B).reshape(P, U, k, k)
    x, y = np.zeros((P, *u.shape[2:]), complex), np.zeros(u.shape)
    for t, frame in enumerate(u):
        for p in range(P):
            x[p] = A[p] * x[p] + sum(correlate2d(frame[i], B_bar[p, i].conj(), mode="same") for i in range(U))
        for o in range(U):
            y[t, o] = 2 * sum(correlate2d(x[p], C[:, :, p, o].conj(), mode="same") for p in range(P)).real
    return y


@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: "-".join(map(str, sizes.values())))
def test_all_frames_at_once_and_one_by_one_give_the_same(sizes) -> None:
    module = layer(**sizes)
    u = frames(module)
    y = module(u)
    assert y.shape == u.shape
    torch.testing.assert_close(one_by_one(module, u), y, rtol=0, atol=1e-12 * float(y.detach().abs().max()))


@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: "-".join(map(str, sizes.values())))
def test_the_layer_is_its_definition(sizes) -> None:
    module = layer(**sizes)
    u = frames(module, batch=1)
    wanted = written_out(module, u[0].numpy())
    np.testing.assert_allclose(module(u)[0].detach(), wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


@pytest.mark.parametrize("beta", [-1.5, 1.0])
def test_beta_filters_the_frames_before_the_recurrence(beta: float) -> None:
    """[(1 - rho q)/(1 - rho)]^beta as a binomial series in the delay q; the layer is linear, so its place does not matter."""
    module, plain = layer(beta=beta, theta_ref=0.3), layer()
    u = frames(module)
    rho = math.exp(-2 * math.asinh(0.15))
    taps = [(1 - rho) ** -beta]
    for l in range(1, LENGTH):
        taps.append(taps[-1] * rho * (l - 1 - beta) / l)
    filtered = torch.stack([sum(taps[l] * u[:, t - l] for l in range(t + 1)) for t in range(LENGTH)], 1)
    y = module(u)
    torch.testing.assert_close(y, one_by_one(plain, filtered), rtol=0, atol=1e-12 * float(y.detach().abs().max()))
    assert (y - plain(u)).abs().max() > 0.1 * y.abs().max()


@pytest.mark.parametrize("beta", [-1.0, 0.0, 1.0])
def test_no_frame_depends_on_later_ones(beta: float) -> None:
    module = layer(beta=beta, theta_ref=0.1)
    u = frames(module)
    later = u.clone()
    later[:, 6:] += 100
    y, changed = module(u), module(later)
    assert (y[:, :6] - changed[:, :6]).abs().max() < 1e-10
    assert (y[:, 6:] - changed[:, 6:]).abs().max() > 1


def test_gradients_are_those_of_finite_differences() -> None:
    module = layer(d_model=1, d_state=4, beta=0.5, theta_ref=0.2)
    names = [name for name, _ in module.named_parameters()]
    u = torch.randn(1, 3, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    with torch.no_grad():
        values = [parameter.clone().requires_grad_() for parameter in module.parameters()]

    def run(u: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (u,))

    assert torch.autograd.gradcheck(run, (u, *values))


def read_back(module: ConvS5) -> StateSpace:
    """The system that the family reads from the state dict, in float64."""
    tensors = {f"layer.{name}": Held(tensor.numpy(), "float64") for name, tensor in module.state_dict().items()}
    (found,) = detect(tensors, FAMILIES.values()).layers
    assert found.family == "conv-s5"
    return FAMILIES["conv-s5"].read(found, ReadOptions())[0]


def middle_response(module: ConvS5, length: int) -> np.ndarray:
    """(U, U, length): what the middle of a picture answers to an impulse in time that is the same at every pixel, by input channel."""
    U = module.C.shape[3]
    impulses = torch.zeros(U, length, U, 5, 5, dtype=torch.float64)
    impulses[range(U), 0, range(U)] = 1
    return module(impulses)[..., 2, 2].detach().permute(2, 0, 1).numpy()


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_analysis_reads_what_constant_pictures_meet(kernel_size: int) -> None:
    module = layer(kernel_size=kernel_size)
    system = read_back(module)
    wanted = middle_response(module, 40)
    np.testing.assert_allclose(impulse_response(system, 40)[0], wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


def test_the_weight_of_analysis_is_that_of_the_layer() -> None:
    length = 2048  # the slowest mode, exp(-0.5 0.05), is gone to 1e-22 by then
    module = layer(beta=-0.7, theta_ref=0.2)
    system = replace(read_back(module), sobolev=module.weight)
    grid = FrequencyGrid(2 * np.pi * np.arange(length // 2 + 1) / length, "theta")
    wanted = np.fft.rfft(middle_response(module, length))
    found = frequency_response(system, grid, cauchy_sum).total[0]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10 * np.abs(wanted).max())


def test_names_and_shapes_of_parameters_are_those_of_the_original() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in layer(d_model=5, d_state=8).named_parameters()}
    assert shapes == {"Lambda_re": (4,), "Lambda_im": (4,), "log_step": (4, 1), "B": (4, 45, 2), "C": (3, 3, 4, 5, 2)}


@pytest.mark.parametrize("blocks", [1, 2])
def test_poles_start_as_hippo_with_frequencies_times_alpha(blocks: int) -> None:
    frequencies = np.tile(legs_normal_part(8 // blocks)[0], blocks)
    module = layer(d_state=16, blocks=blocks, alpha=0.3)
    np.testing.assert_allclose(module.Lambda_im.detach(), -0.3 * frequencies, rtol=1e-6)
    assert (module.Lambda_re == -0.5).all()


def test_b_and_c_start_as_real_matrices_in_the_basis_of_hippo() -> None:
    """he_normal: variances 2/(U k k) and 2/(2P k k); V B + conj is real with the first, C = C_0 V with the second."""
    module = layer(d_model=8, d_state=64)
    V = legs_normal_part(32)[1].conj()
    B, C = (torch.view_as_complex(part.detach().contiguous()).numpy() for part in (module.B, module.C))
    assert (2 * (V @ B).real).var() == pytest.approx(2 / 72, rel=0.1)
    whole = np.einsum("ijpu,np->ijnu", C, V.conj())  # the projection of C_0 on the stored half; the other half adds its conjugate
    assert (2 * whole.real).var() == pytest.approx(2 / 576, rel=0.1)


def test_growing_poles_are_clipped_as_in_the_original() -> None:
    module = layer()
    with torch.no_grad():
        module.Lambda_re[0] = 0.3
    log_z = module.kernel(3).detach().log()[0].diff().real
    assert float(log_z.mean()) == pytest.approx(-1e-4 * float(module.log_step.detach().exp()[0, 0]), rel=1e-6)
    assert read_back(module).poles.real.max() == -1e-4


def test_given_poles_are_stored_below_the_axis() -> None:
    module = layer(poles=[-1 + 2j, -1 - 3j, -2 + 0j, -0.5 + 1j])
    assert module.Lambda_im.tolist() == [-2, -3, 0, -1]


def test_poles_and_steps_have_a_learning_rate_of_their_own() -> None:
    module = layer(lr=0.1)
    groups = {group["lr"]: group for group in optimizer_groups(module, lr=1.0, weight_decay=0.5)}
    assert {lr: (len(group["params"]), group["weight_decay"]) for lr, group in groups.items()} == {0.1: (3, 0.0), 1.0: (2, 0.5)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"d_state": 7}, "are not valid"),
        ({"d_model": 0}, "are not valid"),
        ({"kernel_size": 2}, "are not valid"),
        ({"blocks": 3}, "choose a divisor"),
        ({"step_min": 0.0}, "positive finite"),
        ({"beta": 1.0}, "theta_ref"),
        ({"poles": [-1.0]}, r"expected \(4,\)"),
        ({"poles": [1.0] * 4}, "Re < 0"),
        ({"alpha": -1.0}, "alpha is -1"),
    ],
)
def test_options_that_make_no_layer_are_refused(options, words) -> None:
    with pytest.raises(SsmspecError, match=words):
        layer(**options)


def test_other_shapes_are_refused_and_so_is_a_recurrence_with_beta() -> None:
    module = layer(beta=1.0, theta_ref=0.1)
    with pytest.raises(LayerError, match="U = 3"):
        module(torch.zeros(2, 4, 2, 5, 5, dtype=torch.float64))
    with pytest.raises(LayerError, match="expected \\(B, U, height, width\\)"):
        module.step(torch.zeros(1, 2, 3, 5, 5, dtype=torch.float64), module.default_state(1, 5, 5))
    with pytest.raises(LayerError, match="step needs beta 0"):
        module.step(torch.zeros(1, 3, 5, 5, dtype=torch.float64), module.default_state(1, 5, 5))
