"""Layers of checkpoints as live modules."""

import numpy as np
import pytest
import torch
from locations import SAMPLES
from safetensors.torch import save_file

from ssmspec.commands.retune import plan_retune
from ssmspec.commands.retune_writing import write_retuned
from ssmspec.errors import LayerError
from ssmspec.families import ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.nn import S4D
from ssmspec.nn.from_checkpoint import load_module
from ssmspec.systems.response import impulse_response
from ssmspec.tuning.recipe import Recipe, Weighting

TRAINED = SAMPLES / "s4d_trained.safetensors"


def response_of(module: S4D, length: int) -> np.ndarray:
    """Response of the dynamic part at theta_k = pi k/length, beta included, (H, length + 1)."""
    spectrum, n = module.double().spectrum(length)
    assert n == 2 * length
    core = module.layer if hasattr(module, "layer") else module
    return (spectrum[0] - core.D.reshape(-1, 1)).detach().numpy()


def test_a_sample_becomes_a_module_with_its_kernel() -> None:
    module = load_module(TRAINED, "s4_layers.1")
    wanted = impulse_response(load_system(TRAINED, "s4_layers.1", ReadOptions()), 50)[:, 0, 0]
    np.testing.assert_allclose(module.double().impulse_response(50)[0].detach().numpy(), wanted, atol=1e-12 * np.abs(wanted).max())


def test_a_beta_beside_the_tensors_is_honored(tmp_path) -> None:
    target = tmp_path / "tuned.safetensors"
    recipe = Recipe(weighting=Weighting(beta=-0.7, convention="angular", theta_ref=0.2))
    write_retuned(plan_retune(TRAINED, recipe), target, command="test")
    plain, tuned = (response_of(load_module(path, "0"), 64) for path in (TRAINED, target))
    theta = np.pi * np.arange(65) / 64
    np.testing.assert_allclose(tuned, plain * (1 + theta / 0.2) ** -0.7, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"layout": "s4-diag", "n_ssm": 2, "channels": 2},
        {"layout": "s4-diag", "bidirectional": True, "tie_step": False},
        {"layout": "freqbias-block", "beta": 0.3},
    ],
    ids=["channels", "bidirectional", "freqbias"],
)
def test_blocks_come_back_as_they_were_saved(options, tmp_path) -> None:
    torch.manual_seed(0)
    saved = S4D(4, 6, **options)
    save_file({f"encoder.0.{name}": value for name, value in saved.state_dict().items()}, tmp_path / "block.safetensors")
    module = load_module(tmp_path / "block.safetensors")
    u = torch.randn(2, 4, 33)
    torch.testing.assert_close(module(u)[0], saved(u)[0], rtol=0, atol=0)


def test_other_families_have_no_module() -> None:
    with pytest.raises(LayerError, match=r"\(lru\) cannot become a module; supported families: s4d, s4-diag, freqbias-block"):
        load_module(SAMPLES / "lru_trained.npz")


def test_a_file_without_a_tensor_of_the_module_is_refused(tmp_path) -> None:
    state = S4D(4, 6).state_dict()
    del state["D"]
    save_file({f"a.{name}": value for name, value in state.items()}, tmp_path / "a.safetensors")
    with pytest.raises(LayerError, match="the file lacks D, which its module needs"):
        load_module(tmp_path / "a.safetensors")
