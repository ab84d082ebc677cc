"""`ssmspec calibrate` and what `analyze --calibration` makes of its file."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from locations import SAMPLES
from program import Type

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ssmspec.report.documents.document import schema  # noqa: E402 - only useful where transformers is

SAMPLE = SAMPLES / "mamba2_trained"
WORDS = "a b c d e f g"


@pytest.fixture
def tokens(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Token numbers of the sample, which knows 32."""
    np.save(tmp_path / "tokens.npy", rng.integers(0, 32, 96).astype(np.uint16))
    return tmp_path / "tokens.npy"


@pytest.fixture
def with_tokenizer(tmp_path: Path) -> Path:
    """The sample with a tokenizer of a few words."""
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path / "model"
    folder.mkdir()
    for file in SAMPLE.iterdir():
        (folder / file.name).symlink_to(file)
    words = {"[UNK]": 0, **{word: number for number, word in enumerate(WORDS.split(), 1)}}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]").save_pretrained(folder)
    return folder


def document_of(done: Any, name: str) -> dict[str, Any]:
    assert done.code == 0, done.err
    document: dict[str, Any] = json.loads(done.out)
    jsonschema.validate(document, schema(name))
    return document


def test_tokens_become_a_file_and_bands_of_half_lives(typed: Type, tokens: Path) -> None:
    done = typed("calibrate", SAMPLE, "--tokens", tokens, "--max-length", 40, "--json")
    found = document_of(done, "calibrate-1")
    told = found["provenance"]
    assert done.err == "ssmspec: wrote calibration.npz\n"
    assert (told["tokens"], told["sequences"], told["sequence_length"], told["limit"]) == (96, 3, 40, None)
    assert told["data_sha256"] == sha256(tokens.read_bytes()).hexdigest()
    shown = typed("analyze", SAMPLE, "--calibration", "calibration.npz", "--json")
    document = document_of(shown, "analyze-1")
    assert document["calibration"]["sha256"] == told["sha256"]
    assert f"96 tokens of tokens.npy (sha256 {told['data_sha256'][:12]}) through Mamba2ForCausalLM" in document["notes"][-1]
    for layer, recorded in zip(document["layers"], found["layers"], strict=True):
        lives, quantiles = layer["over_tokens"]["half_life"], np.array(recorded["quantiles"])
        for share, row in (("p5", 4), ("median", 2), ("p95", 0)):
            # all copies: half-life times Delta is ln 2 over the pole, at every quantile
            np.testing.assert_allclose(
                np.array(lives[share]["copies"]) * quantiles[row], np.array(lives["median"]["copies"]) * quantiles[2], rtol=1e-9
            )
            assert lives[share]["median"] == pytest.approx(np.median(lives[share]["copies"]))
    in_seconds = document_of(typed("analyze", SAMPLE, "--calibration", "calibration.npz", "--json", "--sample-rate", "10"), "analyze-1")
    first, second = (each["layers"][0]["over_tokens"] for each in (document, in_seconds))
    assert second["unit"] == "s"
    assert second["half_life"]["p95"]["median"] == pytest.approx(first["half_life"]["p95"]["median"] / 10)


def test_tables_have_a_row_per_layer_and_for_one_layer_a_row_per_head(typed: Type, tokens: Path) -> None:
    done = typed("calibrate", SAMPLE, "--tokens", tokens)
    assert done.code == 0, done.err
    assert "Mamba2ForCausalLM: 2 layers over 96 tokens of tokens.npy" in done.out
    both = typed("analyze", SAMPLE, "--calibration", "calibration.npz", "--copies", "heads.csv").out
    assert "half-life over tokens, 95 %" in both
    assert "the half-lives of each head or channel: --layer with one layer" in both
    one = typed("analyze", SAMPLE, "--calibration", "calibration.npz", "--layer", "0").out
    assert "half-life of every copy over 96 tokens [samples]" in one
    heading, *rows = Path("heads.csv").read_text(encoding="utf-8").splitlines()
    assert heading.endswith(
        ",half_life p5 over tokens [samples],half_life median over tokens [samples],half_life p95 over tokens [samples]"
    )
    assert len(rows) == 8
    for row in rows[:4]:
        cells = row.split(",")
        assert all(f"{float(cell):.3g}" in one for cell in cells[-3:])


@pytest.mark.usefixtures("blank_pictures")
def test_a_picture_shows_the_bands(typed: Type, tokens: Path, tmp_path: Path) -> None:
    typed("calibrate", SAMPLE, "--tokens", tokens)
    assert typed("analyze", SAMPLE, "--calibration", "calibration.npz", "--plot", "pictures").code == 0
    assert (tmp_path / "pictures" / "mamba2_trained.tokens.png").exists()


def test_another_delta_hides_the_band_and_says_so(typed: Type, tokens: Path) -> None:
    typed("calibrate", SAMPLE, "--tokens", tokens)
    done = typed("analyze", SAMPLE, "--calibration", "calibration.npz", "--operating-point", "delta=0.01")
    assert "delta is given (--operating-point), so the range of the calibration over tokens is not shown" in done.out
    assert "half-life over tokens, 5 %" not in done.out


def test_a_text_is_read_by_the_tokenizer_of_the_folder(typed: Type, with_tokenizer: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(f"{WORDS} unknown " * 3, encoding="utf-8")
    np.save(tmp_path / "same.npy", np.tile([1, 2, 3, 4, 5, 6, 7, 0], 3))
    documents = [
        document_of(typed("calibrate", with_tokenizer, *what, "--json", "-o", "c.npz", "--limit", 20), "calibrate-1")
        for what in (("--text", text), ("--tokens", tmp_path / "same.npy"))
    ]
    assert documents[0]["layers"] == documents[1]["layers"]
    assert documents[0]["provenance"]["sha256"] == documents[1]["provenance"]["sha256"]
    assert documents[0]["provenance"]["limit"] == documents[0]["provenance"]["tokens"] == 20


def test_what_cannot_be_used_is_one_line_and_writes_nothing(typed: Type, with_tokenizer: Path, tokens: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n", encoding="utf-8")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    for name, values in (
        ("floats", np.zeros(4)),
        ("none", np.zeros(0, int)),
        ("high", np.array([1, 32])),
        ("deep", np.zeros((1, 1, 2), int)),
    ):
        np.save(tmp_path / f"{name}.npy", values)
    np.savez(tmp_path / "pair.npz", a=np.zeros(2))
    (tmp_path / "bare").mkdir()
    gpt = transformers.GPT2Config(vocab_size=32, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    transformers.GPT2LMHeadModel(gpt).save_pretrained(tmp_path / "gpt")
    holey = tmp_path / "holey"
    holey.mkdir()
    (holey / "config.json").symlink_to(SAMPLE / "config.json")
    from safetensors.numpy import load_file, save_file

    tensors = load_file(SAMPLE / "model.safetensors")
    save_file({name: values for name, values in tensors.items() if "layers.1" not in name}, holey / "model.safetensors")
    cases: list[tuple[list[Any], int, str]] = [
        ([SAMPLE], 2, "give one of --text FILE and --tokens X.npy"),
        ([SAMPLE, "--text", "empty.txt", "--tokens", tokens], 2, "give one of --text"),
        ([with_tokenizer, "--text", "empty.txt"], 2, "empty.txt: is empty; give a file with some text"),
        ([with_tokenizer, "--text", "bytes.txt"], 2, "bytes.txt: is not UTF-8 text (byte 0)"),
        ([with_tokenizer, "--text", "missing.txt"], 2, "missing.txt: no such file"),
        ([SAMPLE, "--tokens", "floats.npy"], 2, "floats.npy: values of type float64; expected token numbers, which are integers"),
        ([SAMPLE, "--tokens", "none.npy"], 2, "none.npy: has no tokens"),
        ([SAMPLE, "--tokens", "high.npy"], 2, "batch 0 has token 32; expected 0..31, the vocabulary of the model"),
        ([SAMPLE, "--tokens", "deep.npy"], 2, "deep.npy: has shape (1, 1, 2); expected (tokens,) or (sequences, tokens)"),
        ([SAMPLE, "--tokens", "pair.npz"], 2, "pair.npz: an .npz archive"),
        ([SAMPLE, "--tokens", "empty.txt"], 2, "expected token numbers in a .npy file"),
        ([SAMPLE / "model.safetensors", "--tokens", tokens], 2, "model.safetensors: is a file; calibrate runs a model"),
        (["nowhere", "--tokens", tokens], 2, "nowhere: is not there"),
        (["hf://org/name", "--tokens", tokens], 2, "it needs a local folder of transformers; download it"),
        (["bare", "--tokens", tokens], 2, "bare: has no config.json"),
        (["holey", "--tokens", tokens], 2, "tensors of the model are missing or have another shape"),
        (["gpt", "--tokens", tokens], 3, "SSM layer"),
        ([SAMPLE, "--tokens", tokens, "--device", "abacus"], 2, "the device 'abacus' cannot be used here"),
    ]
    (tmp_path / "plain.txt").write_text("a b", encoding="utf-8")
    cases.append(([SAMPLE, "--text", "plain.txt"], 2, "has no tokenizer (tokenizer.json, ...), which --text needs"))
    for words, code, said in cases:
        done = typed("calibrate", *words, "-o", "out.npz")
        assert (done.code, said in done.err, len(done.err.splitlines())) == (code, True, 1), (words, done)
        assert not (tmp_path / "out.npz").exists()


def test_another_file_is_not_written_over_and_the_model_does_not_run_before(typed: Type, tokens: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", w=np.zeros(3))
    done = typed("calibrate", SAMPLE, "--tokens", tokens, "-o", "weights.npz")
    assert done.code == 2
    assert "exists and is not a file of arrays" in done.err
    assert np.load(tmp_path / "weights.npz").files == ["w"]


def test_a_calibration_of_another_model_is_refused(typed: Type, tokens: Path, tmp_path: Path) -> None:
    typed("calibrate", SAMPLE, "--tokens", tokens)
    done = typed("analyze", SAMPLES / "mamba1_trained.safetensors", "--calibration", "calibration.npz")
    assert done.code == 2
    assert "layer backbone.layers.0.mixer: calibration delta has shape (4,), expected (32,)" in done.err
    with np.load("calibration.npz") as file:
        arrays = dict(file)
    arrays["backbone.layers.0.mixer/delta_quantiles"] = arrays["backbone.layers.0.mixer/delta_quantiles"][:2]
    np.savez("damaged.npz", **arrays)
    done = typed("analyze", SAMPLE, "--calibration", "damaged.npz")
    assert "delta_quantiles has shape (2, 4), expected one row for each of the levels" in done.out + done.err
