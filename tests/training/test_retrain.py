"""`ssmspec retune --retrain` as it is typed: what the run starts from, what comes back into the checkpoint, and what stays as it was."""

import json
import tomllib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from locations import SAMPLES
from program import Type
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ssmspec.checkpoint import open_checkpoint
from ssmspec.families import ReadOptions
from ssmspec.families.layers import load_system
from ssmspec.nn import S4D, SequenceModel
from ssmspec.nn.from_checkpoint import load_sequence_model
from ssmspec.report.documents.document import schema
from ssmspec.training.engine import run as training_run

WAVES = ["--steps", 6, "--set", "length=64", "--set", "step=0.09", "--set", "tones=[1, 8]", "--set", "batch=4"]
PIXELS = ["--set", "rows=16", "--set", "columns=8", "--set", "modes=3", "--set", "crops=2", "--steps", 6]
REGRESS = ["--retrain", "regress", "--data", "X.npy", "--target", "y.npy", "--steps", 4, "--set", "batch=4"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without the pictures, which cost more than the training, and in one thread."""
    monkeypatch.setattr(training_run, "_pictures", lambda *arguments: [])
    with training_run.torch_threads(1):
        yield


@pytest.fixture(autouse=True)
def data(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    np.save(tmp_path / "X.npy", generator.standard_normal((20, 24)))
    np.save(tmp_path / "y.npy", generator.standard_normal(20))


def raw(path: Path) -> dict[str, bytes]:
    return {name: tensor.read().tobytes() for name, tensor in open_checkpoint(path).tensors.items()}


def sequence_model(path: Path, seed: int = 0, **options: Any) -> Path:
    torch.manual_seed(seed)
    model = SequenceModel(**({"d_input": 1, "d_output": 1, "d_model": 4, "n_layers": 2, "d_state": 4} | options))
    save_file(model.state_dict(), path)
    return path


def ran(typed: Type, *arguments: object) -> str:
    done = typed(*arguments)
    assert done.code == 0, done.err
    return done.out + done.err


# --- models of waves and denoise ---


def test_waves_goes_on_from_its_own_checkpoint_with_its_own_settings(typed: Type, tmp_path: Path) -> None:
    ran(typed, "train", "waves", *WAVES, "--out", "run")
    first = tmp_path / "run/final.safetensors"
    text = ran(typed, "retune", first, "--alpha", 2, "--retrain", "waves", "--seed", 3, "-o", "tuned.safetensors")
    assert "trained on waves for 6 steps: error_1 " in text
    before, begun = load_file(first), load_file(tmp_path / "final-waves/initial.safetensors")
    assert torch.equal(begun.pop("layer.kernel.A_imag"), 2 * before.pop("layer.kernel.A_imag"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in begun.items())
    settings = tomllib.loads((tmp_path / "final-waves/config.toml").read_text())["settings"]
    assert (settings["tones"], settings["length"], settings["seed"], settings["alpha"]) == ([1, 8], 64, 3, 2)
    written, wanted = load_file(tmp_path / "tuned.safetensors"), load_file(tmp_path / "final-waves/final.safetensors")
    assert set(written) == set(wanted)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in written.items())
    assert not torch.equal(written["decoder.weight"], before["decoder.weight"])


def test_a_weight_acts_in_training_and_stays_with_the_checkpoint(typed: Type, tmp_path: Path) -> None:
    ran(typed, "train", "waves", *WAVES, "--out", "run")
    ran(typed, "retune", "run/final.safetensors", "--beta", 0.5, "--step-scale", 2, "--retrain", "waves", "-o", "tuned.safetensors")
    settings = tomllib.loads((tmp_path / "final-waves/config.toml").read_text())["settings"]
    assert (settings["beta"], settings["beta_convention"]) == (0.5, "paper")
    system = load_system(tmp_path / "tuned.safetensors", "layer", ReadOptions())
    assert system.sobolev is not None
    assert (system.sobolev.beta == 0.5).all()
    np.testing.assert_allclose(system.step, 0.18, rtol=1e-6)
    ran(typed, "retune", "tuned.safetensors", "--retrain", "waves", "--out", "again", "-o", "again.safetensors")
    assert tomllib.loads((tmp_path / "again/config.toml").read_text())["settings"]["beta"] == 0.5


def test_denoise_trains_around_the_retuned_poles(typed: Type, tmp_path: Path) -> None:
    ran(typed, "train", "denoise", *PIXELS, "--out", "run")
    ran(typed, "retune", "run/final.safetensors", "--alpha", 3, "--retrain", "denoise", "-o", "tuned.safetensors")
    before, after = load_file(tmp_path / "run/final.safetensors"), load_file(tmp_path / "tuned.safetensors")
    assert torch.equal(after["layer.kernel.A_imag"], 3 * before["layer.kernel.A_imag"])
    for name in ("layer.kernel.log_A_real", "layer.kernel.log_dt"):
        assert torch.equal(after[name], before[name])
    assert not torch.equal(after["layer.kernel.C"], before["layer.kernel.C"])


# --- models of sequences ---


def test_a_model_with_the_names_of_the_published_example_comes_back_whole(typed: Type, tmp_path: Path) -> None:
    path = sequence_model(tmp_path / "model.safetensors")
    text = ran(typed, "retune", path, "--alpha", 0.5, *REGRESS, "-o", "tuned.safetensors")
    assert "written: encoder, s4_layers, norms, decoder\n" in text
    assert "not written" not in text
    start, end = load_file(tmp_path / "model-regress/initial.safetensors"), load_file(tmp_path / "model-regress/final.safetensors")
    before, after = load_file(path), load_file(tmp_path / "tuned.safetensors")
    for name, tensor in before.items():
        factor = 0.5 if name.endswith("A_imag") else 1.0
        assert torch.equal(start[name], factor * tensor)
        assert torch.equal(after[name], end[name])
        assert not torch.equal(after[name], start[name])
    model, about = load_sequence_model(tmp_path / "tuned.safetensors")
    assert about["task"] == "regress"
    assert model.frame.pooling == "mean"
    assert "trained on regress" in json.loads((tmp_path / "tuned.safetensors.ssmspec.json").read_text())["layers"][0]["notes"][-1]


def test_a_decoder_for_other_outputs_stays_in_the_file_as_it_was(typed: Type, tmp_path: Path) -> None:
    path = sequence_model(tmp_path / "model.safetensors", d_output=7)
    text = ran(typed, "retune", path, *REGRESS, "-o", "tuned.safetensors")
    assert "not written, and only in model-regress/final.safetensors: decoder; decoder.bias, decoder.weight of another shape" in text
    before, after = raw(path), raw(tmp_path / "tuned.safetensors")
    assert {name for name in before if before[name] == after[name]} == {"decoder.weight", "decoder.bias"}
    assert load_sequence_model(tmp_path / "tuned.safetensors")[1] == {}


VARIANTS = {
    "block": ({"layout": "s4-diag", "bidirectional": True, "n_ssm": 2}, []),
    "block with beta": ({"layout": "s4-diag", "bidirectional": True}, ["--beta", "0.5"]),
    "minimal with trained beta": ({}, ["--beta", "0.5", "--set", "trainable_beta=true"]),
    "freqbias": ({"layout": "freqbias-block", "bidirectional": True, "norm": "batch"}, ["--beta", "0.3"]),
    "tied steps off": ({"layout": "freqbias-block", "tie_step": False, "norm": "batch"}, []),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_layout_comes_back_as_the_run_left_it(typed: Type, tmp_path: Path, variant: str) -> None:
    options, recipe = VARIANTS[variant]
    path = sequence_model(tmp_path / "model.safetensors", **options)
    ran(typed, "retune", path, *recipe, *REGRESS, "-o", "tuned.safetensors")
    name = "0"
    tuned, run = (
        load_system(each, name, ReadOptions()) for each in (tmp_path / "tuned.safetensors", tmp_path / "model-regress/final.safetensors")
    )
    assert tuned.family == run.family
    for part in ("poles", "B", "C", "D", "step"):
        np.testing.assert_array_equal(getattr(tuned, part), getattr(run, part))
    assert (tuned.sobolev is None) == (run.sobolev is None) == (not recipe and options.get("layout") != "freqbias-block")
    if tuned.sobolev is not None and run.sobolev is not None:
        np.testing.assert_array_equal(tuned.sobolev.beta, run.sobolev.beta)
        moved = "trainable_beta=true" in recipe or options.get("layout") == "freqbias-block"
        assert (np.unique(tuned.sobolev.beta).size > 1) == moved
    model, about = load_sequence_model(tmp_path / "tuned.safetensors")
    twin = SequenceModel(**about["model"]).eval()
    twin.load_state_dict(load_file(tmp_path / "model-regress/final.safetensors"), strict=True)
    x = torch.randn(2, 24, 1)
    with torch.no_grad():
        torch.testing.assert_close(model(x), twin(x))


def test_a_later_change_of_beta_reaches_the_tensor_too(typed: Type, tmp_path: Path) -> None:
    path = sequence_model(tmp_path / "model.safetensors")
    ran(typed, "retune", path, "--beta", 0.5, *REGRESS, "-o", "tuned.safetensors")
    ran(typed, "retune", "tuned.safetensors", "--beta", 2, "-o", "again.safetensors")
    assert (load_file(tmp_path / "again.safetensors")["s4_layers.1.beta"] == 2).all()
    assert (load_sequence_model(tmp_path / "again.safetensors")[0].s4_layers[1].beta == 2).all()
    before, after = raw(tmp_path / "tuned.safetensors"), raw(tmp_path / "again.safetensors")
    assert {name for name in before if before[name] != after[name]} == {"s4_layers.0.beta", "s4_layers.1.beta"}


# --- other checkpoints ---


def foreign(path: Path, family: str = "s4-diag") -> Path:
    """A torch file with an optimizer, whose layers have names of their own; the second holds what no model of ours has."""
    torch.manual_seed(1)
    state = OrderedDict()
    for number in range(2):
        layer = S4D(4, 4, layout=family)
        state |= {f"net.blocks.{number}.mixer.{name}": tensor.clone() for name, tensor in layer.state_dict().items()}
    state |= {"net.head.weight": torch.randn(3, 4), "net.blocks.1.gate": torch.randn(4)}
    torch.save({"epoch": 7, "model": state, "optimizer": {"state": {0: {"exp_avg": torch.randn(5)}}}}, path)
    return path


@pytest.mark.parametrize("family", ["minimal", "s4-diag"])
def test_of_other_checkpoints_the_layers_are_trained_and_all_else_stays(typed: Type, tmp_path: Path, family: str) -> None:
    path = foreign(tmp_path / "model.pt", family)
    text = ran(typed, "retune", path, "--step-scale", 2, *REGRESS, "-o", "tuned.pt")
    assert "written: s4_layers\n" in text
    assert "not written, and only in model-regress/final.safetensors: encoder, norms, decoder; the checkpoint has different ones" in text
    before, after = (torch.load(each, weights_only=True) for each in (path, tmp_path / "tuned.pt"))
    assert after["epoch"] == 7
    assert torch.equal(after["optimizer"]["state"][0]["exp_avg"], before["optimizer"]["state"][0]["exp_avg"])
    end = load_file(tmp_path / "model-regress/final.safetensors")
    for name, tensor in after["model"].items():
        own = name.replace("net.blocks", "s4_layers").replace("mixer.", "")
        assert torch.equal(tensor, end[own] if own in end else before["model"][name]), name
    assert {name for name, tensor in after["model"].items() if torch.equal(tensor, before["model"][name])} == {
        "net.head.weight",
        "net.blocks.1.gate",
    }


def test_only_chosen_layers_of_other_checkpoints_are_trained(typed: Type, tmp_path: Path) -> None:
    path = foreign(tmp_path / "model.pt")
    ran(typed, "retune", path, "--layer", 1, *REGRESS, "-o", "tuned.pt")
    before, after = raw(path), raw(tmp_path / "tuned.pt")
    changed = {name for name in before if before[name] != after[name]}
    assert changed
    assert all(name.startswith("net.blocks.1.mixer.") for name in changed)


def test_the_input_itself_can_be_trained_further(typed: Type, tmp_path: Path) -> None:
    path = sequence_model(tmp_path / "model.safetensors")
    ran(typed, "retune", path, *REGRESS, "--in-place")
    end = load_file(tmp_path / "model-regress/final.safetensors")
    assert all(torch.equal(tensor, end[name]) for name, tensor in load_file(path).items())


# --- the run ---


def test_resume_gives_the_same_file_and_refuses_another_start(typed: Type, tmp_path: Path) -> None:
    path = sequence_model(tmp_path / "model.safetensors")
    ran(typed, "retune", path, "--alpha", 2, *REGRESS, "-o", "tuned.safetensors")
    first = (tmp_path / "tuned.safetensors").read_bytes()
    (tmp_path / "model-regress/resume.state").unlink()
    ran(typed, "retune", path, "--alpha", 2, *REGRESS, "-o", "again.safetensors", "--resume")
    assert (tmp_path / "again.safetensors").read_bytes() == first
    done = typed("retune", path, "--alpha", 3, *REGRESS, "-o", "third.safetensors", "--resume")
    assert done.code == 2
    assert "holds a run that began with different tensors" in done.err


def test_json_says_what_the_layers_were_trained_on(typed: Type, tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    path = sequence_model(tmp_path / "model.safetensors")
    done = typed("retune", path, *REGRESS, "-o", "tuned.safetensors", "--json")
    document = json.loads(done.out)
    jsonschema.validate(document, schema("retune-1"))
    assert document["recipe"]["training"] == "regress"
    assert len(document["changed_tensors"]) == len(raw(path))
    with safe_open(tmp_path / "tuned.safetensors", "pt") as file:
        assert json.loads(file.metadata()["ssmspec"])["trained"]["target"]["scale"][0] == pytest.approx(
            np.load(tmp_path / "y.npy").std(), rel=0.3
        )


def test_several_processes_are_refused(typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = typed("retune", sequence_model(tmp_path / "m.safetensors"), "--alpha", 2, *REGRESS)
    assert (done.code, done.err) == (2, "ssmspec: --retrain runs in one process; start it without torchrun\n")
    assert not (tmp_path / "m.retuned.safetensors").exists()


def test_a_dry_run_trains_nothing(typed: Type, tmp_path: Path) -> None:
    path = sequence_model(tmp_path / "model.safetensors")
    before = {each.name for each in tmp_path.iterdir()}
    assert "nothing was written" in ran(typed, "retune", path, "--alpha", 2, *REGRESS, "--dry-run")
    assert {each.name for each in tmp_path.iterdir()} == before


ERRORS = {
    "task": (["--retrain", "sums"], "task 'sums' is unknown"),
    "no data": (["--retrain", "regress"], "give them with --data"),
    "model of waves": (["--retrain", "waves"], "the checkpoint lacks encoder.weight"),
    "size": ([*REGRESS, "--set", "n_layers=3"], "n_layers is 2 in the checkpoint, not 3"),
    "data alone": (["--alpha", "2", "--data", "X.npy"], "--data needs --retrain"),
    "target": (["--match-spectrum", "X.npy", *REGRESS], "the other in a separate command"),
    "target alone": (["--alpha", "2", "--target", "y.npy"], "--target needs either --match-spectrum or --retrain"),
    "existing target": ([*REGRESS, "-o", "y.npy"], "cannot write y.npy"),
    "existing file": ([*REGRESS, "-o", "other.safetensors"], "it exists; name another, or use --force"),
    "forecast with a zero-phase weight": (["--beta", "1", "--retrain", "forecast", "--data", "X.npy"], "does not depend on later samples"),
    "run over the input": ([*REGRESS, "--out", "."], "model.safetensors is in ., the folder of the run"),
    "run over the output": ([*REGRESS, "--out", "new", "-o", "new/tuned.safetensors"], "is in new, the folder of the run"),
    "both": ([*REGRESS, "--resume", "--force"], "give one of them"),
    "resume nothing": ([*REGRESS, "--resume"], "holds no run to resume"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_mistakes_are_one_line_and_cost_no_training(typed: Type, tmp_path: Path, case: str) -> None:
    path = foreign(tmp_path / "model.pt") if case == "model of waves" else sequence_model(tmp_path / "model.safetensors")
    (tmp_path / "other.safetensors").write_bytes(b"mine")
    arguments, text = ERRORS[case]
    done = typed("retune", path, *arguments)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert text in done.err
    assert not list(tmp_path.glob("*/metrics.jsonl"))
    assert (tmp_path / "other.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["mamba1_trained.safetensors", "lru_trained.npz", "s4_dplr_trained.pt"])
def test_families_without_a_module_are_refused_with_those_that_have_one(typed: Type, name: str) -> None:
    done = typed("retune", SAMPLES / name, *REGRESS, "-o", f"tuned{Path(name).suffix}")
    assert done.code == 2
    assert "cannot become a module; supported families: s4d, s4-diag, freqbias-block" in done.err
