"""The command `reduce` as it is typed, in every container, and the modules that its output loads into at the smaller size."""

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import factories as f
import jsonschema
import msgpack
import numpy as np
import pytest
import torch
from factories import make
from locations import SAMPLES
from program import Result, Type, s4d_tensors
from safetensors.numpy import load_file, save_file
from small_modules import LRU, S5, MinimalS4D, S4Block

import ssmspec
from ssmspec.checkpoint import open_checkpoint
from ssmspec.commands.reduce import plan_reduce, reduce
from ssmspec.commands.retune import ChangeOptions
from ssmspec.families import ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.nn import S4D, SequenceModel
from ssmspec.nn.from_checkpoint import load_sequence_model
from ssmspec.report.documents.document import schema
from ssmspec.systems.response import impulse_response
from ssmspec.training.engine.run import make_problem
from ssmspec.training.engine.run_folder import read_config
from ssmspec.tuning.reduction.request import Request

TRAINED = SAMPLES / "s4d_trained.safetensors"
WEIGHTED = SAMPLES / "waves_retuned.safetensors"
CONTAINERS = {  # sample -> options, and the ends of the names that change
    "s4d_trained.safetensors": ((), {"log_A_real", "A_imag", "C"}),
    "lru_trained.npz": ((), {"nu_log", "theta_log", "gamma_log", "B_re", "B_im", "C_re", "C_im"}),
    "s5_trained.msgpack": (("--assume", "s5_clip=true"), {"Lambda_re", "Lambda_im", "B", "C", "log_step"}),
    "s4_dplr_trained.pt": ((), {"A_real", "A_imag", "B", "C", "P"}),
}
EXACT = 1e-10  # relative: float64 tensors


def refused(result: Result, *words: str, code: int = 2) -> None:
    """An exit code, nothing on stdout, one line on stderr that says all of this."""
    assert (result.code, result.out) == (code, ""), result
    assert result.err.count("\n") == 1, result.err
    for word in words:
        assert word in result.err


def as_torch(tensors: dict[str, np.ndarray], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): torch.from_numpy(values.copy()) for name, values in tensors.items() if name.startswith(prefix)}


def assert_near(actual: np.ndarray, wanted: np.ndarray, tolerance: float = EXACT) -> None:
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


# --- as typed ---


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_is_written_with_the_other_tensors_as_they_were(typed: Type, tmp_path: Path, name: str) -> None:
    options, ends = CONTAINERS[name]
    target = tmp_path / name
    result = typed("reduce", str(SAMPLES / name), "--keep", "0.5", "-o", str(target), "--no-timing", *options)
    assert result.code == 0, result
    before, after = open_checkpoint(SAMPLES / name), open_checkpoint(target)
    assert before.container == after.container
    assert list(before.tensors) == list(after.tensors)
    changed = set()
    for key, tensor in before.tensors.items():
        if after.tensors[key].shape != tensor.shape:
            changed.add(key.rsplit(".", 1)[-1])
            assert after.tensors[key].dtype == tensor.dtype
        else:
            assert after.tensors[key].read().tobytes() == tensor.read().tobytes()
    assert changed == ends
    assert "wrote" in result.out
    assert "within it" in result.out


def test_files_of_torch_and_flax_are_read_by_torch_and_msgpack(typed: Type, tmp_path: Path) -> None:
    for name in ("s4_dplr_trained.pt", "s5_trained.msgpack"):
        options = CONTAINERS[name][0]
        assert typed("reduce", str(SAMPLES / name), "--keep", "0.5", "-o", str(tmp_path / name), *options).code == 0
    for mmap in (False, True):
        state = torch.load(tmp_path / "s4_dplr_trained.pt", weights_only=False, mmap=mmap)["model"]
        before = torch.load(SAMPLES / "s4_dplr_trained.pt", weights_only=False)["model"]
        assert state["s4_layers.0.layer.kernel.A_real"].shape == (8, 4)
        assert all(torch.equal(state[key], values) for key, values in before.items() if state[key].shape == values.shape)
    tree = msgpack.unpackb(
        (tmp_path / "s5_trained.msgpack").read_bytes(), ext_hook=lambda code, data: msgpack.unpackb(data), strict_map_key=False
    )
    found = [value for value in _leaves(tree) if isinstance(value, list) and value[:2] == [[4, 8, 2], "float32"]]
    assert found
    assert all(len(data) == 4 * 4 * 8 * 2 for _, _, data in found)


def _leaves(tree: object) -> list[object]:
    return [leaf for value in tree.values() for leaf in _leaves(value)] if isinstance(tree, dict) else [tree]


def test_document_fits_its_schema_and_says_what_the_table_says(typed: Type, tmp_path: Path) -> None:
    result = typed("reduce", str(WEIGHTED), "--modes", "2", "-o", str(tmp_path / "a.safetensors"), "--json", "--no-timing")
    document = json.loads(result.out)
    jsonschema.validate(document, schema("reduce-1"))
    (layer,) = document["layers"]
    copies = layer["copies"]
    assert layer["modes"] == [4, 2]
    assert layer["bound_holds"] is True
    assert layer["relative_error"] == pytest.approx(max(copies["hinf_error"]) / layer["norm"])
    assert all(error <= bound * (1 + 1e-6) for error, bound in zip(copies["hinf_error_unweighted"], copies["bound"], strict=True))
    assert document["parameters"] == [136, 72]
    sidecar = json.loads((tmp_path / "a.safetensors.ssmspec.json").read_text())
    assert sidecar["layers"][0]["certificate"]["hinf_error"] == copies["hinf_error"]
    assert sidecar["recipe"]["reduction"]["modes"] == 2
    assert sidecar["layers"][0]["digest"]


def test_the_beta_of_a_file_stays_with_its_layer(typed: Type, tmp_path: Path) -> None:
    target = tmp_path / "a.safetensors"
    assert typed("reduce", str(WEIGHTED), "--modes", "2", "-o", str(target), "--no-timing").code == 0
    before, after = (load_system(path, "0", ReadOptions()) for path in (WEIGHTED, target))
    np.testing.assert_array_equal(after.sobolev.beta, before.sobolev.beta)
    assert after.sobolev.convention == before.sobolev.convention
    assert not any("another version" in text for text in after.assumptions)


def test_a_dry_run_writes_nothing_and_the_default_name_says_reduced(typed: Type, tmp_path: Path) -> None:
    source = tmp_path / "model.safetensors"
    shutil.copy(TRAINED, source)
    result = typed("reduce", str(source), "--keep", "0.5", "--dry-run", "--no-timing")
    assert result.code == 0
    assert "nothing was written" in result.out
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert typed("reduce", str(source), "--keep", "0.5", "--no-timing").code == 0
    assert (tmp_path / "model.reduced.safetensors").exists()
    refused(typed("reduce", str(source), "--keep", "0.5", "--no-timing"), "it exists", "--force")
    assert typed("reduce", str(source), "--keep", "0.25", "--no-timing", "--force").code == 0
    assert typed("reduce", str(source), "--keep", "0.5", "--no-timing", "--in-place").code == 0
    assert source.read_bytes() != TRAINED.read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ("exactly one of --tolerance, --modes and --keep", "none")),
        (("--keep", "0.5", "--modes", "2"), ("--modes and --keep",)),
        (("--keep", "0.5", "--target", "x.npy"), ("--target needs --retrain",)),
        (("--keep", "0.5", "--steps", "3"), ("--steps needs --retrain",)),
        (("--keep", "0.5", "--retrain", "waves", "--dry-run"), ("--dry-run",)),
        (("--keep", "0.5", "--layer", "nothing"), ("matches no layer",)),
        (("--tolerance", "1e-9"), ("no smaller number meets 1e-09",)),
    ],
)
def test_requests_that_cannot_be_met_are_one_line(typed: Type, options: tuple[str, ...], words: tuple[str, ...]) -> None:
    refused(typed("reduce", str(TRAINED), *options), *words)


def test_layers_that_cannot_be_reduced_are_named_with_the_reason(typed: Type) -> None:
    refused(typed("reduce", str(SAMPLES / "mamba1_trained.safetensors"), "--keep", "0.5"), "one operating point")
    refused(typed("reduce", str(SAMPLES / "mamba1_trained.safetensors"), "--keep", "0.5", "--layer", "0"), "cannot be reduced")


# --- sizes ---


def wide(folder: Path, layers: int = 2, H: int = 6, N: int = 8) -> Path:
    """Layers of which the second decays faster, so that it needs fewer modes."""
    tensors = s4d_tensors(layers=layers, H=H, N=N)
    tensors["layers.1.kernel.log_A_real"] = tensors["layers.1.kernel.log_A_real"] + 1.5
    save_file(tensors, folder / "wide.safetensors")
    return folder / "wide.safetensors"


def test_a_tolerance_is_met_by_the_smallest_number_of_modes(tmp_path: Path) -> None:
    source = wide(tmp_path)
    plan = plan_reduce(source, Request(tolerance=0.3, own_sizes=True))
    for layer in plan.layers:
        assert layer.certificate.relative.max() <= 0.3
        fewer = plan_reduce(source, Request(modes=layer.stored[1] - 1), ChangeOptions(layers=(layer.after.name,)))
        assert fewer.layers[0].certificate.relative.max() > 0.3


def test_layers_of_one_size_keep_one_size(tmp_path: Path) -> None:
    source = wide(tmp_path)
    own = plan_reduce(source, Request(tolerance=0.3, own_sizes=True))
    sizes = [layer.stored[1] for layer in own.layers]
    assert sizes[0] > sizes[1]
    assert any("layers differ in their number of modes now" in note for note in own.notes)
    together = plan_reduce(source, Request(tolerance=0.3))
    assert [layer.stored[1] for layer in together.layers] == [sizes[0]] * 2
    assert any(f"alone it would need {sizes[1]} modes" in note for note in together.layers[1].notes)


def test_fewer_copies_that_must_meet_a_tolerance_need_fewer_modes(tmp_path: Path) -> None:
    source = wide(tmp_path)
    found = [plan_reduce(source, Request(tolerance=0.3, over=over)) for over in ("median", "p95", "all")]
    sizes = [plan.layers[0].stored[1] for plan in found]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]
    assert np.median(found[0].layers[0].certificate.relative) <= 0.3


def test_from_python(tmp_path: Path) -> None:
    plan = reduce(TRAINED, tmp_path / "small.safetensors", keep=0.5, method="modal")
    assert plan.layers[0].after.modes == 8
    assert load_file(tmp_path / "small.safetensors")["s4_layers.0.kernel.C"].shape == (16, 8, 2)
    with pytest.raises(ssmspec.SsmspecError, match="exactly one"):
        reduce(TRAINED)


# --- modules ---


def test_a_sequence_model_of_the_smaller_size_loads_the_file(typed: Type, tmp_path: Path) -> None:
    target = tmp_path / "small.safetensors"
    assert typed("reduce", str(TRAINED), "--keep", "0.5", "-o", str(target), "--no-timing").code == 0
    before, _ = load_sequence_model(TRAINED)
    small = SequenceModel(d_input=before.encoder.in_features, d_output=before.decoder.out_features, d_model=16, d_state=16, n_layers=2)
    names = small.state_dict()
    tensors = {name: torch.from_numpy(values) for name, values in load_file(target).items()}
    assert names.keys() == tensors.keys()
    small.load_state_dict(tensors, strict=True)


def test_minimal_s4d_loads_the_file_and_has_the_kernel_of_the_reduced_system(tmp_path: Path) -> None:
    for kind, tolerance in ((np.float32, 1e-5), (np.float64, EXACT)):
        save_file({name: values.astype(kind) for name, values in s4d_tensors(H=4, N=6).items()}, tmp_path / "in.safetensors")
        plan = reduce(tmp_path / "in.safetensors", tmp_path / "out.safetensors", modes=3, replace_output=True)
        module = MinimalS4D(4, 3)
        module.load_state_dict(as_torch(load_file(tmp_path / "out.safetensors"), "layers.0."), strict=True)
        assert_near(module.kernel(200).detach().numpy(), impulse_response(plan.layers[0].after, 200)[:, 0, 0], tolerance)


def test_the_block_of_s4_loads_the_file_with_one_set_of_poles_per_channel(tmp_path: Path) -> None:
    tensors = {f"m.{name}": values.astype(np.float64) for name, values in make("s4-diag-tied").tensors.items()}
    save_file(tensors, tmp_path / "in.safetensors")
    plan = reduce(tmp_path / "in.safetensors", tmp_path / "out.safetensors", modes=2)
    block = S4Block(H=6, N=2, n_ssm=6)
    block.load_state_dict(as_torch(load_file(tmp_path / "out.safetensors"), "m."), strict=True)
    assert_near(block.kernel(200)[0].detach().numpy(), impulse_response(plan.layers[0].after, 200)[:, 0, 0])
    module = S4D(6, 4, layout="s4-diag").double()
    own = {f"layer.{name}": values for name, values in as_torch(load_file(tmp_path / "out.safetensors"), "m.").items()}
    missing = module.load_state_dict(own, strict=False)
    assert missing.unexpected_keys == []
    assert all(name.startswith("output_linear") for name in missing.missing_keys)


def test_s5_loads_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    P, H = 6, 3
    tensors = {
        "m.Lambda": -rng.uniform(0.3, 1, P) + 1j * rng.uniform(-9, 9, P),
        "m.B": rng.standard_normal((P, H, 2)),
        "m.C": rng.standard_normal((H, P)) + 1j * rng.standard_normal((H, P)),
        "m.D": rng.standard_normal(H),
        "m.log_step": np.log(rng.uniform(0.05, 0.3, P)),
    }
    np.savez(tmp_path / "in.npz", **tensors)
    plan = reduce(tmp_path / "in.npz", tmp_path / "out.npz", modes=3)
    module = S5(H, 3)
    module.load_state_dict(as_torch(dict(np.load(tmp_path / "out.npz")), "m."), strict=True)
    assert_near(module(200).detach().numpy(), impulse_response(plan.layers[0].after, 200)[0])


def test_lru_loads_the_file(tmp_path: Path) -> None:
    tensors = {f"m.{name}": values.astype(np.float64) for name, values in make("lru-pairs").tensors.items()}
    save_file(tensors, tmp_path / "in.safetensors")
    plan = reduce(tmp_path / "in.safetensors", tmp_path / "out.safetensors", modes=3)
    module = LRU(3, 3, 3)
    module.load_state_dict(as_torch(load_file(tmp_path / "out.safetensors"), "m."), strict=True)
    assert_near(module(200).detach().numpy(), impulse_response(plan.layers[0].after, 200)[0])
    assert np.exp(2 * module.gamma_log.detach().numpy()) == pytest.approx(1 - np.abs(plan.layers[0].after.poles[0]) ** 2)


def test_annotated_s4d_resizes_the_inputs_that_its_kernel_does_not_use(tmp_path: Path) -> None:
    tensors = {f"m.{name}": values for name, values in make("annotated-s4d").tensors.items()}
    save_file(tensors, tmp_path / "in.safetensors")
    reduce(tmp_path / "in.safetensors", tmp_path / "out.safetensors", modes=2)
    shapes = {name.removeprefix("m."): values.shape for name, values in load_file(tmp_path / "out.safetensors").items()}
    assert {name: shape[0] for name, shape in shapes.items() if name in ("A_re", "A_im", "B_re", "B_im", "C")} == dict.fromkeys(
        ("A_re", "A_im", "B_re", "B_im", "C"), 2
    )
    assert shapes["log_step"] == (1, 4)


def test_a_real_s5_is_reduced_with_the_error_of_its_own_kernels(real_checkpoints: Callable[[str], Path], tmp_path: Path) -> None:
    """The reference is the kernel that the model's own code computed."""
    source = real_checkpoints("s5-flax-cifar-choi/checkpoint_25")
    reference = np.load(real_checkpoints("s5-flax-cifar-choi/reference_layer0_zoh.npz"))
    plan = reduce(source, tmp_path / "small", keep=0.75)
    system = load_system(tmp_path / "small", "0", ReadOptions())
    kernel = reference["kernel"].copy()
    kernel[:, :, 0] -= np.diag(reference["D"])
    gap = kernel - impulse_response(system, kernel.shape[-1])[0]
    spectrum = np.linalg.svd(np.fft.rfft(gap, 1 << 14).transpose(2, 0, 1), compute_uv=False)[:, 0]
    certificate = plan.layers[0].certificate
    assert certificate.error.peak[0] == pytest.approx(spectrum.max(), rel=0.05)  # half-lives of 2300 samples, of which the file has 2048
    assert certificate.holds


# --- configurations ---


def folder_of(place: Path, *, shards: bool = False) -> Path:
    place.mkdir()
    tensors = s4d_tensors(layers=2, H=4, N=6)
    (place / "config.json").write_text(json.dumps({"model_type": "mine", "d_state": 12, "layer": {"d_state": 12, "d_model": 12}}))
    if not shards:
        save_file(tensors, place / "model.safetensors")
        return place
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    weight_map = {}
    for number, name in enumerate(names):
        part = {key: values for key, values in tensors.items() if key.startswith(f"layers.{number}.")}
        save_file(part, place / name)
        weight_map |= dict.fromkeys(part, name)
    total = sum(values.nbytes for values in tensors.values())
    (place / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
    return place


@pytest.mark.parametrize("shards", [False, True])
def test_a_folder_is_written_with_its_config(typed: Type, tmp_path: Path, shards: bool) -> None:
    source = folder_of(tmp_path / "model", shards=shards)
    result = typed("reduce", str(source), "--modes", "2", "-o", str(tmp_path / "small"), "--no-timing")
    assert result.code == 0, result
    config = json.loads((tmp_path / "small/config.json").read_text())
    assert config == {"model_type": "mine", "d_state": 4, "layer": {"d_state": 4, "d_model": 12}}
    assert "config.json: d_state 12 -> 4" in result.out
    assert "config.json: layer.d_state 12 -> 4" in result.out
    assert json.loads((source / "config.json").read_text())["d_state"] == 12
    if shards:
        index = json.loads((tmp_path / "small/model.safetensors.index.json").read_text())
        files = [load_file(path) for path in sorted((tmp_path / "small").glob("*.safetensors"))]
        assert index["metadata"]["total_size"] == sum(values.nbytes for part in files for values in part.values())


def sizes(config: dict[str, object]) -> tuple[object, object]:
    return config["d_state"], config["layer"]["d_state"]


def test_a_config_beside_a_file_is_written_beside_the_result(typed: Type, tmp_path: Path) -> None:
    source, folder = folder_of(tmp_path / "model"), tmp_path / "small"
    folder.mkdir()
    before = (source / "config.json").read_bytes()
    command = ("reduce", str(source / "model.safetensors"), "--no-timing", "--json")
    result = typed(*command, "--modes", "2", "-o", str(folder / "a.safetensors"))
    assert result.code == 0, result
    document = json.loads(result.out)
    jsonschema.validate(document, schema("reduce-1"))
    assert sizes(json.loads((folder / "config.json").read_text())) == (4, 4)
    assert {setting["file"] for setting in document["settings"]} == {str(folder / "config.json")}
    assert [(setting["key"], setting["before"], setting["after"]) for setting in document["settings"]] == [
        ("d_state", 12, 4),
        ("layer.d_state", 12, 4),
    ]
    assert json.loads((folder / "a.safetensors.ssmspec.json").read_text())["settings"] == document["settings"]
    again = json.loads(typed(*command, "--modes", "2", "-o", str(folder / "b.safetensors")).out)
    assert any("has the new size already" in note for note in again["notes"])
    other = json.loads(typed(*command, "--modes", "3", "-o", str(folder / "c.safetensors")).out)
    assert [setting["file"] for setting in other["settings"]] == [None, None]
    assert any("exists, and stays as it is; the model of c.safetensors needs d_state 12 -> 6" in note for note in other["notes"])
    assert sizes(json.loads((folder / "config.json").read_text())) == (4, 4)
    assert (source / "config.json").read_bytes() == before


def test_a_config_beside_the_input_is_never_changed(typed: Type, tmp_path: Path) -> None:
    source = folder_of(tmp_path / "model")
    before = (source / "config.json").read_bytes()
    for more in ((), ("--dry-run",), ("--in-place",)):
        result = typed("reduce", str(source / "model.safetensors"), "--modes", "4", "--no-timing", *more)
        assert result.code == 0, result
        assert "needs" in result.out
        assert "d_state 12 -> 8, layer.d_state 12 -> 8" in result.out
        assert (source / "config.json").read_bytes() == before


def test_a_config_that_states_no_size_is_named(typed: Type, tmp_path: Path) -> None:
    source = folder_of(tmp_path / "model")
    (source / "config.json").write_text('{"d_state": 99}')
    for given, target in ((source, tmp_path / "small"), (source / "model.safetensors", tmp_path / "small.safetensors")):
        result = typed("reduce", str(given), "--modes", "4", "--no-timing", "-o", str(target))
        assert "config.json names no state size of 6 or 12, and stays as it is" in result.out
    assert not (tmp_path / "config.json").exists()


def test_a_size_for_all_layers_is_not_rewritten_where_layers_differ(typed: Type, tmp_path: Path) -> None:
    source = folder_of(tmp_path / "model")
    result = typed("reduce", str(source), "--modes", "2", "--layer", "layers.0", "--no-timing", "-o", str(tmp_path / "small"))
    assert "config.json of the input states one size for all layers, and stays as it is: layers differ now" in result.out
    assert "layers differ in their number of modes now" in result.out
    assert sizes(json.loads((tmp_path / "small/config.json").read_text())) == (12, 12)


@pytest.mark.parametrize("protocol", [2, 4])
def test_settings_inside_a_torch_file_are_rewritten(typed: Type, tmp_path: Path, protocol: int) -> None:
    tensors = {f"model.{name}": torch.from_numpy(values) for name, values in s4d_tensors(layers=2, H=4, N=6).items()}
    settings = {"d_state": 12, "d_model": 12, "layer": {"N": 6, "name": "d_state", "rest": ["d_state", 12]}, "dropout": 0.1}
    everything = {"state_dict": tensors, "hyper_parameters": settings, "epoch": 12, "d_state": 12, "args": argparse.Namespace(ssm_size=12)}
    torch.save(everything, tmp_path / "model.ckpt", pickle_protocol=protocol)
    target = tmp_path / "small.ckpt"
    result = typed("reduce", str(tmp_path / "model.ckpt"), "--modes", "2", "--json", "--no-timing", "-o", str(target))
    assert result.code == 0, result
    found = torch.load(target, weights_only=False)
    assert found["hyper_parameters"] == settings | {"d_state": 4, "layer": settings["layer"] | {"N": 2}}
    assert found["args"].ssm_size == 4
    assert (found["epoch"], found["d_state"]) == (12, 12)
    assert found["state_dict"]["model.layers.0.kernel.C"].shape == (4, 2, 2)
    document = json.loads(result.out)
    assert {setting["key"]: setting["after"] for setting in document["settings"]} == {"d_state": 4, "layer.N": 2, "ssm_size": 4}
    assert {setting["file"] for setting in document["settings"]} == {str(target)}


def test_settings_that_a_new_file_does_not_hold_are_named(typed: Type, tmp_path: Path) -> None:
    tensors = {name: torch.from_numpy(values) for name, values in s4d_tensors(layers=1, H=4, N=6).items()}
    torch.save({"state_dict": tensors, "hparams": {"d_state": 12}}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    result = typed("reduce", str(tmp_path / "old.pt"), "--modes", "2", "--no-timing", "-o", str(tmp_path / "small.safetensors"))
    assert result.code == 0, result
    assert "the settings inside the file are not in the result; the model of the result needs d_state 12 -> 4" in result.out


def equinox(path: Path) -> None:
    """The S5 layer of the public Equinox code, with its constants, after a line of hyperparameters."""
    tensors = f.s5_tensors(np.random.default_rng(4), full=False)
    leaves = [tensors[name] for name in ("Lambda_re", "Lambda_im", "B", "C", "D", "log_step")]
    leaves += [np.array(3), np.array(6), np.array(True), np.array(False), np.array(1.0)]
    with path.open("wb") as file:
        file.write(json.dumps({"model_name": "S5", "ssm_dim": 6, "hidden_dim": 3}).encode() + b"\n")
        for leaf in leaves:
            np.save(file, leaf)


def test_an_equinox_file_is_written_with_its_hyperparameters_and_constants(typed: Type, tmp_path: Path) -> None:
    equinox(tmp_path / "model.eqx")
    result = typed("reduce", str(tmp_path / "model.eqx"), "--modes", "4", "-o", str(tmp_path / "small.eqx"))
    assert result.code == 0, result
    assert "hyperparameters: ssm_dim 6 -> 4" in result.out
    with (tmp_path / "small.eqx").open("rb") as file:
        assert json.loads(file.readline()) == {"model_name": "S5", "ssm_dim": 4, "hidden_dim": 3}
        leaves = [np.load(file) for _ in range(11)]
        assert file.read() == b""
    assert [leaf.shape for leaf in leaves[:6]] == [(4,), (4,), (4, 3, 2), (3, 4, 2), (3,), (4, 1)]
    assert [leaf.item() for leaf in leaves[6:]] == [3, 4, True, False, 1.0]


def test_what_a_run_recorded_about_its_model_has_the_new_size(typed: Type, tmp_path: Path) -> None:
    data = np.random.default_rng(0).standard_normal((12, 40, 1)).astype(np.float32)
    np.save(tmp_path / "x.npy", data)
    np.save(tmp_path / "y.npy", data.mean(axis=1))
    common = ("--data", str(tmp_path / "x.npy"), "--target", str(tmp_path / "y.npy"), "--steps", "2", "--no-pictures")
    assert typed("train", "regress", *common, "--out", str(tmp_path / "run")).code == 0
    before = (tmp_path / "run/config.toml").read_bytes()
    source, folder = tmp_path / "run/final.safetensors", tmp_path / "small"
    folder.mkdir()
    target = folder / "small.safetensors"
    result = typed("reduce", str(source), "--keep", "0.5", "-o", str(target), "--no-timing")
    assert result.code == 0, result
    assert "metadata: model.d_state 16 -> 8" in result.out
    assert f"wrote {folder / 'config.toml'}, which is that of the input with settings.d_state 16 -> 8" in result.out.replace("\n", " ")
    assert (tmp_path / "run/config.toml").read_bytes() == before
    model, about = load_sequence_model(target)
    assert about["model"]["d_state"] == 8
    assert model.s4_layers[0].settings.d_state == 8
    config = read_config(folder)
    assert config.settings == replace(read_config(tmp_path / "run").settings, d_state=8)
    problem = make_problem(config, folder)
    problem.model.load_state_dict({name: torch.from_numpy(values) for name, values in load_file(target).items()}, strict=True)
    result = typed("reduce", str(source), "--keep", "0.5", "--no-timing")
    assert "belongs to the input, and stays as it is" in result.out
    assert (tmp_path / "run/config.toml").read_bytes() == before


# --- training afterwards ---


@pytest.mark.usefixtures("blank_pictures")
def test_retraining_continues_from_the_reduced_model(typed: Type, tmp_path: Path) -> None:
    data = np.random.default_rng(0).standard_normal((12, 40, 1)).astype(np.float32)
    np.save(tmp_path / "x.npy", data)
    np.save(tmp_path / "y.npy", data.mean(axis=1))
    common = ("--data", str(tmp_path / "x.npy"), "--target", str(tmp_path / "y.npy"), "--steps", "2")
    assert typed("train", "regress", *common, "--no-pictures", "--out", str(tmp_path / "run")).code == 0
    source, plain, trained = tmp_path / "run/final.safetensors", tmp_path / "plain.safetensors", tmp_path / "trained.safetensors"
    request = ("reduce", str(source), "--keep", "0.5", "--no-timing")
    assert typed(*request, "-o", str(plain)).code == 0
    result = typed(*request, "-o", str(trained), "--retrain", "regress", *common, "--out", str(tmp_path / "again"))
    assert result.code == 0, result
    first, second = load_file(plain), load_file(trained)
    assert {key: values.shape for key, values in first.items()} == {key: values.shape for key, values in second.items()}
    assert any(not np.array_equal(first[key], second[key]) for key in first if key.endswith("kernel.C"))
    sidecar = json.loads((tmp_path / "trained.safetensors.ssmspec.json").read_text())
    assert sidecar["reduction"]["recipe"]["reduction"]["keep"] == 0.5
    assert sidecar["recipe"]["training"] == "regress"
    assert load_sequence_model(trained)[0].s4_layers[0].settings.d_state == 8


def test_a_training_step_is_timed_for_layers_with_a_module(typed: Type) -> None:
    document = json.loads(typed("reduce", str(WEIGHTED), "--modes", "2", "--dry-run", "--json").out)
    times = document["layers"][0]["milliseconds_per_step"]
    assert len(times) == 2
    assert min(times) > 0
    document = json.loads(typed("reduce", str(SAMPLES / "lru_trained.npz"), "--modes", "8", "--dry-run", "--json").out)
    assert document["layers"][0]["milliseconds_per_step"] is None
