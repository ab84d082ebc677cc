"""What every command does with layers that are an explicit kernel: documents that fit their schemas, pictures, exports, and refusals."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from examples_kernels import KERNELS, KernelExample
from program import Type
from safetensors.numpy import save_file
from scipy.io import loadmat

from ssmspec.commands.analyze import AnalysisOptions
from ssmspec.commands.compare import compare
from ssmspec.families import ReadOptions
from ssmspec.report.documents.document import schema
from ssmspec.report.figures import FIGURES
from ssmspec.report.figures.compare import comparison_figure
from ssmspec.report.figures.style import FrequencyAxis

NAMES = ["hyena", "long-conv", "sgconv", "ckconv", "evo-2-hcm", "lfm2-conv"]
WITHOUT_POLES = {"poles", "sensitivity"}


def assumed(*examples: KernelExample) -> list[str]:
    return [word for example in examples for name, value in example.assume.items() for word in ("--assume", f"{name}={value}")]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """One layer per family, all of which can be read with what is assumed."""
    tensors = {key: values for name in NAMES for key, values in KERNELS[name].under(f"layers.{name}").items()}
    save_file(tensors, tmp_path / "mixed.safetensors")
    return tmp_path / "mixed.safetensors"


ASSUMED = assumed(*(KERNELS[name] for name in NAMES))


def test_documents_of_analyses_fit_the_schema(typed: Type, file: Path) -> None:
    done = typed("analyze", file, *ASSUMED, "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    jsonschema.validate(document, schema("analyze-1"))
    assert {layer["family"] for layer in document["layers"]} == {KERNELS[name].family for name in NAMES}
    for layer in document["layers"]:
        example = KERNELS[layer["name"].removeprefix("layers.")]
        assert (layer["modes"], layer["rank"], layer["discretization"], layer["delay"], layer["step"]) == (None,) * 5
        assert layer["kernel"] == {"length": example.kernel.shape[3], "first_lag": example.first_lag}
        assert layer["statistics"]["bias_slope"]["reason"] == "the layer is an explicit kernel, which has no poles"
        assert layer["statistics"]["energy_delay"]["median"] is not None


def test_documents_of_comparisons_and_histories_fit_the_schema(typed: Type, file: Path, rng: np.random.Generator) -> None:
    tensors = KERNELS["long-conv"].under("layers.0")
    moved = {name: (values * rng.uniform(0.9, 1.1, values.shape)).astype(np.float32) for name, values in tensors.items()}
    save_file(tensors, file.with_name("a.safetensors"))
    save_file(moved, file.with_name("b.safetensors"))
    words = assumed(KERNELS["long-conv"])
    document = json.loads(typed("compare", "a.safetensors", "b.safetensors", *words, "--json").out)
    jsonschema.validate(document, schema("compare-1"))
    (layer,) = document["layers"]
    assert layer["distances"]["log_spectral_distance"]["median"] > 0
    assert layer["distances"]["pole_movement"]["median"] is None
    history = json.loads(typed("compare", "a.safetensors", "b.safetensors", "a.safetensors", *words, "--json").out)
    jsonschema.validate(history, schema("history-1"))


def test_check_looks_at_every_sample_and_its_document_fits_the_schema(typed: Type, file: Path) -> None:
    passed = typed("check", file, *ASSUMED, "--format", "json")
    assert passed.code == 0, passed.out
    jsonschema.validate(json.loads(passed.out), schema("check-1"))
    tensors = {name: values.copy() for name, values in KERNELS["long-conv"].under("layers.0").items()}
    tensors["layers.0.kernel.kernel"][0, 1, 3] = np.nan
    save_file(tensors, file)
    failed = typed("check", file, *assumed(KERNELS["long-conv"]), "--format", "json")
    assert failed.code == 1
    document = json.loads(failed.out)
    jsonschema.validate(document, schema("check-1"))
    assert "values of the kernel" in failed.out
    assert not document["passed"]


def test_inspect_names_the_tensors_and_what_to_type(typed: Type, file: Path) -> None:
    document = json.loads(typed("inspect", file, "--json").out)
    layers = {layer["name"]: layer for layer in document["layers"]}
    assert layers["layers.lfm2-conv"]["problem"] is None
    assert "--assume hyena_shift=" in layers["layers.hyena"]["problem"]
    assert layers["layers.hyena"]["family"] == "hyena"


@pytest.mark.parametrize("figure", [name for name in FIGURES if name not in {"compare", "inits"}])
def test_figures_are_drawn_or_say_that_there_are_no_poles(typed: Type, file: Path, figure: str) -> None:
    done = typed("plot", figure, file, "--layer", "layers.hyena", "-o", file.with_name("out.png"), *ASSUMED)
    if figure in WITHOUT_POLES:
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "is an explicit kernel, which has no poles" in done.err
    else:
        assert done.code == 0, done.err
        assert file.with_name("out.png").read_bytes().startswith(b"\x89PNG")


def test_comparison_of_two_kernels_is_drawn_without_a_panel_of_poles(file: Path) -> None:
    options = AnalysisOptions(
        layers=("layers.sgconv",), read=ReadOptions(assume={k: v for n in NAMES for k, v in KERNELS[n].assume.items()})
    )
    found = compare(file, file, options)
    (axes,) = comparison_figure(found, FrequencyAxis(), "").axes
    assert len(axes.lines) == 2 * 3 + 1  # three copies before and after, and Nyquist


def test_commands_draw_comparisons_and_histories(typed: Type, file: Path) -> None:
    done = typed("plot", "compare", file, file, "--layer", "layers.sgconv", "-o", file.with_name("out.png"), *ASSUMED)
    assert done.code == 0, done.err
    for count in (2, 3):
        done = typed("compare", *[file] * count, "--layer", "layers.sgconv", "--plot", file.with_name(f"pictures{count}"), *ASSUMED)
        assert done.code == 0, done.err
        assert len(list(file.with_name(f"pictures{count}").iterdir())) == 1


def test_analyze_writes_its_pictures(typed: Type, file: Path) -> None:
    done = typed("analyze", file, "--layer", "layers.h*", "--plot", file.with_name("pictures"), *ASSUMED)
    assert done.code == 0, done.err
    assert {each.name for each in file.with_name("pictures").iterdir()} == {"mixed.layers.hyena.png", "mixed.overview.png"}


@pytest.mark.parametrize("name", NAMES)
def test_export_writes_the_samples(typed: Type, file: Path, name: str) -> None:
    done = typed("export", file, "--layer", f"layers.{name}", "-o", file.with_name("out.npz"), *ASSUMED)
    assert done.code == 0, done.err
    assert "so the file has its samples instead of state matrices" in done.err
    found, example = np.load(file.with_name("out.npz")), KERNELS[name]
    kernel, skip = (example.kernel, example.skip) if len(example.kernel) > 1 else (example.kernel[0], example.skip[0])
    np.testing.assert_allclose(found["kernel"], kernel, rtol=0, atol=1e-12 * np.abs(kernel).max())
    np.testing.assert_array_equal(found["D"], skip)
    assert int(found["first_lag"]) == example.first_lag


def test_export_of_one_copy_for_matlab(typed: Type, file: Path) -> None:
    done = typed("export", file, "--layer", "layers.lfm2-conv", "--copy", "1", "-o", file.with_name("out.mat"), *ASSUMED)
    assert done.code == 0, done.err
    np.testing.assert_array_equal(loadmat(file.with_name("out.mat"))["kernel"].ravel(), KERNELS["lfm2-conv"].kernel[1].ravel())


def test_horizon_cuts_no_explicit_kernel_and_that_is_said(typed: Type, file: Path) -> None:
    done = typed("analyze", file, "--horizon", "2", *ASSUMED)
    assert "--horizon 2: no layer has poles, so no kernel was cut" in done.out
    done = typed("response", file, "--layer", "layers.lfm2-conv", "--horizon", "2", "-o", file.with_name("out.npz"), *ASSUMED)
    assert "the layer is an explicit kernel, which --horizon does not cut" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("response", "--axis", "omega", "-o", "out.npz", "--layer", "layers.lfm2-conv"),
        ("retune", "--alpha", "2", "-o", "out.safetensors"),
        ("retune", "--reinit", "s4d-lin", "-o", "out.safetensors"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_what_needs_poles_or_continuous_time_is_refused_in_one_line(typed: Type, file: Path, arguments: tuple[str, ...]) -> None:
    command, *rest = arguments
    done = typed(command, file, *rest, *ASSUMED)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "explicit kernel" in done.err or "exists only in discrete time" in done.err
    assert not file.with_name(arguments[arguments.index("-o") + 1]).exists()
