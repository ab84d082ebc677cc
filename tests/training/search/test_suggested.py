"""What a search takes from `suggest`: the training data as the first layer receives them, and the values that follow."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from program import Type
from quick_runs import config
from small_runs import DENOISE, TINY, problem_of

from ssmspec.training.search.suggested import suggested_setting
from ssmspec.training.task import Goal, changed
from ssmspec.training.tasks import TASKS


def test_waves_are_superposed_cosines() -> None:
    heard = problem_of("waves", TINY).heard().double().numpy()
    assert heard.shape == (TINY.batch, TINY.length, 1)
    time = TINY.step * np.arange(TINY.length)
    cosines = np.cos(np.outer(TINY.tones, time))
    amplitudes = heard[..., 0] @ np.linalg.pinv(cosines)
    np.testing.assert_allclose(amplitudes @ cosines, heard[..., 0], atol=1e-5)
    assert amplitudes.min() > -1e-5
    assert amplitudes.max() < 1 + 1e-5


def test_images_are_heard_pixel_by_pixel() -> None:
    problem = problem_of("denoise", replace(DENOISE, rows=16, columns=8, modes=3, crops=2))
    np.testing.assert_array_equal(problem.heard()[0, :, 1], problem.images[0, 1])


def test_the_first_layer_of_a_sequence_model_hears_what_the_encoder_gives(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(40, 64, 2)).cumsum(axis=1)
    np.save(tmp_path / "x.npy", values)
    np.save(tmp_path / "y.npy", np.arange(40.0))
    task = TASKS["regress"]
    given = {"data": str(tmp_path / "x.npy"), "target": str(tmp_path / "y.npy"), "batch": 8}
    problem = problem_of("regress", task.prepare(changed(task.preset("small"), given)))
    heard = problem.heard()
    rows = np.concatenate([problem.order.at(step) for step in range(8)])
    assert heard.shape == (64, 64, 16)
    with torch.no_grad():
        wanted = problem.model.encoder(problem.examples.take(rows)[0])
    torch.testing.assert_close(heard, wanted)


def test_video_is_heard_frame_by_frame() -> None:
    settings = replace(TASKS["moving-mnist"].preset("small"), examples=8, tests=2)
    heard = problem_of("moving-mnist", settings).heard()
    assert heard.shape[:2] == (settings.batch, settings.frames - 1)


def test_the_values_are_those_of_the_command_for_the_same_data_and_layer(typed: Type, tmp_path: Path) -> None:
    """The encoder is a matrix of one column, so every channel of the layer has the spectrum of the data."""
    values = np.random.default_rng(1).normal(size=(80, 256)).cumsum(axis=1)
    np.save(tmp_path / "x.npy", values)
    np.save(tmp_path / "y.npy", values[:, -1])
    task = TASKS["regress"]
    given = {"data": str(tmp_path / "x.npy"), "target": str(tmp_path / "y.npy"), "batch": 64, "alpha": 3.0, "beta": 0.5}
    settings = task.prepare(changed(task.preset("small"), given))
    found = suggested_setting(config(settings, "regress"))
    problem = problem_of("regress", settings)
    np.save(tmp_path / "heard.npy", problem.examples.sequences.values.reshape(80, 256)[problem.order.at(0)])
    first = typed("train", "regress", "--data", "x.npy", "--target", "y.npy", "--alpha", 1, "--steps", 1, "--no-pictures", "--out", "run")
    assert first.code == 0, first.err
    done = typed("suggest", "heard.npy", "--checkpoint", "run/initial.safetensors", "--layer", "0", "--json")
    stated = {item["name"]: item for item in json.loads(done.out)["suggestions"]}
    assert stated["gamma"]["value"] == pytest.approx(2, abs=0.3)  # of a random walk
    assert found.beta == pytest.approx(stated["beta"]["value"], abs=0.02)
    assert found.alpha == pytest.approx((stated["alpha_min"]["value"], stated["alpha_max"]["value"]), rel=0.05)
    assert found.middle == pytest.approx(math.sqrt(found.alpha[0] * found.alpha[1]), rel=1e-3)


def test_a_beta_that_is_not_advised_is_told_and_replaced_by_zero() -> None:
    found = suggested_setting(config(TINY))  # four lines are no power law
    assert found.beta == 0
    assert any("does not advise it" in note for note in found.notes)
    assert found.document is not None


def test_too_few_frames_are_a_reason() -> None:
    found = suggested_setting(config(replace(TASKS["moving-mnist"].preset("small"), examples=8, tests=2), "moving-mnist"))
    assert found.alpha is None
    assert "frames" in found.reason or "segments" in found.reason or "samples" in found.reason


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_goal_among_its_measures(name: str) -> None:
    goal = TASKS[name].goal
    better = {"accuracy": True, "skill": True, "skill_*": True, "explained": True, "error_*": False, "clean_error": False}
    assert goal.larger is better[goal.pattern]


def test_a_goal_is_one_measure_or_the_mean_of_several() -> None:
    measures = problem_of("waves", TINY).measures()
    mean = sum(measure.value for measure in measures) / 3
    assert Goal("error_*").value(measures) == pytest.approx(mean)
    assert Goal("error_8").value(measures) == measures[1].value
    assert (Goal("error_*").name, Goal("error_8").name) == ("mean of error_*", "error_8")
