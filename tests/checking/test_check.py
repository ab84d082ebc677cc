"""`ssmspec check`: every built-in rule on a file made for it, thresholds, rules files, formats and exit codes."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from locations import SAMPLES
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from ssmspec import cli
from ssmspec.checking.findings import CheckedLayer, CheckpointCheck, CheckReport, Finding
from ssmspec.checking.rules import BUILT_IN, POLE_ROLES
from ssmspec.checking.rules_file import RuleSet, load_rules, parse_rules
from ssmspec.checking.starter import starter_text
from ssmspec.checking.thresholds import AGGREGATES, COUNTS, Threshold
from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.commands.check import check
from ssmspec.errors import NoLayerError, SsmspecError
from ssmspec.families import FAMILIES, ReadOptions
from ssmspec.report.documents.analyze import analysis_document
from ssmspec.report.documents.check import report_junit
from ssmspec.report.documents.document import schema
from ssmspec.statistics import STATISTICS

S4D = SAMPLES / "s4d_trained.safetensors"
Tensors = dict[str, np.ndarray]


def s4d(prefix: str = "layers.0.", *, H: int = 4, N: int = 3) -> Tensors:
    rng = np.random.default_rng(0)
    return {
        prefix + "kernel.log_A_real": np.log(0.5 + 0.1 * rng.uniform(size=(H, N))).astype(np.float32),
        prefix + "kernel.A_imag": np.tile(np.pi * np.arange(N, dtype=np.float32), (H, 1)),
        prefix + "kernel.log_dt": rng.uniform(-6, -2, H).astype(np.float32),
        prefix + "kernel.C": rng.normal(size=(H, N, 2)).astype(np.float32),
        prefix + "D": np.ones(H, np.float32),
    }


def lru(prefix: str = "lru.", *, N: int = 4, H: int = 3) -> Tensors:
    rng = np.random.default_rng(1)
    real = {
        "nu_log": np.log(rng.uniform(0.01, 0.1, N)),
        "theta_log": np.log(rng.uniform(0.1, 3, N)),
        "gamma_log": np.zeros(N),
        "B_re": rng.normal(size=(N, H)),
        "B_im": rng.normal(size=(N, H)),
        "C_re": rng.normal(size=(H, N)),
        "C_im": rng.normal(size=(H, N)),
    }
    return {prefix + name: values.astype(np.float32) for name, values in real.items()}


def mamba(prefix: str = "mixer.", *, d: int = 6, N: int = 4) -> Tensors:
    rng = np.random.default_rng(2)
    return {
        prefix + "A_log": np.tile(np.log(np.arange(1, N + 1, dtype=np.float32)), (d, 1)),
        prefix + "dt_proj.bias": rng.uniform(-6, -3, d).astype(np.float32),
        prefix + "dt_proj.weight": rng.normal(size=(d, 2)).astype(np.float32),
        prefix + "x_proj.weight": rng.normal(size=(2 + 2 * N, d)).astype(np.float32),
        prefix + "D": np.ones(d, np.float32),
    }


def normal(size: int, deviation: float) -> np.ndarray:
    return np.random.default_rng(4).normal(0, deviation, size).astype(np.float32)


def mamba2(prefix: str = "mixer.", *, heads: int = 8, N: int = 4) -> Tensors:
    rng = np.random.default_rng(5)
    shapes = {"in_proj.weight": (2 * 2 * heads + 2 * N + heads, 4), "conv1d.weight": (2 * heads + 2 * N, 1, 4)}
    drawn = {prefix + name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    drawn |= {prefix + "A_log": np.log(rng.uniform(1, 16, heads)).astype(np.float32), prefix + "D": np.ones(heads, np.float32)}
    return drawn | {prefix + "dt_bias": rng.uniform(-6, -3, heads).astype(np.float32)}


def linoss(prefix: str = "block.") -> Tensors:
    rng = np.random.default_rng(3)
    P, H = 5, 2
    shapes = {"A_diag": (P,), "steps": (P,), "B": (P, H, 2), "C": (H, P, 2), "D": (H,)}
    return {prefix + name: rng.uniform(0.2, 1, shape).astype(np.float32) for name, shape in shapes.items()}


def kimi(prefix: str = "attention.") -> Tensors:
    rng = np.random.default_rng(4)
    shapes = {"A_log": (2,), "dt_bias": (6,), "f_a_proj.weight": (3, 5), "f_b_proj.weight": (6, 3), "b_proj.weight": (2, 5)}
    return {prefix + name: rng.uniform(-2, -1, shape).astype(np.float32) for name, shape in shapes.items()}


def written(folder: Path, tensors: Mapping[str, np.ndarray], name: str = "model.safetensors") -> Path:
    save_file(dict(tensors), folder / name)
    return folder / name


def changed(tensors: Tensors, name: str, values: object, where: object = ...) -> Tensors:
    array = tensors[name].copy()
    array[where] = values
    return tensors | {name: array}


def _dss(prefix: str) -> Tensors:
    ones = np.ones((2, 3, 2), np.float32)
    return {
        prefix + "kernel.Lambda": np.stack([-np.ones(3), np.arange(3)], axis=-1).astype(np.float32),
        prefix + "kernel.log_dt": np.full(2, -3, np.float32),
        prefix + "kernel.W": ones[None],
        prefix + "D": np.ones((1, 2), np.float32),
    }


def _without(tensors: Tensors, name: str) -> Tensors:
    return {key: values for key, values in tensors.items() if key != name}


K = "layers.0.kernel."
FIRING: dict[str, list[tuple[Tensors, str]]] = {
    "not-finite": [
        (
            changed(s4d(), K + "C", np.nan, (1, 2)),
            "1 of 12 values of C are NaN or infinite; they are stored in layers.0.kernel.C (2 of 24 values)",
        ),
        (changed(lru(), "lru.gamma_log", np.inf, 1), "values of B"),
        (changed(s4d(), K + "A_imag", np.inf, (0, 0)), "1 of 12 values of the poles"),
        (changed(s4d(), K + "log_A_real", -np.inf, (2, 1)), "1 of 12 values of the poles"),
        (s4d() | {"layers.0.output_linear.bias": np.full(8, np.inf, np.float32)}, "stored in layers.0.output_linear.bias (8 of 8 values)"),
    ],
    "unstable-pole": [
        (changed(s4d(), K + "log_A_real", -800, (2, 1)), "1 of 12 poles do not decay (Re a >= 0); the worst is pole 1 of copy 2"),
        (changed(lru(), "lru.nu_log", -800, 3), "|z| >= 1"),
    ],
    "step-not-positive": [(changed(s4d(), K + "log_dt", -800, 1), "1 of 4 steps are not positive")],
    "unread-layer": [(s4d() | _dss("dss."), "--length")],
    "near-miss": [(s4d() | _without(s4d("layers.1."), "layers.1.kernel.log_dt"), "missing kernel.log_dt")],
    "recognized-only": [(s4d() | {"net.to_hidden_and_gate.weight": np.ones((16, 5), np.float32)}, "minGRU in 1 layer")],
    "marginal-pole": [
        (changed(s4d(), K + "log_A_real", np.log(1e-6), (1, 1)), "1 of 4 copies has a time constant above 1,000,000 samples"),
        (changed(lru(), "lru.nu_log", np.log(1e-7), 0), "the longest is 1e+07 samples"),
    ],
    "dead-channel": [
        (changed(s4d(), K + "C", 0, 1), "1 of 4 copies has zero residues, so no response; the first is copy 1"),
        (changed(changed(lru(), "lru.C_re", 0, 2), "lru.C_im", 0, 2), "1 of 3 outputs (the first is 2)"),
        (changed(changed(lru(), "lru.B_re", 0, (..., 0)), "lru.B_im", 0, (..., 0)), "1 of 3 inputs (the first is 0)"),
    ],
    "duplicated-modes": [
        (changed(changed(s4d(), K + "A_imag", 1.5, (2, [0, 1])), K + "log_A_real", -0.5, (2, [0, 1])), "1 of 12 modes repeat a pole"),
        (changed(changed(lru(), "lru.nu_log", -3, [0, 2]), "lru.theta_log", 0, [0, 2]), "1 of 4 modes"),
        (mamba() | {"mixer.A_log": np.full((6, 4), 0.5, np.float32)}, "18 of 24 modes"),
    ],
    "step-range": [
        (changed(s4d(N=1), K + "log_dt", 0.5, 0), "1 of 4 steps lie outside 1e-06..1"),
        (changed(mamba(), "mixer.dt_proj.bias", -15, 0) | {"mixer.A_log": mamba()["mixer.A_log"] + 2}, "the layer's steps are 3.06e-07"),
    ],
    "low-precision-poles": [
        (s4d() | {K + "log_A_real": s4d()[K + "log_A_real"].astype(np.float16)}, "layers.0.kernel.log_A_real in float16 (11 significant"),
    ],
    "equal-dt-bias": [
        (changed(mamba(), "mixer.dt_proj.bias", -3), "all 6 values of mixer.dt_proj.bias are -3"),
        (changed(mamba(), "mixer.dt_proj.bias", np.linspace(0, 0.0015, 6)), "makes all 6 steps nearly equal, 0.693147..0.693897"),
    ],
    "lost-initialization": [
        (changed(mamba(), "mixer.dt_proj.bias", normal(6, 0.02)), "makes all 6 steps lie in 0.677..0.71"),
        (changed(mamba(), "mixer.dt_proj.bias", np.linspace(-0.7, 0.5, 6)), "makes all 6 steps lie in 0.403..0.974"),
        (mamba2() | {"mixer.dt_bias": normal(8, 0.02)}, "makes all 8 steps lie in 0.6"),
        (mamba2() | {"mixer.A_log": np.linspace(-1e-3, 2e-3, 8, dtype=np.float32)}, "all 8 values of mixer.A_log are within 0.002 of 0"),
    ],
    "slow-decay": [
        (
            changed(changed(mamba(), "mixer.A_log", np.log(5e-5), (2, 0)), "mixer.dt_proj.bias", -3, 2),
            "1 of 24 values of mixer.A_log make A smaller than 0.0001, down to 5e-05: time constants up to 411",
        ),
    ],
    "unusual-decay": [
        (changed(s4d(), K + "log_A_real", np.log(20)), "-Re a is 20 in all 12 modes"),
        (changed(lru(), "lru.nu_log", np.log(2)), "-log|z| is 2 in all 4 modes"),
    ],
    "unsaid-gate": [(kimi(), "gate_lower_bound=none (the file does not say; --assume gate_lower_bound=-5 for others)")],
    "beyond-nyquist": [(changed(s4d(), K + "A_imag", 1e4, (3, 2)), "1 of 12 poles (8.33 %) lie beyond Nyquist")],
}


@pytest.mark.parametrize(("rule", "tensors", "words"), [(rule, *case) for rule, cases in FIRING.items() for case in cases])
def test_a_rule_fires_on_a_file_made_for_it_and_no_other_does(rule: str, tensors: Tensors, words: str, tmp_path: Path) -> None:
    findings = check(written(tmp_path, tensors)).findings
    assert [finding.rule for finding in findings] == [rule]
    assert words in findings[0].message
    assert findings[0].severity == BUILT_IN[rule].severity
    assert findings[0].message.isprintable()


def test_every_rule_has_a_file_and_a_description() -> None:
    assert {*FIRING, "undamped-pole"} == set(BUILT_IN)  # that one needs a configuration: see test_assumptions
    for id, rule in BUILT_IN.items():
        assert rule.id == id
        assert rule.description


def test_poles_in_bfloat16_are_named(tmp_path: Path) -> None:
    tensors = {name: torch.from_numpy(values) for name, values in mamba().items()}
    tensors["mixer.A_log"] = tensors["mixer.A_log"].to(torch.bfloat16)
    save_torch(tensors, tmp_path / "m.safetensors")
    (finding,) = check(tmp_path / "m.safetensors").findings
    assert (finding.rule, finding.severity) == ("low-precision-poles", "warning")
    assert "mixer.A_log in bfloat16 (8 significant bits)" in finding.message


def test_roles_of_poles_are_roles_of_some_family() -> None:
    roles = {role for family in FAMILIES.values() for template in family.templates for role in template}
    assert {role for role in POLE_ROLES if not role.startswith("pole")} <= roles


@pytest.mark.parametrize("tensors", [s4d(), lru(), mamba(), mamba2(), linoss()], ids=["s4d", "lru", "mamba", "mamba2", "linoss"])
def test_nothing_fires_on_a_sound_layer(tensors: Tensors, tmp_path: Path) -> None:
    assert check(written(tmp_path, tensors)).findings == ()


@pytest.mark.parametrize("value", [0.5, 0.26, 0.99])
def test_a_constant_decay_near_that_of_s4d_is_usual(value: float, tmp_path: Path) -> None:
    assert check(written(tmp_path, changed(s4d(), K + "log_A_real", np.log(value)))).findings == ()


SAMPLE_FINDINGS = {
    "s4d_initial.safetensors": {"beyond-nyquist"},
    "s4d_trained.safetensors": {"beyond-nyquist"},
    "s4_dplr_trained.pt": set(),
    "s5_trained.msgpack": {"marginal-pole"},  # real parts at the limit of clip_eigs, -1e-4, and a step of 1.7e-3
    "lru_trained.npz": set(),
    "mamba1_trained.safetensors": set(),
    "mamba2_trained": set(),
}


@pytest.mark.parametrize("name", SAMPLE_FINDINGS)
def test_what_fires_on_the_samples(name: str) -> None:
    options = AnalysisOptions(read=ReadOptions(assume={"s5_clip": "true"} if name.startswith("s5") else {}))
    found = check(SAMPLES / name, None, options)
    assert {finding.rule for finding in found.findings} == SAMPLE_FINDINGS[name]
    assert not any(finding.severity == "error" for finding in found.findings)
    for layer in found.layers:
        assert set(layer.applied) == {rule.id for rule in BUILT_IN.values() if rule.function is not None}


def test_a_layer_without_trust_fails_and_is_spared_rules_that_need_numbers(tmp_path: Path) -> None:
    tensors = changed(s4d(), K + "C", np.nan, (..., 2, 0)) | s4d("layers.1.")
    found = check(written(tmp_path, tensors))
    bad, good = found.layers
    assert bad.problem
    assert good.problem is None
    assert "marginal-pole" in bad.left_out
    assert "marginal-pole" in good.applied
    assert [(finding.layer, finding.rule) for finding in found.findings] == [("layers.0", "not-finite")]


def test_a_file_in_which_no_layer_can_be_trusted_is_a_failure_and_no_bad_input(tmp_path: Path) -> None:
    path = written(tmp_path, changed(s4d(), K + "C", np.nan))
    assert "no layer is usable" in str(analyze(path).problem)
    assert [finding.rule for finding in check(path).findings] == ["not-finite"]


def test_a_copy_with_a_fault_is_an_error_and_the_rules_go_on_with_the_others(tmp_path: Path) -> None:
    tensors = changed(changed(s4d(), K + "log_A_real", -800, (1, 2)), K + "log_A_real", np.log(1e-6), (3, 1))
    (layer,) = (found := check(written(tmp_path, tensors))).layers
    assert (layer.problem, layer.left_out) == (None, ())
    assert [(finding.rule, finding.message) for finding in found.findings] == [
        ("unstable-pole", "1 of 4 copies has a growing pole: 1 of 12 poles do not decay (Re a >= 0); the worst is pole 2 of copy 1"),
        ("marginal-pole", f"1 of 3 sound copies has a time constant above 1,000,000 samples; the longest is {_constant(tensors)} (copy 3)"),
    ]


def _constant(tensors: Tensors) -> str:
    return f"{1e6 / np.exp(float(tensors[K + 'log_dt'][3])):.3g} samples"


def test_a_copy_with_a_fault_has_no_value_that_a_threshold_could_accept(tmp_path: Path) -> None:
    path = written(tmp_path, changed(s4d(), K + "C", np.nan, (1, 2)))
    limit = Threshold(id="low", statistic="bias_slope", low=-100)
    refused, accepted = (check(path, RuleSet(thresholds=(replace(limit, allow_null=allowed),))).findings for allowed in (False, True))
    assert [finding.rule for finding in refused] == ["not-finite", "low"]
    assert "bias_slope has no value where 1 of 4 copies has NaN or infinite values" in refused[1].message
    assert [finding.rule for finding in accepted] == ["not-finite"]


def test_a_shared_module_is_no_finding(tmp_path: Path) -> None:
    found = check(written(tmp_path, s4d() | s4d("shared.0.")))
    assert [layer.name for layer in found.layers] == ["layers.0"]
    assert found.findings == ()


def test_findings_about_other_layers_than_those_asked_for_are_left_out(tmp_path: Path) -> None:
    from ssmspec.commands.analyze import AnalysisOptions

    path = written(tmp_path, s4d() | _without(s4d("layers.1."), "layers.1.kernel.log_dt"))
    assert check(path, options=AnalysisOptions(layers=("layers.0",))).findings == ()
    assert len(check(path, options=AnalysisOptions(layers=("layers.*",))).findings) == 1


def test_values_of_copies_are_those_that_the_summaries_summarize() -> None:
    analysis = analyze(S4D)
    for layer in analysis.layers:
        assert set(layer.values) == set(STATISTICS)
        for name, summary in layer.statistics.items():
            assert layer.values[name].shape == (layer.copies,)
            assert np.nanmedian(layer.values[name]) == summary.median
    assert "values" not in analysis_document(analysis)["layers"][0]
    assert "gaps" not in analysis_document(analysis)["layers"][0]


def threshold(**parts: Any) -> RuleSet:
    return RuleSet(rules=(), thresholds=(Threshold(**({"id": "limit", "statistic": "bias_slope"} | parts)),))


def findings_of(path: Path, **parts: Any) -> tuple[Finding, ...]:
    return check(path, threshold(**parts)).findings


@pytest.mark.parametrize(
    ("aggregate", "number"),
    [
        ("median", np.median),
        ("min", np.min),
        ("max", np.max),
        ("p5", lambda v: np.percentile(v, 5)),
        ("p95", lambda v: np.percentile(v, 95)),
    ],
)
def test_an_aggregate_must_lie_within_the_limits(aggregate: str, number: Callable[[np.ndarray], float]) -> None:
    value = float(number(analyze(S4D).layers[0].values["bias_slope"]))
    for low, high, count in ((value, value, 0), (value + 1e-9, np.inf, 1), (-np.inf, value - 1e-9, 1), (-np.inf, value, 0)):
        found = findings_of(S4D, layer="0", aggregate=aggregate, low=low, high=high)
        assert len(found) == count
    assert (
        f"{aggregate} of bias_slope is {value:.6g}, expected at most"
        in findings_of(S4D, layer="0", aggregate=aggregate, high=-9)[0].message
    )


def test_any_and_all_count_copies() -> None:
    values = np.sort(analyze(S4D).layers[0].values["bias_slope"])
    cases = {"any": ((values[0], 0), (values[1], 1), (values[-1] + 1, 1)), "all": ((values[1], 0), (values[-1], 0), (values[-1] + 1e-9, 1))}
    for aggregate, limits in cases.items():
        for low, count in limits:
            assert len(findings_of(S4D, layer="0", aggregate=aggregate, low=float(low))) == count
    (finding,) = findings_of(S4D, layer="0", aggregate="any", low=float(values[2]))
    assert "of 2 of 16 copies is not at least" in finding.message
    assert f"the worst value is {values[0]:.6g}" in finding.message
    assert set(AGGREGATES) | set(COUNTS) == {"median", "p5", "p95", "min", "max", "any", "all"}


def test_layers_of_a_threshold_are_chosen_as_with_the_option() -> None:
    for layer, names in (("*", 2), ("1", 1), ("s4_layers.0", 1), ("*.1", 1)):
        assert len(findings_of(S4D, layer=layer, high=-9)) == names


def test_a_threshold_that_matches_no_layer_is_an_error() -> None:
    (finding,) = findings_of(S4D, layer="encoder.*", high=1, severity="info")
    assert (finding.severity, finding.layer) == ("error", "encoder.*")
    assert "matches none of 2 layers (s4_layers.0, s4_layers.1)" in finding.message


def test_a_threshold_on_another_layer_than_those_asked_for_is_none() -> None:
    from ssmspec.commands.analyze import AnalysisOptions

    assert check(S4D, threshold(layer="1", high=-9), AnalysisOptions(layers=("0",))).findings == ()


def test_a_statistic_without_a_value_is_an_error_unless_allowed(tmp_path: Path) -> None:
    name = SAMPLES / "lru_trained.npz"
    found = findings_of(name, statistic="alpha_hat", high=1, severity="info")
    assert [(f.severity, f.message) for f in found] == [("error", "alpha_hat has no value (no continuous poles)")] * 2
    assert findings_of(name, statistic="alpha_hat", high=1, allow_null=True) == ()
    path = written(tmp_path, changed(s4d(), K + "C", np.nan))
    assert "has no value (1" in findings_of(path, high=1)[0].message


def test_copies_without_a_value_are_an_error_unless_allowed(tmp_path: Path) -> None:
    path = written(tmp_path, changed(s4d(), K + "A_imag", 0, 0))
    (finding,) = findings_of(path, statistic="alpha_hat", high=2)
    assert "alpha_hat has no value for 1 of 4 copies (all poles are real)" in finding.message
    assert findings_of(path, statistic="alpha_hat", high=2, allow_null=True) == ()
    assert len(findings_of(path, statistic="alpha_hat", high=0.5, allow_null=True, aggregate="all")) == 1


def test_a_rules_file_switches_off_changes_severities_and_sets_limits(tmp_path: Path) -> None:
    text = """
    [rules]
    disable = ["beyond-nyquist"]
    [severity]
    marginal-pole = "error"
    [[threshold]]
    statistic = "bias_slope"
    max = -9
    [[threshold]]
    statistic = "bias_slope"
    aggregate = "median"
    layer = "*.1"
    min = 3
    severity = "warning"
    [[threshold]]
    statistic = "time_constant"
    aggregate = "any"
    max = 1e9
    allow_null = true
    id = "memory"
    """
    (tmp_path / "rules.toml").write_text(text)
    rules = load_rules(tmp_path / "rules.toml")
    assert "beyond-nyquist" not in [rule.id for rule in rules.rules]
    assert {rule.id: rule.severity for rule in rules.rules}["marginal-pole"] == "error"
    assert [limit.id for limit in rules.thresholds] == ["bias_slope-median", "bias_slope-median-2", "memory"]
    found = [(finding.layer, finding.rule, finding.severity) for finding in check(S4D, rules).findings]
    first, second = ("bias_slope-median", "error"), ("bias_slope-median-2", "warning")
    assert found == [("s4_layers.0", *first), ("s4_layers.1", *first), ("s4_layers.1", *second)]


BAD_RULES = {
    "[[threshold]]\nstatistic = \nmin = 1": "is not valid TOML: Invalid value (at line 2, column 13)",
    "[treshold]": "table 'treshold' is unknown; choose one of rules, severity, threshold",
    "rules = 3": "rules is 3, expected a table [rules]",
    '[rules]\nenable = ["a"]': "[rules]: key 'enable' is unknown; choose one of disable",
    '[rules]\ndisable = "beyond-nyquist"': "expected a list of rule ids",
    '[rules]\ndisable = ["nyquist"]': "rule 'nyquist' is unknown; choose one of not-finite, unstable-pole",
    "[rules]\ndisable = [[1]]": "rule [1] is unknown",
    '[severity]\nnyquist = "error"': "[severity]: rule 'nyquist' is unknown; choose one of not-finite",
    '[severity]\nstep-range = "fatal"': "[severity]: step-range 'fatal' is unknown; choose one of error, warning, info",
    "[severity]\nstep-range = [1]": "[severity]: step-range [1] is unknown",
    "[threshold]\nmin = 1": "expected [[threshold]] tables (with two brackets)",
    "threshold = [1]": "expected [[threshold]] tables",
    "[[threshold]]\nmin = 1": "[[threshold]] 1: statistic is missing; choose one of bias_slope",
    '[[threshold]]\nstatistic = "bias"\nmin = 1': "[[threshold]] 1: statistic 'bias' is unknown; choose one of bias_slope",
    '[[threshold]]\nstatistic = "bias_slope"': "[[threshold]] 1: has neither min nor max",
    '[[threshold]]\nstatistic = "bias_slope"\nmin = 2\nmax = 1': "min 2 is above max 1",
    '[[threshold]]\nstatistic = "bias_slope"\nmin = nan': "min is nan, expected a finite number",
    '[[threshold]]\nstatistic = "bias_slope"\nmax = inf': "max is inf, expected a finite number",
    '[[threshold]]\nstatistic = "bias_slope"\nmax = true': "max is True, expected a finite number",
    '[[threshold]]\nstatistic = "bias_slope"\nmax = "1"': "max is '1', expected a finite number",
    f'[[threshold]]\nstatistic = "bias_slope"\nmax = 1{"0" * 400}': "expected a finite number",
    '[[threshold]]\nstatistic = "bias_slope"\nmax = 1\naggregate = "mean"': "aggregate 'mean' is unknown; choose one of median, p5, p95",
    '[[threshold]]\nstatistic = "bias_slope"\nmax = 1\nlayer = 0': "layer is 0, expected a layer name",
    '[[threshold]]\nstatistic = "bias_slope"\nmax = 1\nallow_null = 1': "allow_null is 1, expected true or false",
    '[[threshold]]\nstatistic = "bias_slope"\nmax = 1\nlevel = 1': "1: key 'level' is unknown; choose one of statistic, layer",
    '[[threshold]]\nstatistic = "bias_slope"\nmax = 1\nid = "step-range"': "id 'step-range' is already used by a built-in rule",
    '[[threshold]]\nstatistic = "bias_slope"\nmax = 1\nid = "a\\nb"': "expected a string of one line",
    '[[threshold]]\nstatistic = "bias_slope"\nmax = 1\nid = "x"\n' * 2: "[[threshold]] 2: id 'x' is already used by another threshold",
}


@pytest.mark.parametrize("text", BAD_RULES)
def test_a_malformed_rules_file_is_one_clear_line(text: str) -> None:
    with pytest.raises(SsmspecError) as raised:
        parse_rules(text, "rules.toml")
    message = str(raised.value)
    assert message.startswith("rules.toml: ")
    assert BAD_RULES[text] in message
    assert message.isprintable()


def test_rules_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    for name, words in (("latin.toml", "UTF-8"), ("missing.toml", "--init"), (".", "cannot be read")):
        with pytest.raises(SsmspecError, match=words):
            load_rules(tmp_path / name)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value).lower() if isinstance(value, bool | float) else json.dumps(value)


WORDS = st.sampled_from(["rules", "disable", "severity", "threshold", "statistic", "layer", "aggregate", "min", "max", "id", "allow_null"])
NAMES = WORDS | st.sampled_from([*BUILT_IN, *STATISTICS, "error", "info", "median", "any", "*"]) | st.text(max_size=3)
LEAVES = st.booleans() | st.integers() | st.floats() | NAMES
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12)
LIMITS = st.dictionaries(st.sampled_from(["statistic", "layer", "aggregate", "min", "max", "severity", "id", "allow_null"]), LEAVES)
DOCUMENTS = st.dictionaries(st.sampled_from(["rules", "severity", "threshold"]) | NAMES, VALUES | st.lists(LIMITS, max_size=3), max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.text() | DOCUMENTS.map(lambda document: "\n".join(f"{json.dumps(key)} = {_toml(value)}" for key, value in document.items())))
def test_any_text_is_rules_or_an_error_of_one_line(text: str) -> None:
    rules, message = None, ""
    try:
        rules = parse_rules(text, "rules.toml")
    except SsmspecError as error:
        message = str(error)
    if rules is None:
        assert message.isprintable()
    else:
        ids = [rule.id for rule in rules.rules] + [limit.id for limit in rules.thresholds]
        assert len(ids) == len(set(ids))
        assert all(ids)


@pytest.mark.parametrize("text", ["[" * 5000, "a = " + "[" * 5000, "a" + ".a" * 3000 + " = 1", f"[severity]\nstep-range = {'9' * 5000}"])
def test_deep_and_huge_rules_files_are_errors(text: str) -> None:
    with pytest.raises(SsmspecError):
        parse_rules(text, "rules.toml")


def test_the_starter_file_changes_nothing_and_its_comments_are_valid_rules() -> None:
    text = starter_text()
    rules = parse_rules(text, "starter")
    assert (rules.rules, rules.thresholds) == (RuleSet().rules, ())
    uncommented = re.sub(r"^# (?=[a-z_-]+ = |\[\[)", "", text, flags=re.MULTILINE)
    rules = parse_rules(uncommented, "starter")
    assert [limit.id for limit in rules.thresholds] == ["learns-high-frequencies", "time_constant-any"]
    assert {rule.id: rule.severity for rule in rules.rules}["step-range"] == "error"
    for name in (*BUILT_IN, *STATISTICS, *AGGREGATES, *COUNTS):
        assert name in text


# the command


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`ssmspec check ARGUMENTS` in this process."""

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["ssmspec", "check", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return Result(int(left.value.code or 0), out, err)

    return call


@pytest.fixture
def nan(tmp_path: Path) -> Path:
    return written(tmp_path, changed(s4d(), K + "C", np.nan, (..., 2, 0)) | s4d("layers.1."), "nan.safetensors")


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    return written(tmp_path, changed(s4d(), K + "C", 0, 1), "dead.safetensors")


def test_text_is_one_line_per_finding_and_a_sum(run: Run, nan: Path, dead: Path) -> None:
    result = run(nan, dead)
    assert (result.code, result.err) == (1, "")
    lines = [line.split(maxsplit=3) for line in result.out.splitlines()]
    assert ["error", "not-finite", "layers.0"] in [line[:3] for line in lines]
    assert ["warning", "dead-channel", "layers.0"] in [line[:3] for line in lines]
    assert result.out.splitlines()[-1] == "1 error, 1 warning, 0 infos in 3 layers of 2 checkpoints: failed"


def test_long_messages_stay_on_one_line_in_a_pipe(run: Run, tmp_path: Path) -> None:
    name = "encoder." * 30 + "0."
    result = run(written(tmp_path, changed(s4d(name), name + "kernel.C", np.nan)))
    assert any(
        "not-finite" in line and name.strip(".") in line and line.rstrip().endswith("kernel.C (24 of 24 values)")
        for line in result.out.splitlines()
    )


def test_warnings_fail_only_when_strict(run: Run, dead: Path) -> None:
    assert run(dead).code == 0
    result = run(dead, "--strict")
    assert result.code == 1
    assert result.out.splitlines()[-1] == "0 errors, 1 warning, 0 infos in 1 layer: failed (strict: warnings fail)"
    assert run(S4D, "--strict").code == 0


def test_json_fits_its_schema(run: Run, nan: Path, dead: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text('[[threshold]]\nstatistic = "bias_slope"\nmax = -9\nlayer = "layers.*"')
    result = run(nan, dead, "--format", "json", "--strict", "--rules", tmp_path / "rules.toml")
    assert (result.code, result.err) == (1, "")
    document = json.loads(result.out)
    jsonschema.validate(document, schema("check-1"))
    assert document["passed"] is False
    assert document["strict"] is True
    assert document["rules_file"].endswith("rules.toml")
    assert document["counts"] == {"error": 4, "warning": 1, "info": 0}
    found = [(Path(c["path"]).name, f["layer"], f["rule"], f["fails"]) for c in document["checkpoints"] for f in c["findings"]]
    limit = "bias_slope-median"
    assert found == [
        ("nan.safetensors", "layers.0", "not-finite", True),
        ("nan.safetensors", "layers.0", limit, True),
        ("nan.safetensors", "layers.1", limit, True),
        ("dead.safetensors", "layers.0", "dead-channel", True),
        ("dead.safetensors", "layers.0", limit, True),
    ]


@pytest.mark.parametrize("name", SAMPLE_FINDINGS)
def test_json_of_every_sample_fits_the_schema(run: Run, name: str) -> None:
    result = run(SAMPLES / name, "--format", "json", *(("--assume", "s5_clip=true") if name.startswith("s5") else ()))
    assert (result.code, result.err) == (0, "")
    document = json.loads(result.out)
    jsonschema.validate(document, schema("check-1"))
    assert document["passed"] is True


def _checked_counts(element: ET.Element, cases: list[ET.Element]) -> None:
    for total, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(element.get(total, "")) == sum(case.find(tag) is not None for case in cases)
    assert int(element.get("tests", "")) == len(cases)


def test_junit_has_a_suite_per_checkpoint_and_a_case_per_rule_and_layer(run: Run, nan: Path, dead: Path) -> None:
    result = run(nan, dead, "--format", "junit")
    assert result.code == 1
    root = ET.fromstring(result.out)
    assert root.tag == "testsuites"
    suites = list(root)
    assert [suite.get("name") for suite in suites] == [str(nan), str(dead)]
    for suite in suites:
        cases = list(suite)
        assert {case.tag for case in cases} == {"testcase"}
        _checked_counts(suite, cases)
        keys = [(case.get("classname"), case.get("name")) for case in cases]
        assert len(keys) == len(set(keys))
    _checked_counts(root, [case for suite in suites for case in suite])
    by_key = {(case.get("classname"), case.get("name")): case for case in suites[0]}
    failure = by_key["layers.0", "not-finite"].find("failure")
    assert failure is not None
    assert "values of C are NaN" in failure.get("message", "")
    assert by_key["layers.0", "marginal-pole"].find("skipped") is not None
    assert by_key["layers.1", "marginal-pole"].find("skipped") is None
    warning = next(case for case in suites[1] if case.get("name") == "dead-channel")
    assert warning.find("failure") is None
    assert "warning: 1 of 4 copies" in (warning.findtext("system-out") or "")


def test_junit_survives_any_name(run: Run, tmp_path: Path) -> None:
    name = "a<b>&\"'\x07]]>é\ufffe."
    path = written(tmp_path, changed(s4d(name), name + "kernel.C", np.nan), "x&y.safetensors")
    root = ET.fromstring(run(path, "--format", "junit").out)
    assert {case.get("classname") for case in root.iter("testcase")} == {"a<b>&\"'\\x07]]>é\\ufffe"}
    assert "\x07" not in run(path).out


@settings(max_examples=100, deadline=None)
@given(st.text(), st.text(), st.text())
def test_junit_of_any_text_can_be_parsed(layer: str, message: str, path: str) -> None:
    finding = Finding("not-finite", "error", layer, message)
    one = CheckedLayer(layer, "s4d", None, ("not-finite",))
    made = CheckpointCheck(path=path, container="npz", size=1, tensors=1, layers=(one,), findings=(finding,))
    root = ET.fromstring(report_junit(CheckReport((made,))))
    assert root.get("failures") == "1"


def test_a_broken_file_among_others_is_reported_and_the_rest_are_checked(run: Run, dead: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"nonsense")
    result = run(tmp_path / "broken.safetensors", dead, "--format", "json")
    assert result.code == 2
    assert result.err.count("\n") == 1
    document = json.loads(result.out)
    jsonschema.validate(document, schema("check-1"))
    assert (len(document["checkpoints"]), len(document["unread"]), document["passed"]) == (1, 1, False)
    root = ET.fromstring(run(tmp_path / "broken.safetensors", dead, "--format", "junit").out)
    assert root.get("errors") == "1"
    assert "1 file not read: failed" in run(tmp_path / "broken.safetensors", dead).out


def test_bad_input_and_no_layer_keep_their_exit_codes(run: Run, tmp_path: Path) -> None:
    none = written(tmp_path, {"attention.weight": np.zeros((2, 2), np.float32)})
    with pytest.raises(NoLayerError):
        check(none)
    for arguments, code, words in (
        ((none,), 3, "attention.weight"),
        ((none, none), 3, "attention.weight"),
        ((tmp_path / "nothing.pt",), 2, "no such file"),
        ((none, tmp_path / "nothing.pt"), 2, "no such file"),
        ((none, S4D), 2, "attention.weight"),
        ((S4D, "--rules", tmp_path / "nothing.toml"), 2, "'ssmspec check --init'"),
        ((S4D, "--layer", "nothing"), 2, "matches no layer"),
        ((S4D, "--family", "s6"), 2, "'s6' is unknown"),
        ((), 2, "give at least one checkpoint"),
        ((S4D, "--force"), 2, "needs --init"),
        ((S4D, "--format", "xml"), 2, "junit"),
    ):
        result = run(*arguments)
        assert result.code == code, arguments
        assert words in " ".join(result.err.split())
        assert "Traceback" not in result.err


def test_only_the_layers_asked_for_are_checked(run: Run, nan: Path) -> None:
    assert run(nan, "--layer", "layers.1").code == 0
    assert run(nan, "--layer", "layers.0").code == 1


def test_globs_name_several_files(run: Run) -> None:
    document = json.loads(run(SAMPLES / "s4d_*.safetensors", "--format", "json").out)
    assert [Path(item["path"]).name for item in document["checkpoints"]] == ["s4d_initial.safetensors", "s4d_trained.safetensors"]


def test_options_of_reading_reach_the_reader(run: Run) -> None:
    bilinear = run("--assume", "discretization=bilinear", S4D, "--format", "json")
    assert bilinear.out.count("beyond-nyquist") == 2  # applied to both, no finding
    assert run(SAMPLES / "mamba1_trained.safetensors", "--residues", "rms", "--strict").code == 0  # where D feeds a separate output
    result = run(SAMPLES / "mamba1_trained.safetensors", "--operating-point", "delta=2", "--strict")
    assert result.code == 1
    assert result.out.count("step-range") == 2


def test_init_writes_a_file_that_check_takes_and_never_replaces_one(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("--init")
    assert (result.code, result.out) == (0, "")
    assert "wrote ssmspec-rules.toml" in result.err
    assert Path("ssmspec-rules.toml").read_text() == starter_text()
    assert run(S4D, "--rules", "ssmspec-rules.toml").code == 0
    Path("ssmspec-rules.toml").write_text("# mine")
    again = run("--init")
    assert again.code == 2
    assert "exists; give another name, or --force" in again.err
    assert Path("ssmspec-rules.toml").read_text() == "# mine"
    assert run("--init", "--force").code == 0
    assert Path("ssmspec-rules.toml").read_text() == starter_text()
    assert run("--init", "mine.toml").code == 0
    assert Path("mine.toml").exists()


def test_init_never_replaces_a_checkpoint(run: Run, dead: Path, tmp_path: Path) -> None:
    before = dead.read_bytes()
    assert run("--init", "--force", dead).code == 2
    assert run("--init", tmp_path / "a.toml", tmp_path / "b.toml").code == 2
    assert dead.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dead.safetensors"]
