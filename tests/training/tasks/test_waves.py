"""The task waves: the shortcut equals the model, published settings are those of the paper, and the bias determines what is learned."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import TINY, WAVES, Trained, problem_of, train_all, transforms_of_a_step
from torch import nn

from ssmspec.training.engine.loop import new_state
from ssmspec.training.engine.optimizer import EagerAdamW
from ssmspec.training.tasks import TASKS
from ssmspec.training.tasks.waves import WavesSettings


def long_way(problem, amplitudes: torch.Tensor) -> torch.Tensor:
    """The answer as the model is usually written: every example through encoder, bank by its samples, GELU, decoder and mean; float64."""
    settings, model = problem.settings, problem.model
    L = settings.length
    time = settings.step * torch.arange(L, dtype=torch.float64)
    u = amplitudes.double() @ torch.cos(torch.tensor(settings.tones, dtype=torch.float64)[:, None] * time)
    x = model.encoder.weight.double() * u[:, None]
    if settings.offset:
        x = x + model.encoder.bias.double()[:, None]
    kernel = model.layer.kernel
    a = torch.complex(-kernel.log_A_real.double().exp(), kernel.A_imag.double())
    step = kernel.log_dt.double().exp()[:, None]
    gains = torch.view_as_complex(kernel.C.double()) * torch.expm1(a * step) / a
    k = 2 * (gains[..., None] * torch.exp((a * step)[..., None] * torch.arange(L))).sum(1).real
    if settings.beta_convention == "waves":  # models/s4/s4d.py of FreqBiasSSM
        ramp = (1 + torch.arange(L, dtype=torch.float64) / 10_000) ** settings.beta
        y = torch.fft.ifft(torch.fft.fft(k) * torch.fft.fft(x) * ramp).real + model.layer.D.double() * x
    else:
        theta = torch.arange(L + 1, dtype=torch.float64) * (math.pi / L)
        y = torch.fft.irfft(torch.fft.rfft(k, 2 * L) * torch.fft.rfft(x, 2 * L) * (1 + theta / step) ** settings.beta)[..., :L]
    y = nn.functional.gelu(y).mT
    return (y @ model.decoder.weight.double().T + model.decoder.bias.double()).mean(1)


CASES = {
    "small": replace(WAVES, length=300, step=2 * math.pi / 300, tones=(1.0, 8.0, 64.0), beta=0.7, alpha=3.0),
    "published": replace(TASKS["waves"].preset("paper"), length=300, step=0.02, tones=(1.0, 16.0), beta=0.5, modes=3),
}


@pytest.mark.parametrize("name", CASES)
def test_mixing_the_responses_of_the_waves_is_the_whole_model(name: str) -> None:
    problem = problem_of("waves", CASES[name])
    amplitudes = problem.draw(0, torch.Generator().manual_seed(3))
    expected = nn.functional.mse_loss(long_way(problem, amplitudes), amplitudes.double())
    loss = problem.loss(amplitudes)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    trained = {name: parameter for name, parameter in problem.model.named_parameters() if parameter.requires_grad}
    ours = torch.autograd.grad(loss, list(trained.values()))
    theirs = torch.autograd.grad(expected, list(trained.values()))
    for name, one, other in zip(trained, ours, theirs, strict=True):
        assert torch.linalg.norm(one - other) <= 2e-4 * torch.linalg.norm(other) + 1e-7, name


SHORT = {"length": 64, "tones": (1.0, 2.0)}
OTHERS = ("encoder.weight", "decoder.weight", "decoder.bias", "layer.kernel.C")
RATES = {
    "small": {"layer.kernel.A_imag": 0.1, "layer.kernel.log_A_real": 2e-3, **dict.fromkeys(OTHERS, 1e-2)},
    "paper": {"layer.kernel.A_imag": 0.1, **dict.fromkeys(("layer.kernel.log_A_real", "layer.D", "encoder.bias", *OTHERS), 1e-3)},
}


@pytest.mark.parametrize("preset", RATES)
def test_only_the_step_is_frozen_and_system_parameters_have_their_own_rates(preset: str) -> None:
    settings = replace(TASKS["waves"].preset(preset), **SHORT)
    problem = problem_of("waves", settings)
    optimizer = new_state(problem, settings).optimizer
    assert type(optimizer) is EagerAdamW
    names = {id(parameter): name for name, parameter in problem.model.named_parameters()}
    assert {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]} == RATES[preset]
    assert all(group["weight_decay"] == 0 for group in optimizer.param_groups)


def test_a_step_transforms_kernels_and_cotangents_but_not_the_waves_again() -> None:
    n, bins = 1024, 513  # of the padded transforms; 8 channels, 3 tones
    forward = {("_fft_r2c", (8, n)): 1, ("_fft_c2r", (3, 8, bins)): 1}
    backward = {("_fft_r2c", (3, 8, n)): 1, ("_fft_c2r", (8, bins)): 1}
    assert transforms_of_a_step("waves", TINY) == forward | backward


def test_preset_paper_has_the_published_settings() -> None:
    # FreqBiasSSM, waves.py, waves_gen.py, models/s4/s4d.py
    paper = TASKS["waves"].preset("paper")
    assert (paper.length, paper.step, paper.tones) == (62832, 1e-4, (1.0, 16.0, 256.0, 4096.0))
    assert (paper.modes, paper.channels) == (4, 16)
    assert (paper.batch, paper.lr, paper.lr_imag, paper.lr_real) == (64, 1e-3, 0.1, 1e-3)
    assert paper.steps == 100 * math.ceil(10**4 / 64)
    assert (paper.amplitudes, paper.skip, paper.offset, paper.schedule) == ("grid", True, True, "cosine")
    assert (paper.beta_convention, paper.init) == ("waves", "own")
    assert TASKS["waves"].published["paper"] == ((1, 0), (100, 1), (0.01, -1), (10, 0.5))
    problem = problem_of("waves", replace(paper, length=64, alpha=10.0, step=1e-4))
    system = problem.model.layer.kernel.system()
    np.testing.assert_allclose(system.poles.detach().numpy(), np.tile(-0.5 + 10j * np.pi * (1.3 + np.arange(4)), (16, 1)), rtol=1e-6)
    np.testing.assert_allclose(system.step.numpy(), 1e-4, rtol=1e-6)
    assert problem.draw(0, torch.Generator()).shape == (64, 4)
    assert problem.model.decoder.out_features == 4


def test_an_epoch_of_the_grid_has_every_point_once_and_its_own_order() -> None:
    problem = problem_of("waves", replace(TASKS["waves"].preset("paper"), **SHORT, batch=30))
    epochs = [torch.cat([problem.draw(step, torch.Generator()) for step in range(4 * e, 4 * e + 4)]) for e in (0, 1)]
    for epoch in epochs:
        points = {tuple(round(10 * value) for value in row) for row in epoch.tolist()}
        assert points == {(i, j) for i in range(1, 11) for j in range(1, 11)}
        assert len(epoch) == 100
    assert not torch.equal(*epochs)


# What the earlier reproduction found robust, with its margins. The runs of 1000 steps take 2.5 s each: every
# test run does those of one seed, the nightly one those of all eight.
ONE_SEED = pytest.param(1, id="1-seed", marks=pytest.mark.slow)
ALL_SEEDS = pytest.param(8, id="8-seeds", marks=pytest.mark.nightly)
BAND_EDGE = math.sqrt(8 * 64)  # rad per model time: between the tones that a model at (1, 0) learns and those that it does not

Runs = dict[tuple[float, float], list[Trained]]


def runs_of(base: WavesSettings, pairs: list[tuple[float, float]], seeds: int) -> Runs:
    """The runs for every alpha and beta, one per seed."""
    settings = [replace(base, alpha=alpha, beta=beta, seed=seed) for alpha, beta in pairs for seed in range(seeds)]
    found = train_all("waves", settings)
    return {pair: found[seeds * place : seeds * (place + 1)] for place, pair in enumerate(pairs)}


@pytest.fixture(scope="module")
def short_runs() -> tuple[Runs, Runs]:
    """Those of L = 512, whose encoder has the bias of the published model (without it one of 16 low errors at alpha 10 is 0.174), and
    those of 300 steps."""
    tiny = replace(TINY, offset=True)
    return runs_of(tiny, [(0.1, 0.0), (10.0, 0.0)], 8), runs_of(replace(WAVES, steps=300), [(100.0, 1.0)], 8)


@pytest.fixture(scope="module", params=[ONE_SEED, ALL_SEEDS])
def thousand_steps(request: pytest.FixtureRequest) -> Runs:
    return runs_of(WAVES, [(1.0, 0.0), (10.0, -1.0), (10.0, 0.0), (10.0, 1.0), (100.0, 1.0)], request.param)


def errors(runs: list[Trained], *tones: int) -> list[float]:
    return [run.figures[f"error_{tone}"] for run in runs for tone in tones]


@pytest.mark.slow
def test_tiny_runs_learn_low_frequencies_with_small_alpha_and_high_ones_with_large(short_runs) -> None:
    tiny, _ = short_runs
    assert max(errors(tiny[0.1, 0.0], 1)) < 0.12
    assert min(errors(tiny[0.1, 0.0], 8, 64)) > 0.20
    assert max(errors(tiny[10.0, 0.0], 64)) < 0.10
    assert min(errors(tiny[10.0, 0.0], 1, 8)) > 0.18


@pytest.mark.slow
def test_large_alpha_and_beta_reverse_the_bias(short_runs) -> None:
    _, runs = short_runs
    assert max(errors(runs[100.0, 1.0], 512)) < 0.12
    assert min(errors(runs[100.0, 1.0], 1, 8, 64)) > 0.16


def test_the_innate_bias_is_to_low_frequencies(thousand_steps) -> None:
    runs = thousand_steps[1.0, 0.0]
    assert max(errors(runs, 1, 8)) < 0.07
    assert min(errors(runs, 64, 512)) > 0.22


def test_beta_alone_decides_with_the_same_poles(thousand_steps) -> None:
    assert min(errors(thousand_steps[10.0, -1.0], 64)) > 0.22
    assert max(errors(thousand_steps[10.0, 0.0], 64)) < 0.08
    assert max(errors(thousand_steps[10.0, 1.0], 64)) < 0.06
    assert max(errors(thousand_steps[10.0, 1.0], 512)) < 0.10


def test_training_takes_no_pole_to_high_frequencies(thousand_steps) -> None:
    highest = max(np.abs(run.poles.imag).max() for run in thousand_steps[1.0, 0.0])
    assert highest < 25
    assert highest < BAND_EDGE


def test_training_does_not_alter_the_bias(thousand_steps) -> None:
    assert max(abs(after - before) for each in thousand_steps.values() for before, after in (run.slopes for run in each)) < 0.2
    after = {pair: [run.slopes[1] for run in each] for pair, each in thousand_steps.items()}
    assert min(after[1.0, 0.0]) > -2.1
    assert max(after[1.0, 0.0]) < -1.5
    assert max(after[10.0, -1.0]) < -1.2
    assert min(after[10.0, 1.0]) > 0.3
    assert min(after[100.0, 1.0]) > 1.2
