"""The tasks of the Long Range Arena: published settings field by field, sizes of the models, small presets without any data."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from ssmspec.errors import SsmspecError
from ssmspec.training.engine.loop import new_state
from ssmspec.training.engine.step import Stepper, rate_factor
from ssmspec.training.kinds.published import PublishedSettings
from ssmspec.training.task import Outcome
from ssmspec.training.tasks import TASKS

# Source: arXiv 2410.02035, table of hyperparameters; AnnanYu/FreqBiasSSM, configs/experiment/lra/bias-s4-*.yaml
PAPER: dict[str, dict[str, Any]] = {
    "listops": {"alpha": 3, "d_model": 128, "norm": "batch", "prenorm": True, "lr": 0.008, "lr_ssm": 0.004, "weight_decay": 0.03},
    "text": {"alpha": 5, "d_model": 256, "norm": "batch", "prenorm": True, "lr": 0.01, "lr_ssm": 0.001, "weight_decay": 0.05},
    "retrieval": {"alpha": 3, "d_model": 128, "norm": "batch", "prenorm": True, "lr": 0.004, "lr_ssm": 0.001, "weight_decay": 0.03},
    "image": {"alpha": 3, "d_model": 512, "norm": "layer", "prenorm": False, "lr": 0.01, "lr_ssm": 0.001, "weight_decay": 0.01},
    "pathfinder": {"alpha": 3, "d_model": 256, "norm": "batch", "prenorm": True, "lr": 0.004, "lr_ssm": 0.001, "weight_decay": 0.03},
    "pathx": {"alpha": 5, "d_model": 128, "norm": "batch", "prenorm": True, "lr": 0.001, "lr_ssm": 0.001, "weight_decay": 0.03},
}
STEPS = {
    "listops": (150_000, 5000, 32),
    "text": (20_000, 2000, 32),
    "retrieval": (100_000, 5000, 64),
    "image": (180_000, 18_000, 50),
    "pathfinder": (800_000, 150_000, 50),
    "pathx": (1_250_000, 200_000, 20),
}
N_SSM = {"image": 512, "pathx": 128}
INPUTS = {"listops": 18, "text": 135, "retrieval": 98, "image": None, "pathfinder": None, "pathx": None}  # vocabularies of the releases
OUTPUTS = {"listops": 10, "image": 10}


@pytest.mark.parametrize("name", PAPER)
def test_the_paper_preset_has_the_published_settings(name: str) -> None:
    settings = TASKS[name].preset("paper")
    for field, value in PAPER[name].items():
        assert getattr(settings, field) == value, field
    assert (settings.steps, settings.warmup, settings.batch) == STEPS[name]
    assert settings.dropout == (0.1 if name == "image" else 0)
    assert (settings.step_min, settings.step_max) == (1e-4 if name == "pathx" else 1e-3, 1e-1)
    assert (settings.n_layers, settings.d_state, settings.layout, settings.bidirectional) == (6, 64, "freqbias-block", True)
    assert settings.beta_convention == "lra"
    assert settings.trainable_beta is None  # which is what the block does: a parameter
    assert settings.lr_beta == 0.01
    assert settings.lr_step == settings.lr
    assert settings.n_ssm == N_SSM.get(name, 1)


def parameters(name: str, inputs: int | None) -> int:
    """Of the published model, by hand: encoder; six blocks with C of two directions, poles, step, D, beta, GLU; norms; decoder."""
    H, N, S = PAPER[name]["d_model"], 64, N_SSM.get(name, 1)
    encoder = 2 * H if inputs is None else inputs * H
    block = 2 * (2 * H * N) + 2 * S * N + 3 * H + (H * 2 * H + 2 * H)
    norms = (6 + PAPER[name]["prenorm"]) * 2 * H
    outputs = OUTPUTS.get(name, 2)
    decoder = (4 * H * H + H) + (H * outputs + outputs) if name == "retrieval" else H * outputs + outputs
    return encoder + 6 * block + norms + decoder


@pytest.mark.parametrize("name", PAPER)
def test_the_published_model_has_its_parameters_and_runs(name: str) -> None:
    from ssmspec.nn import SequenceModel
    from ssmspec.training.kinds.own_data import make_model
    from ssmspec.training.tasks.retrieval import PairModel

    inputs = INPUTS[name]
    given = {"d_input": 1} if inputs is None else {"vocabulary": inputs}
    torch.manual_seed(0)
    kind = PairModel if name == "retrieval" else SequenceModel
    model = make_model(TASKS[name].preset("paper"), given, OUTPUTS.get(name, 2), None, kind).eval()
    assert len(parameters_to_vector(model.parameters())) == parameters(name, inputs)
    shape = (1, 2, 24) if name == "retrieval" else (1, 24)
    x = torch.zeros(*shape, dtype=torch.int64) if inputs else torch.zeros(1, 24, 1)
    with torch.no_grad():
        assert model(x).shape == (1, OUTPUTS.get(name, 2))


def test_learning_rates_rise_then_fall_as_published() -> None:
    """Linear warm-up, then half a cosine, as transformers.get_cosine_schedule_with_warmup has it."""
    from transformers import get_cosine_schedule_with_warmup

    settings = replace(TASKS["listops"].preset("small"), steps=50, warmup=7)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, 7, 50)
    for step in range(50):
        assert rate_factor(step, settings) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


def made(name: str, **changes: Any) -> Any:
    settings = replace(TASKS[name].preset("small"), **changes)
    torch.manual_seed(settings.seed)
    return TASKS[name].problem(settings, torch.device("cpu"), None)


@pytest.mark.parametrize("name", [*PAPER, "scifar"])
def test_small_presets_need_no_data_and_learn_from_a_few_steps(name: str) -> None:
    if name in ("image", "scifar"):
        pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    problem = made(name, examples=48, tests=12, steps=12, warmup=2, batch=16)
    assert problem.opening()
    step = Stepper(problem, new_state(problem, problem.settings), problem.settings)
    losses = [step()[0] for _ in range(12)]
    assert all(map(math.isfinite, losses))
    assert min(losses[-3:]) < losses[0]
    measure = problem.measures()[0]
    assert measure.name == "accuracy"
    assert 0 <= measure.value <= 1
    assert 0 < measure.baseline <= 1
    assert problem.about()["classes"]


def test_examples_depend_on_the_seed_only_and_parts_share_none() -> None:
    first, again, other = (made("listops", examples=40, tests=10, seed=seed) for seed in (1, 1, 2))
    rows = np.arange(50)
    assert torch.equal(first.examples.take(rows)[0], again.examples.take(rows)[0])
    assert first.examples.take(rows)[0].shape != other.examples.take(rows)[0].shape or not torch.equal(
        first.examples.take(rows)[0], other.examples.take(rows)[0]
    )
    symbols, lengths = first.examples.take(rows)
    whole = {tuple(row[:length].tolist()) for row, length in zip(symbols, lengths, strict=True)}
    assert len(whole) == 50
    assert set(first.training) | set(first.held_out) == set(rows.tolist())


def test_padding_counts_in_no_pooling() -> None:
    """Alone or beside a longer one, a sequence is answered alike, where no direction comes from the padding (in the original one does)."""
    problem = made("listops", examples=40, tests=10, norm="layer", bidirectional=False)
    symbols, lengths = problem.examples.take(np.arange(50))
    short = int(lengths.argmin())
    problem.model.eval()
    with torch.no_grad():
        together = problem.model(symbols, lengths)[short]
        alone = problem.model(*problem.examples.take(np.array([short])))[0]
    assert int(lengths.max()) > int(lengths.min())
    assert torch.allclose(together, alone, atol=1e-4)


def test_pairs_are_told_apart_by_both_members() -> None:
    problem = made("retrieval", examples=40, tests=10)
    x, lengths = problem.examples.take(np.arange(10))
    assert x.shape[:2] == lengths.shape == (10, 2)
    problem.model.eval()
    with torch.no_grad():
        answers = problem.model(x, lengths)
        swapped = problem.model(torch.stack([x[:, 0], x.roll(1, 0)[:, 1]], 1), torch.stack([lengths[:, 0], lengths.roll(1, 0)[:, 1]], 1))
    assert not torch.allclose(answers, swapped)


@pytest.mark.parametrize("name", ["text", "retrieval", "image", "pathfinder", "pathx", "scifar"])
def test_paper_presets_without_data_say_what_they_need(name: str) -> None:
    with pytest.raises(SsmspecError, match=r"this preset learns from .*--data"):
        TASKS[name].problem(TASKS[name].preset("paper"), torch.device("cpu"), None)


def test_listops_is_read_from_its_release_files(tmp_path) -> None:
    for part, text in (("train", "( ( ( [MAX 4 ) 3 ) ] )"), ("val", "( ( ( [MIN 4 ) 3 ) ] )"), ("test", "( ( ( [SM 4 ) 8 ) ] )")):
        value = {"train": 4, "val": 3, "test": 2}[part]
        (tmp_path / f"basic_{part}.tsv").write_text(f"Source\tTarget\r\n{text}\t{value}\r\n{text.replace('4', '9')}\t{value}\r\n")
    settings = replace(TASKS["listops"].preset("paper"), data=str(tmp_path), d_model=4, n_layers=1, d_state=2)
    problem = TASKS["listops"].problem(settings, torch.device("cpu"), None)
    assert problem.examples.inputs == {"vocabulary": 18}
    assert problem.labels.codes.tolist() == [4, 4, 2, 2]
    assert problem.training.tolist() == [0, 1]
    (tmp_path / "basic_test.tsv").write_text("Source\tTarget\n[MAX 1 2 ]\tx\n")
    with pytest.raises(SsmspecError, match=r"basic_test.tsv, line 2: expected an expression, a tab and a digit"):
        TASKS["listops"].problem(settings, torch.device("cpu"), None)


def test_ablations_draw_a_bar_per_setting(tmp_path) -> None:
    problem = made("listops", examples=40, tests=10)
    outcomes = [Outcome(replace(problem.settings, alpha=alpha), problem, tuple(problem.measures())) for alpha in (1.0, 3.0)]
    assert [path.name for path in TASKS["listops"].draw_sweep(outcomes, tmp_path)] == ["accuracy.png"]


def test_settings_are_of_the_published_kind() -> None:
    assert all(isinstance(TASKS[name].preset("small"), PublishedSettings) for name in PAPER)
