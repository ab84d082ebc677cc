"""The objects that the public functions return: how they show themselves, and that their numbers are those of the commands."""

import doctest
import json
import pickle
from contextlib import chdir
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from examples_kernels import KERNELS
from locations import SAMPLES
from matplotlib.figure import Figure
from program import S4D
from program import ssmspec as typed
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_model

import ssmspec
from ssmspec import nn
from ssmspec.api.names import HOMES
from ssmspec.errors import LayerError, NoLayerError, SsmspecError
from ssmspec.nn import SequenceModel

LRU, MAMBA = SAMPLES / "lru_trained.npz", SAMPLES / "mamba1_trained.safetensors"
EXAMPLES = sorted({home for name, home in HOMES.items() if home.startswith("api.")} | {"api.layer", "api.plots"})


@pytest.fixture(scope="module")
def result() -> "ssmspec.api.analyze.Analysis":
    return ssmspec.analyze(S4D)


def test_public_names_are_few_and_each_can_be_imported() -> None:
    assert sorted(HOMES) == sorted(ssmspec.__all__)
    assert not [name for name in ssmspec.__all__ if name.endswith("Options")]


@pytest.mark.parametrize("home", EXAMPLES)
def test_examples_in_docstrings_run(home: str) -> None:
    with chdir(SAMPLES.parent):
        done = doctest.testmod(import_module(f"ssmspec.{home}"))
    assert done.attempted
    assert not done.failed


def test_a_result_is_a_short_table_of_its_layers(result: "ssmspec.api.analyze.Analysis") -> None:
    assert len(repr(result).splitlines()) == 1 + len(result)
    assert all(name in repr(result) for name in result.names)
    assert len(repr(result)) < 400
    assert repr(result[0]).startswith("<Layer s4_layers.0: s4d, 16 x 16; bias_slope -1.05")


def test_layers_are_found_by_name_index_slice_and_glob(result: "ssmspec.api.analyze.Analysis") -> None:
    assert result["s4_layers.1"] is result[1] is result[-1]
    assert [layer.name for layer in result] == list(result.names) == list(result["s4_layers.*"].names)
    assert result[1:].names == ("s4_layers.1",)
    assert "s4_layers.0" in result
    assert result[:1].to_dict()["layers"] == result.to_dict()["layers"][:1]
    with pytest.raises(KeyError, match=r"no layer is called nope; the 2 layers are s4_layers\.0"):
        result["nope"]


@pytest.mark.parametrize("path", [S4D, LRU, MAMBA])
def test_documents_are_those_of_the_command(path: Path, tmp_path: Path) -> None:
    found = ssmspec.analyze(path)
    assert found.to_json(tmp_path / "a.json") + "\n" == typed("analyze", path, "--json").out
    assert json.loads((tmp_path / "a.json").read_text()) == found.to_dict()


def test_options_are_keywords(result: "ssmspec.api.analyze.Analysis") -> None:
    found = ssmspec.analyze(MAMBA, 0, operating_point="delta=0.01", points=64, statistics="bias_slope")
    expected = json.loads(typed("analyze", MAMBA, "--layer", "0", "--operating-point", "delta=0.01", "--points", "64", "--json").out)
    assert found.to_dict()["layers"][0]["statistics"]["bias_slope"] == expected["layers"][0]["statistics"]["bias_slope"]
    assert list(found[0]) == ["bias_slope"]
    with pytest.raises(SsmspecError, match=r"there is no option pionts; choose from .*points"):
        ssmspec.analyze(S4D, pionts=64)
    with pytest.raises(SsmspecError, match="'slope' is not a statistic; choose from"):
        ssmspec.analyze(S4D, statistics=["slope"])
    with pytest.raises(SsmspecError, match="residues='mean' is unknown"):
        ssmspec.analyze(S4D, residues="mean")


def test_a_layer_gives_its_response_its_kernel_and_its_matrices(result: "ssmspec.api.analyze.Analysis") -> None:
    layer, theta = result[0], np.array([0.0, 0.3, 2.0])
    H, kernel = layer.response(theta), layer.impulse(60000)
    assert H.shape == (16, 1, 1, 3)
    assert kernel.shape == (16, 1, 1, 60000)
    by_sum = kernel @ np.exp(-1j * np.arange(60000)[:, None] * theta) + layer.system.D[..., None]
    np.testing.assert_allclose(H, by_sum, rtol=0, atol=1e-9 * np.abs(H).max())
    model = layer.to_scipy(3)
    x = np.linalg.solve(np.exp(0.3j) * np.eye(len(model.A)) - model.A, model.B)
    np.testing.assert_allclose((model.C @ x + model.D)[0, 0], H[3, 0, 0, 1], rtol=1e-10)
    np.testing.assert_allclose(complex(layer.to_control(3)(np.exp(0.3j))), H[3, 0, 0, 1], rtol=1e-10)
    with pytest.raises(LayerError, match=r"has no copy 16; choose one of 0\.\.15"):
        layer.to_scipy(16)


def test_values_of_copies_have_the_median_of_the_summary(result: "ssmspec.api.analyze.Analysis") -> None:
    for name, summary in result[0].statistics.items():
        assert np.nanmedian(result[0].values(name)) == summary.median, name


def test_tables_for_pandas(result: "ssmspec.api.analyze.Analysis") -> None:
    wide, long = result.to_dataframe(), result.to_dataframe("long")
    assert list(wide["layer"]) == list(result.names)
    assert wide["bias_slope"][1] == result[1]["bias_slope"].median
    assert len(long) == sum(len(layer) for layer in result)
    assert list(ssmspec.analyze([S4D, LRU]).to_dataframe()["checkpoint"]) == [str(S4D)] * 2 + [str(LRU)] * 2
    with pytest.raises(ValueError, match="kind='deep' is unknown"):
        result.to_dataframe("deep")


def test_arrays_and_modules_in_memory_give_the_numbers_of_a_file(tmp_path: Path, result: "ssmspec.api.analyze.Analysis") -> None:
    tensors = load_file(S4D)
    nested = {"params": tensors}
    for given in (tensors, {name: torch.from_numpy(value) for name, value in tensors.items()}, nested):
        found = ssmspec.analyze(given)
        assert [dict(layer.statistics) for layer in found] == [dict(layer.statistics) for layer in result]
    model = SequenceModel(d_input=1, d_output=1, d_model=4, n_layers=2, d_state=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = ssmspec.analyze(model)
    save_model(model, str(tmp_path / "m.safetensors"))
    assert [dict(layer.statistics) for layer in found] == [dict(layer.statistics) for layer in ssmspec.analyze(tmp_path / "m.safetensors")]
    assert found.path == "model SequenceModel"
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_beta_of_a_module_counts() -> None:
    layer = nn.S4D(4, 4, beta=-1.0, beta_convention="paper")
    assert ssmspec.analyze(layer)[0].assumptions[-1] == "beta is that of the module"


def test_a_module_that_changes_while_its_kernel_is_still_read_is_refused() -> None:
    kernel = torch.randn(1, 2, 4096)
    found = ssmspec.analyze({"layer.kernel.kernel": kernel, "layer.D": torch.ones(1, 2)}, assume={"longconv_lam": 0.003})
    kernel += 1
    with pytest.raises(SsmspecError, match=r"tensor layer\.kernel\.kernel was changed after the analysis began; analyze the model again"):
        found[0].impulse(8)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "int cannot be analyzed; give a path, an address, a torch module, or a mapping of arrays by tensor name"),
        ({}, "arrays: no array is in it; give the parameters of a model by name"),
        ({"a": np.array(["x"])}, "array a has dtype <U1, which is not a type of numbers; leave it out"),
        ({"a": torch.zeros(2).to_sparse()}, r"tensor a is not a dense tensor of numbers \(torch.float32, torch.sparse_coo\); leave it out"),
    ],
)
def test_anything_else_is_refused(given: object, message: str) -> None:
    with pytest.raises(SsmspecError, match=message):
        ssmspec.analyze(given)


def test_a_model_without_ssm_layers_is_refused() -> None:
    with pytest.raises(NoLayerError, match="model Linear: no SSM layer found: it holds 2 tensors such as bias, weight"):
        ssmspec.analyze(torch.nn.Linear(2, 2))


class Tags(HTMLParser):
    """The tags of a document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.add(tag)


def test_names_of_layers_stay_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>\x1b[31m\n"
    save_file({name.replace("s4_layers.0", hostile): value for name, value in load_file(S4D).items()}, tmp_path / "h.safetensors")
    found = ssmspec.analyze(tmp_path / "h.safetensors")
    assert Tags(found._repr_html_()).found == {"div", "strong", "table", "thead", "tbody", "tr", "th", "td"}
    assert "\x1b" not in repr(found) + found._repr_html_()
    assert len(repr(found).splitlines()) == 3


def test_comparisons_check_results_and_retuned_files_behave_like_analyses(tmp_path: Path) -> None:
    before, out = SAMPLES / "s4d_initial.safetensors", tmp_path / "o.safetensors"
    changed = ssmspec.compare(before, S4D)
    told = json.loads(typed("compare", before, S4D, "--json").out)
    assert changed.to_dict() == told
    assert len(told["tensors"]) == 14
    assert changed["s4_layers.0"] is changed[0]
    assert changed.verdict in repr(changed)
    checked = ssmspec.check(S4D, rules={"threshold": [{"statistic": "bias_slope", "max": -1.0}]})
    assert not checked.passed
    assert [each.rule for each in checked["s4_layers.1"].findings] == ["beyond-nyquist", "bias_slope-median"]
    assert "failed" in repr(checked)
    tuned = ssmspec.retune(S4D, out, alpha=2.0)
    assert tuned.output == out
    np.testing.assert_allclose(ssmspec.analyze(out)[0].poles.imag, 2 * ssmspec.analyze(S4D)[0].poles.imag, rtol=1e-7)
    assert tuned.to_dict()["schema"] == "ssmspec.retune/1"
    for each in (changed, checked, tuned):
        assert Tags(each._repr_html_()).found <= {"div", "strong", "table", "thead", "tbody", "tr", "th", "td"}
        assert len(each.to_dataframe()) == 2
        assert len(each.to_dataframe("long")) > 0
        assert each["s4_layers.*"].names == each.names
    with pytest.raises(SsmspecError, match="there is nothing to change; give alpha"):
        ssmspec.retune(S4D)
    with pytest.raises(SsmspecError, match="beta_convention='papr' is unknown; choose one of lra, paper"):
        ssmspec.retune(S4D, beta=1.0, beta_convention="papr")
    with pytest.raises(SsmspecError, match="theta_ref, bake need beta; give it too, or leave theta_ref, bake out"):
        ssmspec.retune(S4D, alpha=2.0, theta_ref=0.1, bake=True)


def test_a_result_can_be_pickled(result: "ssmspec.api.analyze.Analysis") -> None:
    assert pickle.loads(pickle.dumps(result)).to_dict() == result.to_dict()


def test_figures_are_new_or_drawn_into_given_axes(result: "ssmspec.api.analyze.Analysis") -> None:
    figure = result.plot.bias()
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")
    axes = Figure().subplots()
    assert result[:1].plot.hankel(ax=axes) is axes
    assert axes.lines
    assert {"response", "poles", "heatmap"} <= set(dir(result.plot))
    with pytest.raises(AttributeError, match="there is no figure 'pole'; choose one of"):
        result.plot.pole()
    with pytest.raises(SsmspecError, match="the figure hankel has no frequency axis"):
        result.plot.hankel(axis="cycles")
    assert result[:1].plot.poles(plane="s").axes[0].get_xlabel() == "Re a [1/model time]"
    changed = ssmspec.compare(SAMPLES / "s4d_initial.safetensors", S4D)
    assert len(changed[:1].plot().axes) == 2
    both = Figure().subplots(1, 2)
    assert changed[:1].plot(ax=both) is both


def test_a_reduced_model_behaves_like_the_others(tmp_path: Path) -> None:
    small = ssmspec.reduce(S4D, tmp_path / "small.safetensors", keep=0.5)
    assert small.output == tmp_path / "small.safetensors"
    assert [layer.modes for layer in small] == [(16, 8)] * 2
    assert ssmspec.analyze(small.output)[0].system.modes == 8
    assert small["s4_layers.0"] is small[0]
    assert list(small.to_dataframe()["modes_after"]) == [8, 8]
    assert len(small.to_dataframe("long")) == 32
    assert small.to_dict()["schema"] == "ssmspec.reduce/1"
    assert len(repr(small).splitlines()) >= 3


def test_a_configuration_is_heard_whatever_was_given(tmp_path: Path) -> None:
    tensors = KERNELS["hyena"].under("layer")
    save_file(tensors, tmp_path / "h.safetensors")
    for given in (tmp_path / "h.safetensors", tensors):
        refused = ssmspec.analyze(given)
        assert not len(refused)
        assert "hyena_shift" in refused.skipped[0]
        assert "hyena_shift" in repr(refused)
        found = ssmspec.analyze(given, config={"shift": 0.05})
        assert found[0].system.no_poles
    with pytest.raises(TypeError, match="config"):
        ssmspec.retune(S4D, alpha=2.0, config={})
