"""Damaged files of a run folder, from which a run is resumed: they are read, or refused in one line with the file's name."""

from pathlib import Path

import numpy as np
import pytest
from guard import command, guarded
from mutations import mutate
from outputs import LITTLE

from ssmspec.errors import SsmspecError
from ssmspec.training.engine.loop import new_state
from ssmspec.training.engine.record import Metrics, read_metrics
from ssmspec.training.engine.run import make_problem
from ssmspec.training.engine.run_folder import CONFIG, METRICS, STATE, read_config
from ssmspec.training.engine.state import load_state
from ssmspec.training.engine.step import ALONE

NAMES = (CONFIG, METRICS, STATE)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("run") / "run"
    assert command(folder.parent, "train", "waves", *LITTLE, "--out", folder, watched=False).code == 0
    return folder


def resume(folder: Path) -> int:
    """Read what a run resumes from. Returns the step at which it resumes."""
    config = read_config(folder)
    state = new_state(make_problem(config, folder), config.settings)
    load_state(folder / STATE, state, ALONE)
    Metrics(folder / METRICS).cut(state.step)
    assert all(isinstance(line["step"] + line["loss"], float) for line in read_metrics(folder / METRICS))
    return state.step


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_run_is_resumed_or_refused_in_one_line(name: str, run: Path, tmp_path: Path) -> None:
    whole = {file: (run / file).read_bytes() for file in NAMES}
    refusals = []
    for number in range(80):
        for file, data in whole.items():
            (tmp_path / file).write_bytes(data)
        (tmp_path / name).write_bytes(mutate(whole[name], list(whole.values()), np.random.default_rng(number)))
        try:
            with guarded(tmp_path):
                assert 0 <= resume(tmp_path) <= 6
        except SsmspecError as error:
            refusals.append(str(error))
    assert all(name in text and text.isprintable() for text in refusals)
    assert len(refusals) < 75
    assert len(refusals) > 5 or name == METRICS  # which skips damaged lines


@pytest.mark.parametrize(
    "line",
    ["[" * 100_000, '{"step": 1}', '{"step": 1, "loss": "low"}', '{"step": 1e400, "loss": 1.0}', "\x00", '{"step": true, "loss": 1.0}'],
)
def test_metrics_that_say_nothing_are_left_out(line: str, tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text(f'{line}\n{{"step": 2, "loss": 0.5}}\n')
    assert read_metrics(tmp_path / METRICS) == [{"step": 2, "loss": 0.5}]
