"""The command `suggest`, and `retune --match-spectrum` from the command line."""

import json
import shlex
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from locations import SAMPLES
from program import Type
from scipy.signal import lfilter

from ssmspec.families import ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.report.documents.document import schema

TRAINED = SAMPLES / "s4d_trained.safetensors"


@pytest.fixture
def resonance(tmp_path: Path, rng: np.random.Generator) -> Path:
    """32 sequences of an AR(2) process with a peak at 0.83 rad/sample."""
    np.save(tmp_path / "data.npy", lfilter([1], [1, -1.2, 0.8], rng.normal(size=(32, 2048)), axis=1))
    return tmp_path / "data.npy"


def test_the_document_fits_its_schema_and_names_its_sources(typed: Type, tmp_path: Path, rng: np.random.Generator) -> None:
    result = typed("suggest", red(tmp_path, rng).name, "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    jsonschema.validate(document, schema("suggest-1"))
    found = {item["name"]: item for item in document["suggestions"]}
    assert abs(found["gamma"]["value"] - 2) < 4 * found["gamma"]["uncertainty"]
    assert abs(found["beta"]["value"] - 1) < 4 * found["beta"]["uncertainty"]
    assert found["noise_amplification"]["value"] > 0


def test_the_table_says_what_was_assumed(typed: Type, resonance: Path) -> None:
    result = typed("suggest", resonance.name, "--checkpoint", TRAINED, "--layer", "1", "--memory", "100")
    assert result.code == 0, result.err
    assert "100" in next(line for line in result.out.splitlines() if line.startswith("memory"))
    assert "assumed: shape (32, 2048) read as 32 sequences, 2048 samples" in result.out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["absent.npy"], "absent.npy"),
        (["data.npy", "--layer", "0"], "--layer needs --checkpoint"),
        (["data.npy", "--layout", "XY"], "XY"),
        (["data.npy", "--beta-convention", "angular"], "theta_ref"),
        (["data.npy", "--memory", "-1"], "memory"),
        (["data.npy", "--checkpoint", str(SAMPLES / "s5_trained.msgpack"), "--beta-convention", "paper"], "one step per copy"),
    ],
    ids=["no file", "layer alone", "layout", "no knee", "memory", "step per mode"],
)
def test_bad_input_is_one_line(typed: Type, resonance: Path, arguments: list[str], text: str) -> None:
    result = typed("suggest", *arguments)
    assert (result.code, result.out) == (2, "")
    assert text in result.err
    assert len(result.err.splitlines()) == 1


def red(folder: Path, rng: np.random.Generator) -> Path:
    np.save(folder / "red.npy", np.cumsum(rng.normal(size=(32, 2048)), axis=1))
    return folder / "red.npy"


@pytest.mark.parametrize("convention", [(), ("--beta-convention", "causal", "--theta-ref", "0.1")])
def test_the_command_of_the_last_line_runs_as_typed(typed: Type, tmp_path: Path, rng: np.random.Generator, convention: tuple) -> None:
    result = typed("suggest", red(tmp_path, rng), *convention)
    line = result.out.splitlines()[-1].strip()
    assert line.startswith("ssmspec retune CKPT --beta 1 --beta-convention ")
    assert typed(*shlex.split(line.replace("CKPT", str(TRAINED)))[1:], "--dry-run").code == 0


def test_no_beta_is_typed_for_noise_and_for_selective_layers(typed: Type, tmp_path: Path, rng: np.random.Generator) -> None:
    np.save(tmp_path / "white.npy", rng.normal(size=(32, 2048)))
    assert "no beta is suggested; 'ssmspec retune CKPT --match-spectrum" in typed("suggest", "white.npy").out
    mamba = typed("suggest", red(tmp_path, rng), "--checkpoint", SAMPLES / "mamba1_trained.safetensors").out
    assert "--step-scale" in mamba.splitlines()[-1]


def test_a_layer_is_matched_once_and_then_left_alone(typed: Type, tmp_path: Path, resonance: Path) -> None:
    result = typed("retune", TRAINED, "--match-spectrum", resonance.name, "-o", "matched.safetensors", "--json", "--plot", "pictures")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    jsonschema.validate(document, schema("retune-1"))
    figures = document["layers"][0]["figures"]
    assert len(document["layers"]) == 1  # the first, unless --layer says otherwise
    assert figures["match_after_db"] < 0.2 * figures["match_before_db"]
    assert document["recipe"]["matching"] == {"source": "data.npy", "seed": 0}
    assert len(list((tmp_path / "pictures").glob("*.match.png"))) == 1
    before, after = (load_system(path, "0", ReadOptions()) for path in (TRAINED, tmp_path / "matched.safetensors"))
    assert np.abs(after.C - before.C).max() > 0
    again = typed("retune", "matched.safetensors", "--match-spectrum", resonance.name, "-o", "again.safetensors")
    assert again.code == 0, again.err
    assert "already matches" in again.out
    assert "nothing was written" in again.out
    assert not (tmp_path / "again.safetensors").exists()


def test_options_of_matching_need_it(typed: Type, resonance: Path) -> None:
    result = typed("retune", TRAINED, "--alpha", "2", "--target", resonance.name)
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert "--match-spectrum" in result.err
