"""The commands as a user runs them: output, exit codes, files."""

import csv
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from functools import cache
from importlib import import_module
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from locations import HANG, SAMPLES
from program import S4D, Type, checkpoint, process, s4d_tensors, ssmspec

from ssmspec.cli.app import BLAS
from ssmspec.report.documents.document import schema
from ssmspec.statistics import HEADLINES, STATISTICS, LayerSpectrum, Statistic, Values

NAMES = [path.name for path in sorted(SAMPLES.iterdir()) if path.suffix in {".safetensors", ".pt", ".msgpack", ".npz"} or path.is_dir()]
NAMES = [name for name in NAMES if not name.startswith((".", "__"))]


def test_analyze_prints_one_row_per_layer_in_model_order(tmp_path: Path) -> None:
    result = ssmspec("analyze", checkpoint(tmp_path, s4d_tensors(layers=11)))
    assert result.code == 0, result.err
    rows = [line.split() for line in result.out.splitlines() if " layers." in line and " s4d " in line]
    assert [row[1] for row in rows] == [f"layers.{n}" for n in range(11)]
    assert "\x1b" not in result.out


@pytest.mark.parametrize("name", NAMES)
def test_json_of_every_sample_fits_the_schema_and_holds_every_statistic(name: str) -> None:
    result = ssmspec("analyze", name, "--json")
    assert result.code == 0, result.err
    assert result.err == ""
    document = json.loads(result.out)
    jsonschema.validate(document, schema("analyze-1"))
    for layer in document["layers"]:
        assert list(layer["statistics"]) == list(STATISTICS)
        single = layer["copies"] == 1
        for summary in layer["statistics"].values():
            assert (summary["p5"] is None) == (single or summary["median"] is None)


def test_json_of_several_checkpoints_is_an_array() -> None:
    documents = json.loads(ssmspec("analyze", "s4d_*.safetensors", "--json").out)
    assert [Path(document["checkpoint"]["path"]).name for document in documents] == ["s4d_initial.safetensors", "s4d_trained.safetensors"]


def test_csv_has_one_row_per_layer_and_statistic(tmp_path: Path) -> None:
    assert ssmspec("analyze", S4D, "--csv", tmp_path / "table.csv").code == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert len(rows) == 2 * len(STATISTICS)
    assert {row["statistic"] for row in rows} == set(STATISTICS)
    document = json.loads(ssmspec("analyze", S4D, "--json").out)
    for row in rows:
        layer = next(layer for layer in document["layers"] if layer["name"] == row["layer"])
        assert float(row["median"]) == layer["statistics"][row["statistic"]]["median"]


def test_copies_has_one_row_per_copy_whose_medians_are_those_of_the_layer(tmp_path: Path) -> None:
    assert ssmspec("analyze", S4D, "--copies", tmp_path / "copies.csv").code == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "copies.csv").read_text())))
    assert len(rows) == 2 * 16
    document = json.loads(ssmspec("analyze", S4D, "--json").out)
    for layer in document["layers"]:
        values = [float(row["centroid [rad/sample]"]) for row in rows if row["layer"] == layer["name"]]
        assert np.median(values) == pytest.approx(layer["statistics"]["centroid"]["median"])


@pytest.mark.parametrize(("choice", "names"), [("1", ["s4_layers.1"]), ("s4_layers.0", ["s4_layers.0"]), ("*.1", ["s4_layers.1"])])
def test_layers_are_chosen_by_index_name_and_glob(choice: str, names: list[str]) -> None:
    document = json.loads(ssmspec("analyze", S4D, "--layer", choice, "--json").out)
    assert [layer["name"] for layer in document["layers"]] == names


def test_sample_rate_turns_frequencies_into_hertz_and_samples_into_seconds() -> None:
    plain, physical = (json.loads(ssmspec("analyze", S4D, "--json", *more).out) for more in ((), ("--sample-rate", "100")))
    for name, factor, unit in (("center_frequency", 100 / (2 * np.pi), "Hz"), ("time_constant", 1 / 100, "s"), ("bias_slope", 1, None)):
        before, after = (document["layers"][0]["statistics"][name] for document in (plain, physical))
        assert after["median"] == pytest.approx(before["median"] * factor)
        assert after["unit"] == (unit or before["unit"])


def test_with_skip_changes_energies_and_not_the_sensitivity() -> None:
    plain, skip = (json.loads(ssmspec("analyze", S4D, "--json", *more).out) for more in ((), ("--with-skip",)))
    assert skip["with_skip"] is True
    before, after = (document["layers"][0]["statistics"] for document in (plain, skip))
    assert before["bias_slope"] == after["bias_slope"]
    assert before["centroid"] != after["centroid"]


def test_the_engine_that_ran_is_in_the_json_and_engines_agree() -> None:
    documents = {name: json.loads(ssmspec("analyze", S4D, "--json", "--backend", name).out) for name in ("reference", "cpu")}
    for name, document in documents.items():
        assert document["backend"] == name
    for left, right in zip(documents["reference"]["layers"], documents["cpu"]["layers"], strict=True):
        for name in left["statistics"]:
            assert left["statistics"][name]["median"] == pytest.approx(right["statistics"][name]["median"], rel=1e-6, abs=1e-12)


def test_response_and_impulse_write_arrays_that_belong_together(tmp_path: Path) -> None:
    theta = np.linspace(0, np.pi, 65)
    np.save(tmp_path / "theta.npy", theta)
    assert ssmspec("response", S4D, "--layer", "0", "--theta", tmp_path / "theta.npy", "-o", tmp_path / "H.npz").code == 0
    assert ssmspec("impulse", S4D, "--layer", "0", "--length", "200000", "-o", tmp_path / "k.npz").code == 0
    with np.load(tmp_path / "H.npz") as response, np.load(tmp_path / "k.npz") as impulse:
        assert set(response) == {"theta", "H", "D", "name", "family"}
        assert set(impulse) == {"kernel", "D", "first_lag", "name", "family"}
        assert impulse["first_lag"] == 0
        assert (str(response["name"]), str(response["family"])) == ("s4_layers.0", "s4d")
        np.testing.assert_array_equal(response["theta"], theta)
        assert response["H"].dtype == np.complex128
        assert impulse["kernel"].shape == (16, 1, 1, 200000)
        transform = impulse["kernel"].reshape(16, -1) @ np.exp(-1j * np.outer(np.arange(200000), theta[[3, 20, 64]]))
        wanted = response["H"][:, 0, 0, [3, 20, 64]] - response["D"][:, 0]
        np.testing.assert_allclose(transform, wanted, atol=1e-8 * np.abs(wanted).max())


def test_response_on_omega_is_the_continuous_one(tmp_path: Path) -> None:
    assert ssmspec("response", S4D, "--layer", "0", "--axis", "omega", "--points", "50", "-o", tmp_path / "G.npz").code == 0
    from ssmspec.families import ReadOptions
    from ssmspec.families.layers import load_system

    system = load_system(S4D, "0", ReadOptions())
    with np.load(tmp_path / "G.npz") as file:
        s = 1j * file["omega"]
        terms = system.C[:, 0, :, None] / (s - system.poles[:, :, None]) + system.C[:, 0, :, None].conj() / (
            s - system.poles[:, :, None].conj()
        )
        np.testing.assert_allclose(file["H"][:, 0, 0], terms.sum(axis=1) + system.D[:, 0], rtol=1e-10)


def test_stored_beta_is_applied_unless_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    H, N = 3, 4
    block = {
        "b.kernel.A_real": np.full((H, N), np.log(0.5), np.float32),
        "b.kernel.A_imag": rng.normal(size=(H, N)).astype(np.float32),
        "b.kernel.inv_dt": np.full((H, 1), -3, np.float32),
        "b.kernel.C": rng.normal(size=(1, H, N, 2)).astype(np.float32),
        "b.D": np.zeros((1, H), np.float32),
        "b.s": np.array([[0.5, -1, 0]], np.float32),
    }
    path = checkpoint(tmp_path, block)
    for name, more in (("with", ()), ("without", ("--no-beta",))):
        assert ssmspec("response", path, "--layer", "0", "-o", tmp_path / f"{name}.npz", *more).code == 0
    with np.load(tmp_path / "with.npz") as weighted, np.load(tmp_path / "without.npz") as plain:
        factor = (1 + weighted["theta"] / (2 * np.pi)) ** block["b.s"][0][:, None, None, None]
        np.testing.assert_allclose(weighted["H"], plain["H"] * factor, rtol=1e-12)
    document = json.loads(ssmspec("analyze", path, "--json").out)
    assert document["layers"][0]["beta"] == {"convention": "lra", "min": -1.0, "max": 0.5}


def test_inspect_shows_layers_near_misses_and_the_rest(tmp_path: Path) -> None:
    tensors = s4d_tensors(layers=2) | {"head.weight": np.zeros((2, 4), np.float32)}
    del tensors["layers.1.kernel.log_dt"]
    result = ssmspec("inspect", checkpoint(tmp_path, tensors), "--json")
    document = json.loads(result.out)
    assert [layer["name"] for layer in document["layers"]] == ["layers.0"]
    assert document["layers"][0]["tensors"]["layers.0.kernel.C"] == {"shape": [4, 3, 2], "dtype": "float32", "role": "C", "read": True}
    assert document["near_misses"][0]["prefix"] == "layers.1"
    assert document["near_misses"][0]["missing"] == ["kernel.log_dt"]
    assert "head.weight" in [item["name"] for item in document["other"]]
    text = ssmspec("inspect", tmp_path / "model.safetensors").out
    assert "head.weight" in text
    assert "kernel.log_dt" in text


def test_families_lists_every_family_with_its_source() -> None:
    from ssmspec.families import FAMILIES

    document = json.loads(ssmspec("families", "--json").out)
    assert [family["name"] for family in document["families"]] == list(FAMILIES)
    assert all(family["source"] for family in document["families"])
    assert "state-spaces/s4" in ssmspec("families").out


def test_duplicate_layers_are_analyzed_once_and_said(tmp_path: Path) -> None:
    tensors = s4d_tensors()
    tensors |= {name.replace("layers.0", "shared.0"): value.copy() for name, value in tensors.items()}
    document = json.loads(ssmspec("analyze", checkpoint(tmp_path, tensors), "--json").out)
    assert [layer["name"] for layer in document["layers"]] == ["layers.0"]
    reason = "the same tensors as layers.0 (shared module)"
    assert document["skipped"] == [{"name": "shared.0", "reason": reason, "kind": "shared", "family": "s4d"}]


def _spoil_nan(tensors: dict[str, np.ndarray]) -> None:
    tensors["layers.0.kernel.C"][:, 2] = np.nan


def _spoil_inf(tensors: dict[str, np.ndarray]) -> None:
    tensors["layers.0.kernel.A_imag"][:, 0] = np.inf


def _spoil_growth(tensors: dict[str, np.ndarray]) -> None:
    tensors["layers.0.kernel.log_A_real"][:, 1] = -np.inf


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(_spoil_nan, "values of C are NaN"), (_spoil_inf, "NaN or infinite"), (_spoil_growth, "of the poles are NaN")],
)
def test_a_spoiled_layer_is_null_with_a_reason_and_the_others_are_done(tmp_path: Path, spoil, reason: str) -> None:
    tensors = s4d_tensors(layers=2)
    spoil(tensors)
    result = ssmspec("analyze", checkpoint(tmp_path, tensors), "--json")
    assert result.code == 0
    document = json.loads(result.out)
    jsonschema.validate(document, schema("analyze-1"))
    assert reason in document["layers"][0]["problem"]
    assert all(value["median"] is None and reason in value["reason"] for value in document["layers"][0]["statistics"].values())
    assert document["layers"][1]["statistics"]["bias_slope"]["median"] is not None


def test_a_file_without_one_usable_layer_is_bad_input_and_shown_with_names_families_and_reasons(tmp_path: Path) -> None:
    tensors = s4d_tensors()
    _spoil_nan(tensors)
    path = checkpoint(tmp_path, tensors)
    result = ssmspec("analyze", path, "--copies", tmp_path / "copies.csv")
    assert result.code == 2
    assert "no layer is usable; layers.0: 4 of 12 values of C are NaN" in result.err
    for part in ("layers.0", "s4d", "no numbers for layers.0: 4 of 12 values of C are NaN"):
        assert part in result.out
    rows = (tmp_path / "copies.csv").read_text().splitlines()
    assert len(rows) == 5
    assert all(set(row.split(",", 3)[3]) == {","} for row in rows[1:])
    document = json.loads(ssmspec("analyze", path, "--json").out)
    jsonschema.validate(document, schema("analyze-1"))
    (layer,) = document["layers"]
    assert (layer["name"], layer["family"], layer["sound_copies"]) == ("layers.0", "s4d", 0)
    assert "values of C are NaN" in layer["problem"]


def test_a_file_without_ssm_layers_exits_3_and_says_what_was_seen(tmp_path: Path) -> None:
    result = ssmspec("analyze", checkpoint(tmp_path, {"attention.weight": np.zeros((2, 2), np.float32)}))
    assert (result.code, result.out) == (3, "")
    assert "attention.weight" in result.err


def test_a_broken_file_among_others_is_reported_and_the_rest_are_done(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"nonsense")
    result = ssmspec("analyze", tmp_path / "broken.safetensors", S4D, "--json")
    assert result.code == 2
    assert "broken.safetensors" in result.err
    assert [Path(document["checkpoint"]["path"]).name for document in json.loads(result.out)] == [S4D.name]


class _Canary:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch '{self.target}'",)


def _torch_zip(path: Path, obj: object) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(obj, protocol=2))
        archive.writestr("archive/version", "3")
    return path


BAD = {
    "missing file": lambda folder: folder / "nothing.pt",
    "empty file": lambda folder: _written(folder / "empty.pt", b""),
    "text": lambda folder: _written(folder / "readme.txt", b"hello, this is no checkpoint\n" * 9),
    "truncated safetensors header": lambda folder: _written(folder / "cut.safetensors", S4D.read_bytes()[:100]),
    "truncated safetensors data": lambda folder: _written(folder / "cut2.safetensors", S4D.read_bytes()[:-10]),
    "overlong safetensors": lambda folder: _written(folder / "long.safetensors", S4D.read_bytes() + b"\0" * 64),
    "header that points outside": lambda folder: _pointing_outside(folder / "outside.safetensors"),
    "folder without weights": lambda folder: _empty_folder(folder / "empty"),
    "truncated torch zip": lambda folder: _written(folder / "cut.pt", (SAMPLES / "s4_dplr_trained.pt").read_bytes()[:-300]),
    "truncated msgpack": lambda folder: _written(folder / "cut.msgpack", (SAMPLES / "s5_trained.msgpack").read_bytes()[:-300]),
    "pickle that would run code": lambda folder: _torch_zip(folder / "evil.pt", {"a": _Canary(folder / "canary")}),
    "zip bomb": lambda folder: _written(folder / "bomb.npz", _bomb()),
}


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _empty_folder(path: Path) -> Path:
    path.mkdir()
    (path / "config.json").write_text("{}")
    return path


def _pointing_outside(path: Path) -> Path:
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 40]}}).encode()
    return _written(path, len(header).to_bytes(8, "little") + header + b"\0" * 16)


@cache
def _bomb() -> bytes:
    """An array of 1 GiB of zeros."""
    header, archived = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 28,)})
    with (
        zipfile.ZipFile(archived, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("nu_log.npy", "w", force_zip64=True) as file,
    ):
        file.write(header.getvalue())
        for _ in range(1 << 10):
            file.write(b"\0" * (1 << 20))
    return archived.getvalue()


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("command", ["analyze", "inspect"])
def test_bad_input_is_one_clear_line_and_exit_code_2_or_3(kind: str, command: str, tmp_path: Path) -> None:
    path = BAD[kind](tmp_path)
    result = ssmspec(command, path)
    assert result.code in ({2, 3} if kind == "pickle that would run code" else {2}), (kind, result.err)
    assert result.out == ""
    assert result.err.count("\n") == 1, result.err
    assert path.name in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "canary").exists()


def test_zero_size_tensors_make_no_layer(tmp_path: Path) -> None:
    tensors = {name: np.zeros((0, *value.shape[1:]), np.float32) for name, value in s4d_tensors().items()}
    result = ssmspec("analyze", checkpoint(tmp_path, tensors))
    assert result.code == 3
    assert "has shape (0" in result.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_one_line(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, s4d_tensors())
    path.chmod(0)
    result = ssmspec("analyze", path)
    assert result.code == 2
    assert "ermission" in result.err


def test_unwritable_outputs_are_one_line_and_leave_nothing(tmp_path: Path) -> None:
    target = tmp_path / "missing" / "k.npz"
    for arguments in (
        ("impulse", S4D, "--layer", "0", "--length", "8", "-o", target),
        ("analyze", S4D, "--csv", target),
        ("analyze", S4D, "--plot", _written(tmp_path / "file", b"")),
    ):
        result = ssmspec(*arguments)
        assert result.code == 2
        assert result.err.count("\n") == 1, result.err
        assert "cannot" in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_output_never_replaces_the_checkpoint(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, s4d_tensors())
    before = path.read_bytes()
    result = ssmspec("impulse", path, "--layer", "0", "--length", "8", "-o", path)
    assert result.code == 2
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backend", "cuda"), "'cuda' is unknown; choose one of reference, cpu"),
        (("--family", "s6"), "'s6' is unknown; choose one of s4d"),
        (("--layer", "nothing"), "--layer nothing matches no layer; the 2 layers are s4_layers.0, s4_layers.1"),
        (("--operating-point", "gamma=1"), "'gamma=1' is not valid"),
        (("--operating-point", "delta=fast"), "neither a number nor a readable .npy file"),
        (("--sample-rate", "-1"), "not a valid sample rate"),
        (("--points", "3"), "16"),
    ],
)
def test_bad_options_are_explained(arguments: tuple[str, ...], words: str) -> None:
    result = ssmspec("analyze", S4D, *arguments)
    assert result.code == 2
    assert words in " ".join(result.err.split())


def test_a_choice_of_several_layers_is_refused_where_one_is_needed(tmp_path: Path) -> None:
    result = ssmspec("impulse", S4D, "--layer", "*", "--length", "8", "-o", tmp_path / "k.npz")
    assert result.code == 2
    assert "matches 2 layers" in result.err


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in process("--debug", "analyze", "nothing.pt").err


def test_operating_point_sets_step_and_residues_of_mamba(tmp_path: Path) -> None:
    for name, extra in (("unit", ()), ("given", ("--operating-point", "delta=0.02,B=2,C=3"))):
        arguments = ("impulse", "mamba1_trained.safetensors", "--layer", "0", "--length", "50", "-o", tmp_path / f"{name}.npz", *extra)
        assert ssmspec(*arguments).code == 0
    from ssmspec.checkpoint import open_checkpoint

    A = -np.exp(open_checkpoint(SAMPLES / "mamba1_trained.safetensors").tensors["backbone.layers.0.mixer.A_log"].read().astype(float))
    wanted = 6 * 0.02 * np.exp(0.02 * A[:, :, None] * np.arange(50)).sum(axis=1)
    with np.load(tmp_path / "given.npz") as given:
        np.testing.assert_allclose(given["kernel"][:, 0, 0], wanted, rtol=1e-12)


def test_closed_stdout_is_no_error() -> None:
    command = f"'{sys.executable}' -m ssmspec families --json | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, check=False, timeout=HANG)
    assert b"Traceback" not in done.stderr


def test_narrow_and_ascii_terminals_still_get_every_layer(tmp_path: Path) -> None:
    result = process("analyze", S4D, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert result.code == 0, result.err
    assert "s4_layers.1" in result.out


def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the statistics that are computed from here on."""
    names: list[str] = []
    of = Statistic.of

    def counted(statistic: Statistic, spectrum: LayerSpectrum) -> Values:
        names.append(statistic.name)
        return of(statistic, spectrum)

    monkeypatch.setattr(Statistic, "of", counted)
    return names


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("analyze", S4D), set(HEADLINES)),
        (("analyze", S4D, "--plot", "p"), set(HEADLINES)),
        (("analyze", S4D, "--statistics", "half_life, aliased_share"), {"half_life", "aliased_share"}),
        (("analyze", S4D, "--statistics", "all"), set(STATISTICS)),
        (("analyze", S4D, "--csv", "x.csv"), set(STATISTICS)),
        (("analyze", S4D, "--copies", "x.csv", "--statistics", "half_life"), {"half_life"}),
        (("analyze", S4D, "--json"), set(STATISTICS)),
        (("compare", S4D, S4D), {*HEADLINES, "alpha_hat"}),
        (("compare", S4D, S4D, "--fail-above", "half_life=1"), {*HEADLINES, "alpha_hat", "half_life"}),
        (("compare", S4D, S4D, "--json"), set(STATISTICS)),
        (("compare", S4D, S4D, S4D), set(HEADLINES)),
        (("retune", S4D, "--alpha", 2, "--dry-run"), {*HEADLINES, "alpha_hat"}),
        (("check", S4D), set()),
        (("check", S4D, "--rules", "rules.toml"), {"half_life"}),
    ],
)
@pytest.mark.usefixtures("blank_pictures")
def test_what_is_not_shown_is_not_computed(
    typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], wanted: set[str]
) -> None:
    (tmp_path / "rules.toml").write_text('[[threshold]]\nlayer = "0"\nstatistic = "half_life"\nmax = 1e9\n')
    names = computed(monkeypatch)
    done = typed(*arguments)
    assert done.code == 0, done.err
    assert set(names) == wanted


def test_chosen_statistics_are_columns_of_the_table_and_of_the_files(typed: Type, tmp_path: Path) -> None:
    few = ("--statistics", "half_life,peak_gain")
    whole = json.loads(typed("analyze", S4D, "--json").out)
    found = json.loads(typed("analyze", S4D, "--json", *few, "--csv", "x.csv", "--copies", "y.csv").out)
    jsonschema.validate(found, schema("analyze-1"))
    for layer, full in zip(found["layers"], whole["layers"], strict=True):
        assert layer["statistics"] == {name: full["statistics"][name] for name in ("half_life", "peak_gain")}
    assert {row["statistic"] for row in csv.DictReader((tmp_path / "x.csv").read_text().splitlines())} == {"half_life", "peak_gain"}
    assert (tmp_path / "y.csv").read_text().splitlines()[0] == "checkpoint,layer,copy,half_life [samples],peak_gain"
    table = typed("analyze", S4D, *few).out
    assert "half_life" in table
    assert "bias_slope" not in table


def test_an_unknown_statistic_is_refused_with_those_that_exist(typed: Type) -> None:
    done = typed("analyze", S4D, "--statistics", "half_live")
    assert done.code == 2
    assert "'half_live' is not a statistic; choose all, or some of bias_slope, " in done.err


@pytest.mark.parametrize("command", [("analyze", "--json"), ("analyze",), ("compare", "--json"), ("check", "--format", "json")])
def test_threads_do_not_change_a_byte(typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: tuple[str, ...]) -> None:
    monkeypatch.setattr(import_module("ssmspec.commands.analyze"), "WORTHWHILE", 0)
    (tmp_path / "rules.toml").write_text('[[threshold]]\nstatistic = "hankel_norm"\nmax = 1e3\n')
    paths = (S4D, S4D) if command[0] == "compare" else (S4D,)
    rules = ("--rules", "rules.toml") if command[0] == "check" else ()
    one, two = (typed(command[0], *paths, *command[1:], *rules, "--threads", str(number)) for number in (1, 2))
    assert (one.code, one.out, one.err) == (two.code, two.out, two.err)
    assert one.code == 0
    assert one.out


@pytest.mark.parametrize(("arguments", "threads"), [(("analyze", "none.pt"), "1"), (("retune", "none.pt", "--retrain", "waves"), None)])
def test_blas_has_one_thread_but_where_torch_reads_the_same_number(
    arguments: tuple[str, ...], threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in BLAS:
        monkeypatch.setenv(name, "")  # so that what the command sets is taken back
        monkeypatch.delenv(name)
    assert ssmspec(*arguments).code == 2
    assert os.environ.get("MKL_NUM_THREADS") == threads


def test_a_number_of_blas_threads_that_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BLAS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert ssmspec("analyze", "none.pt").code == 2
    assert [os.environ.get(name) for name in BLAS] == [None, "3", None, None]


@pytest.mark.parametrize("change", [("retune", "--alpha", "2"), ("reduce", "--keep", "0.5", "--no-timing")], ids=lambda change: change[0])
def test_sidecars_hold_no_password_of_an_address(
    typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, ...]
) -> None:
    monkeypatch.setattr("ssmspec.cli.options.local_copy", lambda address: str(SAMPLES / "s4d_trained.safetensors"))
    done = typed(change[0], "https://me:hidden@example.org/s4d.safetensors", "--download", *change[1:], "-o", "out.safetensors")
    assert done.code == 0, done.err
    sidecar = (tmp_path / "out.safetensors.ssmspec.json").read_text(encoding="utf-8")
    assert "example.org/s4d.safetensors" in sidecar
    assert "hidden" not in sidecar
