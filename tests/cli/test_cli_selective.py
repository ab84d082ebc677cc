"""The commands on selective layers: residues, calibration files, memory in tokens."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from locations import SAMPLES
from program import ssmspec

from ssmspec.families import OperatingPoint, ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.report.documents.document import schema
from ssmspec.systems.response import impulse_response

MAMBA1, MAMBA2 = "mamba1_trained.safetensors", "mamba2_trained"


def analyzed(*arguments: object) -> dict:
    done = ssmspec("analyze", *arguments, "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    jsonschema.validate(document, schema("analyze-1"))
    return document


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    """Steps of two layers of 4 heads with half-lives of 10 000 tokens and of 100."""
    for index, tokens in enumerate((10_000, 100)):
        system = load_system(SAMPLES / MAMBA2, str(index), ReadOptions())
        delta = np.log(2) / (tokens * -system.poles[:, 0].real)
        values = {f"{system.name}/delta": delta * np.array([[0.5], [1.5]])}
        if index:
            values |= dict(np.load(tmp_path / "c.npz"))
        np.savez(tmp_path / "c.npz", **values)
    return tmp_path / "c.npz"


def test_memory_is_the_share_of_heads_with_a_long_half_life(calibration: Path) -> None:
    layers = analyzed(MAMBA2, "--calibration", calibration)["layers"]
    assert [layer["memory"] for layer in layers] == [{"1024": 1, "4096": 1, "32768": 0}, {"1024": 0, "4096": 0, "32768": 0}]
    assert [layer["statistics"]["half_life"]["median"] for layer in layers] == pytest.approx([10_000, 100])
    assert all("2 recorded samples" in layer["operating_point"] for layer in layers)


def test_memory_counts_tokens_at_any_sample_rate(calibration: Path) -> None:
    plain, physical = (analyzed(MAMBA2, "--calibration", calibration, *more) for more in ((), ("--sample-rate", "16000")))
    assert [layer["memory"] for layer in plain["layers"]] == [layer["memory"] for layer in physical["layers"]]


def test_memory_is_a_line_under_the_table(calibration: Path) -> None:
    text = ssmspec("analyze", MAMBA2, "--calibration", calibration).out
    assert "memory of 8 heads or channels in 2 layers" in text
    assert "over 1k tokens in 50 %, over 4k tokens in 50 %, over 32k tokens in 0 %" in text


def test_linear_layers_have_no_memory_line() -> None:
    assert [layer["memory"] for layer in analyzed("s4d_trained.safetensors")["layers"]] == [None, None]
    assert "memory of" not in ssmspec("analyze", "s4d_trained.safetensors").out


@pytest.mark.parametrize("name", [MAMBA1, MAMBA2])
def test_rms_residues_change_the_response_and_not_the_memory(name: str) -> None:
    unit, rms = (analyzed(name, "--residues", kind)["layers"][0] for kind in ("unit", "rms"))
    assert unit["statistics"]["peak_gain"]["median"] != rms["statistics"]["peak_gain"]["median"]
    assert (unit["memory"], unit["statistics"]["half_life"]) == (rms["memory"], rms["statistics"]["half_life"])
    assert "rms residues" in rms["operating_point"]


def test_impulse_and_response_take_residues_and_calibration(tmp_path: Path, calibration: Path) -> None:
    for command in (("impulse", "--length", "20"), ("response", "--points", "20")):
        target = tmp_path / f"{command[0]}.npz"
        done = ssmspec(command[0], MAMBA2, "--layer", "0", *command[1:], "--residues", "rms", "--calibration", calibration, "-o", target)
        assert done.code == 0, done.err
        assert "rms residues" in done.err
    system = load_system(SAMPLES / MAMBA2, "0", ReadOptions(residues="rms"))
    with np.load(calibration) as recorded, np.load(tmp_path / "impulse.npz") as file:
        delta = recorded[f"{system.name}/delta"].mean(axis=0)
        ratio = delta / system.step[:, 0]
        np.testing.assert_allclose(file["kernel"][:, :, 0, 0], impulse_response(system, 1)[:, :, 0, 0] * ratio[:, None], rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--calibration", "nothing.npz"), "calibration nothing.npz: cannot be read as an .npz file"),
        (("--calibration", "config.json"), "cannot be read as an .npz file"),
        (("--residues", "mean"), "'mean' is not one of 'unit', 'rms'"),
        (("--residues", "rms", "--operating-point", "B=1"), "give no B or C"),
    ],
)
def test_bad_options_are_explained(arguments: tuple[str, ...], words: str) -> None:
    done = ssmspec("analyze", MAMBA2, *arguments)
    assert done.code == 2
    assert words in " ".join(done.err.replace("│", " ").split())
    assert "Traceback" not in done.err


def test_recorded_point_equals_the_same_point_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    delta, B, C = rng.uniform(0.01, 0.1, 32), rng.normal(size=8), rng.normal(size=8)
    np.savez(tmp_path / "c.npz", delta=delta, B=B, C=C)
    assert (
        ssmspec("impulse", MAMBA1, "--layer", "1", "--length", "9", "--calibration", tmp_path / "c.npz", "-o", tmp_path / "k.npz").code == 0
    )
    system = load_system(SAMPLES / MAMBA1, "1", ReadOptions(operating_point=OperatingPoint(delta=delta, B=B, C=C)))
    with np.load(tmp_path / "k.npz") as file:
        np.testing.assert_allclose(file["kernel"], impulse_response(system, 9), rtol=1e-12)
