"""Recorded operating points against what the scans of the models themselves are called with."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from recorded_models import MODELS, VOCABULARY, Call, calls_of, language_model, softplus  # noqa: E402 - only useful where transformers is

import ssmspec  # noqa: E402
from ssmspec.errors import NoLayerError, SsmspecError  # noqa: E402
from ssmspec.families.selective.calibration import open_calibration  # noqa: E402
from ssmspec.probing.calibrate_result import Calibration  # noqa: E402
from ssmspec.probing.calibrate_streams import RateStream, VectorStream  # noqa: E402

LENGTH = 12
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
Arrays = dict[str, np.ndarray]


def tokens(rng: np.random.Generator, sequences: int = 2) -> np.ndarray:
    return rng.integers(0, VOCABULARY, (sequences, LENGTH))


def from_mamba_scan(calls: list[Call]) -> list[Arrays]:
    """dt (sequences, channels, tokens) before the bias, B and C (sequences, N, tokens)."""
    found = []
    for call in calls:
        delta = softplus(call.args[1] + call.named["delta_bias"][:, None])
        found.append({"delta": delta.transpose(0, 2, 1), "B": call.args[3].transpose(0, 2, 1)[:, :, None]})
        found[-1]["C"] = call.args[4].transpose(0, 2, 1)[:, :, None]
    return found


def from_heads(calls: list[Call]) -> list[Arrays]:
    """Two heads, each with a call of its own."""
    heads = from_mamba_scan(calls)
    return [{key: np.concatenate([one[key], two[key]], axis=2) for key in one} for one, two in zip(heads[::2], heads[1::2], strict=True)]


def from_chunk_scan(calls: list[Call]) -> list[Arrays]:
    """dt (sequences, tokens, heads) before bias and clamp, B and C (sequences, tokens, groups, N)."""
    return [
        {"delta": np.clip(softplus(call.args[1] + call.named["dt_bias"]), *call.named["dt_limit"]), "B": call.args[3], "C": call.args[4]}
        for call in calls
    ]


def from_delta_rule(calls: list[Call]) -> list[Arrays]:
    return [{"log_z": call.named["g"].reshape(*call.named["g"].shape[:2], -1)} for call in calls]


def from_rglru(calls: list[Call]) -> list[Arrays]:
    return [{"log_z": np.log(call.named["recurrent_gate"])} for call in calls]


def from_mlstm(calls: list[Call]) -> list[Arrays]:
    """The gate behind its cap, (sequences, heads, tokens)."""
    return [{"log_z": -softplus(-call.named["fgate"]).transpose(0, 2, 1)} for call in calls]


def from_wkv(calls: list[Call]) -> list[Arrays]:
    return [{"log_z": np.broadcast_to(-np.exp(call.args[0]), call.args[2].shape)} for call in calls]


SCANS: dict[str, tuple[str, Callable[[list[Call]], list[Arrays]]]] = {
    **dict.fromkeys(("mamba", "falcon_mamba", "jamba"), ("mamba_selective_scan", from_mamba_scan)),
    "zamba": ("mamba_selective_scan", from_heads),
    **dict.fromkeys(("mamba2", "bamba", "granitemoehybrid", "falcon_h1", "nemotron_h", "zamba2"), ("mamba2_chunk_scan", from_chunk_scan)),
    **dict.fromkeys(("qwen3_next", "olmo_hybrid"), ("torch_chunk_gated_delta_rule", from_delta_rule)),
    "kimi_linear": ("chunk_kimi_delta_attention", from_delta_rule),
    "recurrent_gemma": ("RecurrentGemmaRglru._rnn_scan", from_rglru),
    "xlstm": ("xLSTMBackend.forward", from_mlstm),
    "rwkv": ("rwkv_linear_attention", from_wkv),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_recorded_is_what_the_scan_of_the_model_gets(name: str, rng: np.random.Generator, tmp_path: Path) -> None:
    model, given = language_model(name), tokens(rng)
    function, arrays = SCANS[name]
    with calls_of(name, function) as calls:
        found = ssmspec.calibrate(model, given)
    expected = arrays(calls)
    assert len(found) == len(expected) > 0
    assert found.skipped == ()
    for record, layer in zip(found, expected, strict=True):
        rate = next(key for key in ("delta", "log_z") if key in layer)
        values = layer.pop(rate).reshape(given.size, -1)
        assert (record.rate, record.tokens, record.sampled) == (rate, given.size, given.size)
        np.testing.assert_allclose(record.mean, values.mean(axis=0), rtol=2e-5, atol=1e-9)
        np.testing.assert_allclose(record.deviation, values.std(axis=0), rtol=1e-3, atol=2e-6)
        np.testing.assert_allclose(record.quantiles, np.quantile(values, LEVELS, axis=0), rtol=5e-5, atol=1e-9)
        for letter, vectors in layer.items():
            samples = vectors.reshape(given.size, *vectors.shape[2:])
            np.testing.assert_allclose(record.vectors[letter], samples.mean(axis=0), rtol=1e-4, atol=1e-6)
            moments = np.einsum("tgm,tgn->gmn", samples, samples) / given.size
            np.testing.assert_allclose(record.moments[letter], moments, rtol=1e-4, atol=1e-6)
    the_model_in_a_folder_is_analyzed_at_these_means(model, found, expected, tmp_path)


def the_model_in_a_folder_is_analyzed_at_these_means(model: Any, found: Calibration, expected: list[Arrays], folder: Path) -> None:
    model.save_pretrained(folder / "model")
    found.save(folder / "c.npz")
    result = ssmspec.analyze(folder / "model", calibration=folder / "c.npz")
    assert len(result) == len(expected)
    for layer, record in zip(result, found, strict=True):
        assert layer.over_tokens is not None
        assert layer.over_tokens.tokens == record.tokens
        # the half-life at a quantile is ln 2 over the slowest decay per token there
        at_mean = np.log(2) / -layer.system.poles.real.max(axis=1) / (layer.system.step[:, 0])
        if layer.system.discretization == "direct":
            at_mean = np.log(2) / -np.log(layer.system.poles.real[:, 0])
        rates = np.abs(record.quantiles / record.mean)
        ordered = rates[[4, 2, 0]] if record.rate == "delta" else rates[[0, 2, 4]]
        np.testing.assert_allclose(layer.over_tokens.half_lives, at_mean / ordered, rtol=1e-6)
        if record.rate == "log_z":
            np.testing.assert_allclose(np.log(2) / at_mean, -record.mean, rtol=1e-6)
        else:
            np.testing.assert_allclose(layer.system.step[:, 0], record.mean, rtol=1e-6)


def test_the_input_gate_of_an_rg_lru_is_recorded(rng: np.random.Generator) -> None:
    model, given = language_model("recurrent_gemma"), tokens(rng)
    inputs: list[np.ndarray] = []
    module = model.model.layers[0].temporal_block.rg_lru
    handle = module.register_forward_pre_hook(lambda module, args: inputs.append(args[0].detach().double().numpy()))
    with calls_of("recurrent_gemma", "RecurrentGemmaRglru._rnn_scan") as calls:
        (record,) = ssmspec.calibrate(model, given)
    handle.remove()
    decay = calls[0].named["recurrent_gate"]
    first = np.arange(LENGTH)[None, :, None] == 0  # where the state is empty, the input is not normalized
    gate = calls[0].named["hidden_states"] / (inputs[0] * np.where(first, 1, np.sqrt(1 - decay**2)))
    np.testing.assert_allclose(record.vectors["B"], gate.reshape(given.size, -1).mean(axis=0), rtol=1e-4)


@pytest.mark.parametrize("name", ["mamba2", "recurrent_gemma", "rwkv", "zamba2"])
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_the_model_is_changed(name: str, fails: bool, rng: np.random.Generator) -> None:
    model = language_model(name).train()
    model.get_input_embeddings().eval()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    state = [{key: value for key, value in vars(module).items() if not key.startswith("_")} for module in model.modules()]
    every, generator = getattr(model.config, "rescale_every", None), torch.get_rng_state()

    def batches() -> Iterator[np.ndarray]:
        yield tokens(rng)
        if fails:
            yield tokens(rng) + VOCABULARY

    if fails:
        with pytest.raises(SsmspecError, match="the vocabulary of the model"):
            ssmspec.calibrate(model, batches())
    else:
        ssmspec.calibrate(model, batches())
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    after = [{key: value for key, value in vars(module).items() if not key.startswith("_")} for module in model.modules()]
    assert [[(key, id(value)) for key, value in each.items()] for each in after] == [
        [(key, id(value)) for key, value in each.items()] for each in state
    ]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert (getattr(model.config, "rescale_every", None), torch.get_rng_state().tolist()) == (every, generator.tolist())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_long_sequences_are_cut_and_padding_does_not_count(rng: np.random.Generator) -> None:
    model, given = language_model("mamba2"), tokens(rng)
    apart = ssmspec.calibrate(model, [given[:, :8], given[:, 8:]])
    cut = ssmspec.calibrate(model, given, max_length=8)
    np.testing.assert_array_equal(cut[0].mean, apart[0].mean)
    assert (cut.provenance["sequences"], cut.provenance["sequence_length"]) == (4, 8)
    mask = np.ones_like(given)
    mask[1, 7:] = 0
    padded = ssmspec.calibrate(model, [{"input_ids": given, "attention_mask": mask}])
    alone = ssmspec.calibrate(model, [given[:1], given[1:, :7]])
    assert padded.tokens == LENGTH + 7
    assert padded.provenance["sha256"] == alone.provenance["sha256"]
    np.testing.assert_allclose(padded[0].mean, alone[0].mean, rtol=1e-6)
    np.testing.assert_allclose(padded[0].quantiles, alone[0].quantiles, rtol=1e-5)


def test_a_limit_stops_in_the_middle_of_a_batch_and_is_said(rng: np.random.Generator) -> None:
    model, given = language_model("mamba"), tokens(rng)
    found = ssmspec.calibrate(model, given, limit=LENGTH + 5)
    same = ssmspec.calibrate(model, [given[0], given[1, :5]])
    assert found.tokens == same.tokens == LENGTH + 5
    assert found.provenance["sha256"] == same.provenance["sha256"]
    assert f"stopped after {LENGTH + 5} tokens" in repr(found)


def test_tables_of_a_result(rng: np.random.Generator) -> None:
    found = ssmspec.calibrate(language_model("mamba2"), tokens(rng))
    record = found[0]
    assert found.names == ("backbone.layers.0.mixer", "backbone.layers.1.mixer")
    assert found.to_dataframe().loc[0, "mean"] == np.median(record.mean)
    assert found.to_dataframe("long").shape == (8, 10)
    assert "delta" in found._repr_html_()
    assert len(found["*.0.*"]) == 1


@pytest.mark.parametrize(
    ("batches", "words"),
    [
        ([], "batches has no tokens"),
        ([np.zeros((1, 0), int)], "has shape (1, 0)"),
        (np.zeros((2, 2, 2), int), "has shape (2, 2, 2)"),
        (np.zeros((1, 4)), "has dtype float64; expected token numbers"),
        (np.zeros((1, 4), bool), "has dtype bool"),
        (np.array([[0, -1]]), "has token -1; expected 0..15"),
        ([np.array([[0, 1]]), np.array([[16]])], "batch 1 has token 16; expected 0..15"),
        ({"ids": np.zeros((1, 4), int)}, "expected input_ids"),
        ({"input_ids": np.zeros((1, 4), int), "attention_mask": np.ones((1, 3))}, "attention_mask has shape (1, 3)"),
        ("text", "batches is str"),
        (3, "batches is int"),
    ],
)
def test_batches_that_are_none_are_refused(batches: Any, words: str) -> None:
    with pytest.raises(SsmspecError) as caught:
        ssmspec.calibrate(language_model("mamba"), batches)
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_model_without_selective_layers_is_refused() -> None:
    config = transformers.GPT2Config(vocab_size=VOCABULARY, n_embd=8, n_layer=1, n_head=2)
    with pytest.raises(NoLayerError) as caught:
        ssmspec.calibrate(transformers.GPT2LMHeadModel(config), np.zeros((1, 4), int))
    assert caught.value.exit_code == 3
    with pytest.raises(SsmspecError, match="give a torch module"):
        ssmspec.calibrate({"A_log": np.zeros(3)}, np.zeros((1, 4), int))


def test_a_layer_that_hides_its_operating_point_is_said(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a fused kernel does that takes the weights of in_proj and never calls it."""
    model = language_model("mamba2")
    hidden = model.backbone.layers[0].mixer
    real = type(hidden).forward
    monkeypatch.setattr(type(hidden), "forward", lambda self, x, **named: x * 1.0 if self is hidden else real(self, x, **named))
    found = ssmspec.calibrate(model, tokens(rng))
    assert found.names == ("backbone.layers.1.mixer",)
    (line,) = found.skipped
    assert line.startswith("backbone.layers.0.mixer: the module that gives its operating point did not run: a fused kernel hides it")


def test_values_that_are_not_finite_are_said_and_others_recorded(rng: np.random.Generator) -> None:
    model = language_model("mamba2")
    with torch.no_grad():
        model.backbone.layers[1].mixer.in_proj.weight[64, 0] = float("nan")  # the first row of B
    found = ssmspec.calibrate(model, tokens(rng))
    assert found.names == ("backbone.layers.0.mixer",)
    assert found.skipped == ("backbone.layers.1.mixer: its B is NaN or infinite for some tokens",)


def test_streams_agree_with_all_values_at_once(rng: np.random.Generator) -> None:
    values = rng.lognormal(size=(1000, 3))
    stream, keys = RateStream(3, 1000), rng.random(1000)
    vectors, samples = VectorStream(), rng.normal(size=(1000, 2, 4))
    for start, stop in ((0, 1), (1, 300), (300, 1000)):
        stream.add(values[start:stop], keys[start:stop])
        vectors.add(samples[start:stop])
    np.testing.assert_allclose(stream.mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(stream.deviation, values.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(stream.quantiles(LEVELS), np.quantile(values, LEVELS, axis=0), rtol=1e-6)
    np.testing.assert_allclose(vectors.mean, samples.mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(vectors.moments, np.einsum("tgm,tgn->gmn", samples, samples) / 1000, atol=1e-14)


def test_a_sample_is_the_tokens_with_the_smallest_keys(rng: np.random.Generator) -> None:
    values, keys = np.arange(500.0)[:, None], rng.random(500)
    stream = RateStream(1, 40)
    for start in range(0, 500, 70):
        stream.add(values[start : start + 70], keys[start : start + 70])
    kept = np.sort(values[np.argsort(keys)[:40], 0])
    assert stream.sampled == 40
    np.testing.assert_allclose(stream.quantiles((0.0, 0.5, 1.0))[:, 0], np.quantile(kept, (0, 0.5, 1)))
    assert stream.mean[0] == pytest.approx(249.5)


def test_a_sample_is_said_in_the_result_and_the_analysis(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ssmspec.probing.calibrate.MEMORY", 0)
    monkeypatch.setattr("ssmspec.probing.calibrate.FEWEST", 10)
    model = language_model("mamba2")
    found = ssmspec.calibrate(model, tokens(rng))
    assert "quantiles are over 10 of 24 tokens, drawn at random" in repr(found)
    found.save(tmp_path / "c.npz")
    result = ssmspec.analyze(model, calibration=tmp_path / "c.npz")
    assert any("quantiles are over 10 of them, drawn at random" in note for note in result.notes)
    assert result[0].over_tokens.sampled == 10


def test_the_file_says_where_it_is_from(rng: np.random.Generator, tmp_path: Path) -> None:
    model, given = language_model("mamba"), tokens(rng)
    ssmspec.calibrate(model, given).save(tmp_path / "c.npz")
    told = open_calibration(tmp_path / "c.npz").provenance
    assert (told["tokens"], told["model"], told["model_type"]) == (given.size, "MambaForCausalLM", "mamba")
    from hashlib import sha256

    assert told["sha256"] == sha256(given.astype("<i8").tobytes()).hexdigest()
    ssmspec.calibrate(model, given).save(tmp_path / "c.npz")  # its own kind of file may be replaced
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(SsmspecError, match="exists and is not a file of arrays"):
        ssmspec.calibrate(model, given).save(tmp_path / "other.npz")


def test_residues_come_from_recorded_moments(rng: np.random.Generator, tmp_path: Path) -> None:
    """|H|^2 at theta = 0 is the sum over states of products of moments: for Mamba-2 all states of a head share one pole."""
    model, given = language_model("mamba2"), tokens(rng)
    with calls_of("mamba2", "mamba2_chunk_scan") as calls:
        ssmspec.calibrate(model, given).save(tmp_path / "c.npz")
    layer = ssmspec.analyze(model, calibration=tmp_path / "c.npz", residues="rms")[0]
    B, C = (calls[0].args[place].reshape(-1, 2, 4) for place in (3, 4))
    power = np.einsum("tgm,tgn,sgm,sgn->g", B, B, C, C) / given.size**2
    system = layer.system
    gain = system.step[:, 0] / -np.expm1(system.poles[:, 0].real * system.step[:, 0])
    response = np.abs(layer.response([0.0], with_skip=False)[:, :, 0, 0])
    np.testing.assert_allclose(np.sqrt((response**2).sum(axis=1)), gain * np.sqrt(power).repeat(2), rtol=1e-4)


def test_poles_of_a_gate_at_a_recorded_decay_are_not_written(rng: np.random.Generator, tmp_path: Path) -> None:
    """What such a layer stores is its decay at zero input."""
    model = language_model("qwen3_next")
    ssmspec.calibrate(model, tokens(rng)).save(tmp_path / "c.npz")
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(SsmspecError, match="leave --calibration out to change it"):
        ssmspec.retune(tmp_path / "model", step_scale=2.0, output=tmp_path / "out", calibration=tmp_path / "c.npz")


def test_delta_is_no_recording_of_a_decay_gate(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", **{"model.layers.0.linear_attn/delta": np.ones(4)})
    result = ssmspec.analyze(language_model("qwen3_next"), calibration=tmp_path / "c.npz")
    assert "the calibration has delta, but the decays of gated-delta are recorded as log_z" in result.skipped[0]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("provenance", np.array("{"), "provenance is '{'; expected JSON"),
        ("provenance", np.array('{"tokens": NaN}'), "expected JSON"),
        ("levels", np.array(0.5), "expected one row for each of the levels 0.05, 0.5, 0.95"),
        ("levels", np.array([0.1, 0.2, 0.3, 0.4, 0.5]), "expected one row for each of the levels 0.05, 0.5, 0.95"),
        ("backbone.layers.0.mixer/B_moments", np.zeros((1, 2, 2)), "moments of shape (1, 2, 2)"),
        ("backbone.layers.0.mixer/delta", np.zeros(4), "must be positive"),
    ],
)
def test_damaged_files_are_told(key: str, value: np.ndarray, words: str, rng: np.random.Generator, tmp_path: Path) -> None:
    model = language_model("mamba2")
    ssmspec.calibrate(model, tokens(rng)).save(tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "c.npz", **{**arrays, key: value})
    try:
        said = ssmspec.analyze(model, calibration=tmp_path / "c.npz", residues="rms").skipped[0]
    except SsmspecError as error:
        said = str(error)
    assert words in said
