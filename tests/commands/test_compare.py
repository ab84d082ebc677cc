"""Comparisons: what changed, by how much, and how it is worded."""

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from locations import SAMPLES
from problems import build, random_system
from program import Type, checkpoint, s4d_tensors, ssmspec
from safetensors.numpy import load_file, save_file
from scipy.stats import wasserstein_distance

from ssmspec.commands.compare import compare, history, steps_of_run
from ssmspec.errors import LayerError, SsmspecError
from ssmspec.report.documents.document import schema
from ssmspec.report.figures.compare import comparison_figure, comparison_title
from ssmspec.report.figures.history import history_figure, history_title
from ssmspec.report.figures.style import FrequencyAxis
from ssmspec.statistics import STATISTICS, LayerSpectrum
from ssmspec.statistics.changes import TRAINING_CHANGE
from ssmspec.statistics.distances import DISTANCES
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.response import squared_magnitude

BEFORE, AFTER = SAMPLES / "s4d_initial.safetensors", SAMPLES / "s4d_trained.safetensors"
GRID = FrequencyGrid.default()


def spectra(engine, before, after) -> tuple[LayerSpectrum, LayerSpectrum]:
    return LayerSpectrum(before, GRID, engine), LayerSpectrum(after, GRID, engine)


def distance(name: str, engine, before, after) -> np.ndarray:
    return DISTANCES[name].function(*spectra(engine, before, after)).values


def test_a_layer_is_at_no_distance_from_itself(rng, engine) -> None:
    for system in (
        random_system(rng),
        random_system(rng, R=1),
        random_system(rng, K=1, I=2, O=3),
        random_system(rng, discretization="direct"),
    ):
        for name in DISTANCES:
            np.testing.assert_allclose(distance(name, engine, system, system), 0, atol=1e-12)


def test_poles_moved_by_a_known_amount_are_seen_to_move_by_it(engine) -> None:
    before = build([-0.5 + 1j * 3 * n for n in range(1, 6)], np.ones((5, 1)), np.ones((1, 5)))
    after = replace(before, poles=before.poles - 0.02 + 0.05j)
    # log z = a step with step 0.1; neighbors are 0.3 apart
    moved = 0.1 * abs(-0.02 + 0.05j)
    assert distance("pole_movement", engine, before, after)[0] == pytest.approx(moved, rel=1e-12)
    assert distance("relative_pole_movement", engine, before, after)[0] == pytest.approx(moved / 0.3, rel=1e-12)


def test_poles_of_low_rank_layers_are_matched_by_assignment(rng, engine) -> None:
    system = random_system(rng, R=1)
    shuffled = replace(
        system,
        **{name: getattr(system, name)[:, ::-1] for name in ("poles", "B", "P", "Q")},
        C=system.C[:, :, ::-1],
    )
    np.testing.assert_allclose(distance("pole_movement", engine, system, shuffled), 0, atol=1e-10)


def test_crossed_share_counts_poles_that_passed_the_corner(engine) -> None:
    at = np.array([0.5, 0.7, 0.9, 2.0])
    before = build(-0.1 + 10j * at, np.ones((4, 1)), np.ones((1, 4)))
    after = replace(before, poles=-0.1 + 10j * np.array([[0.5, 0.8, 0.6, 2.1]]))
    assert distance("crossed_share", engine, before, after)[0] == pytest.approx(0.5)


def test_log_spectral_distance_of_a_gain_is_that_gain_in_decibels(rng, engine) -> None:
    system = random_system(rng)
    np.testing.assert_allclose(distance("log_spectral_distance", engine, system, replace(system, C=10 * system.C)), 20, rtol=1e-12)


def test_spectrum_distance_equals_the_wasserstein_distance_of_dense_spectra(rng, engine) -> None:
    before, after = random_system(rng, K=2), random_system(rng, K=2)
    theta = (np.arange(200_000) + 0.5) * np.pi / 200_000
    for copy, found in enumerate(distance("spectrum_distance", engine, before, after)):
        powers = [squared_magnitude(s.copy_slice(copy, copy + 1), theta[None], engine)[0] for s in (before, after)]
        assert found == pytest.approx(wasserstein_distance(theta, theta, *powers), rel=2e-3)


def test_comparison_holds_the_statistics_of_both_files() -> None:
    from ssmspec.commands.analyze import analyze

    found = compare(BEFORE, AFTER)
    for when, path in (("before", BEFORE), ("after", AFTER)):
        for layer, alone in zip(found.layers, analyze(path).layers, strict=True):
            for name in STATISTICS:
                assert getattr(layer, when).statistics[name].median == pytest.approx(alone.statistics[name].median, rel=1e-6, abs=1e-9)
    for layer in found.layers:
        start, end = layer.before.statistics["bias_slope"].median, layer.after.statistics["bias_slope"].median
        assert layer.change["bias_slope"] == pytest.approx(end - start)


def test_verdict_says_that_training_left_the_bias_as_it_was() -> None:
    result = ssmspec("compare", BEFORE, AFTER)
    assert result.code == 0, result.err
    assert "verdict: the frequency bias is unchanged" in result.out
    assert "s4_layers.0" in result.out


def test_verdict_says_that_scaled_poles_changed_the_bias(tmp_path: Path) -> None:
    tensors = load_file(AFTER)
    for name in tensors:
        if name.endswith("A_imag"):
            tensors[name] = tensors[name] * 30
    save_file(tensors, tmp_path / "alpha30.safetensors")
    result = ssmspec("compare", AFTER, tmp_path / "alpha30.safetensors")
    assert "the frequency bias changed in 2 of 2 layers" in result.out
    assert "toward high frequencies" in result.out


def test_json_fits_its_schema_and_csv_has_a_row_per_quantity(tmp_path: Path) -> None:
    result = ssmspec("compare", BEFORE, AFTER, "--json", "--csv", tmp_path / "c.csv")
    document = json.loads(result.out)
    jsonschema.validate(document, schema("compare-1"))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "c.csv").read_text())))
    assert len(rows) == 2 * (len(STATISTICS) + len(DISTANCES))


@pytest.mark.parametrize(("limit", "code"), [("log_spectral_distance=0.001", 1), ("log_spectral_distance=1000", 0), ("bias_slope=0.15", 0)])
def test_fail_above_decides_the_exit_code(limit: str, code: int) -> None:
    result = ssmspec("compare", BEFORE, AFTER, "--fail-above", limit)
    assert result.code == code
    assert ("above 0.001" in result.err) == bool(code)


def test_fail_above_an_unknown_metric_lists_the_metrics() -> None:
    result = ssmspec("compare", BEFORE, AFTER, "--fail-above", "speed=1")
    assert result.code == 2
    assert "'speed' is unknown; choose one of pole_movement" in result.err


def test_layers_that_only_one_file_has_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    a, b = checkpoint(tmp_path / "a", s4d_tensors(layers=2)), checkpoint(tmp_path / "b", s4d_tensors(layers=3))
    found = compare(a, b)
    assert [layer.name for layer in found.layers] == ["layers.0", "layers.1"]
    assert (found.only_before, found.only_after) == ((), ("layers.2",))


def test_changed_shapes_are_said_and_distances_null(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    a, b = checkpoint(tmp_path / "a", s4d_tensors(N=3)), checkpoint(tmp_path / "b", s4d_tensors(N=5))
    found = compare(a, b)
    assert "layers.0 has 4 x 3 (copies x modes) before and 4 x 5 after" in found.notes
    assert found.layers[0].distances["pole_movement"].reason == "3 modes before and 5 after: poles cannot be matched"
    assert found.layers[0].distances["log_spectral_distance"].median is not None
    jsonschema.validate(json.loads(ssmspec("compare", a, b, "--json").out), schema("compare-1"))


def test_different_architectures_share_no_names_but_can_be_paired_by_order() -> None:
    with pytest.raises(LayerError, match="share no layer name"):
        compare(BEFORE, SAMPLES / "lru_trained.npz")
    found = compare(BEFORE, SAMPLES / "lru_trained.npz", by_order=True)
    assert found.matched_by == "order"
    assert "s4_layers.0 is s4d before and lru after" in found.notes


def test_wrapped_models_are_matched_by_their_inner_names(tmp_path: Path) -> None:
    save_file({f"module.{name}": value for name, value in load_file(BEFORE).items()}, tmp_path / "ddp.safetensors")
    assert len(compare(tmp_path / "ddp.safetensors", AFTER).layers) == 2


def test_a_spoiled_layer_is_compared_with_a_reason(tmp_path: Path) -> None:
    tensors = load_file(AFTER)
    tensors["s4_layers.0.kernel.C"][:, 0] = np.nan
    save_file(tensors, tmp_path / "nan.safetensors")
    found = compare(AFTER, tmp_path / "nan.safetensors")
    assert found.layers[0].change["bias_slope"] is None
    assert "NaN" in (found.layers[0].distances["pole_movement"].reason or "")
    jsonschema.validate(json.loads(ssmspec("compare", AFTER, tmp_path / "nan.safetensors", "--json").out), schema("compare-1"))


def test_history_of_a_folder_has_a_row_per_checkpoint(tmp_path: Path) -> None:
    for name, source in (("initial", BEFORE), ("step_2", AFTER), ("step_10", AFTER), ("final", AFTER)):
        shutil.copy(source, tmp_path / f"{name}.safetensors")
    document = json.loads(ssmspec("compare", tmp_path, "--json").out)
    jsonschema.validate(document, schema("history-1"))
    assert [Path(path).name for path in document["checkpoints"]] == [
        f"{name}.safetensors" for name in ("initial", "step_2", "step_10", "final")
    ]
    slopes = [summary["median"] for summary in document["layers"][0]["statistics"]["bias_slope"]]
    assert slopes[1] == slopes[2] == slopes[3] != slopes[0]
    assert "step_10" in ssmspec("compare", tmp_path).out


def test_history_of_different_models_is_refused() -> None:
    with pytest.raises(SsmspecError, match="have different layers"):
        history([BEFORE, AFTER, SAMPLES / "lru_trained.npz"])


def test_one_checkpoint_is_nothing_to_compare() -> None:
    result = ssmspec("compare", BEFORE)
    assert result.code == 2
    assert "give two to compare" in result.err


@pytest.mark.usefixtures("blank_pictures")
def test_pictures_show_both_curves_and_the_ways_of_the_poles(tmp_path: Path) -> None:
    found = compare(BEFORE, AFTER)
    layer = found.layers[0]
    figure = comparison_figure(replace(found, layers=(layer,)), FrequencyAxis("cycles"), comparison_title(found))
    left, right = figure.axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), layer.before.curve.median)
    np.testing.assert_array_equal(left.lines[1].get_ydata(), layer.after.curve.median)
    np.testing.assert_allclose(left.lines[1].get_xdata(), GRID.values / (2 * np.pi))
    assert [len(collection.get_offsets()) for collection in right.collections] == [layer.before.poles.size] * 2
    assert figure.get_suptitle().splitlines() == ["s4d_initial.safetensors -> s4d_trained.safetensors", "s4_layers.0 (s4d)"]
    assert comparison_title(replace(found, before="a/model.pt", after="b/model.pt")) == "a/model.pt -> b/model.pt"
    assert ssmspec("compare", BEFORE, AFTER, "--plot", tmp_path).code == 0
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_history_is_drawn_over_steps_with_the_band_that_training_alone_moves() -> None:
    analyses = history([BEFORE, AFTER, AFTER])
    figure = history_figure(analyses, [0, 100, 400], "run")
    slopes, change, _ = figure.axes
    assert (slopes.get_ylabel(), slopes.get_xlabel()) == ("bias_slope [decades/decade]", "step")
    wanted = np.array([[layer.statistics["bias_slope"].median for layer in each.layers] for each in analyses]).T
    for axes, values in ((slopes, wanted), (change, wanted - wanted[:, :1])):
        np.testing.assert_allclose([line.get_ydata() for line in axes.lines], values)
        assert list(axes.lines[0].get_xdata()) == [0, 100, 400]
    (band,) = change.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((-TRAINING_CHANGE, TRAINING_CHANGE))
    assert len({tuple(line.get_color()) for line in slopes.lines}) == 2
    assert figure.get_suptitle() == "run\n3 checkpoints, steps 0 to 400"
    assert history_title(analyses) == "sample_checkpoints: s4d_initial.safetensors -> s4d_trained.safetensors"
    named = history_figure(analyses, None, "run").axes[0]
    assert [label.get_text() for label in named.get_xticklabels()] == ["...itial.safetensors", *["...ained.safetensors"] * 2]


def test_the_depth_of_many_layers_is_a_color_bar() -> None:
    (one,) = history([AFTER])
    deep = replace(one, layers=one.layers * 10)
    *panels, bar = history_figure([deep, deep], [1, 2], "run").axes
    assert bar.get_ylabel() == "depth: index of the layer"
    assert len({tuple(line.get_color()) for line in panels[0].lines}) == 20


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["initial.safetensors", "step-05.safetensors", "final.safetensors"], [0, 5, 20]),
        (["checkpoint-500/model.safetensors", "checkpoint-1000/model.safetensors"], [500, 1000]),
        (["epoch=1-step=200-v2.ckpt", "epoch=2-step=400-v1.ckpt"], [200, 400]),
        (["model_10.pt", "model_200.pt"], [10, 200]),
        (["epoch1.pt", "epoch2.pt"], None),
        (["a1.pt", "b2.pt"], None),
        (["step2.pt", "step1.pt"], None),
        (["first.pt", "second.pt"], None),
        (["hf://org/name/step-1.pt", "hf://org/name/step-2.pt"], [1, 2]),
    ],
)
def test_the_steps_of_a_run_come_from_the_names_of_its_checkpoints(tmp_path: Path, names: list[str], steps: list[int] | None) -> None:
    (tmp_path / "config.toml").write_text("[settings]\nsteps = 20\n")
    assert steps_of_run([name if "://" in name else tmp_path / name for name in names]) == steps


def test_the_last_step_of_an_unknown_run_is_not_known(tmp_path: Path) -> None:
    assert steps_of_run([tmp_path / "initial.pt", tmp_path / "final.pt"]) is None


def test_plot_compare_draws_one_or_all_layers_of_two_checkpoints(tmp_path: Path) -> None:
    result = ssmspec("plot", "compare", BEFORE, AFTER, "--layer", "s4_layers.1", "-o", tmp_path / "c.svg", "--points", 128)
    assert result.code == 0, result.err
    drawn = (tmp_path / "c.svg").read_text()
    for label in ("θ", "Re a [1/model time]", "before", "after", "s4_layers.1", "s4d_initial.safetensors -&gt; s4d_trained.safetensors"):
        assert label in drawn
    assert ssmspec("plot", "compare", BEFORE, AFTER, "-o", tmp_path / "all.svg", "--points", 128).code == 0
    drawn = (tmp_path / "all.svg").read_text()
    assert drawn.count("s4_layers.0") == drawn.count("s4_layers.1") == 1
    assert "takes 2 checkpoints, but the number given is 1" in ssmspec("plot", "compare", BEFORE).err
    assert "takes 1 checkpoint, but the number given is 2" in ssmspec("plot", "bias", BEFORE, AFTER).err


def test_low_rank_copies_with_other_numbers_of_real_poles_are_matched_eigenvalue_by_eigenvalue(engine) -> None:
    """The DPLR sample has copies with and without real poles; every one of the 2N eigenvalues is counted once, and nothing else."""
    from scipy.optimize import linear_sum_assignment

    from ssmspec.families import ReadOptions
    from ssmspec.families.layers import load_system
    from ssmspec.systems.statespace import bilinear_realization

    path = SAMPLES / "s4_dplr_trained.pt"
    for source, target in (("0", "1"), ("1", "0")):
        before, after = load_system(path, source, ReadOptions()), load_system(path, target, ReadOptions())
        found = {name: distance(name, engine, before, after) for name in ("pole_movement", "relative_pole_movement", "crossed_share")}
        for copy, matrices in enumerate(zip(bilinear_realization(before)[0], bilinear_realization(after)[0], strict=True)):
            a, b = (np.log(np.linalg.eigvals(matrix).astype(complex)) for matrix in matrices)
            rows, columns = linear_sum_assignment(np.abs(a[:, None] - b))
            moved = np.median(np.abs(b[columns] - a[rows]))
            gaps = np.abs(a[:, None] - a)
            np.fill_diagonal(gaps, np.inf)
            crossed = ((np.abs(a[rows].imag) < np.pi / 4) != (np.abs(b[columns].imag) < np.pi / 4)).mean()
            assert found["pole_movement"][copy] == pytest.approx(moved, rel=1e-8)
            assert found["relative_pole_movement"][copy] == pytest.approx(moved / np.median(gaps.min(axis=1)), rel=1e-8)
            assert found["crossed_share"][copy] == pytest.approx(crossed)


def test_eigenvalues_without_an_order_are_not_joined_by_lines() -> None:
    found = compare(SAMPLES / "s4_dplr_trained.pt", SAMPLES / "s4_dplr_trained.pt")
    for layer in found.layers:
        assert not comparison_figure(replace(found, layers=(layer,)), FrequencyAxis(), "").axes[1].lines


def test_the_tensors_that_changed_are_named_with_the_size_of_the_change(typed: Type, tmp_path: Path) -> None:
    tensors = s4d_tensors(layers=2) | {"layers.0.output_linear.weight": np.ones((4, 4), np.float32)}  # no part of the family
    changed = dict(tensors)
    changed["layers.0.output_linear.weight"] = np.full((4, 4), 1.5, np.float32)
    changed["layers.1.kernel.C"] = tensors["layers.1.kernel.C"] * np.float32(1.25)
    changed["layers.0.D"] = np.zeros_like(tensors["layers.0.D"])
    a, b = checkpoint(tmp_path, tensors, "a.safetensors"), checkpoint(tmp_path, changed, "b.safetensors")
    document = json.loads(typed("compare", a, b, "--json").out)
    jsonschema.validate(document, schema("compare-1"))
    found = {tensor["name"]: tensor["change"] for tensor in document["tensors"]}
    sizes = {"layers.1.kernel.C": 0.25, "layers.0.D": 1.0, "layers.0.output_linear.weight": 0.5}
    assert found == pytest.approx(dict.fromkeys(tensors, 0.0) | sizes, rel=1e-6)
    text = typed("compare", a, b).out
    assert "stored tensors: 3 of 11 changed (relative norm of the difference); most: layers.0.D by 1" in text
    assert "layers.1.kernel.C by 0.25" in text
    back = {tensor["name"]: tensor for tensor in json.loads(typed("compare", b, a, "--json").out)["tensors"]}
    assert back["layers.0.D"] == {"name": "layers.0.D", "name_after": "layers.0.D", "change": None, "reason": "it was zero before"}


def test_tensors_that_cannot_be_compared_are_said(typed: Type, tmp_path: Path) -> None:
    tensors = s4d_tensors()
    broken = tensors | {"layers.0.D": np.full(4, np.nan, np.float32)}
    a = checkpoint(tmp_path, tensors, "a.safetensors")
    b, c = checkpoint(tmp_path, broken, "b.safetensors"), checkpoint(tmp_path, s4d_tensors(N=5), "c.safetensors")
    assert "not compared: layers.0.D (it has values that are not finite)" in typed("compare", a, b).out
    text = typed("compare", a, c).out
    assert "layers.0.kernel.C (its shape was (4, 3, 2) and is (4, 5, 2))" in text
