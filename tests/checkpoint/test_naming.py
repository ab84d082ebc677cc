import numpy as np
import pytest
import torch

from ssmspec.checkpoint import average_in, common_name, count_of_layers, natural_key, open_checkpoint, plain_name

ONE = torch.ones(1)


def test_numbers_in_names_sort_by_value():
    names = ["blocks.10.D", "blocks.2.D", "a", "blocks.2", "blocks.02.D", "", "10", "9", "blocks.1" + "0" * 5000]
    assert sorted(names, key=natural_key) == ["", "9", "10", "a", "blocks.2", "blocks.02.D", "blocks.2.D", "blocks.10.D", names[-1]]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("module.blocks.0.D", "blocks.0.D"),
        ("_orig_mod.module.D", "D"),
        ("module._orig_mod.blocks.0._orig_mod.D", "blocks.0.D"),
        ("blocks.module.D", "blocks.module.D"),
        ("module", "module"),
        ("D", "D"),
        ("_fsdp_wrapped_module.layers.0._checkpoint_wrapped_module.D", "layers.0.D"),
        ("module._fpw_module.layers.0.D", "layers.0.D"),
        ("base_model.model.layers.0.D", "layers.0.D"),
        ("module.base_model.model.module.layers.0.D", "layers.0.D"),
        ("base_model.D", "base_model.D"),
    ],
)
def test_plain_name_has_no_wrappers(name: str, plain: str):
    assert plain_name(name) == plain


@pytest.mark.parametrize(
    ("name", "average", "common"),
    [
        ("layers.0.mixer", None, "layers.0.mixer"),
        ("model.layers.0.mixer", None, "layers.0.mixer"),
        ("net.module._orig_mod.layers.0.mixer", None, "layers.0.mixer"),
        ("ema_model.module.layers.0.mixer", "ema_model", "layers.0.mixer"),
        ("model_ema.layers.0.mixer", "model_ema", "layers.0.mixer"),
        ("state_dict_ema.model.layers.0.mixer", "state_dict_ema", "layers.0.mixer"),
        ("params_ema.layers.0", "params_ema", "layers.0"),
        ("module.swa_model.module.layers.0", "swa_model", "layers.0"),
        ("layers.0.ema", None, "layers.0.ema"),  # the moving average of Mega is a layer
        ("ema", None, "ema"),
        ("schema.layers.0", None, "schema.layers.0"),
        ("model", None, "model"),
    ],
)
def test_an_averaged_copy_is_told_by_its_first_word(name: str, average: str | None, common: str):
    assert average_in(name) == average
    assert common_name(name) == (average is not None, common)


def test_layers_of_averaged_copies_are_counted_apart():
    assert count_of_layers(["a.0"]) == "1 layer"
    names = ["a.0", "a.1", "ema.a.0", "ema.a.1", "swa_model.a.0", "averaged_model.a.0"]
    kinds = "2 of an EMA copy (ema) and 1 of an SWA copy (swa_model) and 1 of an averaged copy (averaged_model)"
    assert count_of_layers(names) == f"2 layers and {kinds}"


def test_wrappers_of_a_projection_are_dropped_from_its_tensors(tmp_path):
    names = {
        "layers.0.mixer.in_proj._fsdp_wrapped_module.weight": "layers.0.mixer.in_proj.weight",
        "layers.0.mixer.in_proj._fsdp_wrapped_module.bias": "layers.0.mixer.in_proj.bias",
        "layers.1._checkpoint_wrapped_module.mixer.D": "layers.1._checkpoint_wrapped_module.mixer.D",  # the same prefix for all of a layer
        "layers.1._checkpoint_wrapped_module.mixer.x_proj._orig_mod.weight": "layers.1._checkpoint_wrapped_module.mixer.x_proj.weight",
        "_orig_mod.D": "_orig_mod.D",
        "twice._orig_mod.D": "twice._orig_mod.D",
        "twice.D": "twice.D",
    }
    torch.save({name: torch.ones(2) for name in names}, tmp_path / "x.pt")
    shown = open_checkpoint(tmp_path / "x.pt").tensors
    clash = {"twice.D", "twice._orig_mod.D"}
    assert shown.keys() == names.keys()  # one clash: all names stay
    torch.save({name: torch.ones(2) for name in names if name not in clash}, tmp_path / "y.pt")
    shown = open_checkpoint(tmp_path / "y.pt").tensors
    assert {name: tensor.name for name, tensor in shown.items()} == {new: old for old, new in names.items() if old not in clash}


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"D": ONE}, ["D"]),
        ({"model": {"module.D": ONE}}, ["module.D"]),
        ({"state_dict": {"model.D": ONE}, "epoch": 1}, ["model.D"]),
        ({"model": {"state_dict": {"net": {"D": ONE}}}}, ["D"]),
        (({"model": {"D": ONE}}, None, {"lr": 1}), ["D"]),
        ([{"D": ONE}, {"D": ONE}], ["1.D", "D"]),
        ({"model": {"D": ONE}, "net": {"D": ONE}}, ["model.D", "net.D"]),
        ({"model": {"D": ONE}, "ema": {"D": ONE}}, ["D", "ema.D"]),
        ({"SSM_0_state_dict": {"D": ONE}, "SSM_1_state_dict": {"D": ONE}}, ["SSM_0_state_dict.D", "SSM_1_state_dict.D"]),
        ({"layers": {"params": {"D": ONE}}}, ["layers.params.D"]),
        ({"model": ONE}, ["model"]),
        ({0: {1: ONE}, b"k": ONE}, ["0.1", "k"]),
        (ONE, ["tensor"]),
    ],
)
def test_wrappers_are_stripped_and_nothing_else(tmp_path, content, names):
    torch.save(content, tmp_path / "x.pt")
    assert list(open_checkpoint(tmp_path / "x.pt").tensors) == names


STATE = {"state": {0: {"exp_avg": ONE, "exp_avg_sq": ONE}}, "param_groups": [{"lr": 1}]}


@pytest.mark.parametrize(
    ("content", "left_out"),
    [
        ({"model": {"D": ONE}, "optimizer": STATE}, "optimizer (2 tensors)"),
        ({"D": ONE, "optim": STATE}, "optim (2 tensors)"),
        (({"D": ONE}, STATE), "1 (2 tensors)"),
        ({"model": {"state_dict": {"D": ONE}, "optimizer_state": STATE}}, "model.optimizer_state (2 tensors)"),
        ({"params": {"D": ONE}, "whatever": STATE}, "whatever (2 tensors)"),
    ],
)
def test_optimizer_state_is_left_out_with_a_note(tmp_path, content, left_out):
    torch.save(content, tmp_path / "x.pt")
    checkpoint = open_checkpoint(tmp_path / "x.pt")
    assert list(checkpoint.tensors) == ["D"]
    assert checkpoint.notes[0] == f"optimizer state skipped: {left_out}"


@pytest.mark.parametrize("key", ["callbacks", "loops", "lr_schedulers"])
def test_state_of_a_run_is_not_called_optimizer_state(tmp_path, key):
    torch.save({"state_dict": {"D": ONE}, key: {"EMA": {"D": ONE}}, "optimizer_states": [STATE]}, tmp_path / "x.pt")
    checkpoint = open_checkpoint(tmp_path / "x.pt")
    assert list(checkpoint.tensors) == ["D"]
    assert f"training state skipped: {key} (1 tensor)" in checkpoint.notes
    assert "optimizer state skipped: optimizer_states (2 tensors)" in checkpoint.notes


def test_layers_that_are_called_like_optimizer_state_stay(tmp_path):
    torch.save({"params": {"loops": {"D": ONE}, "scheduler": {"D": ONE}}}, tmp_path / "x.pt")
    assert list(open_checkpoint(tmp_path / "x.pt").tensors) == ["loops.D", "scheduler.D"]


def test_a_file_of_optimizer_state_alone_says_so(tmp_path, refusal):
    torch.save({"optimizer": STATE}, tmp_path / "optimizer.pt")
    assert "without tensors (optimizer state skipped: optimizer (2 tensors))" in refusal(tmp_path / "optimizer.pt")


def test_two_tensors_of_one_name_are_refused(tmp_path, refusal):
    torch.save({"a": {"b": ONE}, "a.b": ONE}, tmp_path / "x.pt")
    assert "both named 'a.b'" in refusal(tmp_path / "x.pt")


def test_an_endless_name_is_refused(tmp_path, refusal):
    torch.save({"a" * 3000: ONE}, tmp_path / "x.pt")
    assert "3000 characters" in refusal(tmp_path / "x.pt")


@pytest.mark.parametrize("key", ["hyper_parameters", "config", "args"])
def test_configuration_is_found_and_plain(tmp_path, key):
    torch.save(
        {"model": {"D": ONE}, key: {"n": 1, "shape": (1, 2), "f": np.float32(0.5), "t": ONE, "c": torch.Size([3])}}, tmp_path / "x.pt"
    )
    assert open_checkpoint(tmp_path / "x.pt").config == {"n": 1, "shape": [1, 2], "f": 0.5, "c": [3]}


def test_a_plain_dict_beside_the_weights_of_a_tuple_is_configuration(tmp_path):
    torch.save(({"D": ONE}, None, {"lr": 0.1}, STATE), tmp_path / "x.pt")
    assert open_checkpoint(tmp_path / "x.pt").config == {"lr": 0.1}


def test_an_endless_configuration_is_cut(tmp_path):
    nested: dict[str, object] = {}
    nested["self"] = nested
    torch.save({"D": ONE, "config": {"n": 1, "loop": nested}}, tmp_path / "x.pt")
    assert open_checkpoint(tmp_path / "x.pt").config["n"] == 1
