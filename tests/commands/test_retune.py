"""The command `retune` as it is typed, in every container, and the modules that its output loads into."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from locations import SAMPLES
from program import Result, Type, process, s4d_tensors
from safetensors.numpy import load_file, save_file

from ssmspec.checkpoint import open_checkpoint
from ssmspec.cli.retune_options import STARTS
from ssmspec.commands.analyze import analyze
from ssmspec.commands.retune import ChangeOptions, default_target, only_checkpoint, plan_retune
from ssmspec.errors import LayerError, SsmspecError
from ssmspec.families import ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.report.documents.document import schema
from ssmspec.systems.response import impulse_response
from ssmspec.systems.statespace import discrete_poles
from ssmspec.tuning.poles.initializations import INITIALIZATIONS
from ssmspec.tuning.poles.scaling import Scaling
from ssmspec.tuning.recipe import Recipe

TRAINED = SAMPLES / "s4d_trained.safetensors"
CONTAINERS = {  # sample -> options that it can be retuned with, and the ends of the names that change
    "s4d_trained.safetensors": (("--alpha", "2"), {"A_imag"}),
    "lru_trained.npz": (("--alpha", "1.2"), {"theta_log"}),
    "s5_trained.msgpack": (("--alpha", "2", "--assume", "s5_clip=true"), {"Lambda_im"}),
    "s4_dplr_trained.pt": (("--alpha", "2", "--diagonalize", "--max-diagonalize-error", "0.5"), {"A_real", "A_imag", "B", "C", "P"}),
    "mamba1_trained.safetensors": (("--step-scale", "2"), {"bias"}),
    "mamba2_trained": (("--step-scale", "2"), {"dt_bias"}),
}


def model(folder: Path, name: str = "model.safetensors", *, layers: int = 2, seed: int = 0, **extra: np.ndarray) -> Path:
    tensors = s4d_tensors(layers=layers) | {"head.weight": np.full(3, seed, np.float32)} | extra
    save_file(tensors, folder / name)
    return folder / name


def raw(path: Path) -> dict[str, bytes]:
    return {name: tensor.read().tobytes() for name, tensor in open_checkpoint(path).tensors.items()}


def refused(result: Result, *words: str) -> None:
    """Exit code 2, nothing on stdout, one line on stderr that says all of this."""
    assert (result.code, result.out) == (2, ""), result
    assert result.err.count("\n") == 1, result.err
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err


# --- as typed ---


def test_the_command_of_the_readme_retunes_the_only_checkpoint_here(typed: Type, tmp_path: Path) -> None:
    model(tmp_path)
    result = typed("retune", "--alpha", "2", "--beta", "-1")
    assert result.code == 0, result.err
    assert result.err == "ssmspec: retuning model.safetensors, the only checkpoint here\n"
    assert "1 tensors" not in result.out
    assert "2 tensors changed; wrote model.retuned.safetensors" in result.out
    assert "beta -1 (paper): gain at Nyquist" in result.out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.retuned.safetensors",
        "model.retuned.safetensors.ssmspec.json",
        "model.safetensors",
    ]
    before, after = (load_system(tmp_path / name, "0", ReadOptions()) for name in ("model.safetensors", "model.retuned.safetensors"))
    np.testing.assert_array_equal(after.poles.imag, 2 * before.poles.imag)
    assert after.sobolev is not None
    assert (after.sobolev.beta == -1).all()


def test_a_file_that_ssmspec_wrote_does_not_count_as_the_only_one(typed: Type, tmp_path: Path) -> None:
    model(tmp_path)
    assert typed("retune", "--alpha", "2").code == 0
    (tmp_path / "model.retuned.safetensors.ssmspec.json").unlink()
    assert typed("retune", "--alpha", "3", "--beta", "1", "-o", "other.safetensors").code == 2  # now there are two
    assert typed("retune", "model.safetensors", "--beta", "1", "-o", "model.retuned.safetensors", "--force").code == 0
    (tmp_path / "model.retuned.safetensors.ssmspec.json").unlink()
    assert typed("retune", "--alpha", "3", "-o", "other.safetensors").code == 0  # its metadata tells, without the sidecar
    (tmp_path / "model.safetensors").unlink()
    refused(typed("retune", "--alpha", "3"), "has none that ssmspec did not write itself (it wrote model.retuned.safetensors, other.safete")


def test_no_or_several_checkpoints_here_are_listed(typed: Type, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    save_file({"head.weight": np.ones(3, np.float32)}, tmp_path / "head.safetensors")
    refused(typed("retune", "--alpha", "2"), "the current folder has none", "give one")
    model(tmp_path, "b.safetensors")
    model(tmp_path, "a.safetensors")
    refused(typed("retune", "--alpha", "2"), "has 2", "a.safetensors, b.safetensors")
    assert len(list(tmp_path.iterdir())) == 4


def test_shards_of_one_checkpoint_are_one(tmp_path: Path) -> None:
    tensors = s4d_tensors(layers=2)
    names = {name: f"model-0000{1 + ('layers.1' in name)}-of-00002.safetensors" for name in tensors}
    for shard in set(names.values()):
        save_file({name: values for name, values in tensors.items() if names[name] == shard}, tmp_path / shard)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    assert only_checkpoint(tmp_path) == index
    assert default_target(index) == tmp_path.with_name(f"{tmp_path.name}.retuned")


def test_a_folder_is_written_beside_itself_also_from_inside(
    typed: Type,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(SAMPLES / "mamba2_trained", tmp_path / "mamba")
    monkeypatch.chdir(tmp_path / "mamba")
    result = typed("retune", ".", "--step-scale", "2")
    assert result.code == 0, result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mamba", "mamba.retuned", "mamba.retuned.ssmspec.json"]
    assert (tmp_path / "mamba.retuned" / "config.json").read_bytes() == (tmp_path / "mamba" / "config.json").read_bytes()
    assert typed("analyze", ".").code == 0


@pytest.mark.parametrize(("path", "target"), [("a/m.pt", "a/m.retuned.pt"), ("checkpoint_25", "checkpoint_25.retuned")])
def test_default_target_keeps_the_suffix(path: str, target: str) -> None:
    assert default_target(Path(path)) == Path(target)


def test_json_fits_the_schema_and_is_all_of_stdout(typed: Type, tmp_path: Path) -> None:
    model(tmp_path)
    for options in (("--alpha", "2", "--beta", "-1"), ("--reinit", "s4d-inv", "--seed", "3"), ("--beta", "-0.1", "--bake")):
        result = typed("retune", "--json", "--force", *options)
        document = json.loads(result.out)
        jsonschema.validate(document, schema("retune-1"))
        assert document["output"] == "model.retuned.safetensors"
        assert [layer["name"] for layer in document["layers"]] == ["layers.0", "layers.1"]
    assert document["layers"][0]["figures"]["bake_growth"] > 0
    assert any("baked into C" in note for note in document["layers"][0]["notes"])
    assert document["changed_tensors"] == ["layers.0.kernel.C", "layers.1.kernel.C"]
    assert document["recipe"]["weighting"]["beta"] == -0.1


def test_json_of_a_subprocess_is_pure() -> None:
    result = process("retune", "s4d_trained.safetensors", "--alpha", "2", "--dry-run", "--json")
    jsonschema.validate(json.loads(result.out), schema("retune-1"))
    assert (result.code, result.err) == (0, "")


def test_a_dry_run_tells_the_same_and_writes_nothing(typed: Type, tmp_path: Path) -> None:
    model(tmp_path)
    dry = json.loads(typed("retune", "--alpha", "1.7", "--beta", "0.5", "--json", "--dry-run").out)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert (dry["output"], dry["dry_run"]) == (None, True)
    wet = json.loads(typed("retune", "--alpha", "1.7", "--beta", "0.5", "--json").out)
    for left, right in zip(dry["layers"], wet["layers"], strict=True):
        for name in left["statistics"]:
            for figure in ("median", "p5", "p95", "reason"):
                told = left["statistics"][name]["after"][figure]
                assert right["statistics"][name]["after"][figure] == (pytest.approx(told, rel=1e-7) if isinstance(told, float) else told)
        assert left["figures"] == right["figures"]
    assert "nothing was written" in typed("retune", "model.safetensors", "--alpha", "2", "--dry-run").out


def test_input_and_other_files_are_safe_without_the_word_for_it(typed: Type, tmp_path: Path) -> None:
    source = model(tmp_path)
    other = model(tmp_path, "other.safetensors", seed=7)
    kept = source.read_bytes(), other.read_bytes()
    for options in (("-o", source), ("-o", source, "--force"), ("-o", other), ("-o", "-"), ("-o", tmp_path)):
        refused(typed("retune", source, "--alpha", "2", *options), "cannot write")
    refused(typed("retune", source, "--alpha", "2", "--in-place", "-o", other), "--in-place", "give one of them")
    assert (source.read_bytes(), other.read_bytes()) == kept
    assert typed("retune", source, "--alpha", "2", "-o", other, "--force").code == 0
    assert typed("retune", source, "--alpha", "2", "--in-place").code == 0
    assert raw(source) == raw(other)
    assert source.read_bytes() != kept[0]


def test_the_command_is_in_the_sidecar(typed: Type, tmp_path: Path) -> None:
    model(tmp_path, "my model.safetensors")
    assert typed("retune", "my model.safetensors", "--alpha", "2").code == 0
    document = json.loads((tmp_path / "my model.retuned.safetensors.ssmspec.json").read_text())
    assert shlex.split(document["command"]) == ["ssmspec", "retune", "my model.safetensors", "--alpha", "2"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "nothing to change; give --alpha, --beta"),
        (("--alpha", "1"), "nothing to change"),
        (("--preserve-gain",), "nothing to change"),
        *((("--alpha", value), "expected a positive finite factor") for value in ("0", "-1", "nan", "inf")),
        (("--step-scale", "0"), "step-scale is 0.0"),
        (("--alpha-real", "nan"), "alpha-real is nan"),
        (("--beta", "nan"), "expected a finite exponent"),
        (("--beta", "1e6"), "give a smaller beta"),
        (("--bake",), "--bake needs --beta; give it too"),
        (("--alpha", "2", "--sequence-length", "8", "--theta-ref", "1"), "--theta-ref, --sequence-length need --beta"),
        (("--alpha", "2", "--init-b", "ones"), "--init-b needs --reinit"),
        (("--alpha", "2", "--step-min", "0.1", "--step-max", "0.2"), "--step-min, --step-max need --reinit"),
        (("--beta", "1", "--max-bake-error", "0"), "--max-bake-error needs --bake"),
        (("--alpha", "2", "--max-diagonalize-error", "0.1"), "--max-diagonalize-error needs --diagonalize"),
        (("--alpha", "2", "--reinit", "s4d-lin", "--preserve-gain"), "a re-initialized layer has no gain to preserve"),
        (("--alpha", "2", "--backend", "abacus"), "backend 'abacus' is unknown"),
        (("--beta", "1", "--theta-ref", "0.1"), "--theta-ref needs --beta-convention angular or causal"),
        (("--beta", "1", "--beta-convention", "causal"), "--theta-ref"),
        (("--beta", "2", "--bake", "--max-bake-error", "0.001"), "raise --max-bake-error"),
        (("--reinit", "best"), "initialization 'best' is unknown; choose one of s4d-lin, s4d-inv"),
        (("--reinit", "s4d-lin", "--init-c", "best"), "choose one of normal"),
        (("--reinit", "s4d-lin", "--step-min", "1", "--step-max", "0.1"), "step is 1.0..0.1"),
        (("--alpha", "2", "--layer", "nothing"), "--layer nothing matches no layer"),
        (("--alpha", "2", "--family", "s6"), "'s6' is unknown"),
        (("--alpha", "1e39"), "would become unusable"),
        (("--step-scale", "1e-323"), "would become infinite"),
    ],
)
def test_bad_options_are_one_line_and_write_nothing(typed: Type, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    model(tmp_path)
    refused(typed("retune", *options, "model.safetensors"), words)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_file_without_ssm_layers_exits_3(typed: Type, tmp_path: Path) -> None:
    save_file({"head.weight": np.ones(3, np.float32)}, tmp_path / "head.safetensors")
    result = typed("retune", "head.safetensors", "--alpha", "2")
    assert (result.code, result.out) == (3, "")


@pytest.mark.parametrize(("sample", "option"), [("mamba1_trained.safetensors", "--step-scale"), ("s4_dplr_trained.pt", "--diagonalize")])
def test_alpha_where_it_cannot_act_is_one_line_with_the_way_out(typed: Type, tmp_path: Path, sample: str, option: str) -> None:
    refused(typed("retune", SAMPLES / sample, "--alpha", "2", "-o", tmp_path / "out"), option)


def test_nothing_is_written_before_everything_is_known(typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the comparison is interrupted or fails, the command can be typed again, and alpha is not applied twice."""
    source = model(tmp_path)
    kept = source.read_bytes()
    for failure, code in ((KeyboardInterrupt(), 130), (SsmspecError("no"), 2)):
        monkeypatch.setattr("ssmspec.commands.retune_writing.compare_systems", raising(failure))
        assert typed("retune", source, "--alpha", "2", "--in-place").code == code
        assert source.read_bytes() == kept
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def raising(failure: BaseException) -> Callable[..., None]:
    def run(*_: object, **__: object) -> None:
        raise failure

    return run


def test_a_target_that_cannot_be_is_told_before_the_work(typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, other = model(tmp_path), model(tmp_path, "other.safetensors", seed=7)
    monkeypatch.setattr("ssmspec.commands.retune_writing.compare_systems", raising(AssertionError("compared")))
    refused(typed("retune", source, "--alpha", "2", "-o", other), "it exists")


@pytest.mark.parametrize("name", ["checkpoint_25", "epoch=3.cpkt"])
def test_the_only_checkpoint_here_is_known_by_its_content(typed: Type, tmp_path: Path, name: str) -> None:
    shutil.copy(SAMPLES / "s5_trained.msgpack", tmp_path / name)
    np.savez(tmp_path / "data.npz", x=np.ones(5))
    for other in ("notes.md", ".hidden", "empty"):
        (tmp_path / other).write_text("" if other == "empty" else "x")
    result = typed("retune", "--alpha", "2", "--dry-run")
    assert (result.code, result.err) == (0, f"ssmspec: retuning {name}, the only checkpoint here\n")


# --- which layers ---


def test_a_layer_that_cannot_be_read_is_named(typed: Type, tmp_path: Path) -> None:
    source = model(tmp_path, **{"layers.1.kernel.log_dt": np.zeros(3, np.float32)})
    result = typed("retune", source, "--alpha", "2")
    assert result.code == 0
    assert "layers.1 is left unchanged" in result.out
    assert "1 tensor changed" in result.out


def test_a_twin_is_chosen_by_its_name_and_all_means_all(typed: Type, tmp_path: Path) -> None:
    tensors = s4d_tensors(layers=2)
    save_file({f"{place}.{name}": values for place in ("ema", "model") for name, values in tensors.items()}, tmp_path / "twins.safetensors")
    for options, layers in ((("--layer", "model.layers.0"), {"0"}), (("--layer", "model.*"), {"0", "1"}), (("--layer", "*.1"), {"1"})):
        document = json.loads(typed("retune", "twins.safetensors", "--alpha", "2", "--dry-run", "--json", *options).out)
        changed = {f"{place}.layers.{layer}.kernel.A_imag" for place in ("ema", "model") for layer in layers}
        assert set(document["changed_tensors"]) == changed
    refused(typed("retune", "twins.safetensors", "--alpha", "2", "--layer", "other.*"), "matches no layer")
    both = typed("retune", "twins.safetensors", "--alpha", "2", "--dry-run", "--layer", "0", "--layer", "all")
    assert "4 tensors changed" in both.out


@pytest.mark.parametrize("alpha", ["1", "2", "0.5"])
def test_modes_beyond_nyquist_are_counted_before_and_after(typed: Type, tmp_path: Path, alpha: str) -> None:
    tensors = s4d_tensors(layers=1, H=2, N=16)
    tensors["layers.0.kernel.A_imag"] = np.tile(np.pi * np.arange(16, dtype=np.float32), (2, 1))
    tensors["layers.0.kernel.log_dt"] = np.log(np.array([0.01, 0.11], np.float32))
    save_file(tensors, tmp_path / "model.safetensors")
    beta = ("--beta", "1") if alpha == "1" else ()
    result = typed("retune", "--alpha", alpha, *beta, "--dry-run", "--json")
    figures = json.loads(result.out)["layers"][0]["figures"]
    if alpha == "1":  # poles and steps stay
        assert "beyond_nyquist_after" not in figures
        return
    before = int((np.pi * np.arange(16) * 0.11 > np.pi).sum())
    expected = int((float(alpha) * np.pi * np.arange(16) * 0.11 > np.pi).sum())
    assert (figures["beyond_nyquist_before"], figures["beyond_nyquist_after"]) == (before, expected)
    assert f"modes beyond Nyquist, which alias: {before} -> {expected} of 32" in typed("retune", "--alpha", alpha, "--dry-run").out


def test_diagonal_layers_say_that_there_is_nothing_to_convert(typed: Type, tmp_path: Path) -> None:
    model(tmp_path)
    result = typed("retune", "--diagonalize")
    assert "is already diagonal" in result.out
    assert "0 tensors changed; nothing was written" in result.out
    assert len(list(tmp_path.iterdir())) == 1


def test_only_chosen_layers_change(typed: Type, tmp_path: Path) -> None:
    source = model(tmp_path, layers=3)
    assert typed("retune", source, "--reinit", "s4d-lin", "--layer", "1", "-o", "out.safetensors").code == 0
    before, after = raw(source), raw(tmp_path / "out.safetensors")
    moved = {name for name in before if before[name] != after[name]}
    assert {name.removeprefix("layers.1.kernel.") for name in moved} == {"log_A_real", "A_imag", "log_dt", "C"} - (
        {"log_A_real", "A_imag"} if before["layers.1.kernel.A_imag"] == after["layers.1.kernel.A_imag"] else set()
    )


def test_a_spoiled_layer_is_left_alone_with_a_note_and_refused_by_name(typed: Type, tmp_path: Path) -> None:
    spoiled = s4d_tensors(layers=2)["layers.1.kernel.C"]
    spoiled[1, 2] = np.nan
    source = model(tmp_path, **{"layers.1.kernel.C": spoiled})
    document = json.loads(typed("retune", source, "--alpha", "2", "--json").out)
    assert [layer["name"] for layer in document["layers"]] == ["layers.0"]
    note = "layers.1 is left unchanged: 1 of 4 copies has NaN or infinite values: 1 of 12 values of C are NaN or infinite"
    assert note in document["notes"]
    before, after = raw(source), raw(tmp_path / "model.retuned.safetensors")
    assert {name for name in before if before[name] != after[name]} == {"layers.0.kernel.A_imag"}
    refused(typed("retune", source, "--alpha", "2", "--layer", "layers.1"), "layers.1 cannot be retuned", "NaN")


def test_a_file_of_spoiled_layers_is_refused(typed: Type, tmp_path: Path) -> None:
    source = model(tmp_path, layers=1, **{"layers.0.D": np.full(4, np.inf, np.float32)})
    refused(typed("retune", source, "--alpha", "2"), "no layer is usable")


def test_a_freqbias_block_without_a_slot_gets_one(typed: Type, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    block = {"kernel.A_real": np.zeros((2, 3), np.float32), "kernel.A_imag": np.ones((2, 3), np.float32), "D": np.zeros((1, 4), np.float32)}
    block |= {"kernel.inv_dt": np.full((4, 1), -3, np.float32), "kernel.C": rng.normal(size=(1, 4, 3, 2)).astype(np.float32)}
    both = {f"{place}.{name}": values for place in ("a", "b") for name, values in block.items()}  # b: a twin, such as averaged weights
    save_file(both, tmp_path / "block.safetensors")
    result = typed("retune", "block.safetensors", "--family", "freqbias-block", "--beta", "-0.5", "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert document["added_tensors"] == ["a.s", "b.s"]
    after = load_file(tmp_path / "block.retuned.safetensors")
    for name in ("a.s", "b.s"):
        np.testing.assert_array_equal(after[name], np.full((1, 4), -0.5, np.float32))
    system = load_system(tmp_path / "block.retuned.safetensors", "a", ReadOptions())
    assert (system.sobolev.convention, set(system.sobolev.beta)) == ("lra", {-0.5})
    np.savez(tmp_path / "block.npz", **both)
    refused(typed("retune", "block.npz", "--family", "freqbias-block", "--beta", "1"), "a.s")
    assert typed("retune", "block.npz", "--family", "freqbias-block", "--beta", "-0.1", "--bake").code == 0  # needs no slot


# --- containers ---


@pytest.mark.parametrize("sample", CONTAINERS)
def test_every_container_keeps_all_other_bytes_and_reads_back(typed: Type, tmp_path: Path, sample: str) -> None:
    options, ends = CONTAINERS[sample]
    target = tmp_path / f"out{Path(sample).suffix}"
    result = typed("retune", SAMPLES / sample, *options, "-o", target, "--json")
    assert result.code == 0, result.err
    before, after = raw(SAMPLES / sample), raw(target)
    assert list(before) == list(after)
    moved = {name for name in before if before[name] != after[name]}
    assert {name.rsplit(".", 1)[-1] for name in moved} == ends
    assert moved == set(json.loads(result.out)["changed_tensors"])
    for layer in ("0", "1"):
        read = ReadOptions(assume={"s5_clip": "true"} if sample.startswith("s5") else {})
        old, new = (load_system(path, layer, read) for path in (SAMPLES / sample, target))
        if "--step-scale" in options:
            np.testing.assert_allclose(new.step, 2 * old.step, rtol=1e-5)
        elif "--diagonalize" not in options:
            factor = float(options[1])
            turned = np.abs(np.log(discrete_poles(new)).imag) if old.discretization == "direct" else new.poles.imag
            start = np.abs(np.log(discrete_poles(old)).imag) if old.discretization == "direct" else old.poles.imag
            limit = np.pi if old.discretization == "direct" else np.inf
            np.testing.assert_allclose(turned, np.minimum(factor * start, limit), rtol=0, atol=4e-6 * max(1, np.abs(turned).max()))
        else:
            assert not new.P.any()


def test_a_torch_file_loads_with_weights_only(typed: Type, tmp_path: Path) -> None:
    import torch

    source = {name: torch.from_numpy(values) for name, values in s4d_tensors().items()}
    torch.save({"model": source, "epoch": 3}, tmp_path / "model.pt")
    assert typed("retune", "--alpha", "2", "--preserve-gain").code == 0
    loaded = torch.load(tmp_path / "model.retuned.pt", weights_only=True)
    assert loaded["epoch"] == 3
    np.testing.assert_array_equal(loaded["model"]["layers.0.kernel.A_imag"], 2 * source["layers.0.kernel.A_imag"])
    assert not torch.equal(loaded["model"]["layers.0.kernel.C"], source["layers.0.kernel.C"])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_coarse_dtypes_hold_the_nearest_number(typed: Type, tmp_path: Path, dtype: str) -> None:
    import torch

    source = {name: torch.from_numpy(values).to(getattr(torch, dtype)) for name, values in s4d_tensors().items()}
    torch.save(source, tmp_path / "model.pt")
    assert typed("retune", "--alpha", "1.3").code == 0
    loaded = torch.load(tmp_path / "model.retuned.pt", weights_only=True)
    imag = source["layers.0.kernel.A_imag"].double()
    assert torch.equal(loaded.pop("layers.0.kernel.A_imag"), (1.3 * imag).to(getattr(torch, dtype)))
    assert all(torch.equal(values, source[name]) for name, values in loaded.items())


def test_the_layer_of_ssmspec_loads_it_strictly_and_answers_with_the_new_poles(typed: Type, tmp_path: Path) -> None:
    """Its forward on an impulse, GELU and GLU apart, against the kernel of the scaled system."""
    import torch

    from ssmspec.nn import S4D

    torch.manual_seed(0)
    layer = S4D(4, 6)
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    before = load_system(tmp_path / "layer.pt", "0", ReadOptions())
    assert typed("retune", "layer.pt", "--alpha", "3").code == 0
    layer.load_state_dict(torch.load(tmp_path / "layer.retuned.pt", weights_only=True), strict=True)
    pole = torch.complex(-torch.exp(layer.kernel.log_A_real), layer.kernel.A_imag).detach().numpy()
    np.testing.assert_allclose(pole, before.poles.real + 3j * before.poles.imag, rtol=1e-6)
    after = load_system(tmp_path / "layer.retuned.pt", "0", ReadOptions())
    step, C = np.exp(layer.kernel.log_dt.detach().double().numpy())[:, None], layer.kernel.C.detach().double().numpy()
    gain = (C[..., 0] + 1j * C[..., 1]) * np.expm1(pole * step) / pole
    kernel = 2 * np.einsum("hn,hnl->hl", gain, np.exp((pole * step)[:, :, None] * np.arange(64))).real
    np.testing.assert_allclose(impulse_response(after, 64)[:, 0, 0], kernel, atol=1e-5 * np.abs(kernel).max())


def test_the_published_minimal_layer_loads_it_strictly(typed: Type, tmp_path: Path) -> None:
    """A module with the parameter names of models/s4/s4d.py and nothing of ssmspec."""
    import torch
    from torch import nn

    layer = nn.Module()
    layer.D, layer.kernel = nn.Parameter(torch.ones(4)), nn.Module()
    for name, shape in (("C", (4, 3, 2)), ("log_dt", (4,)), ("log_A_real", (4, 3)), ("A_imag", (4, 3))):
        setattr(layer.kernel, name, nn.Parameter(torch.randn(shape)))
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    old = layer.kernel.A_imag.detach().clone()
    for options in (("--alpha", "2"), ("--beta", "1")):
        assert typed("retune", "layer.pt", *options, "--force").code == 0
        layer.load_state_dict(torch.load(tmp_path / "layer.retuned.pt", weights_only=True), strict=True)
        assert torch.equal(layer.kernel.A_imag, (2 if "--alpha" in options else 1) * old)


@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
def test_transformers_load_a_mamba_with_its_steps_doubled(typed: Type, tmp_path: Path, kind: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    common = {"vocab_size": 16, "hidden_size": 8, "state_size": 4, "num_hidden_layers": 2}
    if kind == "mamba":
        config = transformers.MambaConfig(**common, time_step_rank=2)
        start = transformers.MambaForCausalLM(config)
    else:
        config = transformers.Mamba2Config(**common, num_heads=4, head_dim=4, n_groups=1, chunk_size=8)
        start = transformers.Mamba2ForCausalLM(config)
    start.save_pretrained(tmp_path / "hf")
    before = steps(start, kind)
    result = typed("retune", "hf", "--step-scale", "2")
    assert result.code == 0, result.err
    loaded = type(start).from_pretrained(tmp_path / "hf.retuned").eval()
    torch.testing.assert_close(steps(loaded, kind), 2 * before, rtol=1e-5, atol=0)
    with torch.no_grad():
        assert torch.isfinite(loaded(torch.arange(10)[None] % 16).logits).all()
    others = {name: value for name, value in start.state_dict().items() if "dt_" not in name or name.endswith("weight")}
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in others.items())


def steps(found: object, kind: str) -> "torch.Tensor":  # type: ignore[name-defined] # noqa: F821
    import torch

    mixers = [layer.mixer for layer in found.backbone.layers]
    return torch.stack([torch.nn.functional.softplus(m.dt_proj.bias if kind == "mamba" else m.dt_bias).detach() for m in mixers])


def test_steps_beyond_the_limit_of_the_code_are_told(tmp_path: Path) -> None:
    """A configuration whose code clamps Delta: what the clamp takes away is said, and all of it is refused."""
    shutil.copytree(SAMPLES / "mamba2_trained", tmp_path / "mamba")
    config = json.loads((tmp_path / "mamba" / "config.json").read_text())
    largest = [load_system(tmp_path / "mamba", str(n), ReadOptions()).step for n in (0, 1)]
    limit = float(np.median(largest[0]) * 2)
    (tmp_path / "mamba" / "config.json").write_text(json.dumps(config | {"time_step_limit": [0.0, limit]}))
    plan = plan_retune(tmp_path / "mamba", Recipe(scaling=Scaling(step_scale=2)), ChangeOptions(layers=("0",)))
    assert any("steps of" in note and "limits them" in note for note in plan.layers[0].notes)
    assert plan.layers[0].after.step.max() == limit
    with pytest.raises(SsmspecError, match="requested steps cannot be stored"):
        plan_retune(tmp_path / "mamba", Recipe(scaling=Scaling(step_scale=1e4)), ChangeOptions(layers=("0",)))


def test_a_step_that_the_user_holds_fixed_cannot_be_scaled(typed: Type, tmp_path: Path) -> None:
    arguments = ("retune", SAMPLES / "mamba1_trained.safetensors", "--step-scale", "2", "-o", tmp_path / "out.safetensors")
    refused(typed(*arguments, "--operating-point", "delta=0.1"), "requested steps cannot be stored")


@pytest.mark.usefixtures("blank_pictures")
def test_pictures_of_before_and_after_are_made(typed: Type, tmp_path: Path) -> None:
    model(tmp_path)
    assert typed("retune", "--alpha", "2", "--plot", "pictures").code == 0
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2


def test_a_layer_that_had_no_numbers_has_no_picture(typed: Type, tmp_path: Path) -> None:
    spoiled = np.full_like(s4d_tensors(layers=1)["layers.0.kernel.A_imag"], np.nan)
    model(tmp_path, layers=1, **{"layers.0.kernel.A_imag": spoiled})
    result = typed("retune", "model.safetensors", "--reinit", "s4d-lin", "--plot", "pictures")
    assert result.code == 0
    assert result.err == "ssmspec: no picture was written: no layer has values that can be drawn\n"


def test_a_new_start_says_what_is_drawn_and_from_where_it_is_known(typed: Type, tmp_path: Path) -> None:
    model(tmp_path)
    result = typed("retune", "--reinit", "s4d-inv", "--init-c", "xavier", "--step-min", "0.01", "--dry-run")
    assert "s4d-inv, alpha 1, B ones, C xavier, step 0.01..0.1, seed 0; poles from arXiv 2206.11893" in result.out


def test_bias_slope_of_the_output_is_the_one_that_is_told(typed: Type, tmp_path: Path) -> None:
    model(tmp_path)
    document = json.loads(typed("retune", "--alpha", "4", "--json").out)
    found = analyze(tmp_path / "model.retuned.safetensors")
    for told, layer in zip(document["layers"], found.layers, strict=True):
        assert told["statistics"]["bias_slope"]["after"]["median"] == layer.statistics["bias_slope"].median
        assert told["statistics"]["bias_slope"]["change"] != 0


def test_every_start_is_named_in_the_help() -> None:
    assert list(STARTS) == list(INITIALIZATIONS)


def test_ill_conditioned_eigenvectors_are_refused_for_what_other_poles_would_do(real_checkpoints: Callable[[str], Path]) -> None:
    recipe = Recipe(scaling=Scaling(alpha=1.05), diagonalize=True)
    with pytest.raises(LayerError, match=r"modes would be [\d.]+e\+05 times stronger than their sum"):
        plan_retune(real_checkpoints("s4-nplr-v2-bidir/ckpt.pth"), recipe)


def test_a_picture_folder_that_cannot_be_made_stops_before_anything_is_written(typed: Type, tmp_path: Path) -> None:
    shutil.copy(TRAINED, tmp_path / "a.safetensors")
    before = (tmp_path / "a.safetensors").read_bytes()
    result = typed("retune", "a.safetensors", "--alpha", "2", "--in-place", "--plot", "/dev/null/x")
    assert (result.code, (tmp_path / "a.safetensors").read_bytes()) == (2, before)


@pytest.mark.parametrize("option", [("--step-scale", "1e300"), ("--alpha-real", "1e38"), ("--alpha", "1e38")], ids=lambda option: option[0])
def test_values_that_float32_cannot_hold_are_refused_though_their_logarithms_fit(typed: Type, option: tuple[str, str]) -> None:
    result = typed("retune", TRAINED, *option, "--dry-run")
    assert (result.code, result.out) == (2, "")
    assert "would become unusable" in result.err


def test_a_new_start_repairs_a_layer_with_nan(typed: Type, tmp_path: Path) -> None:
    tensors = load_file(TRAINED)
    spoiled = next(name for name in tensors if name.endswith("0.kernel.A_imag"))
    tensors[spoiled] = np.full_like(tensors[spoiled], np.nan)
    save_file(tensors, tmp_path / "nan.safetensors")
    result = typed("retune", "nan.safetensors", "--reinit", "s4d-lin", "--layer", "0", "-o", "new.safetensors")
    assert result.code == 0, result.err
    assert np.isfinite(load_file(tmp_path / "new.safetensors")[spoiled]).all()


def test_a_new_beta_keeps_the_convention_that_the_file_names(typed: Type, tmp_path: Path) -> None:
    first = typed("retune", TRAINED, "--beta", "1", "--beta-convention", "causal", "--theta-ref", "0.1", "-o", "a.safetensors")
    assert first.code == 0, first.err
    second = typed("retune", "a.safetensors", "--beta", "2", "-o", "b.safetensors")
    assert second.code == 0, second.err
    weight = load_system(tmp_path / "b.safetensors", "0", ReadOptions()).sobolev
    assert (weight.convention, weight.theta_ref, set(weight.beta)) == ("causal", 0.1, {2.0})
