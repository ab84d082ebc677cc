"""What features carry, against NumPy; and the object that a probe returns."""

import json

import jsonschema
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from probed_models import Squashed
from torch import Tensor, nn

import ssmspec
from ssmspec.errors import SsmspecError
from ssmspec.nn import SequenceModel
from ssmspec.report.documents.document import schema


class Pictures(nn.Module):
    """(B, 2, H, W) to four outputs, by a convolution and blocks of tokens with a class token at some place."""

    def __init__(self, place: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.token, self.place = nn.Conv2d(2, 5, 3, padding=1), nn.Parameter(torch.randn(1, 1, 5)), place
        self.blocks = nn.ModuleList(nn.Linear(5, 5) for _ in range(2))

    def forward(self, u: Tensor) -> Tensor:
        x = self.first(u).flatten(2).mT
        x = torch.cat([x[:, : self.place], self.token.expand(len(x), -1, -1), x[:, self.place :]], dim=1)
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return x[:, self.place, :4]


def test_the_relative_log_amplitude_is_that_of_the_paper() -> None:
    """arXiv 2202.06709: logarithms of the amplitudes of the 2D transform, their mean over examples and channels, half the diagonal."""
    model, u = Pictures(0).double(), torch.randn(3, 2, 8, 8, dtype=torch.float64)
    kept: list[Tensor] = []
    model.blocks[0].register_forward_hook(lambda module, args, result: kept.append(result.detach()))
    model(u)
    found = ssmspec.probe(model, u, layers="blocks", axes="HW", samples=1)
    features = kept[0].numpy()[:, 1:].transpose(0, 2, 1).reshape(3, 5, 8, 8)
    shifted = np.fft.fftshift(np.log(np.abs(np.fft.fft2(features)) + 1e-6), axes=(-2, -1)).mean(axis=(0, 1))
    half = np.append(np.diagonal(shifted)[4:], np.diagonal(shifted)[0])  # from zero to Nyquist, which the shift puts first
    each = found.features["blocks.0"]
    np.testing.assert_allclose(each.relative, half - half[0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(each.theta, np.pi * np.arange(5) / 4)
    power = (np.abs(np.fft.fft2(features)) ** 2).mean(axis=(0, 1)) / 64
    np.testing.assert_allclose(each.power, np.diagonal(power)[:5], rtol=1e-10)
    assert each.notes == ("the first token is taken as that of the class and left out; 64 tokens are taken as 8 x 8, row by row",)
    assert each.error is not None


def test_a_token_in_the_middle_and_grids_that_are_not_square() -> None:
    u = torch.randn(2, 2, 4, 6)
    first = ssmspec.probe(Pictures(0), u, layers="blocks", axes="HW", samples=1, grid=(4, 6))
    middle = ssmspec.probe(Pictures(12), u, layers="blocks", axes="HW", samples=1, grid=(4, 6), class_token=12)
    np.testing.assert_allclose(first.features["blocks.0"].power, middle.features["blocks.0"].power, rtol=1e-5)
    assert middle.features["blocks.0"].notes == ()
    bare = ssmspec.probe(Pictures(0), u, layers="blocks", axes="HW", samples=1)
    assert bare.features["blocks.0"].notes == ("25 tokens are taken as 5 x 5, row by row",)  # no size tells that one is that of the class


def test_the_power_over_time_is_that_of_numpy() -> None:
    model, u = Squashed(1, 3), torch.randn(4, 64, 1, dtype=torch.float64)
    kept: list[Tensor] = []
    model.blocks[1].register_forward_hook(lambda module, args, result: kept.append(result.detach()))
    model(u)
    window = np.sin(np.pi * np.arange(64) / 64) ** 2
    transformed = np.abs(np.fft.rfft(kept[0].numpy() * window)) ** 2 / (64 * np.mean(window**2))
    found = ssmspec.probe(model, u, layers="blocks", axes="L")
    np.testing.assert_allclose(found.features["blocks.1"].power, transformed.mean(axis=(0, 1)), rtol=1e-10)
    assert found.passes == 3  # in the same passes
    with pytest.raises(SsmspecError, match="no spectra of features were measured"):
        ssmspec.probe(model, u).plot.features()
    skipped = ssmspec.probe(model, u, layers=["head", "mix"], axes="HW").skipped
    assert "features of head: its output: its shape is (4, 3); expected (B, C, H, W) or (B, tokens, C)" in skipped


@pytest.fixture(scope="module")
def model() -> SequenceModel:
    torch.manual_seed(0)
    return SequenceModel(d_input=1, d_output=2, d_model=4, n_layers=3, d_state=4)


def test_the_result_behaves_like_that_of_analyze(model: SequenceModel) -> None:
    found = ssmspec.probe(model, torch.randn(4, 128, 1), layers="blocks", axes="L")
    assert found.names == ("input", "s4_layers.0", "s4_layers.1", "s4_layers.2")
    assert found["s4_layers.1"] is found[2]
    assert found["s4_layers.*"].names == found[1:].names == found.names[1:]
    assert repr(found).startswith("model SequenceModel: frequency sensitivity from 4 places, 2 backward passes\n  input: 1 channels x 128")
    assert "<table>" in found._repr_html_()
    document = json.loads(found.to_json())
    jsonschema.validate(document, schema("probe-1"))
    assert document["models"][0]["places"][1]["name"] == "s4_layers.0"
    wide, long = found.to_dataframe(), found.to_dataframe("long")
    assert list(wide["place"]) == list(found.names)
    assert len(long) == sum(len(place.bands(2)) for place in found)


def test_figures_are_drawn_new_or_into_axes(model: SequenceModel) -> None:
    found = ssmspec.probe(model, torch.randn(4, 128, 1), layers="blocks", axes="L")
    plots = found.plot
    for figure in (plots.sensitivity(), plots.sensitivity(sample_rate=100.0), plots.features(), plots.depth()):
        assert isinstance(figure, Figure)
    pair = plots.layers(ssmspec.analyze(model))
    above, below = pair.axes
    assert above.get_xlim() == below.get_xlim()
    assert [line.get_label() for line in below.lines if str(line.get_label()).startswith("|H|")] == [
        f"|H| s4_layers.{number}" for number in range(3)
    ]
    curve = next(line for line in below.lines if line.get_label() == "|H| s4_layers.0")
    np.testing.assert_array_equal(curve.get_ydata(), ssmspec.analyze(model)[0].curve.median)
    axes = plt.figure().subplots()
    assert plots.sensitivity(ax=axes) is axes
    plt.close("all")
    with pytest.raises(SsmspecError, match="no robustness was measured"):
        plots.robustness()
