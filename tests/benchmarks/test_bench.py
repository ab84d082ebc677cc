"""Benchmarks at tiny sizes: what they report and refuse. No test asserts a speed."""

import ctypes
import json
import math
import runpy
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ssmspec.backends import reference
from ssmspec.benchmarks import catalogue, cauchy, responses, s4d_step, sizes
from ssmspec.benchmarks import cauchy_cpp as compiled
from ssmspec.benchmarks import cauchy_gpu as gpu
from ssmspec.benchmarks.catalogue import BENCHMARKS, choose, run_benchmarks
from ssmspec.benchmarks.contest import Benchmark, Contest, PeerMissing, measure, require_agreement
from ssmspec.benchmarks.growth import SCALINGS, exponent
from ssmspec.benchmarks.hardware import cpu_model
from ssmspec.benchmarks.pairs import SHORTEST, Timing, median_seconds, time_pairs
from ssmspec.benchmarks.sizes import CheckpointSize, Sizes, StepSize
from ssmspec.cli import whole_app
from ssmspec.cli.terminal import run as run_app
from ssmspec.errors import SsmspecError
from ssmspec.report.documents.bench import bench_document
from ssmspec.report.documents.document import schema
from ssmspec.report.tables.bench import seconds_text

STEP = StepSize(B=2, H=3, N=2, L=16)
TINY = Sizes(
    K=3,
    N=2,
    F=8,
    step=STEP,
    step_long=replace(STEP, L=40),
    step_n64=replace(STEP, N=4),
    checkpoint=CheckpointSize(layers=2, H=2, N=3),
    balance=(2, 3),
    sweep_step=STEP,
    sweep={"N": (2, 4), "F": (8, 16), "K": (2, 4), "L": (8, 16)},
)
REQUIRED = {"cauchy_float64_vs_torch", "cauchy_float32_vs_torch", "cauchy_vs_python_control", "s4d_step_vs_naive"}


class FakeClock:
    """A clock that only moves when a side is called, by the next of its durations."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def side(self, name: str, *seconds: float) -> Callable[[], None]:
        left = iter(seconds)

        def call() -> None:
            self.calls.append(name)
            self.now += next(left)

        return call


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "USUAL", TINY)
    monkeypatch.setattr("ssmspec.benchmarks.pairs.SHORTEST", 0.0)


def bench(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(whole_app(), ["bench", "--rounds", "1", *arguments])
    if isinstance(done.exception, SsmspecError):
        return done.exception.exit_code, str(done.exception)
    return done.exit_code, done.output


def test_pairs_are_interleaved_and_ratios_are_medians_of_pairs() -> None:
    clock = FakeClock()
    timing = time_pairs(clock.side("ours", 1, 1, 2, 4), clock.side("peer", 1, 10, 30, 16), rounds=3, clock=clock)
    assert clock.calls == ["ours", "peer"] * 4  # one call of each is the warm-up
    assert timing == Timing(ours=(1, 2, 4), peer=(10, 30, 16))
    assert timing.ratio == 10  # of 10, 15 and 4; the ratio of the medians would be 8
    assert timing.spread == pytest.approx((4 + 0.2 * 6, 10 + 0.8 * 5))
    assert (timing.ours_seconds, timing.peer_seconds) == (2, 16)


def test_fast_calls_are_repeated_and_counted_per_call() -> None:
    clock = FakeClock()
    quarter = SHORTEST / 4
    timing = time_pairs(clock.side("ours", *[quarter] * 5), clock.side("peer", 1, 3), rounds=1, clock=clock)
    assert clock.calls == ["ours", "peer", "ours", "ours", "ours", "ours", "peer"]
    assert timing.ours_seconds == pytest.approx(quarter)


def test_an_extrapolated_peer_is_charged_for_the_whole_work() -> None:
    clock = FakeClock()
    timing = time_pairs(clock.side("ours", 1, 1), clock.side("peer", 3, 3), rounds=1, peer_share=1 / 8, clock=clock)
    assert timing.ratio == 24


def test_median_seconds_leaves_the_first_call_out() -> None:
    clock = FakeClock()
    assert median_seconds(clock.side("side", 100, 1, 9, 2), rounds=3, clock=clock) == 2


def test_default_run_reports_every_required_ratio_in_its_schema(tiny: None) -> None:
    code, output = bench("--json")
    document = json.loads(output)
    assert code == 0
    jsonschema.validate(document, schema("bench-1"))
    names = {result["name"] for result in document["results"]}
    assert names >= REQUIRED
    assert names | {item["name"] for item in document["skipped"]} == set(choose((), full=False))
    for result in document["results"]:
        assert 0 < result["spread"]["p10"] <= result["ratio"] <= result["spread"]["p90"] < math.inf
        assert result["difference"] <= result["tolerance"] <= 1e-3


@pytest.mark.parametrize("name", [name for name, entry in BENCHMARKS.items() if entry.full])
def test_benchmarks_of_the_full_run_agree_with_their_peers(tiny: None, name: str) -> None:
    (result,) = run_benchmarks([name], rounds=1).results
    assert 0 < result.ratio < math.inf
    assert result.difference <= result.tolerance


def test_scaling_runs_report_seconds_at_every_size(tiny: None) -> None:
    code, output = bench("--only", "scaling_*", "--json")
    document = json.loads(output)
    assert code == 0
    jsonschema.validate(document, schema("bench-1"))
    assert [entry["name"] for entry in document["scaling"]] == list(SCALINGS)
    for entry in document["scaling"]:
        assert entry["dimension"] not in entry["fixed"]
        for side in entry["seconds"]:
            assert len(entry["seconds"][side]) == len(entry["values"])
            assert math.isfinite(entry["exponents"][side])


def test_exponent_of_a_square_is_two() -> None:
    assert exponent((2, 4, 8), (12, 48, 192)) == pytest.approx(2)


def test_table_has_ratios_what_was_left_out_and_the_hardware(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, output = bench("--only", "cauchy_float64_vs_torch", "--only", "cauchy_gpu_vs_torch", "--only", "scaling_N")
    assert code == 0
    assert "cauchy_float64_vs_torch" in output
    assert "K 3, N 2, F 8" in output
    assert "not measured: cauchy_gpu_vs_torch: no GPU is available" in output
    assert "scaling_N: Cauchy sum, time ~ N^" in output
    assert cpu_model() in output
    assert f"torch {torch.__version__}" in output


def test_only_takes_names_and_globs() -> None:
    assert choose(["s4d_step_vs_naive_n64", "cauchy_*_vs_cpp"], full=False) == [
        "cauchy_float64_vs_cpp",
        "cauchy_float32_vs_cpp",
        "s4d_step_vs_naive_n64",
    ]
    assert set(choose((), full=True)) == {*BENCHMARKS, *SCALINGS}


def test_unknown_name_is_bad_usage_and_lists_the_names() -> None:
    code, text = bench("--only", "cauchy_float64_vs_torch", "--only", "cauchy_float16")
    assert code == 2
    assert "cauchy_float16" in text
    assert all(name in text for name in (*BENCHMARKS, *SCALINGS))


def wrong_peer(*, error: float) -> tuple[Benchmark, list[str]]:
    called: list[str] = []

    @contextmanager
    def prepare(_: Sizes) -> Iterator[Contest]:
        yield Contest(
            ours=lambda: called.append("ours"),
            peer=lambda: called.append("peer"),
            values=lambda: ([np.array([1.0, 2.0])], [np.array([1.0, 2.0 + error])]),
            tolerance=1e-6,
            size={"K": 1},
        )

    return Benchmark("wrong", "a sum", "a wrong peer", prepare), called


@pytest.mark.parametrize("error", [1e-3, math.nan, math.inf])
def test_sides_that_disagree_are_an_error_and_are_not_timed(error: float) -> None:
    benchmark, called = wrong_peer(error=error)
    with pytest.raises(SsmspecError, match="wrong: the two sides differ"):
        measure(benchmark, TINY, rounds=1)
    assert called == []


def test_sides_that_disagree_print_no_ratio(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cauchy, "broadcast_sum", lambda c, a, s, chunk: torch.zeros(len(c), len(s)))
    code, text = bench("--only", "cauchy_float64_vs_torch")
    assert code == 2
    assert text.startswith("cauchy_float64_vs_torch: the two sides differ by")


def test_arrays_of_other_shapes_do_not_agree() -> None:
    with pytest.raises(SsmspecError, match="differ by inf"):
        require_agreement("shapes", [np.ones((2, 3))], [np.ones((2, 4))], 1.0)
    assert require_agreement("first rows", [np.array([[1.0], [5.0]])], [np.array([[1.0]])], 1e-9) == 0


def test_without_a_compiler_the_loop_is_left_out(tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    report = run_benchmarks(["cauchy_float64_vs_cpp"], rounds=1)
    assert report.results == ()
    assert report.skipped["cauchy_float64_vs_cpp"].startswith("no C++ compiler was found")


def test_a_compiler_that_fails_leaves_the_loop_out_with_its_words(tiny: None, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'error: no such target' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(broken))
    report = run_benchmarks(["cauchy_float32_vs_cpp"], rounds=1)
    assert report.skipped == {"cauchy_float32_vs_cpp": "c++ could not compile the loop: error: no such target"}


def test_loading_the_loop_leaves_subnormal_numbers_alone(tmp_path) -> None:
    try:
        library = compiled._build(compiled._compiler(), compiled.FLAGS, tmp_path / "cauchy")
    except PeerMissing as missing:
        pytest.skip(str(missing))
    assert isinstance(library, ctypes.CDLL)
    assert np.float32(1e-39) * np.float32(0.5) > 0


@pytest.mark.parametrize("name", ["cauchy_vs_python_control", "cauchy_vs_python_control_modal", "analyze_vs_python_control"])
def test_without_python_control_its_ratio_is_left_out(tiny: None, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(__import__("sys").modules, "control", None)
    report = run_benchmarks([name], rounds=1)
    assert report.results == ()
    assert "python-control is not installed" in report.skipped[name]


def test_broadcast_peer_equals_the_reference_in_every_chunk() -> None:
    problem = cauchy.cauchy_problem(5, 4, 7, "float64")
    expected = reference.cauchy_sum(problem.residues, problem.poles, problem.x, problem.y)[:, 0]
    c, a, s = (torch.from_numpy(part) for part in (problem.residues[:, 0], problem.poles, 1j * problem.y[0]))
    for chunk in (1, 2, 5):
        np.testing.assert_allclose(cauchy.broadcast_sum(c, a, s, chunk).numpy(), expected, rtol=1e-12)


def test_numpy_peer_equals_the_kernel_summed_by_hand(tmp_path) -> None:
    from safetensors.numpy import save_file

    tensors = {"C": np.array([[[1, -2]]]), "log_dt": np.log([0.1]), "log_A_real": np.log([[0.5]]), "A_imag": np.array([[3.0]])}
    path = tmp_path / "one.safetensors"
    save_file({f"s4_layers.0.kernel.{name}": value.astype("f4") for name, value in tensors.items()}, path)
    a = -0.5 + 3j
    kernel = 2 * ((1 - 2j) * (np.exp(0.1 * a) - 1) / a * np.exp(0.1 * a * np.arange(800))).real
    expected = np.abs(np.exp(-1j * np.outer(responses.grid(), np.arange(800))) @ kernel)
    (found,) = responses.magnitudes(str(path))
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)


def test_naive_layer_has_the_parameters_of_ours_and_the_kernel_summed_by_hand() -> None:
    ours, naive = s4d_step.layers(STEP)
    assert {name: part.shape for name, part in ours.state_dict().items()} == {name: part.shape for name, part in naive.state_dict().items()}
    kernel = naive.kernel
    a, step = (-kernel.log_A_real.exp() + 1j * kernel.A_imag).detach().numpy(), kernel.log_dt.exp().detach().numpy()[:, None]
    residues = torch.view_as_complex(kernel.C.detach()).numpy() * (np.exp(a * step) - 1) / a
    expected = [2 * (residues * np.exp(l * a * step)).real.sum(axis=1) for l in range(9)]
    np.testing.assert_allclose(kernel(9).detach().numpy().T, expected, rtol=1e-4, atol=1e-5)


def test_gpu_contest_compares_the_same_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    with gpu.versus_torch(TINY, device="cpu") as contest:
        ours, peer = contest.values()
        assert require_agreement("gpu", ours, peer, contest.tolerance) <= 1e-4
        assert ours[0].shape == (TINY.K, TINY.F)


def test_arithmetic_limit_is_set_by_the_slower_unit() -> None:
    pairs = TINY.K * TINY.N * TINY.F
    assert gpu.shortest_seconds(TINY, flops=15.0, reciprocals=2.0) == pairs
    assert gpu.shortest_seconds(TINY, flops=15.0, reciprocals=0.5) == 2 * pairs


def test_missing_extension_of_s4_is_left_out() -> None:
    with pytest.raises(PeerMissing, match="structured_kernels"), gpu.versus_extension(TINY, device="cpu"):
        pass


def test_threads_of_torch_are_given_back() -> None:
    before = torch.get_num_threads()
    with cauchy.torch_threads():
        torch.set_num_threads(before + 1)
    assert torch.get_num_threads() == before


def test_interruption_ends_with_one_line(tiny: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(catalogue, "measure", interrupted)
    monkeypatch.setattr("sys.argv", ["ssmspec", "bench", "--only", "cauchy_float64_vs_torch"])
    monkeypatch.setattr("signal.signal", lambda *arguments: None)
    assert run_app(whole_app(), debug=False) == 130
    assert capsys.readouterr() == ("", "ssmspec: interrupted\n")


def test_processor_is_named_without_its_list(tmp_path) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_text("processor : 0\nmodel name : Some CPU @ 3 GHz\n")
    assert cpu_model(listed) == "Some CPU @ 3 GHz"
    assert cpu_model(tmp_path / "missing")


@pytest.mark.parametrize(("seconds", "text"), [(2.5, "2.5 s"), (0.0123, "12.3 ms"), (4.5e-5, "45 us")])
def test_seconds_have_the_prefix_that_suits_them(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_script_of_the_full_run_writes_results_tables_and_the_plot(tmp_path) -> None:
    script = runpy.run_path(str(Path(__file__).parent / "run.py"))
    document = bench_document(run_benchmarks(["response_vs_numpy", *SCALINGS], rounds=1, at=TINY))
    script["write"](document, tmp_path)
    jsonschema.validate(json.loads((tmp_path / "results.json").read_text(encoding="utf-8")), schema("bench-1"))
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert text.count(script["MEASURED"]) == 1
    method, measured = text.split(script["MEASURED"])
    assert "## Method" in method
    assert "| `response_vs_numpy` | \\|H\\| of all layers" in measured
    assert "| L | 8..16 | naive |" in measured
