"""Trained checkpoints of public repositories retuned: kernels against NumPy and the A, B, C and step of the models' own code."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssmspec.checkpoint import open_checkpoint
from ssmspec.commands.retune import ChangeOptions, plan_retune
from ssmspec.commands.retune_writing import write_retuned
from ssmspec.families import ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.systems.response import impulse_response
from ssmspec.systems.statespace import StateSpace
from ssmspec.tuning.poles.scaling import Scaling
from ssmspec.tuning.recipe import Recipe, Weighting

Find = Callable[[str], Path]
PRE_UPDATE = ReadOptions(assume={"lru_convention": "pre-update"})


def retuned(source: Path, folder: Path, recipe: Recipe, options: ChangeOptions | None = None) -> tuple[Path, list[StateSpace], dict]:
    """The written file, its changed layers, and the figures of the first one; all other tensors are the same bytes."""
    plan = plan_retune(source, recipe, options)
    target = folder / f"retuned{source.suffix}"
    systems, _ = write_retuned(plan, target, command="test")
    before, after = open_checkpoint(source).tensors, open_checkpoint(target).tensors
    assert list(before) == list(after)
    for name, tensor in before.items():
        assert (after[name].read().tobytes() == tensor.read().tobytes()) == (name not in plan.changes), name
    return target, systems, dict(plan.layers[0].figures)


def zoh_kernel(A: np.ndarray, step: np.ndarray, B: np.ndarray, C: np.ndarray, length: int) -> np.ndarray:
    """2 Re sum_n C_on (exp(a dt) - 1)/a exp(a dt l) B_ni, (O, I, L)."""
    powers = np.exp((A * step)[:, None] * np.arange(length))
    return 2 * np.einsum("on,nl,ni->oil", C * np.expm1(A * step) / A, powers, B).real


def test_s4d_of_cifar_has_the_kernel_of_scaled_poles(real_checkpoints: Find, tmp_path: Path) -> None:
    source = real_checkpoints("s4d-cifar-cnstanlee/cnstanlee_s4_cifar10.pth")
    target, systems, _ = retuned(source, tmp_path, Recipe(scaling=Scaling(alpha=2)))
    assert len(systems) == 4
    reference = np.load(real_checkpoints("s4d-cifar-cnstanlee/reference_layer3.npz"))
    found = impulse_response(load_system(target, "3", ReadOptions()), 512)
    for copy in range(0, 128, 8):
        A = reference["A"][copy]
        C, one = reference["C"][copy][None], np.ones((len(A), 1))
        wanted = zoh_kernel(A.real + 2j * A.imag, reference["dt"][copy], one, C, 512)
        assert np.abs(found[copy] - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_s5_of_cifar_has_the_kernel_of_scaled_poles(real_checkpoints: Find, tmp_path: Path) -> None:
    source = real_checkpoints("s5-flax-cifar-choi/checkpoint_25")
    target, _, _ = retuned(source, tmp_path, Recipe(scaling=Scaling(alpha=2)))
    reference = np.load(real_checkpoints("s5-flax-cifar-choi/reference_layer0_zoh.npz"))
    A = reference["A"]
    wanted = zoh_kernel(A.real + 2j * A.imag, reference["dt"], reference["B"], reference["C"], 1024)
    found = impulse_response(load_system(target, "0", ReadOptions()), 1024)[0]
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("name", "layer", "reference"),
    [
        ("checkpoint_epoch_99999.pth", "blocks.2.lru", "reference_checkpoint_epoch_99999_block2.npz"),
        ("trained_models_lru.pth", "SSM_0_state_dict.blocks.0.lru", "reference_trained_models_lru_block0.npz"),
    ],
)
def test_an_lru_has_the_kernel_of_turned_poles(real_checkpoints: Find, tmp_path: Path, name: str, layer: str, reference: str) -> None:
    source = real_checkpoints(f"lru-decodepfl/{name}")
    target, _, figures = retuned(source, tmp_path, Recipe(scaling=Scaling(alpha=2)), ChangeOptions(read=PRE_UPDATE, layers=(layer,)))
    truth = np.load(real_checkpoints(f"lru-decodepfl/{reference}"))
    turned = 2 * np.angle(truth["A"])
    phase = np.clip(turned, -np.pi, np.pi)
    z = np.abs(truth["A"]) * np.exp(1j * phase)
    assert figures["clamped_phases"] == (np.abs(turned) > np.pi).sum()
    wanted = np.einsum("on,nl,ni->oil", truth["C"], z[:, None] ** np.arange(400), truth["B"]).real
    found = impulse_response(load_system(target, layer, PRE_UPDATE), 401)[0][..., 1:]
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_a_trained_dplr_is_diagonalized_with_a_small_error(real_checkpoints: Find, tmp_path: Path) -> None:
    """Against the kernel that its own code computed, in the median over copies."""
    source = real_checkpoints("s4-dplr-v4-ppg/ppg100HZ_ckpt.pth")
    options = ChangeOptions(layers=("0",))
    target, (system,), figures = retuned(source, tmp_path, Recipe(diagonalize=True), options)
    assert figures["diagonalize_error"] < 1e-3
    assert not system.P.any()
    reference = np.load(real_checkpoints("s4-dplr-v4-ppg/reference_layer0.npz"))["kernel"]
    wanted = reference.reshape(system.copies, -1)
    found = impulse_response(load_system(target, "0", ReadOptions()), wanted.shape[1])[:, 0, 0]
    errors = np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    assert np.median(errors) < 2e-3


def test_a_trained_s4d_bakes_a_causal_weight_within_its_limits(real_checkpoints: Find, tmp_path: Path) -> None:
    """Measured on a dense grid from the file's own numbers, for a few copies."""
    source = real_checkpoints("s4d-cifar-cnstanlee/cnstanlee_s4_cifar10.pth")
    weighting = Weighting(beta=-0.5, convention="causal", theta_ref=0.1, bake=True)
    before = load_system(source, "0", ReadOptions())
    _, (after,), figures = retuned(source, tmp_path, Recipe(weighting=weighting), ChangeOptions(layers=("0",)))
    assert figures["bake_error"] < 0.2
    assert figures["bake_growth"] <= 2
    theta = (np.arange(50_000) + 0.5) * np.pi / 50_000
    rho = np.exp(-2 * np.arcsinh(0.05))
    weight = ((1 - rho * np.exp(-1j * theta)) / (1 - rho)) ** -0.5
    errors = []
    for copy in range(0, before.copies, 16):
        H = [dense(system, copy, theta) for system in (before, after)]
        errors.append(np.sqrt((np.abs(H[1] - H[0] * weight) ** 2).sum() / (np.abs(H[0] * weight) ** 2).sum()))
    assert max(errors) <= figures["bake_worst_error"] * 1.01
    assert np.median(errors) == pytest.approx(figures["bake_error"], rel=0.5)


def dense(system: StateSpace, copy: int, theta: np.ndarray) -> np.ndarray:
    a, step = system.poles[copy], system.step[copy, 0]
    g = system.C[copy, 0] * system.B[copy, :, 0] * np.expm1(a * step) / a
    z = np.exp(a * step)
    back = np.exp(-1j * theta)
    return g @ (1 / (1 - z[:, None] * back)) + g.conj() @ (1 / (1 - z.conj()[:, None] * back))
