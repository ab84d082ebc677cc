"""Pictures and the progress bar of training."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from drawing import overlapping

from ssmspec.report.documents.train import Measure
from ssmspec.report.figures.predictions import confusion_figure, forecast_figure
from ssmspec.report.figures.style import save
from ssmspec.report.figures.training import bars_figure, grid_figure, learning_figure, loss_figure, spectra_figure, sweep_figure
from ssmspec.report.training_progress import TrainingProgress
from ssmspec.training.engine.record import Metrics, read_metrics


def test_a_sweep_over_all_pairs_has_a_panel_per_name_with_alpha_up(tmp_path: Path) -> None:
    means = {(alpha, beta): [alpha + beta, 0.0] for alpha in (1.0, 10.0) for beta in (0.0, 1.0)}
    figure = sweep_figure(means, ["8 rad/model time", "64 rad/model time"], quantity="error", limits=(0.0, 0.25))
    first, second, bar = figure.axes
    assert (first.get_title(), second.get_title()) == ("8 rad/model time", "64 rad/model time")
    assert bar.get_ylabel() == "error\n(pointed: larger values beyond)"
    assert len(bar.patches) == 1  # the pointed end
    assert [label.get_text() for label in first.get_yticklabels()] == ["10", "1"]
    np.testing.assert_array_equal(first.images[0].get_array(), [[10, 11], [1, 2]])
    save(figure, tmp_path / "sweep.png")


def test_a_sweep_over_single_pairs_has_a_row_per_pair() -> None:
    figure = sweep_figure({(1.0, 0.0): [0.1, 0.2], (100.0, 1.0): [0.2, 0.0]}, ["8", "64"], quantity="error", limits=(0.0, 0.25))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["1, 0", "100, 1"]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), [[0.1, 0.2], [0.2, 0.0]])


def test_bars_show_means_and_every_seed() -> None:
    axes = bars_figure({"a": [1.0, 3.0], "b": [2.0, 2.0]}, axis="setting", value="ratio", reference=("none", 0.0)).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [2, 2]
    assert [list(line.get_ydata()) for line in axes.lines] == [[1, 3], [2, 2], [0, 0]]


def test_the_loss_is_drawn_with_its_median() -> None:
    losses = np.ones(100)
    losses[10] = 50.0
    step, median = loss_figure(np.arange(1, 101), losses, "waves").axes[0].lines
    assert step.get_ydata().max() == 50
    assert len(median.get_ydata()) == 50


def test_spectra_have_a_curve_per_time_and_a_line_per_mark() -> None:
    theta = np.geomspace(0.01, np.pi, 20)
    axes = spectra_figure({"initial": [theta], "final": [2 * theta]}, theta, {"8 rad/model time": 0.3}, ["layer"]).axes[0]
    assert [line.get_label() for line in axes.lines if len(line.get_xdata()) == 20] == ["initial", "final"]
    assert [text.get_text() for text in axes.texts] == ["8 rad/model time"]


def test_learning_is_drawn_over_steps_under_what_was_measured() -> None:
    def measures(error: float) -> list[Measure]:
        meaning = "mean absolute error of the amplitude of 8 rad/model time; the baseline: always 1/2"
        return [Measure("error_8", error, "", meaning, 0.25), Measure("skill", error - 0.5, "", "1 - squared error", 0.0)]

    figure = learning_figure({0: measures(0.9), 10: measures(0.5), 400: measures(0.01)})
    error, skill = figure.axes
    assert list(error.lines[0].get_xdata()) == [0, 10, 400]
    assert error.get_title("left") == "mean absolute error of the amplitude of 8 rad/model time"
    assert (error.get_yscale(), skill.get_yscale()) == ("log", "linear")
    assert (error.get_ylabel(), skill.get_xlabel()) == ("error", "step")
    assert overlapping(figure) == []


@pytest.mark.parametrize(("classes", "turned"), [(("0", "1", "2"), 0), (("a rather long name", "b", "c"), 90)])
def test_names_of_classes_stand_upright(classes: tuple[str, ...], turned: int) -> None:
    figure = confusion_figure(np.diag([3, 4, 5]), classes)
    assert {label.get_rotation() for label in figure.axes[0].get_xticklabels()} == {turned}
    assert overlapping(figure) == []


def test_a_forecast_has_its_unit_and_its_baseline() -> None:
    curves = {"data": np.arange(5.0), "forecast": np.arange(5.0) + 1, "baseline": np.arange(5.0) - 1}
    errors = {"model": np.array([1.0, 2.0]), "last value": np.array([1.0, 3.0]), "mean": np.array([2.0, 2.0])}
    figure = forecast_figure(curves, errors, ("membrane potential [mV]", "mV"))
    series, ahead = figure.axes
    assert (series.get_ylabel(), ahead.get_ylabel()) == ("membrane potential [mV]", "root mean square error [mV]")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(curves)
    assert "model 1, last value 1, mean 2" in series.get_title()


def test_the_grid_names_rows_and_columns() -> None:
    axes = grid_figure({"input": [np.zeros((4, 3, 3))] * 2, "alpha 1": [np.ones((4, 3, 3))] * 2}, ["clean", "noisy"]).axes
    assert [axis.get_ylabel() for axis in axes] == ["input", "", "alpha 1", ""]
    assert [axis.get_title() for axis in axes] == ["clean", "noisy", "", ""]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal(), True), (io.StringIO(), False)])
def test_progress_shows_steps_loss_and_times_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, shown: bool) -> None:
    for name, value in {"TERM": "xterm", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stderr", stream)
    with TrainingProgress("waves", 0, 10) as progress:
        progress(10, 0.125, 0.002)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert all((part in text) == shown for part in ("waves", "10/10", "loss 0.125", "2 ms/step", "0:00:00"))


def test_progress_says_how_much_time_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    for name, value in {"TERM": "xterm", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stderr", stream)
    with TrainingProgress("waves", 100, 300) as progress:
        progress(200, 0.5, 2.5)
    assert "200/300 loss 0.5 2500 ms/step 0:04:10 left" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_lines_of_steps_that_will_be_done_again_and_broken_ones_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(1, 6)) + '{"step": 6, "lo')
    Metrics(path).cut(3)
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3]
    assert path.read_text().count("\n") == 3
