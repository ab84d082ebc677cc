"""Pictures are tested on what they draw: data, labels, units, no overlapping text."""

from pathlib import Path

import numpy as np
import pytest
from drawing import labels, overlapping
from locations import SAMPLES

from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.report.figures.analyze import layer_figure, overview_figure, plot_analysis

S4D = analyze(SAMPLES / "s4d_trained.safetensors")
LRU = analyze(SAMPLES / "lru_trained.npz")
MAMBA = analyze(SAMPLES / "mamba1_trained.safetensors")
THETA = S4D.grid.values


def test_overview_draws_the_median_of_every_layer_in_decibels() -> None:
    figure = overview_figure(S4D.layers, THETA, "model")
    mesh = figure.axes[0].collections[0]
    wanted = 20 * np.log10([layer.curve.median for layer in S4D.layers])
    np.testing.assert_allclose(mesh.get_array().reshape(wanted.shape), wanted, atol=1e-9)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [layer.name for layer in S4D.layers]
    assert labels(figure) == {r"$\theta$ [rad/sample]", "layer", "$|H|$ [dB]"}


def test_layer_figure_draws_median_band_nyquist_and_poles() -> None:
    layer = S4D.layers[0]
    magnitude, poles = layer_figure(layer, THETA).axes
    median, nyquist = magnitude.lines
    np.testing.assert_array_equal(median.get_ydata(), layer.curve.median)
    np.testing.assert_array_equal(nyquist.get_xdata(), [np.pi, np.pi])
    assert magnitude.get_xscale() == magnitude.get_yscale() == "log"
    drawn = poles.collections[0].get_offsets()
    np.testing.assert_allclose(drawn, np.stack([layer.poles.real.ravel(), layer.poles.imag.ravel()], axis=1))
    assert (poles.get_xlabel(), poles.get_ylabel()) == ("Re a [1/model time]", "Im a [rad/model time]")


def test_poles_of_copies_with_steps_of_their_own_are_drawn_on_the_unit_disk() -> None:
    layer = analyze(SAMPLES / "s4d_trained.safetensors", AnalysisOptions(details="poles")).layers[0]
    assert layer.step_range[0] < layer.step_range[1]
    poles = layer_figure(layer, THETA).axes[1]
    z = layer.details.discrete_poles.ravel()
    drawn = poles.collections[0].get_offsets()
    np.testing.assert_allclose(drawn, np.stack([z.real, np.abs(z.imag)], axis=1))
    assert (poles.get_xlabel(), poles.get_ylabel()) == ("Re z", "Im z")
    mamba = analyze(SAMPLES / "mamba1_trained.safetensors", AnalysisOptions(details="poles")).layers[0]
    assert layer_figure(mamba, THETA).axes[1].get_xlabel() == "-ln |z| [1/sample]"


def test_discrete_poles_are_drawn_on_the_unit_disk() -> None:
    poles = layer_figure(LRU.layers[0], THETA).axes[1]
    circle = np.array(poles.lines[0].get_data())
    np.testing.assert_allclose((circle**2).sum(axis=0), 1)
    assert (poles.get_xlabel(), poles.get_ylabel()) == ("Re z", "Im z")


def test_real_poles_are_drawn_as_decay_rates() -> None:
    layer = MAMBA.layers[0]
    axes = layer_figure(layer, THETA).axes[1]
    assert sum(patch.get_height() for patch in axes.patches) == layer.poles.size
    assert axes.get_xlabel() == "-Re a [1/model time]"


def test_a_sample_rate_turns_the_axis_into_hertz() -> None:
    figure = layer_figure(S4D.layers[0], THETA, sample_rate=16000)
    assert figure.axes[0].get_xlabel() == "frequency [Hz]"
    assert figure.axes[0].lines[0].get_xdata()[-1] == pytest.approx(8000)


@pytest.mark.parametrize("copies", [1, 64])
def test_no_text_overlaps_at_one_and_at_64_layers(copies: int) -> None:
    layers = (S4D.layers * 32)[:copies]
    assert overlapping(overview_figure(layers, THETA, "a checkpoint with a rather long name.safetensors")) == []
    assert overlapping(layer_figure(layers[0], THETA)) == []


def test_pictures_are_written_whole_under_names_of_their_layers(tmp_path: Path) -> None:
    written = plot_analysis(S4D, tmp_path / "new" / "folder", "s4d")
    assert [path.name for path in written] == ["s4d.overview.png", "s4d.s4_layers.0.png", "s4d.s4_layers.1.png"]
    for path in written:
        assert path.read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 3
