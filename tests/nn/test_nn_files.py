"""State dicts as the published layers have them, real checkpoints, and the way to the analysis."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from layers_of_nn import CASES, make
from safetensors.torch import save_file

from ssmspec.errors import LayerError
from ssmspec.families import ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.nn import S4D

Find = Callable[[str], Path]
H, N = 6, 4

OUTPUT = {"output_linear.0.weight": (2 * H, H, 1), "output_linear.0.bias": (2 * H,)}
SHAPES = {
    "minimal": (
        {},
        OUTPUT | {"D": (H,), "kernel.C": (H, N, 2), "kernel.log_dt": (H,), "kernel.log_A_real": (H, N), "kernel.A_imag": (H, N)},
    ),
    "minimal with beta": (
        {"beta": 0.5},
        OUTPUT
        | {"D": (H,), "beta": (H,), "kernel.C": (H, N, 2), "kernel.log_dt": (H,), "kernel.log_A_real": (H, N), "kernel.A_imag": (H, N)},
    ),
    "s4-diag": (
        {"layout": "s4-diag", "n_ssm": 2, "bidirectional": True, "channels": 2},
        {
            "layer.D": (2, H),
            "layer.kernel.inv_dt": (H, 1),
            "layer.kernel.A_real": (2, N),
            "layer.kernel.A_imag": (2, N),
            "layer.kernel.B": (1, 2, N, 2),
            "layer.kernel.C": (4, H, N, 2),
            "output_linear.0.weight": (2 * H, 2 * H),
            "output_linear.0.bias": (2 * H,),
        },
    ),
    "freqbias-block": (
        {"layout": "freqbias-block", "d_state": N, "tie_step": False},
        OUTPUT
        | {
            "layer.D": (1, H),
            "layer.s": (1, H),
            "layer.kernel.inv_dt": (H, N),
            "layer.kernel.A_real": (H, N),
            "layer.kernel.A_imag": (H, N),
            "layer.kernel.C": (1, H, N, 2),
        },
    ),
}


@pytest.mark.parametrize(("options", "shapes"), SHAPES.values(), ids=SHAPES)
def test_names_shapes_and_types_are_those_of_the_original(options, shapes) -> None:
    state = S4D(H, **({"d_state": 2 * N} | options)).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == shapes
    assert {value.dtype for value in state.values()} == {torch.float32}


CIFAR = "s4d-cifar-cnstanlee"


PARAMETERS = {
    "minimal": "D kernel.C kernel.log_dt kernel.log_A_real kernel.A_imag",
    "s4-diag": "layer.D layer.kernel.inv_dt layer.kernel.C layer.kernel.B layer.kernel.A_real layer.kernel.A_imag",
    "freqbias-block": "layer.D layer.s layer.kernel.C layer.kernel.inv_dt layer.kernel.A_real layer.kernel.A_imag",
}


@pytest.mark.parametrize(("layout", "names"), PARAMETERS.items())
@pytest.mark.parametrize("beta", [None, 0.5])
def test_parameters_come_in_the_order_of_the_original(layout, names, beta) -> None:
    """The files of optimizers count them; a beta of ours comes after those of the original modules."""
    order = [name for name, _ in S4D(H, 8, layout=layout, beta=beta, trainable_beta=None if beta is None else True).named_parameters()]
    assert [name for name in order if not name.endswith("beta")] == [*names.split(), "output_linear.0.weight", "output_linear.0.bias"]


def test_a_new_layer_writes_what_the_original_reads(real_checkpoints: Find) -> None:
    """Names, their order, shapes and types of a file of the original code, so that its own load_state_dict(strict=True) takes ours."""
    file = torch.load(real_checkpoints(f"{CIFAR}/cnstanlee_s4_cifar10.pth"), map_location="cpu", weights_only=True)
    layers = torch.nn.ModuleDict({"s4_layers": torch.nn.ModuleList(S4D(128, 64) for _ in range(4))})
    ours = {name: (value.shape, value.dtype) for name, value in layers.state_dict().items()}
    theirs = {name: (value.shape, value.dtype) for name, value in file.items() if name.startswith("s4_layers.")}
    assert list(ours.items()) == list(theirs.items())


@pytest.mark.parametrize("number", [0, 3])
def test_a_trained_layer_loads_strictly_and_has_the_kernel_of_its_own_code(number, real_checkpoints: Find) -> None:
    file = torch.load(real_checkpoints(f"{CIFAR}/cnstanlee_s4_cifar10.pth"), map_location="cpu", weights_only=True)
    prefix = f"s4_layers.{number}."
    state = {name.removeprefix(prefix): value for name, value in file.items() if name.startswith(prefix)}
    layer = S4D(128, 64)
    layer.load_state_dict(state, strict=True)
    saved = layer.state_dict()
    assert set(saved) == set(state)
    assert all(torch.equal(saved[name], state[name]) for name in state)
    with np.load(real_checkpoints(f"{CIFAR}/reference_layer{number}.npz")) as reference:
        wanted = reference["kernel"]
    found = layer.double().impulse_response(wanted.shape[-1])[0].detach().numpy()
    assert np.abs(found - wanted).max() < 1e-10 * np.abs(wanted).max()


def test_a_trained_layer_in_single_precision_keeps_four_digits(real_checkpoints: Find) -> None:
    file = torch.load(real_checkpoints(f"{CIFAR}/cnstanlee_s4_cifar10.pth"), map_location="cpu", weights_only=True)
    layer = S4D(128, 64)
    layer.load_state_dict({name.removeprefix("s4_layers.0."): value for name, value in file.items() if name.startswith("s4_layers.0.")})
    with np.load(real_checkpoints(f"{CIFAR}/reference_layer0.npz")) as reference:
        wanted = reference["kernel"]
    found = layer.impulse_response(wanted.shape[-1])[0].detach().numpy()
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_state_spaces_are_what_the_family_reader_makes_of_the_file(options, tmp_path) -> None:
    layer = make(**options).float()
    save_file({f"blocks.0.{name}": value.contiguous() for name, value in layer.state_dict().items()}, tmp_path / "model.safetensors")
    name = "blocks.0" if layer.settings.layout == "minimal" else "blocks.0.layer"
    found = layer.state_spaces(name)
    assert [system.name for system in found] == ([f"{name}:forward", f"{name}:backward"] if layer.settings.bidirectional else [name])
    for system in found:
        read = load_system(
            tmp_path / "model.safetensors", system.name, ReadOptions(assume={"discretization": layer.settings.discretization})
        )
        assert read.family == system.family
        for part in ("poles", "D", "step"):
            np.testing.assert_allclose(getattr(system, part), getattr(read, part), rtol=1e-14, err_msg=part)
        np.testing.assert_allclose(system.C[:, 0] * system.B[..., 0], read.C[:, 0] * read.B[..., 0], rtol=1e-14)
        assert (system.sobolev is None) == (read.sobolev is None)
        if system.sobolev is not None and read.sobolev is not None:
            np.testing.assert_array_equal(system.sobolev.beta, read.sobolev.beta)
            assert system.sobolev.convention == read.sobolev.convention


def test_conventions_that_count_bins_need_a_length_for_analysis() -> None:
    layer = S4D(H, 8, beta=1.0, beta_convention="waves")
    with pytest.raises(LayerError, match="needs the length"):
        layer.state_spaces()
    (system,) = layer.state_spaces(length=64)
    assert system.sobolev is not None
    assert (system.sobolev.convention, system.sobolev.length) == ("waves", 64)
