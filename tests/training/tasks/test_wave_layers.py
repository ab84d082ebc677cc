"""The layers of `waves`: each is the system that analysis reads from its checkpoint, trains, and begins where its name says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import TINY, problem_of

from ssmspec.errors import SsmspecError
from ssmspec.families import ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.systems.response import impulse_response
from ssmspec.training.engine.loop import new_state
from ssmspec.training.engine.state import write_checkpoint
from ssmspec.training.engine.step import Stepper
from ssmspec.training.task import changed
from ssmspec.training.tasks.waves import adopt

LINEAR = ("s4d", "s4", "s5", "lru")
ALL = (*LINEAR, "mamba1")
FAMILIES = {"s4d": "s4d", "s4": "s4-dplr", "s5": "s5", "lru": "lru", "mamba1": "mamba-1"}
SHORT = replace(TINY, length=128, step=0.05, tones=(1.0, 8.0), channels=3, modes=2, steps=20, offset=True)


def settings_of(architecture: str, **more: Any) -> Any:
    return replace(SHORT, architecture=architecture, **more)


def of_file(problem: Any, folder: Path) -> Any:
    write_checkpoint(folder / "model.safetensors", problem)
    return load_system(folder / "model.safetensors", "0", ReadOptions())


@pytest.mark.parametrize("matrices", ["own", "xavier", "kaiming"])
@pytest.mark.parametrize("architecture", LINEAR)
def test_responses_are_those_of_the_system_that_analysis_reads(architecture: str, matrices: str, tmp_path: Path) -> None:
    problem = problem_of("waves", settings_of(architecture, alpha=0.5, matrices=matrices))
    system = of_file(problem, tmp_path)
    assert system.family == FAMILIES[architecture]
    inputs = torch.tensor([[1.0, -0.5, 2.0], [0.0, 3.0, 0.25]])
    whole = impulse_response(replace(system, D=0 * system.D), 128)
    expected = np.einsum("kcil,ji->jkcl", whole, inputs.numpy()) if len(whole) == 1 else inputs.numpy()[:, :, None] * whole[:, 0, 0]
    found = problem.model.layer.responses(inputs, 128).detach().numpy()
    np.testing.assert_allclose(found, expected.reshape(2, 3, 128), atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("architecture", LINEAR)
def test_mixing_the_responses_is_the_whole_model(architecture: str) -> None:
    problem = problem_of("waves", settings_of(architecture, beta=0.5, beta_convention="angular", theta_ref=0.3))
    model, L = problem.model, 128
    amplitudes = torch.rand(5, 2, generator=torch.Generator().manual_seed(0))
    time = 0.05 * torch.arange(L, dtype=torch.float64)
    u = amplitudes.double() @ torch.cos(torch.tensor([[1.0], [8.0]], dtype=torch.float64) * time)
    x = model.encoder.weight.double() * u[:, None] + model.encoder.bias.double()[:, None]
    units = model.layer.responses(torch.eye(3), L).double()  # of every input alone, (input, output, L)
    weight = (1 + torch.arange(L + 1, dtype=torch.float64) * (np.pi / L) / 0.3) ** 0.5
    heard = torch.einsum("bif,iof->bof", torch.fft.rfft(x, 2 * L), torch.fft.rfft(units, 2 * L)) * weight
    y = torch.nn.functional.gelu(torch.fft.irfft(heard, 2 * L)[..., :L]).mean(-1)
    expected = y @ model.decoder.weight.double().T + model.decoder.bias.double()
    torch.testing.assert_close(model.answer(amplitudes, *problem.sources).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ALL)
def test_every_parameter_but_the_step_is_trained_and_the_loss_falls(architecture: str) -> None:
    settings = settings_of(architecture, steps=60)
    problem = problem_of("waves", settings)
    before = {name: value.clone() for name, value in problem.model.state_dict().items()}
    batch = torch.rand(200, 2, generator=torch.Generator().manual_seed(5))
    first = float(problem.loss(batch).detach())
    step = Stepper(problem, new_state(problem, settings), settings)
    for _ in range(settings.steps):
        step()
    assert float(problem.loss(batch).detach()) < first
    same = {name for name, value in problem.model.state_dict().items() if torch.equal(value, before[name])}
    frozen = {
        "s4d": {"layer.kernel.log_dt"},
        "s4": {"layer.kernel.inv_dt", "layer.kernel.l_kernel"},
        "s5": {"layer.log_step"},
        "lru": set(),
        "mamba1": set(),
    }
    assert same == frozen[architecture]


@pytest.mark.parametrize("architecture", ["s4", "s5", "lru"])
def test_alpha_scales_the_frequencies(architecture: str, tmp_path: Path) -> None:
    found = []
    for alpha in (0.25, 0.5):
        problem = problem_of("waves", settings_of(architecture, alpha=alpha))
        system = of_file(problem, tmp_path)
        found.append(np.angle(system.poles) if architecture == "lru" else system.poles.imag)
    np.testing.assert_allclose(found[1], 2 * found[0], rtol=1e-5)
    assert found[0].max() > 0


def test_alpha_multiplies_the_steps_of_mamba(tmp_path: Path) -> None:
    steps = [of_file(problem_of("waves", settings_of("mamba1", alpha=alpha)), tmp_path).step for alpha in (1.0, 10.0)]
    np.testing.assert_allclose(steps[1], 10 * steps[0], rtol=1e-5)


def test_the_diagonal_plus_low_rank_is_hippo_legs(tmp_path: Path) -> None:
    problem = problem_of("waves", settings_of("s4", modes=4))
    system = of_file(problem, tmp_path)
    full = np.concatenate([system.poles[0], system.poles[0].conj()])
    low_rank = np.concatenate([system.P[0, :, 0], system.P[0, :, 0].conj()])
    eigenvalues = np.linalg.eigvals(np.diag(full) - np.outer(low_rank, low_rank.conj()))
    np.testing.assert_allclose(
        np.sort(eigenvalues.real), -np.arange(8.0, 0, -1), rtol=3e-3
    )  # ill-conditioned, from float32; HiPPO-LegS: triangular, -(n + 1)
    assert np.abs(eigenvalues.imag).max() < 0.05


@pytest.mark.parametrize("architecture", ALL)
def test_a_checkpoint_tells_the_settings_of_its_model(architecture: str) -> None:
    tensors = problem_of("waves", settings_of(architecture)).model.state_dict()
    found = adopt(replace(SHORT, channels=9, modes=7, length=64 if architecture == "s4" else 128), tensors)
    assert found.length == 128
    assert (found.architecture, found.channels, found.modes, found.offset) == (architecture, 3, 2, True)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"architecture": "s6"}, "architecture is 's6'; choose one of s4d, s4, s5, lru, mamba1"),
        ({"matrices": "orthogonal"}, "matrices is 'orthogonal'; choose one of own, xavier, kaiming"),
        ({"architecture": "mamba1", "beta": 1.0}, "leave beta at 0"),
        ({"architecture": "mamba1", "init": "s4d-inv"}, "leave beta at 0"),
        ({"architecture": "lru", "beta": 1.0}, "choose angular with --theta-ref"),
        ({"architecture": "s5", "skip": True}, "add --set skip=false"),
        ({"architecture": "mamba1", "alpha": 0.0}, "choose alpha of at least 0.1"),
    ],
    ids=["architecture", "matrices", "mamba-beta", "mamba-init", "lru-paper", "skip", "mamba-alpha"],
)
def test_what_has_no_meaning_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SsmspecError, match=words.replace(".", r"\.")):
        changed(TINY, values)


@pytest.mark.parametrize("init", ["s4d-inv", "s4d-real", "dfout", "lru-ring", "fout"])
@pytest.mark.parametrize("architecture", LINEAR)
def test_other_initial_poles(architecture: str, init: str, tmp_path: Path) -> None:
    """Any of them in any layer, except those of phase 0 in an LRU, which stores the logarithm of a phase."""
    settings = settings_of(architecture, init=init, alpha=1.0)
    if architecture == "lru" and init in ("s4d-real", "dfout", "fout"):
        with pytest.raises(SsmspecError, match="stores the logarithm of the phase"):
            problem_of("waves", settings)
        return
    problem = problem_of("waves", settings)
    assert np.isfinite(problem.loss(torch.rand(3, 2)).item())
    assert np.isfinite(of_file(problem, tmp_path).poles).all()
