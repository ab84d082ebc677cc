"""The task moving-mnist: published settings, sizes, errors per digit, its run folder and pictures."""

import gzip
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import problem_of
from torch import nn
from torch.nn.utils import parameters_to_vector
from video_sizes import parameters

from ssmspec.commands.analyze import analyze
from ssmspec.errors import SsmspecError
from ssmspec.training.engine.loop import new_state
from ssmspec.training.engine.step import Stepper
from ssmspec.training.task import Outcome
from ssmspec.training.tasks import TASKS

TASK = TASKS["moving-mnist"]
SMALL = TASK.preset("small")
QUICK = replace(SMALL, examples=8, tests=3, frames=5, context=1, d_model=4, d_state=4, depths=(4,), steps=4, warmup=0, batch=2)

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")


def made(**changes: Any) -> Any:
    return problem_of("moving-mnist", replace(QUICK, **changes))


def test_the_paper_preset_has_the_published_settings() -> None:
    """NVlabs/ConvSSM, configs/Moving-MNIST/600_train_len/mnist_convS5_novq.yaml; AnnanYu/FreqBiasSSM, MovingMNIST_gen.py."""
    found = TASK.preset("paper")
    assert (found.frames, found.side, found.examples) == (600, 64, 2000)
    assert found.speeds == pytest.approx((3 * 0.15, 0.3 * 0.15))
    assert (found.batch, found.steps, found.warmup, found.schedule) == (8, 300_000, 5000, "cosine")
    assert (found.lr, found.lr_ssm, found.weight_decay, found.absolute) == (5e-4, 5e-4, 1e-5, 0.5)
    assert (found.depths, found.d_model, found.n_layers, found.groups, found.bounded) == ((64, 128, 256), 128, 8, 32, True)
    assert (found.d_state, found.blocks, found.step_min, found.step_max) == (128, 1, 1e-3, 1e-1)


def mnist(folder: Path, rng: np.random.Generator) -> str:
    """Files of MNIST with a few pictures of 28 x 28 pixels, gzipped as they are published."""
    for part, count in (("train", 4), ("t10k", 2)):
        values = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        header = struct.pack(">4I", 0x803, count, 28, 28)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + values.tobytes()))
    return str(folder)


@pytest.mark.parametrize(("preset", "count"), [("small", 10_411), ("paper", 7_410_307)])
def test_the_model_of_each_preset_has_its_parameters_and_runs(preset: str, count: int, tmp_path: Path, rng: np.random.Generator) -> None:
    settings = TASK.preset(preset)
    if preset == "paper":
        settings = replace(settings, data=mnist(tmp_path, rng), frames=3, context=1, tests=1, examples=1, batch=1)
    problem = problem_of("moving-mnist", settings)
    sizes = {name: getattr(settings, name) for name in ("depths", "d_model", "n_layers", "d_state")}
    assert len(parameters_to_vector(problem.model.parameters())) == count == parameters(3, **sizes)
    clips = problem.draw(0, torch.Generator())
    assert clips.shape == (settings.batch, settings.frames, 3, settings.side, settings.side)
    assert (float(clips.min()), float(clips.max())) == (-1.0, 1.0)
    with torch.no_grad():
        assert problem.model(clips).shape == clips.shape


def test_training_lowers_the_loss() -> None:
    problem = made(examples=2, steps=25, lr=0.01)
    step = Stepper(problem, new_state(problem, problem.settings), problem.settings)
    losses = [step()[0] for _ in range(25)]
    assert all(map(math.isfinite, losses))
    assert losses[-1] < 0.5 * losses[0]


def figures(problem: Any) -> dict[str, tuple[float, float]]:
    return {measure.name: (measure.value, measure.baseline) for measure in problem.measures()}


def test_errors_are_those_of_each_color_after_the_context() -> None:
    """A model that repeats its input has the error of the last frame, which is formed here frame by frame."""
    problem = made(tests=70, context=2)
    problem.model = nn.Identity()
    clips = problem.held_out.take(range(70)).astype(float)
    last = np.sqrt([np.mean([(clips[:, t + 1, color] - clips[:, t, color]) ** 2 for t in (2, 3)]) for color in (0, 2)])
    wanted = clips[:, 3:]
    mean = np.sqrt([((wanted - wanted.mean((0, 1)))[:, :, color] ** 2).mean() for color in (0, 2)])
    found, best = figures(problem), np.minimum(last, mean)
    assert best[0] == mean[0] < last[0]  # the last frame says nothing about the fast digit
    for place, name in enumerate(("fast", "slow")):
        assert found[f"error_{name}"] == pytest.approx((last[place], best[place]), rel=1e-5)
        assert found[f"skill_{name}"][0] == pytest.approx(1 - (last[place] / best[place]) ** 2, rel=1e-4, abs=1e-5)
    assert found["log10_ratio"] == pytest.approx((math.log10(last[0] / last[1]),) * 2, rel=1e-5)
    lines = problem.opening()
    assert f"last frame {last[0]:.3g}, {last[1]:.3g}; mean frame {mean[0]:.3g}, {mean[1]:.3g}" in lines[1]


def test_pictures_show_a_frame_beside_what_was_made_of_those_before_it() -> None:
    problem = made()
    problem.model = nn.Identity()
    wanted, given = problem.shown()
    clip = problem.held_out.take([0])[0]
    assert len(wanted) == len(given) == 4
    for at in range(4):
        np.testing.assert_allclose(wanted[at], clip[at + 1].transpose(1, 2, 0), atol=1e-6)
        np.testing.assert_allclose(given[at], clip[at].transpose(1, 2, 0), atol=1e-6)


def test_the_loss_mixes_squares_and_absolute_values() -> None:
    problem = made(absolute=0.25)
    problem.model = nn.Identity()
    clips = problem.draw(0, torch.Generator())
    difference = clips[:, 1:] - clips[:, :-1]
    assert float(problem.loss(clips)) == pytest.approx(float(0.75 * (difference**2).mean() + 0.25 * difference.abs().mean()), rel=1e-6)


def test_digits_held_out_are_not_trained_on_and_clips_depend_on_the_seed_only() -> None:
    first, again, other = made(seed=1), made(seed=1), made(seed=2)
    rows = [{glyph.tobytes() for glyph in clips.glyphs} for clips in (first.clips, first.held_out)]
    assert not rows[0] & rows[1]
    assert len(first.clips.glyphs) + len(first.held_out.glyphs) == 1797
    generator = torch.Generator()
    assert torch.equal(first.draw(3, generator), again.draw(3, generator))
    assert not torch.equal(first.draw(3, generator), other.draw(3, generator))
    assert all(torch.equal(a, b) for a, b in zip(first.model.state_dict().values(), again.model.state_dict().values(), strict=True))


def test_alpha_scales_the_frequencies_of_every_start() -> None:
    for init in ("own", "s4d-lin"):
        one, three = (made(init=init, alpha=alpha).model.layers[1].seq for alpha in (1.0, 3.0))
        torch.testing.assert_close(three.Lambda_im, 3 * one.Lambda_im)
        assert torch.equal(three.B, one.B)
        assert one.Lambda_im.abs().max() > 0


def test_starts_per_frame_need_one_step() -> None:
    with pytest.raises(SsmspecError, match="places poles per frame and needs a single step"):
        made(init="dfout")
    assert made(init="dfout", step_min=0.1).model.layers[0].seq.log_step.exp().flatten().tolist() == pytest.approx([0.1] * 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"beta": 1.0, "beta_convention": "lra", "theta_ref": None}, "lets a frame depend on later frames"),
        ({"context": 4}, "clips have 5 frames; clips need at least two more"),
        ({"speeds": (0.5,)}, "expected two, for the fast and the slow digit"),
        ({"absolute": 1.5}, "at most 1"),
        ({"side": 8}, "no room to move"),
        ({"bundled": False}, "this preset learns from the pictures of MNIST .*--data"),
        ({"depths": (4, 8, 16, 32, 32, 32)}, "both sides multiples of 32"),
    ],
)
def test_settings_that_make_no_task_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SsmspecError, match=words):
        made(**changes).measures()


@pytest.mark.usefixtures("blank_pictures")
def test_a_run_writes_what_analysis_and_the_pictures_need(typed, tmp_path: Path) -> None:
    changes = {name: getattr(QUICK, name) for name in ("examples", "tests", "frames", "context", "d_model", "d_state", "batch")}
    options = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    done = typed("train", "moving-mnist", "--steps", 4, "--beta", 1, "--out", "run", *options, "--set", "depths=[4]")
    assert done.code == 0, done.err
    assert "error_slow" in done.out
    assert {"frames.png", "errors.png", "spectra.png", "learning.png"} <= {path.name for path in (tmp_path / "run").iterdir()}
    found = analyze(tmp_path / "run" / "final.safetensors")
    assert [(layer.name, layer.family, layer.copies, layer.modes) for layer in found.layers] == [
        ("layers.0.seq", "conv-s5", 1, 2),
        ("layers.1.seq", "conv-s5", 1, 2),
    ]
    assert {(layer.beta_range, layer.beta_convention) for layer in found.layers} == {((1.0, 1.0), "causal")}
    assert any("spatial taps" in text for layer in found.layers for text in layer.assumptions)


def test_batches_in_bf16_are_learned_from() -> None:
    problem = made()
    loss, _ = Stepper(problem, new_state(problem, problem.settings), problem.settings, precision="bf16")()
    wanted, _ = Stepper(same := made(), new_state(same, same.settings), same.settings)()
    assert loss == pytest.approx(wanted, rel=0.02)
    assert loss != wanted


def test_a_sweep_draws_the_error_of_each_digit_and_which_is_smaller(tmp_path: Path) -> None:
    problem = made()
    settings = [replace(QUICK, alpha=alpha, beta=beta) for alpha in (1.0, 10.0) for beta in (0.0, 1.0)]
    outcomes = [Outcome(each, problem, tuple(problem.measures())) for each in settings]
    assert [path.name for path in TASK.draw_sweep(outcomes, tmp_path)] == ["frames.png", "ratios.png", "errors.png", "skills.png"]
