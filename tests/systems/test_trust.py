"""One copy that cannot be trusted takes nothing from its neighbors: every command goes on with the sound ones, and says so."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from factories import Tensors, make, stored
from growing_copies import KERNEL, PLACE, growing_layer, kernel
from problems import build
from program import Type
from safetensors.numpy import save_file

from ssmspec.families import FAMILIES, ReadOptions, detect
from ssmspec.report.documents.document import schema
from ssmspec.statistics import STATISTICS
from ssmspec.systems.statespace import StateSpace
from ssmspec.systems.trust import GROWING, NOT_FINITE, STEP_NOT_POSITIVE, assess, untrustworthy

LENGTH = 64
TEXT = "4 of 12 copies have a growing pole: 7 of 96 poles do not decay (Re a >= 0); the worst is in copy"


def bank(**changes: object) -> StateSpace:
    """Five copies of two modes."""
    one = build([-1, -2 + 3j], [[1], [1]], [[1, 1]])
    five = {name: np.repeat(getattr(one, name), 5, axis=0) for name in ("poles", "B", "C", "D", "step")}
    return replace(one, **{**five, **changes})


@pytest.fixture
def mixed() -> tuple[Tensors, list[int]]:
    return growing_layer(H=12, N=8, copies=4, modes=7, length=LENGTH)


@pytest.fixture
def path(mixed: tuple[Tensors, list[int]], tmp_path: Path) -> Path:
    save_file(mixed[0], tmp_path / "v1.safetensors")
    return tmp_path / "v1.safetensors"


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return dict(archive)


def sound_copies(tensors: Tensors, growing: list[int]) -> Tensors:
    """The layer without its growing copies."""
    keep = [copy for copy in range(12) if copy not in growing]
    return {name: values if name.endswith("nodes") else values[keep] for name, values in tensors.items()}


def test_every_copy_is_counted_in_its_first_fault() -> None:
    poles, step, C = bank().poles.copy(), bank().step.copy(), bank().C.copy()
    poles[0, 0], poles[1, 1], step[2], C[3] = np.nan, 0.5 + 1j, 0, np.inf
    C[1] = np.nan
    trust = assess(bank(poles=poles, step=step, C=C))
    assert [(fault.kind, fault.copies.tolist()) for fault in trust.faults] == [
        (NOT_FINITE, [0]),
        (STEP_NOT_POSITIVE, [2]),
        (GROWING, [1]),
        (NOT_FINITE, [3]),
    ]
    assert trust.sound.tolist() == [4]
    assert trust.problem is None
    assert trust.gaps == (
        "1 of 5 copies has NaN or infinite values: 1 of 10 values of the poles are NaN or infinite",
        "1 of 5 copies has a step that is not positive: 1 of 5 steps are not positive; the smallest is 0",
        "1 of 5 copies has a growing pole: 1 of 6 poles do not decay (Re a >= 0); the worst is pole 1 of copy 1",
        "1 of 5 copies has NaN or infinite values: 2 of 10 values of C are NaN or infinite",
    )


def test_a_layer_without_a_sound_copy_has_a_problem_and_its_text_counts_no_copies() -> None:
    trust = assess(bank(poles=-bank().poles))
    assert (trust.problem, trust.gaps) == ("10 of 10 poles do not decay (Re a >= 0); the worst is pole 1 of copy 0", ())
    assert untrustworthy(bank()) is None
    assert assess(bank()).problem is None


def test_values_of_the_sound_copies_go_back_to_their_places() -> None:
    poles = bank().poles.copy()
    poles[[1, 3]] = 1
    trust = assess(bank(poles=poles))
    assert trust.pick(bank(poles=poles)).copies == 3
    np.testing.assert_array_equal(trust.scatter(np.array([1.0, 2, 3])), [1, np.nan, 2, np.nan, 3])


@pytest.mark.parametrize("suffix", ["w", "B", "C", "log_dt"])
def test_a_value_that_is_not_finite_in_one_copy_leaves_the_true_c_of_the_others(mixed, suffix: str) -> None:
    """The stored C is C~ = C (I - Abar^L); where NaN stands beside it, the others must still be solved for C."""
    tensors, _ = mixed
    spoiled = tensors | {KERNEL + suffix: tensors[KERNEL + suffix].copy()}
    spoiled[KERNEL + suffix][5] = np.nan
    systems = [
        FAMILIES["s4-nplr-v1"].read(detect(stored(part), FAMILIES.values()).layers[0], ReadOptions())[0] for part in (tensors, spoiled)
    ]
    others = np.arange(12) != 5
    np.testing.assert_array_equal(systems[0].C[others], systems[1].C[others])
    assert 5 not in assess(systems[1]).sound


def test_statistics_are_those_of_a_file_of_the_sound_copies_alone(typed: Type, mixed, path: Path, tmp_path: Path) -> None:
    tensors, growing = mixed
    save_file(sound_copies(tensors, growing), tmp_path / "sound.safetensors")
    result = typed("analyze", path, "--json", "--copies", "all.csv")
    document = json.loads(result.out)
    jsonschema.validate(document, schema("analyze-1"))
    (layer,) = document["layers"]
    (alone,) = json.loads(typed("analyze", "sound.safetensors", "--json", "--copies", "sound.csv").out)["layers"]
    assert result.code == 0
    assert layer["statistics"] == alone["statistics"]
    assert (layer["copies"], layer["sound_copies"], layer["problem"]) == (12, 8, None)
    assert [(fault["kind"], fault["copies"]) for fault in layer["faults"]] == [("a growing pole", growing)]
    assert layer["faults"][0]["text"].startswith(TEXT)
    assert any(note.startswith(TEXT) for note in layer["notes"])
    both = [list(csv.reader((tmp_path / name).read_text().splitlines())) for name in ("all.csv", "sound.csv")]
    assert [int(row[2]) for row in both[0][1:]] == list(range(12))
    assert [row[3:] for row in both[0][1:] if int(row[2]) not in growing] == [row[3:] for row in both[1][1:]]
    assert all(row[3:] == [""] * len(STATISTICS) for row in both[0][1:] if int(row[2]) in growing)


def test_the_table_and_the_check_say_how_many_copies_grow(typed: Type, path: Path) -> None:
    assert TEXT in typed("analyze", path).out
    checked = typed("check", path, "--format", "json")
    assert checked.code == 1
    (finding,) = json.loads(checked.out)["checkpoints"][0]["findings"]
    assert (finding["rule"], finding["severity"]) == ("unstable-pole", "error")
    assert finding["message"].startswith(TEXT)


def test_the_kernel_of_every_copy_is_that_of_the_original(typed: Type, mixed, path: Path, tmp_path: Path) -> None:
    result = typed("impulse", path, "--layer", "0", "--length", str(LENGTH), "-o", "k.npz")
    assert (result.code, TEXT in result.err) == (0, True)
    found = arrays(tmp_path / "k.npz")["kernel"][:, 0, 0]
    for copy in range(12):
        wanted = kernel(mixed[0], copy)
        np.testing.assert_allclose(found[copy], wanted, rtol=0, atol=1e-11 * np.abs(wanted).max())


def test_the_response_of_a_growing_copy_is_its_transfer_function(typed: Type, mixed, path: Path, tmp_path: Path) -> None:
    """The sum over its kernel diverges, and the rational function C (s I - A)^{-1} B at the bilinear s does not."""
    theta = np.linspace(0.05, 3, 7)
    np.save(tmp_path / "theta.npy", theta)
    result = typed("response", path, "--layer", "0", "--theta", "theta.npy", "-o", "h.npz")
    assert (result.code, "not the spectrum of the kernel" in result.err) == (0, True)
    found = arrays(tmp_path / "h.npz")
    system = FAMILIES["s4-nplr-v1"].read(detect(stored(mixed[0]), FAMILIES.values()).layers[0], ReadOptions())[0]
    copy = mixed[1][0]
    P, Q = (getattr(system, letter)[copy] for letter in "PQ")
    w, B, C = system.poles[copy], system.B[copy, :, 0], system.C[copy, 0]
    w, B, C, P, Q = (np.concatenate([half, half.conj()]) for half in (w, B, C, P, Q))
    A, dt, I = np.diag(w) - P @ Q.conj().T, system.step[copy, 0], np.eye(16)
    for at, value in zip(theta, found["H"][copy, 0, 0], strict=True):
        s = 2 / dt * np.tanh(1j * at / 2)  # bilinear: z - 1 over z + 1
        z = np.exp(1j * at)
        wanted = 2 * z / (1 + z) * (C @ np.linalg.solve(s * I - A, B)) + system.D[copy, 0, 0]
        np.testing.assert_allclose(value, wanted, rtol=1e-10)


def test_poles_of_all_copies_are_drawn_and_other_figures_leave_those_out(typed: Type, path: Path, tmp_path: Path) -> None:
    drawn = typed("plot", "poles", path, "-o", "poles.svg")
    assert (drawn.code, f"note: layer layers.0: {TEXT}" in drawn.err) == (0, True)
    assert (tmp_path / "poles.svg").read_text().count("12 x 8") == 1
    curve = typed("plot", "response", path, "-o", "response.svg")
    assert (curve.code, f"skipped: layer layers.0: {TEXT}" in curve.err) == (0, True)
    assert (tmp_path / "response.svg").read_text().count("8 x 8") == 1
    assert typed("analyze", path, "--plot", "pictures").code == 0


def test_a_comparison_takes_the_copies_that_are_sound_in_both(typed: Type, mixed, path: Path, tmp_path: Path) -> None:
    tensors, growing = mixed
    moved = tensors | {KERNEL + "log_dt": tensors[KERNEL + "log_dt"] + np.float32(0.1)}
    save_file(moved, tmp_path / "moved.safetensors")
    for name, part in (("a", tensors), ("b", moved)):
        save_file(sound_copies(part, growing), tmp_path / f"{name}.safetensors")
    document = json.loads(typed("compare", path, "moved.safetensors", "--json").out)
    alone = json.loads(typed("compare", "a.safetensors", "b.safetensors", "--json").out)
    assert document["layers"][0]["distances"] == alone["layers"][0]["distances"]
    assert document["layers"][0]["statistics"] == alone["layers"][0]["statistics"]
    assert next(note for note in document["notes"] if "growing" in note).startswith(f"layers.0 before: {TEXT}")


def test_a_layer_with_growing_copies_can_be_scaled_and_not_fitted(typed: Type, path: Path, tmp_path: Path) -> None:
    scaled = typed("retune", path, "--step-scale", "2", "-o", "scaled.safetensors", "--json")
    assert scaled.code == 0
    assert any("they change with the others" in note for note in json.loads(scaled.out)["layers"][0]["notes"])
    fitted = typed("retune", path, "--beta", "1", "--bake", "-o", "baked.safetensors")
    assert fitted.code == 2
    assert TEXT in fitted.err


def test_a_copy_with_nan_has_nan_in_the_kernel_and_the_others_their_own(typed: Type, tmp_path: Path) -> None:
    tensors = {PLACE + name: values for name, values in make("s4d").tensors.items()}
    save_file(tensors, tmp_path / "whole.safetensors")
    tensors[PLACE + "kernel.C"] = tensors[PLACE + "kernel.C"].copy()
    tensors[PLACE + "kernel.C"][2, 1, 0] = np.nan
    save_file(tensors, tmp_path / "spoiled.safetensors")
    found = {}
    for name in ("whole", "spoiled"):
        result = typed("impulse", f"{name}.safetensors", "--layer", "0", "--length", "9", "-o", f"{name}.npz")
        assert result.code == 0
        found[name] = arrays(tmp_path / f"{name}.npz")["kernel"]
    assert (
        "9 of 36 values of kernel are not finite, in 1 of 4 copies, the first of them copy 2; the file has NaN in their place" in result.err
    )
    assert np.isnan(found["spoiled"][2]).all()
    np.testing.assert_array_equal(np.delete(found["whole"], 2, axis=0), np.delete(found["spoiled"], 2, axis=0))


def test_a_mimo_layer_with_a_growing_pole_is_null_as_a_whole_but_has_a_kernel(typed: Type, tmp_path: Path) -> None:
    tensors = {PLACE + name: values for name, values in make("s5-torch").tensors.items()}
    name = next(name for name in tensors if name.endswith("Lambda"))
    tensors[name] = tensors[name].copy()
    tensors[name].real[:2] = 0.01
    save_file(tensors, tmp_path / "s5.safetensors")
    result = typed("analyze", "s5.safetensors", "--json")
    assert (result.code, json.loads(result.out)["layers"][0]["sound_copies"]) == (2, 0)
    assert typed("impulse", "s5.safetensors", "--layer", "0", "--length", "20", "-o", "k.npz").code == 0
    assert np.isfinite(arrays(tmp_path / "k.npz")["kernel"]).all()
    assert typed("plot", "poles", "s5.safetensors", "-o", "p.png").code == 0


def test_a_file_whose_layers_cannot_be_read_shows_them_with_the_reason(typed: Type, tmp_path: Path) -> None:
    tensors = {f"layers.{i}.{name}": values for i in range(2) for name, values in make("dss-softmax").tensors.items()}
    tensors["layers.1.kernel.W"] = tensors["layers.1.kernel.W"] * 2
    save_file(tensors, tmp_path / "dss.safetensors")
    result = typed("analyze", "dss.safetensors")
    assert (result.code, "give it with --length" in result.err) == (2, True)
    for part in ("layers.0", "layers.1", "dss", "kernel length that the file does not store"):
        assert part in result.out
    document = json.loads(typed("analyze", "dss.safetensors", "--json").out)
    jsonschema.validate(document, schema("analyze-1"))
    assert [(item["name"], item["kind"], item["family"]) for item in document["skipped"]] == [
        ("layers.0", "unread", "dss"),
        ("layers.1", "unread", "dss"),
    ]


def test_impulse_calls_the_stored_length_as_its_option_is_called(typed: Type, tmp_path: Path) -> None:
    save_file({f"a.{name}": values for name, values in make("dss-softmax").tensors.items()}, tmp_path / "dss.safetensors")
    result = typed("impulse", "dss.safetensors", "--layer", "0", "--length", "9", "-o", "k.npz")
    assert (result.code, "give it with --kernel-length" in result.err) == (2, True)
    assert typed("impulse", "dss.safetensors", "--layer", "0", "--length", "9", "--kernel-length", "12", "-o", "k.npz").code == 0
