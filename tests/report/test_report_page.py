"""A report is one file that holds the numbers of `--json`, loads nothing, and takes every name for text."""

import base64
import json
import sys
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from locations import ROOT, SAMPLES
from program import Type, checkpoint, s4d_tensors
from reports import HOSTILE, Page, deepened, explicit, hostile, page_of, report_of, run_folder, unpacked

from ssmspec.commands.report import Report, report
from ssmspec.errors import SsmspecError, printable
from ssmspec.report.documents.analyze import analysis_document
from ssmspec.report.html.data import report_data, shown_steps
from ssmspec.report.html.packing import bins_of, first_modes, highest, histogram, packed, sampled
from ssmspec.report.html.page import _eager, load_libraries, own_script
from ssmspec.report.html.summary import summary_of
from ssmspec.statistics import STATISTICS
from ssmspec.systems.grid import FrequencyGrid

pytest.importorskip("plotly", reason="the extra report is not installed")
pytest.importorskip("jinja2", reason="the extra report is not installed")

S4D, BEFORE, AFTER = "s4d_trained.safetensors", "waves_biased.safetensors", "waves_retuned.safetensors"


@pytest.fixture(scope="module")
def one() -> Report:
    return report_of(S4D)


@pytest.fixture(scope="module")
def pair() -> Report:
    return report_of(BEFORE, AFTER)


def lines_of(found: Report) -> dict[str, tuple[str, ...]]:
    from ssmspec.report.html.data import rows_of

    return {section.title: section.lines for section in summary_of(found, rows_of(found, shown_steps(found)))}


# --- numbers ---


@given(st.lists(st.floats(-1e308, 1e308), min_size=1, max_size=20))
def test_packed_numbers_keep_seven_digits_of_the_largest(numbers: list[float]) -> None:
    values = np.array(numbers)
    assert np.abs(unpacked(packed(values)) / 2 - values / 2).max() <= 2**-24 * np.abs(values / 2).max()


def test_thinned_curve_keeps_every_peak(rng: np.random.Generator) -> None:
    values = rng.random(1000)
    values[417] = 50
    bins = bins_of(len(values), 256)
    places = highest(values, bins)
    assert 417 in places
    assert [values[place] for place in places] == [values[a:b].max() for a, b in pairwise(bins)]


def test_sample_of_poles_has_the_extremes_and_all_frequencies(rng: np.random.Generator) -> None:
    poles = -rng.random(5000) + 1j * np.linspace(0, 9, 5000)
    places = sampled(poles, 100)
    assert 90 <= len(places) <= 100
    assert {int(poles.real.argmin()), int(poles.real.argmax())} <= set(places)
    assert np.diff(np.sort(poles[places].imag)).max() < 2 * 9 / 97
    assert sampled(poles[:60], 100).tolist() == list(range(60))


def test_histogram_counts_every_value(rng: np.random.Generator) -> None:
    for values in (rng.lognormal(0, 3, 500), np.full(7, 2.5), rng.uniform(1, 2, 50), np.array([-1.0, 0, 3])):
        found = histogram(values, values)
        assert sum(found["counts"]) == len(values)
        assert found["edges"] == sorted(found["edges"])


def test_first_modes_begin_at_the_largest_and_end_at_the_last() -> None:
    assert first_modes(10).tolist() == list(range(10))
    assert first_modes(1000)[:20].tolist() == list(range(20))
    assert first_modes(1000)[-1] == 999


# --- data ---


def test_statistics_are_those_of_json(one: Report) -> None:
    document, found = analysis_document(one.last), report_data(one)
    names = [entry["name"] for entry in found["statistics"]]
    assert names == list(STATISTICS)
    for layer, stored in zip(document["layers"], found["layers"][0], strict=True):
        for name, cell in zip(names, stored["statistics"], strict=True):
            summary = layer["statistics"][name]
            if summary["median"] is None:
                assert found["texts"][cell] == printable(summary["reason"])
            else:
                assert cell == [value for value in (summary["median"], summary["p5"], summary["p95"]) if value is not None]


def test_curves_are_those_of_the_analysis(one: Report) -> None:
    found, theta = report_data(one), FrequencyGrid.default().values
    np.testing.assert_allclose(unpacked(found["grid"]["theta"]), theta, rtol=1e-7)
    for layer, stored in zip(one.last.layers, found["layers"][0], strict=True):
        places = np.frombuffer(base64.b64decode(stored["curve"]["places"]), "<u2") + np.array(found["grid"]["bins"][:-1])
        assert len(places) == 256
        for name in ("median", "p5", "p95"):
            values = getattr(layer.curve, name)
            np.testing.assert_allclose(unpacked(stored["curve"][name]), values[places], atol=1e-7 * values.max())


def test_poles_of_both_planes_belong_together(one: Report) -> None:
    """exp(step a) of every pole that is stored, for the step of its copy, up to the mirror image of an alias."""
    for layer, stored in zip(one.last.layers, report_data(one)["layers"][0], strict=True):
        s, z = ([a + 1j * b for a, b in zip(*map(unpacked, stored["poles"][plane]), strict=True)] for plane in ("s", "z"))
        assert stored["poles"]["shown"] == stored["poles"]["count"] == layer.copies * layer.modes
        known = layer.poles.ravel()
        np.testing.assert_allclose(s, known, rtol=1e-5, atol=1e-5)
        assert np.abs(z).max() < 1
        assert np.imag(z).min() >= 0
        steps = np.log(np.abs(z)) / np.real(s)
        low, high = layer.step_range
        assert low * 0.999 < steps.min() < low * 1.01
        assert high * 0.99 < steps.max() < high * 1.001


def test_explicit_kernels_and_selective_layers_are_shown(tmp_path: Path) -> None:
    found = report_data(explicit(tmp_path))
    (layer,) = found["layers"][0]
    assert layer["poles"] is None
    assert layer["curve"] is not None
    assert layer["hankel"] is not None
    assert (
        found["texts"][layer["statistics"][list(STATISTICS).index("bias_slope")]] == "the layer is an explicit kernel, which has no poles"
    )
    selective = report_data(report_of("mamba1_trained.safetensors"))
    for layer in selective["layers"][0]:
        assert sum(layer["poles"]["rates"]["counts"]) == sum(layer["poles"]["lives"]["counts"]) == layer["poles"]["count"] == 256
        assert layer["lives"]["count"] == 32
        assert [tokens for tokens, _ in layer["memory"]] == [1024, 4096, 32768]
    assert all(row["operatingPoint"].startswith("bias point") for row in selective["rows"])


def test_what_has_no_value_is_null_with_its_reason() -> None:
    found = report_data(report_of("s5_trained.msgpack"))
    broken = found["layers"][0][1]
    assert broken["curve"] is None
    assert broken["hankel"] is None
    assert all("do not decay" in found["texts"][cell] for cell in broken["statistics"])
    assert "do not decay" in found["texts"][broken["problem"]]
    assert "do not decay" in found["texts"][broken["hankelMissing"]]


def test_two_checkpoints_have_verdict_changes_and_distances(pair: Report) -> None:
    assert pair.comparison is not None
    found = report_data(pair)
    assert found["comparison"]["verdict"] == pair.comparison.verdict
    (line,) = found["comparison"]["layers"]
    slopes = [analysis.layers[0].statistics["bias_slope"].median for analysis in pair.analyses]
    assert line["changes"][list(STATISTICS).index("bias_slope")] == slopes[1] - slopes[0]
    assert line["distances"][0] == [getattr(pair.comparison.layers[0].distances["pole_movement"], k) for k in ("median", "p5", "p95")]


def test_layers_of_only_one_checkpoint_are_rows_too(tmp_path: Path) -> None:
    long, short = checkpoint(tmp_path, s4d_tensors(layers=3), "a.safetensors"), checkpoint(tmp_path, s4d_tensors(layers=1), "b.safetensors")
    found = report_data(report([long, short]))
    assert [row["name"] for row in found["rows"]] == ["layers.0", "layers.1", "layers.2"]
    assert [layer is None for layer in found["layers"][1]] == [False, True, True]
    assert any(line.startswith("Only in ") and "layers.2" in line for line in lines_of(report([long, short]))["What changed"])


def test_run_has_its_steps_and_medians(tmp_path: Path) -> None:
    found = report([run_folder(tmp_path / "run")])
    document = report_data(found)
    assert document["kind"] == "run"
    assert [each["step"] for each in document["checkpoints"]] == [0, 10, 20, 30]
    for name, layers in document["history"]["medians"].items():
        for row, values in enumerate(layers):
            assert values == [analysis.layers[row].statistics[name].median for analysis in found.analyses]
    assert len(found.checks) == 1


def test_long_run_is_thinned_and_says_so(one: Report) -> None:
    long = Report(analyses=tuple(replace(one.last, path=f"step-{n}.safetensors") for n in range(200)))
    shown = shown_steps(long)
    assert len(shown) == 64
    assert (shown[0], shown[-1]) == (0, 199)
    assert any(line.startswith("figures: 64 of 200 checkpoints") for line in lines_of(long)["Notes"])
    assert len(report_data(long)["history"]["medians"]["bias_slope"][0]) == 200


# --- the file ---


@pytest.mark.parametrize("checkpoints", [1, 2])
def test_sixty_four_layers_stay_below_six_megabytes(tmp_path: Path, checkpoints: int) -> None:
    """Layers with thousands of poles and every number in full length."""
    paths = []
    for place in range(checkpoints):
        tensors = s4d_tensors(H=48, N=32)
        noise = np.random.default_rng(place)
        tensors["layers.0.kernel.A_imag"] += noise.normal(size=(48, 32)).astype(np.float32)
        paths.append(checkpoint(tmp_path, tensors, f"{place}.safetensors"))
    content = page_of(deepened(report(paths), 64))
    assert len(content) < 6_000_000
    data = Page(content).data
    assert len(data["rows"]) == 64
    assert 0.95 < data["layers"][0][0]["poles"]["shown"] / (250 / checkpoints) <= 1
    assert data["layers"][0][0]["poles"]["count"] == 48 * 32


def test_the_function_of_plotly_is_put_in_parentheses_and_another_form_stays() -> None:
    known = 'head(self, () => {\n"use strict";body();\nreturn Plotly;\n}));\n'
    assert _eager(known) == 'head(self, (() => {\n"use strict";body();\nreturn Plotly;\n})));\n'
    for other in ("body();", known + "more();", "x" * 2000 + known, known.replace("}));", "})();")):
        assert _eager(other) == other
    assert _eager(load_libraries().plotly_js) != load_libraries().plotly_js


def test_policy_allows_the_two_scripts_and_nothing_else(one: Report) -> None:
    page = Page(page_of(one))
    (policy,) = [a["content"] for a, _ in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    scripts = [text for attributes, text in page.all("script") if "type" not in attributes]
    assert scripts[1] == own_script()
    hashes = [f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'" for text in scripts]
    assert rules == {
        "default-src": "'none'",
        "script-src": " ".join(hashes),
        "style-src": "'unsafe-inline'",
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    addresses = [value for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href", "action")]
    assert addresses
    assert all(value.startswith("#") for value in addresses)
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_every_statistic_is_defined_in_the_page(one: Report) -> None:
    defined = {attributes.get("id") for attributes, _ in Page(page_of(one)).all("tr")}
    assert {f"definition-{name}" for name in STATISTICS} <= defined


def test_names_are_text(tmp_path: Path, one: Report) -> None:
    content = page_of(report([hostile(tmp_path)]))
    page, usual = Page(content), Page(page_of(one))
    assert {row["name"] for row in page.data["rows"]} == {printable(f"{name}.{place}") for place, name in enumerate(HOSTILE)}
    kinds = [tag for tag, _ in page.elements if tag not in ("li", "ul", "h3")]
    assert kinds == [tag for tag, _ in usual.elements if tag not in ("li", "ul", "h3")]
    raw = content.decode().partition('id="data">')[2].partition("</script>")[0]
    assert raw.isascii()
    assert not set("<>&") & set(raw)
    assert page.all("title")[0][1] == "<i>file&.safetensors - ssmspec report"


def test_assumptions_findings_and_notes_are_said() -> None:
    found = lines_of(report_of("s5_trained.msgpack"))
    assert any("--assume discretization=bilinear" in line for line in found["What was assumed"])
    assert any(line.startswith("error, unstable-pole (") for line in found["What the rules found"])
    assert any(line.startswith("no numbers for encoder.layers_1.seq") for line in found["Notes"])
    assert any("optimizer state" in line for line in found["Notes"])
    assert found["What the layers prefer"][0].startswith(
        "Low frequencies are easier to learn than high ones in the layer: bias_slope is -1.16"
    )


def test_a_layer_that_differs_stands_out_and_alike_ones_do_not(one: Report) -> None:
    alike = deepened(one, 8)
    assert lines_of(alike)["What stands out"][0].startswith("No layer")
    first = alike.last.layers[0]
    slope = first.statistics["bias_slope"]
    odd = replace(first, name="odd", statistics={**first.statistics, "bias_slope": replace(slope, median=1.0)})
    changed = replace(alike, analyses=(replace(alike.last, layers=(*alike.last.layers[:-1], odd)),))
    (line,) = lines_of(changed)["What stands out"]
    assert line.startswith("odd: its frequency bias (bias_slope) of 1 decades/decade is unusually high")


# --- the command ---


def test_command_writes_a_page_and_replaces_only_pages(typed: Type, tmp_path: Path) -> None:
    path = checkpoint(tmp_path, s4d_tensors())
    done = typed("report", path, "--points", 64)
    assert (done.code, done.err) == (0, "ssmspec: wrote model.report.html\n")
    assert Page((tmp_path / "model.report.html").read_bytes()).data["rows"][0]["name"] == "layers.0"
    assert typed("report", path, "--points", 64, "-o", "model.report.html").code == 0
    assert typed("report", path, "--points", 64, "-o", "new/deep/x.html").code == 0
    (tmp_path / "index.html").write_text("<p>mine</p>", encoding="utf-8")
    for name, words in (("index.html", "is not a report"), ("x.png", "end it in .html"), ("-", "end it in .html")):
        done = typed("report", path, "-o", name)
        assert done.code == 2
        assert words in done.err
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == "<p>mine</p>"


def test_command_takes_a_sample_rate_and_a_run(typed: Type, tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run")
    assert typed("report", folder, "--sample-rate", 100, "--points", 32, "-o", "run.html").code == 0
    page = Page((tmp_path / "run.html").read_bytes())
    assert page.data["sampleRate"] == 100
    assert any("Hz" in text for _, text in page.all("li"))
    done = typed("report", folder, "--by-order", "-o", "run.html")
    assert done.code == 2
    assert "--by-order pairs the layers of two checkpoints, and 4 are given" in done.err


def test_unusable_checkpoint_is_shown_and_reported(typed: Type, tmp_path: Path) -> None:
    tensors = s4d_tensors()
    tensors["layers.0.kernel.log_dt"][:] = np.nan
    done = typed("report", checkpoint(tmp_path, tensors), "-o", "x.html")
    assert done.code == 2
    assert done.err.count("\n") == 2
    page = Page((tmp_path / "x.html").read_bytes())
    assert page.data["layers"][0][0]["curve"] is None
    assert any("NaN" in text for _, text in page.all("li"))


def test_commands_of_the_page_in_the_documentation_run(typed: Type) -> None:
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    commands = [line.split()[1:] for line in text.splitlines() if line.startswith("ssmspec ")]
    assert len(commands) == 2
    for words in commands:
        assert typed(*(word.replace("sample_checkpoints", str(SAMPLES)) for word in words)).code == 0
    assert Page(Path("retuned.html").read_bytes()).data["kind"] == "pair"


@pytest.mark.parametrize("name", ["plotly", "jinja2"])
def test_missing_extra_is_one_line_with_the_command(typed: Type, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, f"{name}.offline", None)
    done = typed("report", SAMPLES / S4D, "-o", "x.html")
    assert done.code == 2
    assert done.err == f"ssmspec: a report needs {name}, which is not installed; type: pip install 'ssmspec[report]'\n"
    assert not Path("x.html").exists()


def test_a_library_that_would_end_its_element_is_refused(one: Report) -> None:
    from ssmspec.report.html.page import report_page

    with pytest.raises(SsmspecError, match="has an end tag"):
        report_page(one, replace(load_libraries(), plotly_js="x = '</SCRIPT>'"))


def test_document_is_json_without_nan(one: Report) -> None:
    json.dumps(report_data(one), allow_nan=False)
