"""Every other file that a command reads, damaged or made up: mappings, rules, settings, sidecars, signals, arrays and run folders."""

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bases import bases
from campaign import Trial, parts, survive
from guard import assert_clean, command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from locations import SAMPLES
from mutations import mutate
from scipy.io import wavfile

MAPPING = """
[[layer]]
match = "s4_layers.*"
kind = "siso"
discretization = "zoh"
output = "2Re"
[layer.pole_real]
tensor = "kernel.log_A_real"
transform = "-exp"
axes = "H N"
[layer.pole_imag]
tensor = "kernel.A_imag"
[layer.step]
tensor = "kernel.log_dt"
transform = "exp"
scale = 1.0
[layer.C]
tensor = "kernel.C"
"""
RULES = """
[rules]
disable = ["beyond-nyquist"]
[severity]
step-range = "error"
[[threshold]]
statistic = "bias_slope"
layer = "*"
aggregate = "median"
min = -2.5
max = 0.0
severity = "error"
allow_null = false
id = "bias"
"""


def signals() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(200, 2)).cumsum(axis=0)


def saved(write: Callable[..., object], *arguments: object, **arrays: object) -> bytes:
    buffer = io.BytesIO()
    write(buffer, *arguments, **arrays)
    return buffer.getvalue()


def table() -> bytes:
    return b"left;right\n" + saved(np.savetxt, signals(), delimiter=";")


def calibration() -> bytes:
    names = [f"backbone.layers.{layer}.mixer" for layer in range(2)]
    return saved(np.savez, **{f"{name}/delta": np.full((5, 32), 0.1) for name in names}, B=np.ones((5, 8)), C=np.ones(8))


S4D, MAMBA = SAMPLES / "s4d_trained.safetensors", SAMPLES / "mamba1_trained.safetensors"
SMALL: Mapping[str, tuple[str, bytes, Callable[[Path, Path], tuple[object, ...]]]] = {
    "mapping": ("m.toml", MAPPING.encode(), lambda x, out: ("check", S4D, "--map", x)),
    "rules": ("r.toml", RULES.encode(), lambda x, out: ("check", SAMPLES / "mamba2_trained", "--rules", x)),
    "csv": ("s.csv", table(), lambda x, out: ("suggest", x)),
    "tsv": ("s.tsv", table().replace(b";", b"\t"), lambda x, out: ("suggest", f"{x}:left", "--json")),
    "wav": ("s.wav", saved(wavfile.write, 8000, (1000 * signals()).astype(np.int16)), lambda x, out: ("suggest", x)),
    "wav float": ("s.wav", saved(wavfile.write, 8000, signals().astype(np.float32)), lambda x, out: ("suggest", x)),
    "npy": ("s.npy", saved(np.save, signals()), lambda x, out: ("suggest", x, "--layout", "LC")),
    "npz": ("s.npz", saved(np.savez, x=signals(), y=signals()), lambda x, out: ("suggest", f"{x}:y", "--layout", "LC")),
    "npz deflated": ("s.npz", saved(np.savez_compressed, x=signals()), lambda x, out: ("suggest", x, "--layout", "LC")),
    "calibration": ("c.npz", calibration(), lambda x, out: ("check", MAMBA, "--calibration", x)),
    "operating point": ("b.npy", saved(np.save, np.ones(8)), lambda x, out: ("check", MAMBA, "--operating-point", f"B={x}")),
    "theta": (
        "t.npy",
        saved(np.save, np.linspace(0, 3, 9)),
        lambda x, out: ("response", S4D, "--layer", "0", "--theta", x, "-o", out / "h.npz"),
    ),
    "target": (
        "s.npy",
        saved(np.save, signals()),
        lambda x, out: ("retune", S4D, "--match-spectrum", x, "--layout", "LC", "--dry-run"),
    ),
}
LIMITED = ("target",)  # a fit takes longer


def damaged(number: int, place: Path) -> Trial:
    kinds = [name for name in SMALL if name not in LIMITED or number % 5 == 0]
    kind = kinds[number % len(kinds)]
    name, data, line = SMALL[kind]
    generator = np.random.default_rng(number)
    path = place / name
    path.write_bytes(mutate(data, [data for _, data, _ in SMALL.values()], generator))
    return Trial(kind, line(path, place), (name, MAMBA.name))  # an operating point that a layer cannot have is said of the layer


@pytest.fixture(scope="module", autouse=True)
def used_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The first use of a command imports modules."""
    folder = tmp_path_factory.mktemp("spent")
    for name, data, line in SMALL.values():
        path = folder / name
        path.write_bytes(data)
        assert command(folder, *line(path, folder), watched=False).code in (0, 1)


@pytest.mark.parametrize("numbers", parts(0, 800, 2), ids=str)
def test_a_damaged_small_file_is_a_result_or_one_line(numbers: range, tmp_path: Path) -> None:
    codes = survive(numbers, damaged, tmp_path)
    assert codes[0] > 20, codes
    assert codes[2] > 100, codes


@pytest.mark.nightly
@pytest.mark.parametrize("numbers", parts(800, 10_000, 10), ids=str)
def test_many_damaged_small_files_are_a_result_or_one_line(numbers: range, tmp_path: Path) -> None:
    survive(numbers, damaged, tmp_path)


# --- made up by hypothesis: the right keys with any values ---

ODD = st.sampled_from([10**400, -1, 0, 1e308, math.inf, -math.inf, math.nan, "", "H N", "zoh", "0", "*", "é", "\x1b[2J", "a\nb", True])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | ODD
KEYS = st.sampled_from(
    [
        *("layer", "match", "kind", "discretization", "output", "step", "delay", "C", "B", "D", "pole", "pole_real", "pole_imag", "tensor"),
        *("transform", "axes", "scale", "real", "imag", "rules", "disable", "severity", "threshold", "statistic", "aggregate", "min"),
        *("max", "allow_null", "id", "step-range", "unstable-pole", "near-miss"),
    ]
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12)
DRAWN = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def toml(value: Any) -> str:
    """A value in TOML; None, which it lacks, is a text."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, int | float) else json.dumps("none" if value is None else value)


def run_clean(folder: Path, name: str, *arguments: object) -> None:
    assert_clean(command(folder, *arguments), name, MAMBA.name)


@DRAWN
@given(document=st.dictionaries(KEYS, VALUES, max_size=4), layer=st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_toml_is_a_mapping_and_rules_or_one_line(tmp_path: Path, document: dict[str, Any], layer: dict[str, Any]) -> None:
    whole = {"match": "s4_layers.*", "kind": "siso", "discretization": "zoh", "output": "2Re", "step": 0.1}
    whole |= {"pole_real": {"tensor": "kernel.log_A_real", "transform": "-exp"}}
    for top in (document, {"layer": [layer]}, {"layer": [whole | layer]}):
        (tmp_path / "m.toml").write_text("\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in top.items()), "utf-8")
        run_clean(tmp_path, "m.toml", "inspect", S4D, "--map", tmp_path / "m.toml")
    threshold = {"statistic": "bias_slope", "max": 0.0}
    for top in (document, {"threshold": [layer]}, {"threshold": [threshold | layer]}, {"severity": layer}, {"rules": layer}):
        (tmp_path / "r.toml").write_text("\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in top.items()), "utf-8")
        run_clean(tmp_path, "r.toml", "check", SAMPLES / "mamba2_trained", "--rules", tmp_path / "r.toml")


CONFIG_KEYS = st.sampled_from(
    [
        *("model_type", "ssm_cfg", "time_step_limit", "time_step_min", "time_step_floor", "n_groups", "ngroups", "mamba_n_groups"),
        *("ssm_multipliers", "ssm_in_multiplier", "dt_limit", "discretization", "model_name", "linoss_discretization", "a"),
    ]
)
CONFIG = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(CONFIG_KEYS, inner, max_size=4), max_leaves=10)
MODELS = st.sampled_from(["mamba2", "falcon_mamba", "falcon_h1", "bamba", "zamba2", "nemotron_h", "granitemoehybrid", "jamba"])


@DRAWN
@given(config=st.dictionaries(CONFIG_KEYS, CONFIG, max_size=6), kind=MODELS)
def test_any_config_is_a_result_or_one_line(tmp_path: Path, config: dict[str, Any], kind: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    for source, weights in ((SAMPLES / "mamba2_trained/model.safetensors", "x"), (MAMBA, "y")):
        (folder / weights).mkdir(exist_ok=True)
        (folder / weights / "model.safetensors").write_bytes(source.read_bytes())
        for document in (config, config | {"model_type": kind}):
            (folder / weights / "config.json").write_text(json.dumps(document), "utf-8")
            run_clean(tmp_path, weights, "check", folder / weights)
            run_clean(tmp_path, weights, "inspect", folder / weights)


ENTRY_KEYS = st.sampled_from(["beta", "convention", "theta_ref", "length", "digest", "sobolev", "s4_layers.0", "s4_layers.1", "input"])
ENTRY = st.recursive(
    SCALARS | st.sampled_from(["lra", "paper", "angular", "causal", "waves", "denoising"]),
    lambda inner: st.lists(inner, max_size=17) | st.dictionaries(ENTRY_KEYS, inner, max_size=4),
    max_leaves=20,
)


@DRAWN
@given(entry=st.dictionaries(ENTRY_KEYS, ENTRY, max_size=5), convention=st.sampled_from(["lra", "paper", "angular", "causal", "waves"]))
def test_any_sidecar_and_metadata_is_a_result_or_one_line(tmp_path: Path, entry: dict[str, Any], convention: str) -> None:
    path, sidecar = tmp_path / "x.safetensors", tmp_path / "x.safetensors.ssmspec.json"
    whole = {"beta": 0.5, "convention": convention, "theta_ref": 0.1, "length": 64}
    for inner in (entry, whole | entry):
        document = json.dumps({"sobolev": {"s4_layers.0": inner, "s4_layers.1": whole}})
        path.write_bytes(S4D.read_bytes())
        sidecar.write_text(document, "utf-8")
        run_clean(tmp_path, path.name, "check", path)
        run_clean(tmp_path, path.name, "response", path, "--layer", "0", "--points", "16", "-o", tmp_path / "h.npz")
        sidecar.unlink()
        header = json.dumps({"__metadata__": {"ssmspec": document}, **layer_header()}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + layer_data())
        run_clean(tmp_path, path.name, "check", path)


def layer_header() -> dict[str, Any]:
    data = S4D.read_bytes()
    header: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    header.pop("__metadata__", None)
    return header


def layer_data() -> bytes:
    data = S4D.read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]


INDEX = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=8
)
SHARDS = st.sampled_from(
    ["0.safetensors", "1.safetensors", "2.safetensors", "..", ".", "", "/etc/passwd", "model.safetensors.index.json", "\0"]
)


@DRAWN
@given(document=st.dictionaries(st.sampled_from(["weight_map", "metadata"]), INDEX), shards=st.lists(SHARDS, min_size=30, max_size=30))
def test_any_index_is_a_result_or_one_line(tmp_path: Path, document: dict[str, Any], shards: list[str]) -> None:
    base = bases()["sharded"]
    folder = base.write(tmp_path)
    weight_map = json.loads(base.files["x/model.safetensors.index.json"])["weight_map"]
    for inner in (document, {"weight_map": dict(zip(weight_map, shards, strict=False))}, {"weight_map": weight_map} | document):
        (folder / "model.safetensors.index.json").write_text(json.dumps(inner), "utf-8")
        run_clean(tmp_path, "x", "inspect", folder)


CELLS = st.sampled_from(["1", "-2.5", "1e999", "nan", "inf", "", "x", '"a"', "0x10", "1_0", "１", " ", "1j", "\0", "é", "-", "1" * 400])


@DRAWN
@given(rows=st.lists(st.lists(CELLS, max_size=5), max_size=12), sign=st.sampled_from([",", ";", "\t", " "]), repeat=st.integers(1, 40))
def test_any_table_is_a_result_or_one_line(tmp_path: Path, rows: list[list[str]], sign: str, repeat: int) -> None:
    lines = "\n".join(sign.join(row) for row in rows)
    for name in ("s.csv", "s.txt"):
        (tmp_path / name).write_text("\n".join([lines] * repeat), "utf-8")
        run_clean(tmp_path, name, "suggest", tmp_path / name)
    (tmp_path / "s.csv").write_bytes(lines.encode("utf-16"))
    run_clean(tmp_path, "s.csv", "suggest", tmp_path / "s.csv")


SHAPES = st.lists(st.integers(-1, 5) | st.sampled_from([64, 10**6, 2**31, 2**62, 2**63, 10**400]), max_size=4).map(tuple)
CODES = st.sampled_from(["<f8", ">f4", "<c16", "|b1", "|O", "<U3", "|S0", "|V0", "<M8[s]", "<f2", ">i8", "|u1", [["a", "<f8"]], "x", ""])


@DRAWN
@given(code=CODES, shape=SHAPES, fortran=st.booleans(), size=st.integers(0, 600), version=st.sampled_from([1, 2, 3, 9]))
def test_any_npy_header_is_a_result_or_one_line(
    tmp_path: Path, code: object, shape: tuple[int, ...], fortran: bool, size: int, version: int
) -> None:
    header = f"{{'descr': {code!r}, 'fortran_order': {fortran}, 'shape': {shape!r}, }}\n".encode()
    length = len(header).to_bytes(2 if version == 1 else 4, "little")
    data = b"\x93NUMPY" + bytes([version, 0]) + length + header + np.linspace(0, 3, 80).tobytes()[:size]
    for name in ("s.npy", "s.eqx"):
        (tmp_path / name).write_bytes(data)
    for name in ("s.npz", "z.npz"):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED if name[0] == "z" else zipfile.ZIP_STORED) as archive:
            archive.writestr("x.npy", data)
            archive.writestr("l/delta.npy", data)
    for name, *line in (
        ("s.npy", "suggest", tmp_path / "s.npy"),
        ("s.npz", "suggest", tmp_path / "s.npz"),
        ("z.npz", "suggest", tmp_path / "z.npz"),
        ("s.npz", "inspect", tmp_path / "s.npz"),
        ("z.npz", "inspect", tmp_path / "z.npz"),
        ("s.eqx", "inspect", tmp_path / "s.eqx"),
        ("s.npy", "response", S4D, "--layer", "0", "--theta", tmp_path / "s.npy", "-o", tmp_path / "h.npz"),
        ("s.npy", "check", MAMBA, "--operating-point", f"delta={tmp_path / 's.npy'}"),
        ("z.npz", "check", MAMBA, "--calibration", tmp_path / "z.npz"),
    ):
        run_clean(tmp_path, name, *line)
