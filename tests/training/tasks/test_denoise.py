"""The task denoise: scalar products represent the images, and the bias determines which noise survives."""

import math
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from small_runs import DENOISE, problem_of, train_all, transforms_of_a_step
from torch import nn

from ssmspec.errors import SsmspecError
from ssmspec.training.datasets.images import load_crops
from ssmspec.training.engine.loop import new_state
from ssmspec.training.engine.optimizer import EagerAdamW
from ssmspec.training.tasks import TASKS

TASK = TASKS["denoise"]
LITTLE = replace(DENOISE, rows=24, columns=8, modes=3, crops=5, batch=2)
ROW = 2 * math.pi / (DENOISE.columns * DENOISE.step)


def weight(settings, count: int) -> torch.Tensor:
    """The Sobolev weight at pi k/L, k < 2L, of both sides, as published code has it or as the definition says."""
    L = count // 2
    if settings.beta_convention == "denoising":  # denoising.py of FreqBiasSSM
        half = (1 + torch.arange(L, dtype=torch.float64) / 10_000) ** settings.beta
        return torch.cat([half, half.flip(0)])
    k = torch.arange(count, dtype=torch.float64)
    return (1 + torch.minimum(k, count - k) * math.pi / L / settings.theta_ref) ** settings.beta


def long_way(problem, images: torch.Tensor) -> torch.Tensor:
    """The output as the model is usually written: kernels from exponentials, FFT of every image, mixing; float64."""
    kernel, settings = problem.model.layer.kernel, problem.settings
    L = settings.length
    a = torch.complex(-kernel.log_A_real.double().exp(), kernel.A_imag.double())
    step = kernel.log_dt.double().exp()[:, None]
    gains = torch.view_as_complex(kernel.C.double()) * torch.expm1(a * step) / a
    k = 2 * (gains[..., None] * torch.exp((a * step)[..., None] * torch.arange(L))).sum(1).real
    y = torch.fft.ifft(torch.fft.fft(k, 2 * L) * torch.fft.fft(images, 2 * L) * weight(settings, 2 * L)).real[..., :L]
    mixing = problem.model.mixing
    return torch.einsum("oh,bhl->bol", mixing.weight[..., 0].double(), y) + mixing.bias.double()[:, None]


CASES = {
    "small": replace(LITTLE, beta=0.6),
    "published": replace(LITTLE, beta=-1.0, beta_convention="denoising", theta_ref=None),
}


@pytest.mark.parametrize("name", CASES)
def test_scalar_products_give_the_loss_and_the_gradients_of_the_whole_model(name: str) -> None:
    problem = problem_of("denoise", CASES[name])
    batch = torch.tensor([0, 3])
    images = problem.images[batch]
    expected = nn.functional.mse_loss(long_way(problem, images), images)
    loss = problem.loss(batch)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    parameters = list(problem.model.parameters())
    for one, other in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-9)


def test_output_is_the_model_applied_to_an_image() -> None:
    problem = problem_of("denoise", replace(LITTLE, beta=0.6))
    torch.testing.assert_close(problem.output(problem.images[1]), long_way(problem, problem.images[1:2])[0].detach(), rtol=1e-9, atol=1e-12)


def test_a_step_transforms_nothing() -> None:
    assert transforms_of_a_step("denoise", LITTLE) == {}


def test_only_the_residues_and_the_mixing_are_trained() -> None:
    names = {name for name, _ in problem_of("denoise", LITTLE).model.named_parameters()}
    assert names == {"layer.kernel.C", "mixing.weight", "mixing.bias"}


def test_stripes_have_their_energy_and_direction() -> None:
    noise = problem_of("denoise", LITTLE).stripes()
    for wave in noise.values():
        assert wave.square().mean().sqrt() == pytest.approx(0.3)
    low, high = (noise[name].reshape(3, 24, 8) for name in ("low", "high"))
    assert torch.equal(low, low[:, :, :1].expand_as(low))
    assert torch.equal(high, high[:, :1].expand_as(high))


def test_preset_paper_has_the_published_settings() -> None:
    # FreqBiasSSM, denoising.py
    paper = TASK.preset("paper")
    assert (paper.rows, paper.columns, paper.modes, paper.step, paper.decay) == (2048, 128, 64, 1e-4, 3.0)
    assert (paper.lr, paper.batch, paper.beta_convention, paper.init) == (1e-3, 32, "denoising", "own")
    assert paper.steps == 20 * math.ceil(162_770 / 32)
    assert {alpha for alpha, _ in TASK.published["paper"]} == {math.pi, math.pi / 3, 10 * math.pi, 490.52}
    little = replace(paper, rows=8, columns=4, crops=2, alpha=490.52)
    problem = problem_of("denoise", little)
    system = problem.model.layer.kernel.system()
    expected = np.concatenate([[-math.exp(-5)], -3 + 490.52j * np.arange(1, 64)])
    np.testing.assert_allclose(system.poles.detach().numpy(), np.tile(expected, (3, 1)), rtol=1e-6)
    np.testing.assert_allclose(system.step.numpy(), 1e-4, rtol=1e-6)
    assert pytest.approx(math.pi, rel=1e-3) == 64 * 490.52 * 1e-4  # spreads the modes over 0..Nyquist
    optimizer = new_state(problem, little).optimizer
    assert type(optimizer) is EagerAdamW
    assert {(group["lr"], group["weight_decay"]) for group in optimizer.param_groups} == {(1e-3, 0)}


def closed_form(alpha: float, beta: float) -> float:
    problem = problem_of("denoise", replace(DENOISE, alpha=alpha, beta=beta))
    TASK.solve(problem)
    return problem.measures()[0].value


def test_closed_form_solves_the_least_squares() -> None:
    problem = problem_of("denoise", LITTLE)
    TASK.solve(problem)
    everything = torch.arange(len(problem.images))
    C = problem.model.layer.kernel.C
    best = problem.loss(everything)
    for change in torch.randn(20, *C.shape, generator=torch.Generator().manual_seed(0)):
        for size in (1e-3, -1e-3):
            with torch.no_grad():
                C += size * C.abs().max() * change
                assert problem.loss(everything) > best
                C -= size * C.abs().max() * change


def test_closed_form_shows_the_innate_bias_and_reverses_it() -> None:
    assert closed_form(math.pi, 0.0) < -1
    assert closed_form(ROW, 0.0) > 1.3


@pytest.mark.slow
def test_training_for_a_hundred_steps_does_it_too() -> None:
    settings = [replace(DENOISE, alpha=alpha, steps=100, seed=seed) for alpha in (math.pi, ROW) for seed in range(8)]
    ratios = [run.figures["log10_ratio"] for run in train_all("denoise", settings)]
    assert max(ratios[:8]) < -2
    assert min(ratios[8:]) > 1.2


@pytest.mark.slow
def test_ratio_rises_with_beta_for_every_alpha() -> None:
    for alpha in (math.pi / 3, math.pi, 10 * math.pi, ROW):
        ratios = [closed_form(alpha, beta) for beta in (-1.0, 0.0, 1.0)]
        assert ratios == sorted(ratios)


def test_crops_are_the_same_in_every_call_and_span_the_range() -> None:
    first, second = (load_crops(["grace_hopper"], crops=3, size=178, rows=8, columns=6) for _ in range(2))
    assert np.array_equal(first, second)
    assert first.shape == (3, 3, 48)
    assert -1 <= first.min() < -0.5 < 0.5 < first.max() <= 1


def test_unknown_pictures_and_crops_that_are_too_large_are_refused() -> None:
    with pytest.raises(SsmspecError, match="picture 'mandrill' is unknown; choose one of grace_hopper"):
        load_crops(["mandrill"], crops=1, size=10, rows=4, columns=4)
    with pytest.raises(SsmspecError, match="has 512 x 60"):
        load_crops(["grace_hopper"], crops=1, size=601, rows=4, columns=4)


@pytest.mark.skipif(find_spec("skimage") is not None, reason="scikit-image is installed")
def test_pictures_of_packages_that_are_missing_are_named() -> None:
    with pytest.raises(SsmspecError, match="comes with scikit-image, which is not installed"):
        load_crops(["astronaut"], crops=1, size=10, rows=4, columns=4)


@pytest.mark.parametrize(
    ("name", "package"), [("china", "sklearn"), ("flower", "sklearn"), ("astronaut", "skimage"), ("coffee", "skimage")]
)
def test_pictures_of_installed_packages_are_found(name: str, package: str) -> None:
    pytest.importorskip(package)
    assert load_crops([name], crops=1, size=100, rows=4, columns=4).shape == (1, 3, 16)
