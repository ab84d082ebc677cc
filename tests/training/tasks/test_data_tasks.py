"""The tasks on the user's own data: what they should learn is known in advance, like the baselines, the split and the alignment."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from scipy.io import wavfile

from ssmspec.errors import SsmspecError
from ssmspec.families import ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.nn import SequenceModel
from ssmspec.training.datasets import sequences as reading
from ssmspec.training.engine.loop import new_state
from ssmspec.training.engine.run import environment, run
from ssmspec.training.engine.run_folder import RunConfig, new_folder, read_config, write_config
from ssmspec.training.engine.step import Stepper
from ssmspec.training.task import changed
from ssmspec.training.tasks import TASKS

LITTLE = {"d_model": 4, "n_layers": 1, "d_state": 4, "batch": 4}


def settings_of(task: str, **values: Any) -> Any:
    kind = TASKS[task]
    return kind.prepare(changed(kind.preset("small"), {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}))


def problem_of(task: str, **values: Any) -> Any:
    settings = settings_of(task, **values)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return TASKS[task].problem(settings, torch.device("cpu"), None)


def trained(task: str, **values: Any) -> Any:
    problem = problem_of(task, **values)
    step = Stepper(problem, new_state(problem, problem.settings), problem.settings)
    for _ in range(problem.settings.steps):
        step()
    return problem


def figures(problem: Any) -> dict[str, float]:
    return {measure.name: measure.value for measure in problem.measures()}


def baselines(problem: Any) -> dict[str, float]:
    return {measure.name: measure.baseline for measure in problem.measures()}


def saved(folder: Path, **arrays: np.ndarray) -> list[Path]:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return [folder / f"{name}.npy" for name in arrays]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# --- what is learned ---


def test_regress_learns_a_linear_functional(tmp_path: Path) -> None:
    X = noise(200, 32)
    y = 5 + X @ np.exp(-np.arange(32)[::-1] / 8)
    data, target = saved(tmp_path, X=X, y=y)
    problem = trained("regress", data=data, target=target, pooling="last", steps=100, batch=16)
    assert figures(problem)["explained"] > 0.8
    held = y[problem.held_out]
    assert baselines(problem)["error"] == pytest.approx(np.sqrt(np.mean((held - y[problem.training].mean()) ** 2)))
    errors = problem.predictions(problem.held_out)[:, 0] - held
    assert figures(problem)["error"] == pytest.approx(np.sqrt(np.mean(errors**2)))


def test_classify_tells_tones_apart(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    kinds = np.arange(150) % 3
    phase = np.array([0.1, 0.4, 1.2])[kinds][:, None] * np.arange(80) + generator.uniform(0, 6, (150, 1))
    np.savez(tmp_path / "tones.npz", x=np.sin(phase) + 0.3 * noise(150, 80), y=np.array(["low", "middle", "high"])[kinds])
    problem = trained("classify", data=tmp_path / "tones.npz", target=f"{tmp_path / 'tones.npz'}:y", steps=60)
    assert figures(problem)["accuracy"] > 0.9
    assert baselines(problem)["accuracy"] == pytest.approx(1 / 3)
    assert problem.about()["classes"] == ["high", "low", "middle"]
    assert np.bincount(problem.labels.codes[problem.held_out]).tolist() == [10, 10, 10]


def autoregressive(count: int, *, innovation: float) -> np.ndarray:
    x, steps = np.zeros(count + 100), innovation * noise(count + 100)
    for t in range(2, len(x)):
        x[t] = 1.6 * x[t - 1] - 0.8 * x[t - 2] + steps[t]
    return x[100:]


@pytest.mark.slow
def test_forecast_of_an_autoregressive_process_approaches_the_innovation(tmp_path: Path) -> None:
    (data,) = saved(tmp_path, x=7 + autoregressive(4000, innovation=3.0))
    problem = trained("forecast", data=data, steps=400, context=64, n_layers=1, lr=0.02)
    assert 2.7 < figures(problem)["error"] < 3.3  # the innovation is 3; 800 samples held out tell it to 2.5 %
    series = np.load(data)
    changes = np.diff(series[3199:])
    assert baselines(problem)["error"] == pytest.approx(np.sqrt(np.mean(changes**2)), rel=1e-6)


def test_an_output_per_sample_learns_a_filter(tmp_path: Path) -> None:
    X = noise(60, 50, 2)
    Y = np.stack([np.cumsum(X[..., 0], 1) * 0.2, X[..., 1]], axis=-1)
    data, target = saved(tmp_path, X=X, Y=Y)
    problem = trained("regress", data=data, target=target, pooling="none", steps=100)
    assert figures(problem)["explained"] > 0.7
    assert problem.predictions(problem.held_out).shape == (12, 50, 2)


# --- the data ---


def test_the_held_out_part_is_never_drawn_and_decides_nothing(tmp_path: Path) -> None:
    X, y = noise(40, 16), noise(40, seed=1)
    data, target = saved(tmp_path, X=X, y=y)
    one = problem_of("regress", data=data, target=target, **LITTLE)
    drawn = np.concatenate([one.order.at(step) for step in range(24)])
    assert (np.bincount(drawn, minlength=40)[one.training] == 3).all()
    assert not np.isin(one.held_out, drawn).any()
    assert len(one.held_out) == 8
    X[one.held_out] *= 100
    y[one.held_out] += 100
    saved(tmp_path, X=X, y=y)
    two = problem_of("regress", data=data, target=target, **LITTLE)
    assert two.examples.normal.mean == one.examples.normal.mean == pytest.approx(X[one.training].mean())
    assert two.examples.normal.scale == one.examples.normal.scale == pytest.approx(X[one.training].std())
    assert (two.mean, two.scale) == (one.mean, one.scale)


def test_another_seed_holds_out_others(tmp_path: Path) -> None:
    data, target = saved(tmp_path, X=noise(40, 16), y=noise(40))
    parts = [set(problem_of("regress", data=data, target=target, seed=seed, **LITTLE).held_out) for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]


@pytest.mark.parametrize("shape", [(30, 20), (30, 20, 3)])
def test_mapped_sequences_give_the_batches_of_kept_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]) -> None:
    X = noise(*shape).astype(np.float32) * 3 + 5
    data, target = saved(tmp_path, X=X, y=noise(30))
    kept = problem_of("regress", data=data, target=target, **LITTLE)
    assert isinstance(kept.examples.sequences.values.base, np.memmap)
    monkeypatch.setattr(reading, "KEPT", 0)
    monkeypatch.setattr(reading, "CHUNK", 64)
    mapped = problem_of("regress", data=data, target=target, **LITTLE)
    assert mapped.examples._kept is None
    for one, other in zip(kept.draw(3, torch.Generator()), mapped.draw(3, torch.Generator()), strict=True):
        torch.testing.assert_close(one, other)
    rows = kept.order.at(3)
    mean, std = X[kept.training].reshape(-1, X[0, 0].size).mean(0), X[kept.training].reshape(-1, X[0, 0].size).std(0)
    np.testing.assert_allclose(kept.draw(3, torch.Generator())[0].numpy(), (X[rows].reshape(4, 20, -1) - mean) / std, atol=1e-5)


def sounds(folder: Path, *, labels: bool) -> Path:
    generator = np.random.default_rng(0)
    for number in range(12):
        place = folder / ("yes" if number % 2 else "no") if labels else folder
        place.mkdir(parents=True, exist_ok=True)
        length = int(generator.integers(20, 40))
        wavfile.write(place / f"{number:02d}.wav", 8000, (3000 * generator.standard_normal(length)).astype(np.int16))
    return folder


def test_sounds_of_different_lengths_are_classified_by_folder_and_padding_does_not_count(tmp_path: Path) -> None:
    folder = sounds(tmp_path / "words", labels=True)
    (folder / "_background_noise_").mkdir()
    wavfile.write(folder / "_background_noise_/hum.wav", 8000, np.ones(1000, np.int16))
    problem = problem_of("classify", data=folder, **LITTLE)
    assert problem.about()["classes"] == ["no", "yes"]
    assert any("skipped: _background_noise_" in line for line in problem.opening())
    rows = np.arange(12)
    x, lengths = problem.examples.take(rows)
    together = problem.answers([(x, lengths)])[0]
    alone = torch.cat([problem.answers([(x[i : i + 1, :length], lengths[i : i + 1])])[0] for i, length in enumerate(lengths)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    _, stored = wavfile.read(folder / "yes/01.wav")
    place = problem.examples.sequences.names.index("yes/01.wav")
    mean, scale = (part[0] for part in problem.examples.normal)
    np.testing.assert_allclose(x[place, : lengths[place], 0].numpy() * scale + mean, stored, atol=0.01)


def test_sounds_without_labels_go_with_a_target_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = sounds(tmp_path / "sounds", labels=False)
    (tmp_path / "y.csv").write_text("loudness\n" + "\n".join(str(number) for number in range(12)))
    problem = problem_of("regress", data=folder, target=tmp_path / "y.csv", **LITTLE)
    assert problem.examples.sequences.names[3] == "03.wav"
    assert problem.values[:, 0].tolist() == list(range(12))
    assert len(problem.draw(0, torch.Generator())) == 3


def test_rows_of_a_table_are_examples_and_its_labels_may_be_words(tmp_path: Path) -> None:
    rows = noise(20, 6)
    (tmp_path / "x.csv").write_text("\n".join(",".join(f"{value:.6f}" for value in row) for row in rows))
    (tmp_path / "y.csv").write_text("id,kind\n" + "\n".join(f"{i},{'warm' if i % 2 else 'cold'}" for i in range(20)))
    problem = problem_of("classify", data=tmp_path / "x.csv", target=f"{tmp_path / 'y.csv'}:kind", **LITTLE)
    assert problem.examples.sequences.values.shape == (20, 6, 1)
    assert problem.labels.classes == ("cold", "warm")
    assert problem.labels.codes.tolist() == [i % 2 for i in range(20)]


def test_columns_of_a_table_are_features_of_one_series_to_forecast(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "x.csv", noise(100, 2), delimiter=",")
    problem = problem_of("forecast", data=tmp_path / "x.csv", horizon=3, **LITTLE)
    assert problem.examples.sequences.values.shape == (1, 100, 2)
    assert problem.model.frame.d_output == 6


# --- forecasts ---


@pytest.mark.parametrize("series", [1, 12])
def test_forecasts_stand_beside_what_they_forecast(tmp_path: Path, series: int) -> None:
    X = noise(series, 60, 2)
    (data,) = saved(tmp_path, X=X)
    problem = problem_of("forecast", data=data, horizon=3, context=16, d_model=4, d_state=4)
    row = int(problem.held_out()[0])
    first = 47 if series == 1 else 7  # the sample before the first one held out; of a whole series, half a context on
    known, wanted, given = problem.forecasts(row)
    x = (X[row] - problem.examples.normal.mean) / problem.examples.normal.scale
    np.testing.assert_allclose(known, x[first:57], atol=1e-6)
    for ahead in range(3):
        np.testing.assert_allclose(wanted[:, ahead], x[first + 1 + ahead : 58 + ahead], atol=1e-6)
    for place, now in ((0, first), (3, first + 3)):  # pieces begin half a context before the first of every eight
        heard = torch.from_numpy(x[first - 8 if first >= 8 else 0 : now + 1].astype(np.float32))[None]
        np.testing.assert_allclose(given[place], problem.answers([(heard,)])[0][0, -1].reshape(3, 2), atol=1e-5)


def test_training_pieces_end_where_the_held_out_part_begins(tmp_path: Path) -> None:
    X = np.stack([np.arange(50.0), 1000 + np.arange(50.0)])
    (data,) = saved(tmp_path, X=X)
    problem = problem_of("forecast", data=data, context=8, **{**LITTLE, "batch": 500})
    batch = (
        problem.draw(0, torch.Generator().manual_seed(0)).double().numpy() * problem.examples.normal.scale + problem.examples.normal.mean
    )
    assert batch.shape == (500, 9, 1)
    np.testing.assert_allclose(np.diff(batch[..., 0]), 1, atol=1e-3)
    ends = np.round(batch[:, -1, 0]).astype(int)
    assert set(ends) == {*range(8, 40), *range(1008, 1040)}


# --- models and checkpoints ---

VARIANTS = {
    "minimal": {},
    "weighted": {"beta": 0.5, "beta_convention": "angular", "theta_ref": 0.3, "trainable_beta": True},
    "block": {"layout": "s4-diag", "bidirectional": True, "n_ssm": 2, "beta": -0.5},
    "freqbias": {"layout": "freqbias-block", "bidirectional": True, "beta": 0.25, "norm": "batch", "prenorm": True, "final_norm": True},
    "dfout": {"init": "dfout", "step_min": 0.01, "step_max": 0.01, "n_layers": 2},
}


def started(folder: Path, task: str, **values: Any) -> RunConfig:
    plain = {"device": "cpu", "threads": 1, "closed_form": False, "command": "ssmspec train", "environment": environment()}
    config = RunConfig(task=task, preset="small", settings=settings_of(task, **values), **plain)
    new_folder(folder, force=False)
    write_config(folder, config)
    return config


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_checkpoint_says_how_to_build_its_model_and_its_family_reads_it(tmp_path: Path, variant: str) -> None:
    data, target = saved(tmp_path, X=noise(20, 24), y=noise(20))
    config = started(tmp_path / "run", "regress", data=data, target=target, **(LITTLE | {"steps": 3} | VARIANTS[variant]))
    problem = run(config, tmp_path / "run", pictures=False).outcome.problem
    final = tmp_path / "run/final.safetensors"
    with safe_open(final, "pt") as file:
        about = json.loads(file.metadata()["ssmspec"])["trained"]
    model = SequenceModel(**about["model"])
    model.load_state_dict(load_file(final), strict=True)
    x = torch.from_numpy((np.load(data)[:, :, None] - about["input"]["mean"]) / about["input"]["scale"]).float()
    with torch.no_grad():
        answers = model.eval()(x).double().numpy() * about["target"]["scale"] + about["target"]["mean"]
    np.testing.assert_allclose(answers[problem.held_out], problem.predictions(problem.held_out), rtol=1e-4, atol=1e-5)
    layer = model.s4_layers[0]
    for live in layer.state_spaces("s4_layers.0" + (".layer" if about["model"]["layout"] != "minimal" else "")):
        read = load_system(final, live.name, ReadOptions())
        np.testing.assert_allclose(live.poles, read.poles, rtol=1e-12)
        assert (live.sobolev is None) == (read.sobolev is None)
        if live.sobolev is not None and read.sobolev is not None:
            np.testing.assert_allclose(live.sobolev.beta, read.sobolev.beta, rtol=1e-6)


def test_dfout_gives_every_layer_its_own_part_of_the_circle(tmp_path: Path) -> None:
    data, target = saved(tmp_path, X=noise(20, 24), y=noise(20))
    problem = problem_of("regress", data=data, target=target, **(LITTLE | VARIANTS["dfout"]))
    phases = [layer.kernel.A_imag.detach().numpy()[0] * 0.01 for layer in problem.model.s4_layers]
    np.testing.assert_allclose(phases, [[0, np.pi / 2], [np.pi / 4, 3 * np.pi / 4]], atol=1e-6)


def test_ssm_parameters_learn_slower_and_do_not_decay(tmp_path: Path) -> None:
    data, target = saved(tmp_path, X=noise(20, 24), y=noise(20))
    problem = problem_of("regress", data=data, target=target, lr_ssm=1e-4, **LITTLE)
    names = {id(parameter): name for name, parameter in problem.model.named_parameters()}
    found = {}
    for group in new_state(problem, problem.settings).optimizer.param_groups:
        found |= {names[id(parameter)]: (group["lr"], group["weight_decay"]) for parameter in group["params"]}
    assert {name for name, options in found.items() if options == (1e-4, 0.0)} == {
        f"s4_layers.0.kernel.{name}" for name in ("log_dt", "log_A_real", "A_imag")
    }
    assert {options for name, options in found.items() if "kernel" not in name} == {(1e-2, 0.01)}


def test_config_repeats_the_run_and_changed_data_are_refused(tmp_path: Path) -> None:
    data, target = saved(tmp_path, X=noise(20, 24), y=noise(20))
    run(started(tmp_path / "one", "regress", data=data, target=target, steps=4, **LITTLE), tmp_path / "one", pictures=False)
    again = read_config(tmp_path / "one")
    (tmp_path / "two").mkdir()
    write_config(tmp_path / "two", again)
    run(again, tmp_path / "two", pictures=False)
    assert (tmp_path / "one/final.safetensors").read_bytes() == (tmp_path / "two/final.safetensors").read_bytes()
    saved(tmp_path, y=noise(20, seed=5))
    with pytest.raises(SsmspecError, match=r"y\.npy has changed since the run began"):
        run(again, tmp_path / "two", pictures=False)


def test_a_run_has_pictures_of_what_it_learned_and_says_its_baseline_first(tmp_path: Path) -> None:
    data, target = saved(tmp_path, X=noise(20, 24), y=noise(20))
    config = started(tmp_path / "run", "regress", data=data, target=target, steps=4, **LITTLE)
    lines: list[str] = []
    finished = run(config, tmp_path / "run", note=lines.append)
    assert {"predictions.png", "learning.png", "loss.png"} <= {path.name for path in (tmp_path / "run").iterdir()}
    assert "20 sequences of 24 samples, 1 feature; 16 to train on, 4 held out" in lines[0]
    assert "baseline" in lines[-1]
    assert finished.summary.measures[0].baseline == 0
    assert "| `explained` |" in (tmp_path / "run/README.md").read_text()


@pytest.mark.parametrize(("task", "values"), [("classify", {}), ("forecast", {"horizon": 1}), ("forecast", {"horizon": 3})])
def test_every_task_draws_its_predictions(tmp_path: Path, task: str, values: dict[str, int]) -> None:
    data, target = saved(tmp_path, X=noise(20, 24), y=np.array(["$", "a long name of a class"])[np.arange(20) % 2])
    problem = problem_of(task, data=data, **LITTLE, **values, **({"target": target} if task == "classify" else {}))
    (picture,) = problem.pictures(tmp_path, problem.measures())
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_sweep_draws_the_first_figure_of_every_setting(tmp_path: Path, typed: Any) -> None:
    saved(tmp_path, X=noise(20, 24), y=noise(20))
    little = [part for name, value in LITTLE.items() for part in ("--set", f"{name}={value}")]
    done = typed(
        "train", "regress", "--data", "X.npy", "--target", "y.npy", *little, "--steps", 2, "--sweep", "alpha=1,2", "--out", "sweep"
    )
    assert done.code == 0, done.err
    assert {"explained.png", "alpha1-beta0-seed0", "alpha2-beta0-seed0"} <= {path.name for path in (tmp_path / "sweep").iterdir()}
