"""The sequence model: names, what it computes against the equations, the Long Range Arena models, padding, optimizer groups."""

import published
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import layer_norm

from ssmspec.errors import LayerError
from ssmspec.families import ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.nn import SequenceModel, optimizer_groups

H, L, B = 6, 20, 3


def make(seed: int = 0, **options: object) -> SequenceModel:
    torch.manual_seed(seed)
    return SequenceModel(**({"d_input": 2, "d_output": 5, "d_model": H, "n_layers": 2, "d_state": 8} | options)).double()


def signals(features: int = 2) -> torch.Tensor:
    return torch.randn(B, L, features, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_names_are_those_of_the_published_example() -> None:
    layer = ["D", "kernel.C", "kernel.log_dt", "kernel.log_A_real", "kernel.A_imag", "output_linear.0.weight", "output_linear.0.bias"]
    wanted = {f"{part}.{end}" for part in ("encoder", "decoder", "norms.0", "norms.1") for end in ("weight", "bias")}
    wanted |= {f"s4_layers.{i}.{name}" for i in (0, 1) for name in layer}
    assert set(make().state_dict()) == wanted


def test_a_file_of_the_published_example_loads_strictly(real_checkpoints) -> None:
    file = torch.load(real_checkpoints("s4d-cifar-cnstanlee/cnstanlee_s4_cifar10.pth"), map_location="cpu", weights_only=True)
    SequenceModel(d_input=3, d_output=10, d_model=128, n_layers=4).load_state_dict(file, strict=True)


@pytest.mark.parametrize(
    ("layout", "family"),
    [("minimal", "s4d"), ("s4-diag", "s4-diag"), ("freqbias-block", "freqbias-block")],
)
def test_readers_see_the_family_of_the_layout(layout, family, tmp_path) -> None:
    save_file(make(layout=layout).float().state_dict(), tmp_path / "model.safetensors")
    assert load_system(tmp_path / "model.safetensors", "1", ReadOptions()).family == family


@pytest.mark.parametrize("prenorm", [False, True])
@pytest.mark.parametrize("options", [{}, {"layout": "freqbias-block", "bidirectional": True, "beta": 0.4}], ids=["minimal", "freqbias"])
def test_the_function_is_that_of_the_published_example(options, prenorm) -> None:
    model, x = make(prenorm=prenorm, **options), signals()
    state = model.state_dict()

    def norm(i: int, x: torch.Tensor) -> torch.Tensor:
        return layer_norm(x.mT, (H,), state[f"norms.{i}.weight"], state[f"norms.{i}.bias"]).mT

    y = (x @ state["encoder.weight"].T + state["encoder.bias"]).mT
    for i in (0, 1):
        prefix = f"s4_layers.{i}."
        own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        z = published.layer(own, norm(i, y) if prenorm else y, bidirectional=options.get("bidirectional", False))
        y = y + z if prenorm else norm(i, y + z)
    wanted = y.mean(-1) @ state["decoder.weight"].T + state["decoder.bias"]
    torch.testing.assert_close(model(x), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_padding_after_a_causal_model_does_not_count(pooling) -> None:
    model, x = make(pooling=pooling), signals()
    lengths = torch.tensor([7, L, 1])
    padded = torch.where(torch.arange(L)[:, None] < lengths[:, None, None], x, 100.0)
    wanted = torch.cat([model(x[i : i + 1, :length]) for i, length in enumerate(lengths)])
    torch.testing.assert_close(model(padded, lengths), wanted, rtol=1e-10, atol=1e-10)


def test_without_pooling_there_is_an_output_per_sample_whose_mean_is_that_of_pooling() -> None:
    model, pooled, x = make(pooling=None), make(pooling="mean"), signals()
    pooled.load_state_dict(model.state_dict())
    assert model(x).shape == (B, L, 5)
    torch.testing.assert_close(model(x).mean(1), pooled(x), rtol=1e-10, atol=1e-12)


def test_batch_norm_normalizes_every_channel_over_batch_and_time() -> None:
    model, x = make(norm="batch", n_layers=1, pooling=None).train(), signals()
    features = model.features(x)
    torch.testing.assert_close(features.mean((0, 1)), torch.zeros(H, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(features.var((0, 1), unbiased=False), torch.ones(H, dtype=torch.float64), rtol=1e-3, atol=0)
    assert "norms.0.running_mean" in model.state_dict()


LRA = {  # the models of the published configurations; lr of A and of beta
    "listops": ({"vocabulary": 20, "d_output": 10, "d_model": 128, "alpha": 3.0, "norm": "batch", "prenorm": True}, 0.004),
    "text": ({"vocabulary": 135, "d_output": 2, "d_model": 256, "alpha": 5.0, "norm": "batch", "prenorm": True}, 0.001),
    "image": ({"d_input": 1, "d_output": 10, "d_model": 512, "alpha": 3.0, "n_ssm": 512, "dropout": 0.1}, 0.001),
    "path-x": ({"d_input": 1, "d_output": 2, "d_model": 128, "alpha": 5.0, "n_ssm": 128, "prenorm": True, "step_min": 1e-4}, 0.001),
}


@pytest.mark.parametrize(("options", "rate"), LRA.values(), ids=LRA)
def test_long_range_arena_models_can_be_said(options, rate) -> None:
    shared = {
        "layout": "freqbias-block",
        "bidirectional": True,
        "d_state": 64,
        "lr": rate,
        "lr_beta": 0.01,
        "final_norm": "prenorm" in options,
    }
    model = SequenceModel(**({"n_layers": 6, **shared} | options))
    block = model.s4_layers[5]
    assert block.layer.kernel.C.shape == (2, options["d_model"], 64, 2)
    assert block.layer.s.requires_grad
    torch.testing.assert_close(block.layer.kernel.A_imag[0, :3].abs() / torch.pi, options["alpha"] * torch.arange(3.0))
    x = torch.randint(20, (2, 16)) if "vocabulary" in options else torch.randn(2, 16, 1)
    assert model(x).shape == (2, options["d_output"])
    groups = optimizer_groups(model, lr=0.004, weight_decay=0.03)
    decay_of = {id(parameter): (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]}
    assert decay_of[id(block.layer.s)] == (0.01, 0.0)
    assert decay_of[id(block.layer.kernel.A_imag)] == (rate, 0.0)
    assert decay_of[id(block.layer.kernel.inv_dt)] == (rate, 0.0)
    assert decay_of[id(model.decoder.weight)] == (0.004, 0.03)


WRONG = {
    "no input": ({"d_input": None}, "give d_input"),
    "both inputs": ({"vocabulary": 3}, "give d_input"),
    "no layers": ({"n_layers": 0}, "n_layers is 0"),
    "norm": ({"norm": "group"}, "choose one of layer, batch"),
    "pooling": ({"pooling": "max"}, "choose one of mean, last, None"),
    "layer option": ({"layout": "s5"}, "choose one of minimal"),
}


@pytest.mark.parametrize(("options", "text"), WRONG.values(), ids=WRONG)
def test_wrong_options_are_named(options, text) -> None:
    with pytest.raises(LayerError, match=text):
        make(**options)


@pytest.mark.parametrize("x", [torch.zeros(B, L), torch.zeros(B, L, 3), torch.zeros(B, 0, 2), torch.zeros(B, L, 2, dtype=torch.int64)])
def test_inputs_of_another_shape_or_type_are_refused(x) -> None:
    with pytest.raises(LayerError, match=r"expected \(B, L, 2\)"):
        make().float()(x)


def test_lengths_must_be_one_per_sequence() -> None:
    with pytest.raises(LayerError, match="one per sequence"):
        make()(signals(), torch.tensor([3]))
