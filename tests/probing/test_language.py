"""Causal language models of transformers, tiny and random."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from language_models import SIZES, VOCABULARY, folder, model
from program import Type
from safetensors.numpy import load_file, save_file

import ssmspec

pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.mark.parametrize("kind", SIZES)
def test_language_models_are_probed_from_their_embedding_to_the_last_hidden_state(kind: str) -> None:
    lm = model(kind)
    tokens = torch.randint(0, VOCABULARY, (2, 64), generator=torch.Generator().manual_seed(0))
    lm.train()
    lm.config.use_cache = True
    lm.gradient_checkpointing_enable()
    found = ssmspec.probe(lm, tokens, layers="blocks", samples=2)
    assert len(found) == 3
    assert found["input"].channels.shape == (16, 33)
    assert found["input"].outputs == 64 * 16
    assert "the output is the last hidden state, not the logits" in found.notes
    assert lm.training
    assert lm.config.use_cache
    assert lm.is_gradient_checkpointing
    assert all(parameter.requires_grad and parameter.grad is None for parameter in lm.parameters())
    np.testing.assert_allclose(found["input"].curve.shape, (33,))
    logits = ssmspec.probe(lm, {"input_ids": tokens}, output="logits", samples=2)
    assert logits["input"].outputs == 64 * VOCABULARY


def test_the_hidden_state_of_the_hook_is_that_of_embeddings_given_as_such() -> None:
    lm = model("GPT2").double()
    tokens = torch.randint(0, VOCABULARY, (1, 32), generator=torch.Generator().manual_seed(0))
    place = ssmspec.probe(lm, tokens, output=lambda result: result.logits[:, -1, :3])["input"]

    def last(embedded: torch.Tensor) -> torch.Tensor:
        return lm(inputs_embeds=embedded, use_cache=False).logits[:, -1, :3]

    jacobian = torch.autograd.functional.jacobian(last, lm.get_input_embeddings()(tokens).detach())[0, :, 0].numpy()  # (3, L, C)
    expected = (np.abs(np.fft.rfft(jacobian, axis=1)) ** 2).mean(axis=0).sum(axis=1)
    np.testing.assert_allclose(place.curve, expected, rtol=1e-9)


def test_the_command_probes_folders_with_text_or_tokens(typed: Type, tmp_path: Path) -> None:
    mamba, gpt = folder("Mamba", tmp_path / "mamba"), folder("GPT2", tmp_path / "gpt2")
    (tmp_path / "book.txt").write_text("the quick brown fox jumps over the lazy dog " * 20, encoding="utf-8")
    np.save(tmp_path / "tokens.npy", np.random.default_rng(0).integers(0, VOCABULARY, 600))
    done = typed("probe", mamba, "--text", "book.txt", "--max-length", "64", "--inputs", "3", "--samples", "2", "--compare", gpt, "--json")
    assert done.code == 0, done.err
    models = json.loads(done.out)["models"]
    assert [each["path"] for each in models] == [str(mamba), str(gpt)]
    assert [place["name"] for place in models[0]["places"]] == ["input", "backbone.layers.0", "backbone.layers.1"]
    assert [place["name"] for place in models[1]["places"]] == ["input", "transformer.h.0", "transformer.h.1"]
    assert models[0]["notes"][0] == "3 pieces of 64 tokens of book.txt"
    spec = ("--noise", "bands=2 snr=10 seeds=2", "--attack", "bands=2 snr=10")
    done = typed("probe", gpt, "--tokens", "tokens.npy", "--max-length", "64", "--inputs", "2", "--samples", "1", *spec, "--json")
    assert done.code == 0, done.err
    noise, attack = json.loads(done.out)["models"][0]["robustness"]
    assert (noise["metric"], noise["kind"], attack["kind"]) == ("loss", "noise", "attack")
    assert noise["clean"] == pytest.approx(np.log(VOCABULARY), rel=0.1)
    assert all(effect["mean"] > attack["clean"] for effect in attack["effects"])  # an adversary raises the loss


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder("GPT2", tmp_path_factory.mktemp("models") / "gpt2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gpt2"], "gpt2: a language model needs --text FILE or --tokens X.npy"),
        (["gpt2", "--text", "t.txt", "--tokens", "x.npy"], "--text and --tokens are two inputs; give one of them"),
        (["gpt2", "--text", "t.txt"], "the text has 5 tokens; expected at least 16"),
        (["gpt2", "--text", "none.txt"], "none.txt: no such file"),
        (["gpt2", "--tokens", "big.npy"], "big.npy: tokens from 0 to 99; the model has 0..39"),
        (["gpt2", "--tokens", "real.npy"], "real.npy: values of type float64; expected token numbers"),
        (["gpt2", "--tokens", "empty.npy"], "empty.npy: has no tokens; give a file with some"),
        (["less", "--tokens", "x.npy"], r"less: 1 tensors of the model are missing .*, the first transformer\.h\.1\.ln_1\.weight"),
        (["bare", "--tokens", "big.npy"], "bare: transformers cannot load a causal language model from it"),
    ],
)
def test_what_does_not_fit_is_one_line(words: list[str], message: str, gpt2: Path, typed: Type, tmp_path: Path) -> None:
    (tmp_path / "gpt2").symlink_to(gpt2)
    (tmp_path / "bare").mkdir()
    shutil.copytree(gpt2, tmp_path / "less")
    tensors = load_file(gpt2 / "model.safetensors")
    del tensors["transformer.h.1.ln_1.weight"]
    save_file(tensors, tmp_path / "less" / "model.safetensors", {"format": "pt"})
    (tmp_path / "bare" / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "t.txt").write_text("hello", encoding="utf-8")
    np.save(tmp_path / "x.npy", np.zeros(64, int))
    np.save(tmp_path / "big.npy", np.arange(100))
    np.save(tmp_path / "empty.npy", np.zeros((0, 64), int))
    np.save(tmp_path / "real.npy", np.zeros(64))
    done = typed("probe", *words)
    assert done.code == 2
    assert re.search(message, done.err), done.err
    assert done.err.count("\n") == 1
