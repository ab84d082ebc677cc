"""`ssmspec probe` for runs and checkpoints: inputs, metrics, tables, pictures, JSON and errors."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from program import Type
from program import ssmspec as run_program
from scipy.io import wavfile

from ssmspec.probing.subjects import Given, subject
from ssmspec.report.documents.document import schema

TRAINED = ("--steps", "3", "--no-pictures", "--out")


def trained(folder: Path, *words: object) -> Path:
    done = run_program("train", *words, *TRAINED, folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and runs of the tasks."""
    place, rng = tmp_path_factory.mktemp("probed"), np.random.default_rng(0)
    x = rng.normal(size=(40, 128, 2))
    np.save(place / "x.npy", x)
    np.save(place / "y.npy", x.mean(axis=(1, 2)))
    np.save(place / "labels.npy", (x.mean(axis=(1, 2)) > 0).astype(int))
    np.savetxt(place / "series.csv", np.cumsum(rng.normal(size=(600, 2)), axis=0), delimiter=",")
    (place / "sounds").mkdir()
    for number in range(4):
        wavfile.write(place / "sounds" / f"{number}.wav", 16000, (1000 * rng.normal(size=(200 + number, 2))).astype(np.int16))
    trained(place / "regress", "regress", "--data", place / "x.npy", "--target", place / "y.npy")
    trained(place / "classify", "classify", "--data", place / "x.npy", "--target", place / "labels.npy")
    trained(place / "forecast", "forecast", "--data", place / "series.csv", "--set", "context=64")
    small = ("rows=16", "columns=16", "crops=2", "crop=32")
    trained(place / "denoise", "denoise", *(word for value in small for word in ("--set", value)))
    trained(place / "waves", "waves", "--set", "length=128", "--set", "tones=[1.0, 8.0]", "--set", "step=0.05", "--set", "channels=2")
    return place


def document(done: Any) -> dict[str, Any]:
    assert done.code == 0, done.err
    found = json.loads(done.out)
    jsonschema.validate(found, schema("probe-1"))
    return found


@pytest.mark.parametrize("name", ["regress", "classify", "waves"])
def test_a_run_is_probed_with_its_own_inputs(name: str, files: Path, typed: Type) -> None:
    shown = typed("probe", files / name, "--inputs", "4")
    assert shown.code == 0, shown.err
    assert f"{name}: frequency sensitivity" in shown.out
    assert "held-out" in shown.out
    assert " unresolved" in shown.out
    found = document(typed("probe", files / name, "--inputs", "4", "--json"))["models"][0]
    places = [place["name"] for place in found["places"]]
    assert places == (["input"] if name == "waves" else ["input", "s4_layers.0", "s4_layers.1"])
    assert found["places"][0]["inputs"] == 4
    if name == "waves":
        assert "the model has no list of modules, so no blocks were found; name them with layers" in found["notes"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of moving-mnist."""
    pytest.importorskip("sklearn")
    place = tmp_path_factory.mktemp("clips")
    trained(place / "moving-mnist", "moving-mnist", "--set", "tests=6", "--set", "frames=20", "--set", "d_model=4")
    return place


@pytest.mark.parametrize("name", ["regress", "classify", "waves", "forecast", "denoise", "moving-mnist"])
def test_the_clean_metric_is_that_of_the_run(name: str, typed: Type, request: pytest.FixtureRequest) -> None:
    files: Path = request.getfixturevalue("clips" if name == "moving-mnist" else "files")
    spec = ("--noise", "bands=2 snr=20,-20 seeds=2", "--attack", "bands=2 snr=10")
    found = document(typed("probe", files / name, "--samples", "1", *spec, "--layer", "none", "--json"))["models"][0]
    noise, attack = found["robustness"]
    measured = json.loads((files / name / "results.json").read_text())["measures"]
    if name == "waves":
        assert noise["clean"] == pytest.approx(np.mean([each["value"] for each in measured.values()]), rel=0.2)  # other mixtures
    elif name == "moving-mnist":
        squares = [measured[f"error_{digit}"]["value"] ** 2 for digit in ("fast", "slow")]
        assert (noise["metric"], noise["clean"]) == ("error", pytest.approx(np.sqrt(np.mean(squares)), rel=1e-5))
    elif name == "denoise":
        assert (noise["metric"], noise["clean"]) == ("clean_error", pytest.approx(measured["clean_error"]["value"], rel=1e-3))
    else:
        first = next(iter(measured.values()))
        assert (noise["metric"], noise["clean"]) == (first["name"], pytest.approx(first["value"], rel=1e-4, abs=1e-6))
    assert len(noise["effects"]) == 4
    assert [len(effect["values"]) for effect in noise["effects"]] == [2] * 4
    assert attack["clean"] == noise["clean"]
    strong = [effect["mean"] for effect in noise["effects"] if effect["db"] == -20]
    assert any(value != noise["clean"] for value in strong)


def test_before_and_after_and_another_model_are_compared(files: Path, typed: Type) -> None:
    found = document(typed("probe", files / "regress", "--before", "--after", "--layer", "none", "--json"))["models"]
    assert [each["path"] for each in found] == [f"{files}/regress before training", f"{files}/regress"]
    assert found[0]["places"][0]["sensitivity"] != found[1]["places"][0]["sensitivity"]
    before = document(typed("probe", files / "regress", "--before", "--layer", "none", "--json"))["models"]
    assert before == found[:1]
    shown = typed("probe", files / "regress", "--compare", files / "classify", "--layer", "none").out
    assert f"mean S of {files}/regress" in " ".join(shown.split())


def test_numbers_of_every_kind_enter_a_checkpoint_as_in_training(files: Path, typed: Type) -> None:
    model = files / "regress" / "final.safetensors"
    own = document(typed("probe", files / "regress", "--data", files / "x.npy", "--json"))["models"][0]
    beside = document(typed("probe", model, "--data", files / "x.npy", "--json"))["models"][0]
    assert beside["places"] == own["places"]
    assert "inputs are normalized by the mean and scale that training recorded" in beside["notes"]
    series = document(typed("probe", model, "--data", files / "series.csv", "--max-length", "100", "--inputs", "5", "--json"))["models"][0]
    assert (series["places"][0]["length"], series["places"][0]["inputs"]) == (100, 5)
    assert f"{files}/series.csv: 5 pieces of 100 samples of one series" in series["notes"]
    sounds = document(typed("probe", model, "--data", files / "sounds", "--json"))["models"][0]
    assert (sounds["places"][0]["length"], sounds["places"][0]["inputs"]) == (200, 4)
    given = subject(str(model), Given(data=str(files / "x.npy"), count=40))
    np.testing.assert_allclose(given.inputs.mean(dim=(0, 1)), 0, atol=0.1)


def test_the_model_of_waves_is_that_which_was_trained(files: Path) -> None:
    made = subject(str(files / "waves"), Given())
    problem_model, task = made.model.model, made.task
    from ssmspec.training.engine.run import make_problem
    from ssmspec.training.engine.run_folder import read_config

    problem: Any = make_problem(read_config(files / "waves"), files / "waves")
    problem.model.load_state_dict(problem_model.state_dict())
    expected = problem.model.answer(task.amplitudes, *problem.sources)
    torch.testing.assert_close(made.model(task.signals), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("words", [("--alpha", "1", "--beta", "1"), ("--set", 'architecture="lru"'), ("--set", 'architecture="mamba1"')])
def test_other_models_of_waves_are_those_which_were_trained(words: tuple[str, ...], tmp_path: Path) -> None:
    short = ("--set", "length=64", "--set", "tones=[1.0, 8.0]", "--set", "step=0.05", "--set", "channels=2", "--set", "offset=true")
    test_the_model_of_waves_is_that_which_was_trained(trained(tmp_path / "waves", "waves", *short, *words).parent)


def test_denoise_is_probed_as_a_filter_of_its_images(files: Path, typed: Type) -> None:
    made = subject(str(files / "denoise"), Given(count=2))
    from ssmspec.training.engine.run import make_problem
    from ssmspec.training.engine.run_folder import read_config

    problem: Any = make_problem(read_config(files / "denoise"), files / "denoise")
    problem.model.load_state_dict(made.model.model.state_dict())
    expected = problem.output(problem.images[0])
    torch.testing.assert_close(made.model(made.inputs)[0].mT.double(), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    assert typed("probe", files / "denoise", "--inputs", "2", "--samples", "1").code == 0


@pytest.mark.usefixtures("blank_pictures")
def test_pictures_are_written(files: Path, typed: Type, tmp_path: Path) -> None:
    spec = ("--noise", "bands=2 snr=0 seeds=1", "--attack", "bands=1 snr=0", "--features", "L")
    done = typed("probe", files / "regress", *spec, "--plot", "pictures")
    assert done.code == 0, done.err
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {f"{name}.png" for name in ("sensitivity", "features", "depth", "noise", "attack", "layers")}
    assert "wrote 6 pictures" in done.err
    done = typed("probe", files / "regress", "--before", "--after", "--plot", "both")
    assert {path.name for path in (tmp_path / "both").iterdir()} >= {"sensitivity.png", "regress.layers.png", "regress.blocks.png"}


def test_features_over_height_and_width_of_a_sequence_of_pixels(typed: Type, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    trained(tmp_path / "image", "image", "--set", "examples=200", "--set", "tests=50")
    found = document(typed("probe", "image", "--features", "HW", "--samples", "1", "--json"))["models"][0]
    assert [each["name"] for each in found["features"]] == ["s4_layers.0", "s4_layers.1"]
    assert all(len(each["theta"]) == 5 for each in found["features"])
    assert found["features"][0]["relative_log_amplitude"][0] == 0


def test_the_error_of_denoise_under_noise_is_that_of_a_linear_filter(files: Path, typed: Type) -> None:
    """The model is linear, so that the squared error under very strong noise is the energy of the filtered noise."""
    spec = ("--noise", "bands=1 snr=-100 seeds=20", "--layer", "none", "--samples", "1", "--json")
    noise = document(typed("probe", files / "denoise", *spec))["models"][0]["robustness"][0]
    made = subject(str(files / "denoise"), Given(count=2))
    with torch.no_grad():
        pulse = torch.zeros(3, 256, 3)
        pulse[range(3), 0, range(3)] = 1
        kernels = (made.model(pulse) - made.model(torch.zeros(1, 256, 3))).double().numpy()  # (color in, L, color out)
    images = made.inputs.double().numpy()
    power = 1e10 * np.square(images - images.mean(axis=1, keepdims=True)).mean()
    rng, added = np.random.default_rng(0), []
    for _ in range(40):
        spectrum = np.fft.rfft(rng.normal(size=(256, 3)), axis=0)
        spectrum[:64] = 0
        drawn = np.fft.irfft(spectrum, 256, axis=0)
        drawn *= np.sqrt(power / (drawn**2).mean())
        out = sum(np.stack([np.convolve(drawn[:, i], kernels[i, :, o])[:256] for o in range(3)], axis=1) for i in range(3))
        added.append((out**2).mean())
    assert np.mean(np.square(noise["effects"][0]["values"])) == pytest.approx(np.mean(added), rel=0.25)


def test_a_run_reads_no_more_samples_than_asked_for(files: Path, clips: Path, typed: Type) -> None:
    for path, whole, length in ((files / "regress", 128, 64), (files / "waves", 128, 48), (files / "forecast", 64, 32)):
        found = document(typed("probe", path, "--max-length", str(length), "--layer", "none", "--json"))["models"][0]
        assert found["places"][0]["length"] == length
        assert f"inputs of {whole} samples were cut to {length}" in found["notes"]
    found = document(typed("probe", clips / "moving-mnist", "--inputs", "2", "--samples", "1", "--json"))["models"][0]
    assert [place["name"] for place in found["places"]] == ["input", "model.layers.0", "model.layers.1"]
    assert (found["places"][0]["length"], found["places"][0]["channels"]) == (19, 3 * 16 * 16)


def test_the_device_is_checked_first(files: Path, typed: Type) -> None:
    own = typed("probe", files / "regress", "--layer", "none", "--json")
    assert typed("probe", files / "regress", "--layer", "none", "--json", "--device", "cpu").out == own.out
    model = files / "regress" / "final.safetensors"
    assert typed("probe", model, "--data", files / "x.npy", "--device", "cpu").code == 0
    for path in (files / "regress", model):
        done = typed("probe", path, "--device", "cuda:99")
        assert done.code == 2
        assert re.fullmatch(r".*the device 'cuda:99' cannot be used here \(.*\); choose cpu, or one that torch finds\n", done.err), done.err
    config = files / "regress" / "config.toml"
    text = config.read_text()
    try:  # a run that was trained elsewhere
        config.write_text(re.sub(r'(?m)^device = "cpu"$', 'device = "cuda:99"', text))
        assert config.read_text() != text
        assert typed("probe", files / "regress", "--layer", "none", "--json").code == 0
    finally:
        config.write_text(text)


WRONG: list[tuple[Callable[[Path], list[object]], str]] = [
    (lambda f: [f / "regress" / "final.safetensors"], "a checkpoint needs inputs; give them with --data X.npy"),
    (lambda f: [f / "regress" / "final.safetensors", "--data", f / "y.npy"], "1 features, and the model takes 2; say with --layout"),
    (lambda f: [f / "regress" / "final.safetensors", "--before", "--data", f / "x.npy"], "is not the folder of a run, so it has no before"),
    (
        lambda f: [f / "regress", "--data", f / "x.npy", "--noise", "bands=1"],
        "--noise and --attack need a metric: with --data there are no",
    ),
    (lambda f: [f / "regress", "--noise", "bands=9"], "band 7 of 9, .* has no bin of the DFT of 128 samples"),
    (lambda f: [f / "regress", "--layer", "nope"], "the model has no module 'nope'"),
    (lambda f: [f / "regress", "--layer", "none", "--features", "L"], "--features needs blocks, and --layer none leaves them out"),
    (lambda f: [f / "regress", "--grid", "8"], "--grid '8' is not understood; write height and width like 14x14"),
    (lambda f: [f / "waves", "--data", f / "x.npy"], "the model of waves takes the signals of its task only; leave --data out"),
    (lambda f: [f / "none"], "none does not exist; check the path"),
    (lambda f: ["hf://org/name"], "hf://org/name: probe runs a model, so it needs local files"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_what_does_not_fit_is_one_line(words: Callable[[Path], list[object]], message: str, files: Path, typed: Type) -> None:
    done = typed("probe", *words(files))
    assert done.code in (2, 3)
    assert re.search(message, done.err), done.err
    assert done.err.count("\n") == 1
