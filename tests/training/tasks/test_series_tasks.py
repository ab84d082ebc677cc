"""The bundled series of `forecast`, and `audio` on tiny folders: published settings, models, one-line errors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from program import Type
from scipy.io import wavfile
from torch.nn.utils import parameters_to_vector

from ssmspec.errors import SsmspecError
from ssmspec.nn.optim import optimizer_groups
from ssmspec.training.datasets.membrane import SAMPLE_RATE, SAMPLES, membrane_file, read_membrane
from ssmspec.training.engine.loop import new_state
from ssmspec.training.engine.run_folder import read_config
from ssmspec.training.engine.step import Stepper
from ssmspec.training.kinds.own_data import make_model
from ssmspec.training.tasks import TASKS

LITTLE = {"d_model": 4, "n_layers": 1, "d_state": 4, "batch": 4}
OPTIONS = [part for name, value in LITTLE.items() for part in ("--set", f"{name}={value}")]


def test_the_bundled_series_is_a_neuron_that_rests_and_then_fires() -> None:
    """What physiology says of it: rest near -67 mV, spikes of milliseconds that come near 0 mV, a few dozen in its 6 s."""
    potential = read_membrane()
    assert potential.shape == (SAMPLES,)
    assert potential[: int(0.4 * SAMPLE_RATE)].mean() == pytest.approx(-67, abs=1)
    spikes = np.diff((potential > -20).astype(int))
    starts, ends = np.flatnonzero(spikes == 1), np.flatnonzero(spikes == -1)
    assert 40 < len(starts) < 80
    assert 1 < 1000 * np.median(ends - starts) / SAMPLE_RATE < 10


def test_forecast_without_data_learns_the_bundled_series() -> None:
    settings = TASKS["forecast"].prepare(replace(TASKS["forecast"].preset("small"), steps=60, d_model=8, context=64))
    torch.manual_seed(0)
    problem = TASKS["forecast"].problem(settings, torch.device("cpu"), None)
    lines = problem.opening()
    assert "membrane.dat of matplotlib: 1 sequence of 12000 samples, 1 feature; the last 20% held out" in lines[0]
    assert "membrane potential of a neuron" in lines[1]
    figures = {measure.name: measure for measure in problem.measures()}
    held = read_membrane()[-2401:]
    assert figures["error"].baseline == pytest.approx(np.sqrt(np.mean(np.diff(held) ** 2)), rel=1e-5)  # the last value, in mV
    step = Stepper(problem, new_state(problem, settings), settings)
    losses = [step()[0] for _ in range(60)]
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) / 4


def test_a_run_without_data_keeps_the_digest_of_the_series_and_goes_on_anywhere(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssmspec.training.engine.run._pictures", lambda *arguments: [])
    assert typed("train", "forecast", *OPTIONS, "--steps", 2, "--out", "run").code == 0
    settings = read_config(Path("run")).settings
    assert settings.data == ""
    assert len(settings.data_sha256) == 64
    assert typed("train", "forecast", "--out", "run", "--resume").code == 0
    other = Path("other.dat")
    other.write_bytes(membrane_file().read_bytes()[:-4] + b"\0\0\0\0")
    monkeypatch.setattr("matplotlib.cbook.get_sample_data", lambda name, asfileobj: str(other))
    done = typed("train", "forecast", "--out", "run", "--resume")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "other.dat has changed since the run began" in done.err


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "matplotlib ships it; reinstall matplotlib, or give your own series with --data"), (b"\0" * 100, "12000 finite values")],
    ids=["missing", "damaged"],
)
def test_a_library_without_the_series_is_one_line(
    typed: Type, monkeypatch: pytest.MonkeyPatch, content: bytes | None, message: str
) -> None:
    if content is not None:
        Path("membrane.dat").write_bytes(content)
    monkeypatch.setattr("matplotlib.cbook.get_sample_data", lambda name, asfileobj: name)
    done = typed("train", "forecast", *OPTIONS, "--steps", 2, "--out", "run")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert message in done.err


def test_axes_without_data_are_refused(typed: Type) -> None:
    done = typed("train", "forecast", *OPTIONS, "--set", "axes=BL", "--out", "run")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "leave axes out, or give the data with --data" in done.err


def test_the_bundled_series_can_be_cut() -> None:
    settings = TASKS["forecast"].prepare(replace(TASKS["forecast"].preset("small"), length=500, **LITTLE))
    assert TASKS["forecast"].problem(settings, torch.device("cpu"), None).cuts.tolist() == [400]


# Source: state-spaces/s4, configs/experiment/sc/s4-sc.yaml, scheduler/cosine_warmup.yaml, model/layer/s4.yaml
SPEECH = {
    **{"alpha": 1, "beta": 0, "n_layers": 6, "d_model": 128, "d_state": 64, "n_ssm": 2, "bidirectional": True, "dropout": 0},
    **{"norm": "batch", "prenorm": True, "lr": 0.01, "lr_ssm": 0.001, "lr_step": 0.001, "weight_decay": 0.05, "batch": 16},
    **{"steps": 200_000, "warmup": 1000, "schedule": "cosine", "pooling": "mean", "step_min": 1e-3, "step_max": 1e-1},
}
# Source: state-spaces/s4, configs/experiment/forecasting/s4-informer-etth.yaml, dataset/etth.yaml, model/base.yaml, model/layer/s4.yaml
HOURS = {
    **{"n_layers": 2, "d_model": 128, "d_state": 64, "n_ssm": 1, "bidirectional": False, "dropout": 0.25, "norm": "layer", "prenorm": True},
    **{"lr": 0.01, "lr_ssm": 0.001, "lr_step": 0.001, "weight_decay": 0, "batch": 50, "context": 384, "horizon": 96, "pooling": "none"},
}


@pytest.mark.parametrize(("task", "published"), [("audio", SPEECH), ("forecast", HOURS)])
def test_the_paper_preset_has_the_published_settings(task: str, published: dict[str, object]) -> None:
    settings = TASKS[task].preset("paper")
    assert {name: getattr(settings, name) for name in published} == published
    assert settings.layout == "s4-diag"


def test_ten_epochs_of_twelve_months_of_hours_are_the_steps_of_the_paper_preset() -> None:
    pieces = 12 * 30 * 24 - HOURS["context"] - HOURS["horizon"] + 1
    assert TASKS["forecast"].preset("paper").steps == 10 * (pieces // HOURS["batch"])


def parameters(H: int, N: int, S: int, layers: int, directions: int, d_output: int) -> int:
    """By hand: encoder; blocks with C of every direction, B, poles, steps, D, GLU; norms; decoder."""
    block = directions * 2 * H * N + 2 * S * N + 2 * S * N + H + H + (2 * H * H + 2 * H)
    return 2 * H + layers * block + (layers + 1) * 2 * H + H * d_output + d_output


@pytest.mark.parametrize(
    ("task", "preset", "d_output", "expected"),
    [
        ("audio", "paper", 35, parameters(128, 32, 2, 6, 2, 35)),
        ("audio", "small", 6, parameters(32, 16, 2, 2, 2, 6)),
        ("forecast", "paper", 96, parameters(128, 32, 1, 2, 1, 96)),
    ],
)
def test_the_models_have_their_parameters_and_run(task: str, preset: str, d_output: int, expected: int) -> None:
    settings = TASKS[task].preset(preset)
    torch.manual_seed(0)
    model = make_model(settings, {"d_input": 1}, d_output, None).eval()
    assert len(parameters_to_vector(model.parameters())) == expected
    with torch.no_grad():
        assert model(torch.zeros(1, 40, 1)).shape == ((1, 40, 96) if task == "forecast" else (1, d_output))


def test_poles_steps_and_b_learn_slowly_and_do_not_decay_as_published() -> None:
    model = make_model(TASKS["audio"].preset("paper"), {"d_input": 1}, 35, None)
    groups = optimizer_groups(model, lr=0.01, weight_decay=0.05)
    names = {id(parameter): name.rpartition(".")[2] for name, parameter in model.named_parameters()}
    slow = {names[id(parameter)] for group in groups for parameter in group["params"] if group["lr"] == 0.001}
    assert slow == {"inv_dt", "A_real", "A_imag", "B"}
    assert all(group["weight_decay"] == 0 for group in groups if group["lr"] == 0.001)
    (c_decay,) = {group["weight_decay"] for group in groups for parameter in group["params"] if names[id(parameter)] == "C"}
    assert c_decay == 0.05


@pytest.fixture
def words(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Tones of two pitches as words, 24 sounds, a third of them held out, in the layout of Speech Commands."""
    folder = tmp_path / "words"
    for number in range(24):
        word = ("high", "low")[number % 2]
        (folder / word).mkdir(parents=True, exist_ok=True)
        phase = 2 * np.pi * (2000 if word == "high" else 200) / 16_000 * np.arange(1000) + rng.uniform(0, 6)
        wavfile.write(folder / word / f"{number:02d}_nohash_0.wav", 16_000, (8000 * np.sin(phase)).astype(np.int16))
    for name, numbers in (("validation_list.txt", (0, 1)), ("testing_list.txt", range(16, 24))):
        (folder / name).write_text("".join(f"{('high', 'low')[number % 2]}/{number:02d}_nohash_0.wav\n" for number in numbers))
    return folder


def test_audio_learns_words_from_their_sounds(words: Path) -> None:
    settings = replace(TASKS["audio"].preset("small"), data=str(words), length=400, steps=25, warmup=2, batch=8)
    torch.manual_seed(0)
    problem = TASKS["audio"].problem(settings, torch.device("cpu"), None)
    assert (
        "14 sounds of 2 words to train on, the 8 of the testing list held out, the 2 of the validation list not used"
        in problem.opening()[0]
    )
    assert problem.about()["classes"] == ["high", "low"]
    x = problem.examples.take(problem.training)[0]
    assert x.shape == (14, 400, 1)
    assert float(x.mean()) == pytest.approx(0, abs=1e-5)
    assert float(x.std(unbiased=False)) == pytest.approx(1, abs=1e-5)
    step = Stepper(problem, new_state(problem, settings), settings)
    for _ in range(settings.steps):
        step()
    (accuracy,) = problem.measures()
    assert (accuracy.value, accuracy.baseline) == (1.0, 0.5)


def test_audio_runs_from_the_command_line_on_a_folder_of_sounds(typed: Type, words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssmspec.training.engine.run._pictures", lambda *arguments: [])
    done = typed("train", "audio", "--data", "words", *OPTIONS, "--set", "length=200", "--steps", 2, "--out", "run", "--json")
    assert done.code == 0, done.err
    wavfile.write(words / "low/99_nohash_0.wav", 16_000, np.ones((100, 2), np.int16))
    done = typed("train", "audio", "--data", "words", *OPTIONS, "--steps", 2, "--out", "other")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert "low/99_nohash_0.wav: 100 samples, 16000 Hz, 2 channels, int16; expected 16000 Hz, 1 channel, int16" in done.err


def test_audio_at_paper_size_says_what_it_needs() -> None:
    with pytest.raises(SsmspecError, match=r"this preset learns from sounds of words in the layout of Speech Commands; .*--data"):
        TASKS["audio"].problem(TASKS["audio"].preset("paper"), torch.device("cpu"), None)


def test_synthetic_words_are_called_synthetic_and_can_be_learned() -> None:
    settings = replace(TASKS["audio"].preset("small"), examples=64, tests=12, width=800, steps=12, warmup=2)
    torch.manual_seed(0)
    problem = TASKS["audio"].problem(settings, torch.device("cpu"), None)
    assert "synthetic words, two vowels in 50 ms at 16000 Hz, not speech; 64 to train on, 12 held out" in problem.opening()[0]
    assert problem.about()["classes"] == ["ai", "au", "ia", "iu", "ua", "ui"]
    step = Stepper(problem, new_state(problem, settings), settings)
    losses = [step()[0] for _ in range(12)]
    assert np.mean(losses[-3:]) < losses[0]
