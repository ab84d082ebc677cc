"""`ssmspec.probe` takes any torch module, and leaves it as it was when it returns or fails."""

import doctest
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from probed_models import Filter, Squashed
from torch import Tensor, nn

import ssmspec
from ssmspec.errors import SsmspecError
from ssmspec.nn import SequenceModel


class Cached(nn.Module):
    """A model with everything that a probe turns off, which records how it was called, and may fail."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.config = type("Config", (), {"use_cache": True})()
        self.gradient_checkpointing = True
        self.rnn = nn.GRU(2, 4, batch_first=True)
        self.drop, self.norm, self.head = nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Linear(4, 3)
        self.fails, self.seen = fails, {}

    def forward(self, u: Tensor) -> Tensor:
        self.seen = {
            "training": self.training or self.drop.training,
            "use_cache": self.config.use_cache,
            "checkpointing": self.gradient_checkpointing,
            "frozen": not any(p.requires_grad for p in self.parameters()),
        }
        torch.rand(3)
        if self.fails:
            raise RuntimeError("the model fails")
        return self.head(self.norm(self.drop(self.rnn(u)[0])[:, -1]))


def state(model: nn.Module) -> dict[str, Any]:
    """Everything of a model that a probe could change."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")
    return {
        "modes": [module.training for module in model.modules()],
        "wanted": [parameter.requires_grad for parameter in model.parameters()],
        "gradients": [None if parameter.grad is None else parameter.grad.tolist() for parameter in model.parameters()],
        "hooks": [len(getattr(module, name)) for module in model.modules() for name in hooks],
        "tensors": {name: value.tolist() for name, value in model.state_dict().items()},
        "generator": torch.get_rng_state().tolist(),
        "flags": (getattr(model, "gradient_checkpointing", None), getattr(getattr(model, "config", None), "use_cache", None)),
        "gradients on": torch.is_grad_enabled(),
    }


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_the_model_is_changed(fails: bool) -> None:
    model, u = Cached(fails), torch.randn(2, 32, 2)
    model.train()
    model.norm.eval()
    model.head.weight.requires_grad_(False)
    model.head.bias.grad = torch.ones(3)
    before = state(model)
    if fails:
        with pytest.raises(RuntimeError, match="the model fails"):
            ssmspec.probe(model, u, layers=["drop"])
    else:
        ssmspec.probe(model, u, layers=["drop"], axes="L")
    assert model.seen == {"training": False, "use_cache": False, "checkpointing": False, "frozen": True}
    assert state(model) == before


def test_the_draws_follow_from_the_seed() -> None:
    model, u = Filter(np.ones(3)), torch.randn(2, 64, 1, dtype=torch.float64)
    first = ssmspec.probe(model, u)["input"].curve
    assert np.array_equal(first, ssmspec.probe(model, u)["input"].curve)
    assert not np.array_equal(first, ssmspec.probe(model, u, seed=1)["input"].curve)


def test_gradients_are_recorded_whatever_surrounds_the_call() -> None:
    model = Squashed(1, 3)
    u = torch.randn(2, 32, 1, dtype=torch.float64)
    expected = ssmspec.probe(model, u)["input"].curve
    with torch.no_grad():
        assert np.array_equal(ssmspec.probe(model, u)["input"].curve, expected)
    with torch.inference_mode():
        own = u.clone()
        assert np.array_equal(ssmspec.probe(model, own)["input"].curve, expected)
        made = Squashed(1, 3)
    assert np.array_equal(ssmspec.probe(model, own)["input"].curve, expected)
    with pytest.raises(SsmspecError, match=r"weight mix\.weight was made in torch\.inference_mode\(\), which allows no gradients"):
        ssmspec.probe(made, u)


class Tokens(nn.Module):
    """Tokens through an embedding, a factor and a linear map: (B, L) to (B, L, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.places, self.head = nn.Embedding(11, 4), nn.Embedding(64, 4), nn.Linear(4, 3)

    def forward(self, tokens: Tensor, scale: float = 2.0) -> dict[str, Any]:
        x = scale * self.embedding(tokens) + self.places(torch.arange(tokens.shape[1]))
        return {"kind": "dict", "out": self.head(x), "other": torch.tanh(self.head(x[:, -1]))}


def test_tokens_enter_behind_their_embedding_and_factors_belong_to_the_model() -> None:
    model = Tokens().double()
    tokens = torch.randint(0, 11, (16, 64))
    with pytest.raises(SsmspecError, match=r"the model has 2 embeddings; name the one of the tokens with at=, such as at='embedding'"):
        ssmspec.probe(model, tokens)
    place = ssmspec.probe(model, tokens, at="embedding")["input"]
    expected = 4 * float(model.head.weight.detach().square().sum()) / 3
    band = place.bands()[-1]
    assert abs(band.mean - expected) < 4 * band.error
    last = ssmspec.probe(model, {"tokens": tokens, "scale": 1.0}, at="embedding", output="other")["input"]
    assert last.exact
    assert last.outputs == 3
    with pytest.raises(SsmspecError, match="the output has no tensor 'none'"):
        ssmspec.probe(model, tokens, at="embedding", output="none")
    model.get_input_embeddings = lambda: model.embedding
    assert np.array_equal(ssmspec.probe(model, tokens)["input"].curve, place.curve)


def test_transformers_cnns_and_rnns() -> None:
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    found = ssmspec.probe(nn.TransformerEncoder(encoder, 2), torch.randn(4, 32, 8), layers="blocks")
    assert found.names == ("input", "layers.0", "layers.1")
    np.testing.assert_allclose(found["layers.0"].curve, found["input"].curve, rtol=1e-5)  # the first block receives the input itself
    convolutions = nn.Sequential(nn.ReLU(inplace=True), nn.Conv1d(3, 5, 3, padding=1), nn.ReLU(inplace=True), nn.Conv1d(5, 2, 3, padding=1))
    found = ssmspec.probe(convolutions, torch.randn(4, 3, 64), layout="BCL", layers=["1", "2", "3"])
    assert [len(place.channels) for place in found] == [3, 3, 5, 5]
    for kind in (nn.RNN, nn.GRU, nn.LSTM):
        assert ssmspec.probe(kind(2, 4), torch.randn(32, 3, 2), layout="LBC")["input"].draws.shape == (3, 8, 17)


def test_a_block_hears_what_the_rest_of_the_model_hears() -> None:
    model = SequenceModel(d_input=2, d_output=3, d_model=4, n_layers=2, d_state=4).double()
    u = torch.randn(2, 32, 2, dtype=torch.float64)
    found = ssmspec.probe(model, u, layers="blocks")

    class Rest(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for layer, norm in zip(model.s4_layers, model.norms, strict=True):
                x = norm((x + layer(x)[0]).transpose(1, 2)).transpose(1, 2)
            return model.decoder(x.mean(2))

    rest = ssmspec.probe(Rest(), model.encoder(u).transpose(1, 2).detach(), layout="BCL")["input"]
    assert found.passes == 3
    np.testing.assert_allclose(found["s4_layers.0"].curve, rest.curve, rtol=1e-8)  # along the path around the layer, too
    whole = ssmspec.probe(model, u, at="encoder")["input"]
    np.testing.assert_allclose(whole.curve, rest.curve, rtol=1e-8)


def test_s_from_the_input_to_the_output_of_a_block() -> None:
    model = Squashed(1, 3)
    found = ssmspec.probe(model, torch.randn(2, 64, 1, dtype=torch.float64), output="mix")
    expected = np.abs(np.fft.rfft(model.mix.weight.detach().numpy()[:, 0], 64)) ** 2
    band = found["input"].bands()[-1]
    assert abs(band.mean - expected.mean(axis=0)[16:].mean()) < 4 * band.error
    assert "S is that of the output of mix, which takes passes of its own" in found.notes


def test_batches_give_what_one_batch_gives_and_long_inputs_are_cut() -> None:
    model, u = Squashed(1, 4), torch.randn(5, 64, 1, dtype=torch.float64)
    whole, parts = ssmspec.probe(model, u), ssmspec.probe(model, u, batch=2)
    np.testing.assert_allclose(whole["input"].draws, parts["input"].draws, rtol=1e-12)
    assert (whole.passes, parts.passes) == (4, 12)
    cut = ssmspec.probe(model, u, max_length=40)
    assert cut["input"].length == 40
    assert "inputs of 64 samples were cut to 40" in cut.notes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["nope"]}, "the model has no module 'nope'; its first modules are mix"),
        ({"samples": 0}, "samples is 0; expected at least 1"),
        ({"layout": "XYZ"}, "layout 'XYZ' is unknown; choose one of BLC"),
        ({"layout": "BL"}, r"the signal has shape \(2, 32, 1\), and layout BL has 2 axes"),
        ({"axes": "T"}, r"axes='T' is unknown; choose 'L' \(time\) or 'HW'"),
        ({"axes": "L"}, "name the blocks with layers"),
        ({"output": lambda y: y.argmax(1)}, "the output does not depend on the signal by operations that can be differentiated"),
        ({"output": lambda y: y.sum()}, r"the output has shape \(\) for 2 inputs"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    model, u = Squashed(1, 3), torch.randn(2, 32, 1, dtype=torch.float64)
    before = state(model)
    with pytest.raises(SsmspecError, match=message) as caught:
        ssmspec.probe(model, u, **options)
    assert "\n" not in str(caught.value)
    assert state(model) == before


def test_a_gradient_that_is_not_finite_is_refused() -> None:
    with pytest.raises(SsmspecError, match="the gradient at input is not finite"):
        ssmspec.probe(nn.Identity(), torch.zeros(2, 32, 1), output=lambda y: y.sqrt())


def test_places_without_an_axis_of_samples_are_skipped_with_the_reason() -> None:
    found = ssmspec.probe(Squashed(1, 3), torch.randn(2, 32, 1, dtype=torch.float64), layers=["head", "blocks.0"])
    assert found.names == ("input", "blocks.0")
    assert found.skipped == ("head: its input: its shape is (2, 6), without an axis of 32 samples",)


def test_examples_in_docstrings_run() -> None:
    done = doctest.testmod(import_module("ssmspec.probing.probe"))
    assert done.attempted
    assert not done.failed
