"""Where figures are drawn: into axes of the caller, or one panel per layer; size, resolution, title and style of a picture."""

import struct
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from drawing import unreadable
from locations import SAMPLES
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from program import Type, checkpoint, s4d_tensors

from ssmspec.backends import load_backend
from ssmspec.checkpoint import open_checkpoint
from ssmspec.commands.analyze import analyze
from ssmspec.commands.compare import compare, history
from ssmspec.errors import SsmspecError
from ssmspec.families import ReadOptions
from ssmspec.families.layers import find_layers, read_systems
from ssmspec.report.documents.train import Measure
from ssmspec.report.figures import FIGURES, FrequencyAxis
from ssmspec.report.figures.analyze import layer_figure, overview_figure
from ssmspec.report.figures.compare import comparison_figure
from ssmspec.report.figures.half_lives import memory_figure
from ssmspec.report.figures.history import history_figure
from ssmspec.report.figures.inits import initializations_figure
from ssmspec.report.figures.panels import of_width
from ssmspec.report.figures.predictions import confusion_figure, forecast_figure, scatter_figure
from ssmspec.report.figures.style import styled
from ssmspec.report.figures.training import (
    bars_figure,
    grid_figure,
    learning_figure,
    loss_figure,
    rows_figure,
    spectra_figure,
    sweep_figure,
)
from ssmspec.report.plot import Look, PlotOptions, plot
from ssmspec.statistics import LayerSpectrum
from ssmspec.systems.grid import FrequencyGrid

S4D = SAMPLES / "s4d_trained.safetensors"
DRAWN = [name for name, figure in FIGURES.items() if figure.function]
APART = [name for name in DRAWN if not FIGURES[name].several]
SAMPLED = FrequencyAxis()
PANELS = {"bias": 2}  # of one layer; all others have one


@cache
def layers(count: int = 2) -> tuple[LayerSpectrum, ...]:
    """The layers of the S4D sample, over and over; what was computed of them serves all tests."""
    found = open_checkpoint(S4D)
    systems = read_systems(found, find_layers(found), ReadOptions())[0]
    one = [LayerSpectrum(system, FrequencyGrid.default(64), load_backend("reference")) for system in systems]
    return tuple((one * count)[:count])


def axes_of(count: int, columns: int = 1) -> list[Axes]:
    return list(np.ravel(Figure(figsize=(8, 8)).subplots(-(-count // columns), columns)))[:count]


def words(axes: Axes) -> str:
    return " ".join(text.get_text() for text in axes.findobj(Text))


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_drawn_into_axes_that_are_given_and_returns_them(name: str) -> None:
    function = FIGURES[name].function
    assert function is not None
    (ax,) = axes_of(1)
    before = {key: value for key, value in mpl.rcParams.copy().items() if key != "backend"}
    assert function(layers(1), SAMPLED, "model.pt", ax=ax) is ax
    assert {key: mpl.rcParams[key] for key in before} == before
    assert ax.has_data()
    figure = ax.figure
    assert isinstance(figure, Figure)
    assert figure.get_suptitle() == ""
    assert not figure.legends
    assert ax.get_title() or name == "bias"
    assert "s4_layers.0" in words(ax)
    assert (ax.get_legend() is not None) == (name not in ("heatmap", "bias"))


@pytest.mark.parametrize("name", APART)
def test_several_layers_take_as_many_axes(name: str) -> None:
    function = FIGURES[name].function
    assert function is not None
    given = axes_of(2, columns=2)
    assert function(layers(2), SAMPLED, "model.pt", ax=given) is given
    assert ["s4_layers.0" in words(given[0]), "s4_layers.1" in words(given[1])] == [True, True]
    with pytest.raises(SsmspecError, match="ax holds 1 of Axes or other things; this figure needs 2 Axes, or none to make a new Figure"):
        function(layers(2), SAMPLED, "model.pt", ax=given[0])
    with pytest.raises(SsmspecError, match="ax holds 3"):
        function(layers(2), SAMPLED, "model.pt", ax=[*given, "x"])


@pytest.mark.parametrize("name", APART)
def test_small_multiples_share_limits_and_are_labeled_once(name: str) -> None:
    function = FIGURES[name].function
    assert function is not None
    with styled():
        figure = function(layers(3), SAMPLED, "model.pt")
    panels = figure.axes
    assert [axes.get_title() for axes in panels] == [f"s4_layers.{index % 2}" for index in range(3)]
    assert len({(axes.get_xlim(), axes.get_ylim(), axes.get_xscale(), axes.get_yscale()) for axes in panels}) == 1
    assert figure.get_supxlabel()
    assert figure.get_supylabel()
    assert not any(axes.get_xlabel() or axes.get_ylabel() for axes in panels)
    assert figure.get_suptitle().startswith("model.pt\n")
    assert unreadable(figure) == []


@pytest.mark.parametrize(("name", "count"), [("response", 4), ("energy", 1), ("poles", 1), ("bias", 4)])
def test_a_figure_fits_into_the_column_of_a_paper(name: str, count: int) -> None:
    function = FIGURES[name].function
    assert function is not None
    with styled(), of_width(3.4):
        figure = function(layers(count), SAMPLED, "model.pt")
    assert figure.get_figwidth() == 3.4
    assert [text for text in unreadable(figure) if isinstance(text, str)] == []  # nothing reaches over the edge


ANALYSIS = analyze(S4D)
THETA = ANALYSIS.grid.values
MEASURES = [Measure("error", 0.5, "", "an error", 0.25), Measure("skill", 0.5, "", "a skill", 0.0)]
OTHERS: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "overview": (1, lambda ax: overview_figure(ANALYSIS.layers, THETA, "model.pt", ax=ax)),
    "layer": (2, lambda ax: layer_figure(ANALYSIS.layers[0], THETA, ax=ax)),
    "layer, |H| alone": (1, lambda ax: layer_figure(ANALYSIS.layers[0], THETA, ax=ax)),
    "compare": (2, lambda ax: comparison_figure(compare(S4D, S4D), SAMPLED, "a -> b", ax=ax)),
    "history": (3, lambda ax: history_figure(history([S4D, S4D]), [1, 2], "run", ax=ax)),
    "history, bias_slope alone": (1, lambda ax: history_figure(history([S4D, S4D]), [1, 2], "run", ax=ax)),
    "inits": (18, lambda ax: initializations_figure(SAMPLED, ax=ax)),
    "memory": (1, lambda ax: memory_figure([replace(ANALYSIS.layers[0], half_lives=np.arange(1.0, 9.0))], "model.pt", 64, ax=ax)),
    "loss": (1, lambda ax: loss_figure([1, 2], [0.5, 0.25], "waves", ax=ax)),
    "spectra": (1, lambda ax: spectra_figure({"final": [THETA]}, THETA, {}, ["layer"], ax=ax)),
    "bars": (1, lambda ax: bars_figure({"a": 1.0}, axis="x", value="y", reference=("none", 0.0), ax=ax)),
    "sweep": (2, lambda ax: sweep_figure({(a, b): [a, b] for a in (1, 2) for b in (0, 1)}, ["p", "q"], quantity="e", limits=(0, 2), ax=ax)),
    "rows": (1, lambda ax: rows_figure({"a": [1.0]}, ["p"], axis="x", quantity="e", limits=(0, 2), ax=ax)),
    "grid": (2, lambda ax: grid_figure({"input": [np.zeros((2, 2, 3))] * 2}, ["p", "q"], ax=ax)),
    "learning": (2, lambda ax: learning_figure({0: MEASURES, 5: MEASURES}, ax=ax)),
    "scatter": (1, lambda ax: scatter_figure({"y": (np.arange(3.0), np.arange(3.0))}, ax=ax)),
    "confusion": (1, lambda ax: confusion_figure(np.eye(2, dtype=np.int64), ["a", "b"], ax=ax)),
    "forecast": (2, lambda ax: forecast_figure(dict.fromkeys("abc", THETA), dict.fromkeys("def", THETA), ("x", "y"), ax=ax)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_figure_takes_axes_too(name: str) -> None:
    count, function = OTHERS[name]
    given = axes_of(count)
    assert function(given) is given
    assert all(axes.has_data() for axes in given)
    figure = given[0].figure
    assert isinstance(figure, Figure)
    assert figure.get_suptitle() == ""
    assert not figure.legends
    with pytest.raises(SsmspecError, match=f"ax holds {count + 5} "):
        function(axes_of(count + 5))


# the command


def png_size(path: Path) -> tuple[int, int]:
    return struct.unpack(">II", path.read_bytes()[16:24])


def test_dpi_width_title_and_style_of_a_picture(typed: Type, tmp_path: Path) -> None:
    (tmp_path / "paper.mplstyle").write_text("axes.labelsize: 17\nsavefig.dpi: 50\nbackend: svg\n")
    style = ("--style", "paper.mplstyle")
    for out, options in (
        ("a.png", (*style, "--dpi", 40, "--width", 5)),
        ("b.png", (*style, "--width", 5)),
        ("d.svg", (*style, "--title", r"Decay of $\\Delta$ at 5 \\$".replace("\\\\", "\\"))),
        ("e.svg", ("--title", "")),
    ):
        done = typed("plot", "heatmap", S4D, "--points", 32, "-o", out, *options)
        assert (done.code, done.err) == (0, f"ssmspec: wrote {out}\n")
    assert [png_size(tmp_path / f"{name}.png")[0] for name in "ab"] == [200, 250]
    titled, bare = ((tmp_path / f"{name}.svg").read_text(encoding="utf-8") for name in "de")
    assert "Δ" in titled
    assert "17px" in titled
    assert "17px" not in bare
    assert "s4d_trained" not in titled + bare


@pytest.mark.parametrize(("line", "said"), [("axes.labelsize: red", "axes.labelsize"), ("no.such.key: 1", "no.such.key")])
def test_a_style_with_a_wrong_line_is_refused(typed: Type, tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "wrong.mplstyle").write_text(line + "\n")
    done = typed("plot", "heatmap", S4D, "--style", "wrong.mplstyle")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "wrong.mplstyle is not a matplotlib style sheet: " in done.err
    assert said in done.err
    assert not list(tmp_path.glob("*.png"))


def test_more_layers_than_can_be_read_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ssmspec.report.plot.MOST_LAYERS", 2)
    path = checkpoint(tmp_path, s4d_tensors(layers=3))
    options = PlotOptions(points=32, look=Look(dpi=30))
    assert plot("response", path, tmp_path / "x.png", options=options)[1] == ("drawn: the first 2 of 3 layers; choose others with --layer",)
    assert plot("heatmap", path, tmp_path / "y.png", options=options)[1] == ()
