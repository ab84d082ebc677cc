"""What families assume: the declarations, what a user may say, and how it is told."""

import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from factories import FACTORIES, make, stored
from program import Type
from safetensors.numpy import save_file

from ssmspec.errors import LayerError, SsmspecError
from ssmspec.families import FAMILIES, LayerTensors, ReadOptions, detect
from ssmspec.families.assumption import Assumption, check_assumptions, parse_assumptions
from ssmspec.families.layers import read_layer
from ssmspec.report.documents.document import schema

PAGE = (Path(__file__).parents[2] / "docs" / "assumptions.md").read_text(encoding="utf-8")
DECLARED = [(family, assumption) for family in FAMILIES.values() for assumption in family.assumptions]
IDS = [f"{family.name}-{assumption.name}" for family, assumption in DECLARED]
SUGGESTED = re.compile(r"--assume (\w+)=(\S+) for ")


def layers_of(*names: str) -> tuple[LayerTensors, ...]:
    tensors = {}
    for index, name in enumerate(names):
        tensors |= make(name).under(f"layers.{index}")
    return detect(stored(tensors), FAMILIES.values()).layers


def check(*names: str, **assume: str | float | bool) -> None:
    check_assumptions(layers_of(*names), FAMILIES, ReadOptions(assume=assume))


# --- declarations ---


@pytest.mark.parametrize(("family", "assumption"), DECLARED, ids=IDS)
def test_an_assumption_has_a_default_alternatives_and_a_source(family, assumption):
    assert re.fullmatch(r"[a-z][a-z0-9_]*", assumption.name)
    assert assumption.about
    assert "/" in assumption.source or "arXiv" in assumption.source
    assert assumption.usual == assumption.values[0]
    assert len(set(assumption.values)) + (assumption.typical is not None) >= 2
    assert [each.name for each in family.assumptions].count(assumption.name) == 1


@pytest.mark.parametrize(("family", "assumption"), DECLARED, ids=IDS)
def test_the_page_of_assumptions_lists_it(family, assumption):
    def cell(text: str) -> str:
        return text.replace("|", r"\|")

    start = f"| `{assumption.name}={cell(assumption.choices())}` |"
    rows = [line for line in PAGE.splitlines() if line.startswith(start) and cell(assumption.about) in line]
    assert any(family.name in line.split(" | ")[1].split(", ") and cell(assumption.source) in line for line in rows)


def test_the_page_of_assumptions_lists_nothing_else():
    names = set(re.findall(r"^\| `(\w+)=", PAGE, re.MULTILINE))
    assert names == {assumption.name for _, assumption in DECLARED}


# --- what a user may say ---


def test_texts_become_values_by_name():
    assert parse_assumptions(["discretization=bilinear", " lru_gamma = raw ", "lru_gamma=raw"]) == {
        "discretization": "bilinear",
        "lru_gamma": "raw",
    }


@pytest.mark.parametrize("text", ["", "discretization", "=zoh", "discretization=", "="])
def test_a_text_that_is_no_name_and_value_is_refused(text):
    with pytest.raises(SsmspecError, match="expected NAME=VALUE, such as"):
        parse_assumptions([text])


def test_two_values_for_one_name_are_refused():
    with pytest.raises(SsmspecError, match="was given as zoh, too"):
        parse_assumptions(["discretization=zoh", "discretization=bilinear"])


def test_an_unknown_name_is_refused_with_what_there_is():
    there = r"lru_convention=inclusive\|pre-update, lru_gamma=exp\|raw"
    with pytest.raises(LayerError, match=rf"--assume color=red: 'color' is unknown; .*{there}"):
        check("lru", color="red")


def test_a_name_on_which_no_layer_depends_is_refused_with_what_there_is():
    with pytest.raises(LayerError, match=r"lru_gamma=raw: no layer of this file depends on it; .*discretization=zoh\|bilinear"):
        check("s4d", "mamba-1", lru_gamma="raw")


def test_where_no_layer_depends_on_anything_the_families_are_named():
    with pytest.raises(LayerError, match=r"its layers \(mamba-1, rg-lru\) depend on no assumption"):
        check("mamba-1", "rg-lru", discretization="zoh")


def test_one_layer_that_depends_on_it_is_enough():
    check("mamba-1", "lru", "s4d", lru_gamma="raw", discretization="bilinear")


@pytest.mark.parametrize(
    ("name", "value", "choices"),
    [
        ("lru_gamma", "log", r"lru_gamma=exp\|raw"),
        ("lru_gamma", 1.0, r"lru_gamma=exp\|raw"),
        ("lru_convention", True, r"lru_convention=inclusive\|pre-update"),
    ],
)
def test_a_value_that_it_cannot_have_is_refused_with_those_it_can(name, value, choices):
    with pytest.raises(LayerError, match=f"expected {choices}"):
        check("lru", **{name: value})


@pytest.mark.parametrize("value", ["nan", "inf", "five", "", True])
def test_a_bound_that_is_no_finite_number_is_refused(value):
    with pytest.raises(LayerError, match=r"expected gate_lower_bound=none\|NUMBER"):
        check("kimi-delta", gate_lower_bound=value)


@pytest.mark.parametrize("value", ["-5", -5, -5.0, "none"])
def test_a_bound_may_be_a_number_or_a_word(value):
    check("kimi-delta", gate_lower_bound=value)


@pytest.mark.parametrize("value", [True, "true"])
def test_a_truth_may_be_a_bool_or_a_word(value):
    check("s5-half", s5_clip=value)


# --- how it is told ---


@pytest.mark.parametrize("name", FACTORIES)
def test_every_line_names_alternatives_that_can_be_typed(name):
    example = make(name)
    (layer,) = layers_of(name)
    family, options = FAMILIES[layer.family], ReadOptions(length=example.length)
    for system in read_layer(family, layer, options):
        for line in system.assumptions:
            for found in SUGGESTED.finditer(line):
                for value in found[2].split("|"):
                    other = replace(options, assume=parse_assumptions([f"{found[1]}={value}"]))
                    check_assumptions([layer], FAMILIES, other)
                    assert any(text.startswith(f"{found[1]}={value} (as asked") for text in read_layer(family, layer, other)[0].assumptions)


def test_an_assumption_that_changes_nothing_is_kept_and_not_printed():
    quiet = Assumption(name="color", about="nothing", values=("red", "blue"), source="a/b", quiet=True)
    (layer,) = layers_of("s4d")
    family = replace(FAMILIES["s4d"], assumptions=(quiet,))
    (system,) = read_layer(family, layer, ReadOptions())
    assert [(each.name, each.value, each.by) for each in system.assumed] == [("color", "red", "default")]
    assert not any("color" in line for line in system.assumptions)


@pytest.fixture
def lru_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file({key: np.array(values) for key, values in make("lru-pairs").under("a.lru").items()}, path)
    return path


def test_assumptions_stand_under_the_table_and_in_json(typed: Type, lru_file: Path) -> None:
    text = typed("analyze", lru_file, "--assume", "lru_gamma=raw").out
    assert "assumed (a.lru): lru_convention=inclusive (the file does not say; --assume lru_convention=pre-update for the other)" in text
    assert "assumed (a.lru): lru_gamma=raw (as asked; the default is exp)" in text
    document = json.loads(typed("analyze", lru_file, "--assume", "lru_gamma=raw", "--json").out)
    jsonschema.validate(document, schema("analyze-1"))
    assert document["layers"][0]["assumed"] == [
        {"name": "lru_convention", "value": "inclusive", "by": "default"},
        {"name": "lru_gamma", "value": "raw", "by": "user"},
    ]


def test_assumptions_stand_under_a_history_and_in_its_json(typed: Type, lru_file: Path) -> None:
    assert "assumed (a.lru): lru_gamma=exp (" in typed("compare", lru_file, lru_file, lru_file).out
    document = json.loads(typed("compare", lru_file, lru_file, lru_file, "--json").out)
    jsonschema.validate(document, schema("history-1"))
    assert [each["name"] for each in document["layers"][0]["assumed"]] == ["lru_convention", "lru_gamma"]


COMMANDS = {
    "analyze": (),
    "check": (),
    "compare": ("model.safetensors",),
    "response": ("--layer", "0", "-o", "h.npz"),
    "impulse": ("--layer", "0", "--length", "8", "-o", "k.npz"),
    "retune": ("--alpha", "1.1", "--dry-run"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_reads_takes_assumptions(typed: Type, lru_file: Path, command: str) -> None:
    assert typed(command, lru_file, *COMMANDS[command], "--assume", "lru_gamma=raw").code == 0
    result = typed(command, lru_file, *COMMANDS[command], "--assume", "lru_gamma=rwa")
    assert result.code == 2
    assert "--assume lru_gamma=rwa: expected lru_gamma=exp|raw" in result.err


def test_retuned_files_are_read_back_under_the_same_assumptions(typed: Type, lru_file: Path) -> None:
    """The step of gamma_log is in C: what `impulse` gives before and after a change of the phases differs as the poles do."""
    say = ("--assume", "lru_gamma=raw", "--assume", "lru_convention=pre-update")
    assert typed("retune", lru_file, "--alpha", "1", "--alpha-real", "1.1", "-o", "b.safetensors", *say).code == 0
    kernels = []
    for path in (lru_file, "b.safetensors"):
        assert typed("impulse", path, "--layer", "0", "--length", "6", "-o", "k.npz", *say).code == 0
        with np.load(lru_file.with_name("k.npz")) as file:
            kernels.append(file["kernel"])
    assert not kernels[0][..., 0].any()
    np.testing.assert_allclose(kernels[1][..., 1], kernels[0][..., 1], rtol=1e-5)  # C B, which no pole changes
    assert np.abs(kernels[1][..., 2:] - kernels[0][..., 2:]).max() > 1e-3 * np.abs(kernels[0]).max()


def test_one_family_is_shown_with_its_tensors_and_assumptions(typed: Type) -> None:
    text = typed("families", "lru").out
    for words in ("gamma_log", "params_log", "lru_gamma=exp|raw", "adrian-valente/lru_experiments", "optional"):
        assert words in text
    assert "assumptions: none" in typed("families", "rg-lru").out


def test_one_family_as_json(typed: Type) -> None:
    (family,) = json.loads(typed("families", "s5", "--json").out)["families"]
    assert [each["name"] for each in family["assumptions"]] == ["discretization", "s5_conj_sym", "s5_clip"]
    assert family["assumptions"][2]["values"] == ["false", "true"]
    assert family["assumptions"][2]["default"] == "false"


def test_an_unknown_family_is_refused_with_the_known_ones(typed: Type) -> None:
    result = typed("families", "s6")
    assert result.code == 2
    assert "family 's6' is unknown; choose one of s4d, " in result.err


# --- checks ---


@pytest.fixture
def kimi_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "kimi"
    folder.mkdir()
    save_file({key: np.array(values) for key, values in make("kimi-delta").under("layers.0").items()}, folder / "model.safetensors")
    return folder


def test_check_warns_of_a_gate_of_which_nothing_says_whether_it_is_bounded(typed: Type, kimi_folder: Path) -> None:
    result = typed("check", kimi_folder)
    assert result.code == 0
    assert "unsaid-gate" in result.out
    assert "--assume gate_lower_bound=-5" in result.out
    assert "unsaid-gate" not in typed("check", kimi_folder, "--assume", "gate_lower_bound=none").out
    (kimi_folder / "config.json").write_text('{"text_config": {"linear_attn_config": {"gate_lower_bound": -5.0}}}')
    assert "unsaid-gate" not in typed("check", kimi_folder).out


def linoss_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "linoss"
    folder.mkdir()
    save_file({key: np.array(values) for key, values in make("linoss").under("blocks.0").items()}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"linoss_discretization": "IMEX"}')
    return folder


def test_an_undamped_layer_is_no_failure_and_has_a_kernel(typed: Type, tmp_path: Path) -> None:
    folder = linoss_folder(tmp_path)
    result = typed("analyze", folder)
    assert result.code == 0
    assert "no numbers for blocks.0: 8 of 8 poles are undamped by design (IMEX, |z| = 1), at " in result.out
    result = typed("check", folder, "--strict")
    assert result.code == 0
    assert "undamped-pole" in result.out
    assert "unstable-pole" not in result.out
    assert typed("impulse", folder, "--layer", "0", "--length", "16", "-o", "k.npz").code == 0


def test_a_growing_mode_of_s5_fails_the_check_unless_it_is_clipped(typed: Type, tmp_path: Path) -> None:
    tensors = {key: np.array(values) for key, values in make("s5-half").under("seq").items()}
    tensors["seq.Lambda_re"][1] = 0.02
    save_file(tensors, tmp_path / "s5.safetensors")
    result = typed("check", "s5.safetensors")
    assert result.code == 1
    assert "unstable-pole" in result.out
    assert "--assume s5_clip=true" in result.out
    assert typed("check", "s5.safetensors", "--assume", "s5_clip=true").code == 0
