"""Checkpoints that are not read are named, with what to do, whatever file or folder of them is given."""

import numpy as np
import pytest
import torch

from ssmspec.checkpoint import open_checkpoint


@pytest.mark.parametrize("inside", ["", "default/", "100/"])
def test_orbax_folders_without_arrays_are_named(tmp_path, refusal, inside):
    for name in ("_CHECKPOINT_METADATA", "d/x"):
        (tmp_path / "ckpt" / inside / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ckpt" / inside / name).write_text("{}")
    line = refusal(tmp_path / "ckpt")
    assert "an Orbax checkpoint of JAX" in line
    assert "orbax.checkpoint.PyTreeCheckpointer().restore(folder)" in line


@pytest.mark.parametrize("name", ["manifest.ocdbt", "_METADATA", "ocdbt.process_0/manifest.ocdbt"])
@pytest.mark.parametrize("inside", ["", "default/", "100/"])
def test_empty_or_damaged_orbax_folders_are_named(tmp_path, refusal, name, inside):
    (tmp_path / "ckpt" / inside / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "ckpt" / inside / name).write_text("{}")
    assert "orbax" in refusal(tmp_path / "ckpt").lower()


def test_a_file_of_an_orbax_folder_is_named(tmp_path, refusal):
    (tmp_path / "manifest.ocdbt").write_bytes(b"\x0c\xdb\x3a\x2a" + bytes(20))
    assert "a part of an Orbax checkpoint of JAX" in refusal(tmp_path / "manifest.ocdbt")


@pytest.mark.parametrize("inside", ["", "export/"])
def test_saved_models_are_named(tmp_path, refusal, inside):
    (tmp_path / "m" / inside / "variables").mkdir(parents=True)
    graph = tmp_path / "m" / inside / "saved_model.pb"
    graph.write_bytes(b"\x08\x01\x12\x04")
    assert "a TensorFlow SavedModel" in refusal(tmp_path / "m")
    assert "tf.saved_model.load(folder)" in refusal(tmp_path / "m")
    assert "the graph of a TensorFlow SavedModel" in refusal(graph)


def test_tensorflow_checkpoints_are_named(tmp_path, refusal):
    for name in ("model.ckpt-5.index", "model.ckpt-5.data-00000-of-00001", "checkpoint"):
        (tmp_path / name).write_bytes(b"x")
    assert "a TensorFlow checkpoint (model.ckpt-5.index)" in refusal(tmp_path)


def test_tflite_models_are_named(tmp_path, refusal):
    (tmp_path / "m.tflite").write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(40))
    assert "a TensorFlow Lite model" in refusal(tmp_path / "m.tflite")


def test_zarr_checkpoints_are_named(tmp_path, refusal):
    (tmp_path / "decoder.weight").mkdir()
    (tmp_path / "decoder.weight" / ".zarray").write_text("{}")
    assert "a distributed checkpoint in zarr" in refusal(tmp_path)


def zero3() -> dict[str, object]:
    shapes = {"layers.0.D": torch.Size([3]), "layers.0.A_log": torch.Size([3, 4])}
    return {"module": {name: torch.empty(0) for name in shapes} | {"count": torch.ones(2)}, "param_shapes": [shapes], "dp_world_size": 2}


@pytest.mark.parametrize("name", ["zero_pp_rank_0_mp_rank_00_model_states.pt", "renamed.pt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_rank_files_of_zero_are_named_by_their_content(tmp_path, refusal, name, zipped):
    torch.save(zero3(), tmp_path / name, _use_new_zipfile_serialization=zipped)
    line = refusal(tmp_path / name)
    assert "a rank file of DeepSpeed ZeRO-3" in line
    assert "with 2 empty tensors" in line
    assert "python zero_to_fp32.py . consolidated" in line


def test_optimizer_files_of_zero_are_named(tmp_path, refusal):
    content = {"optimizer_state_dict": {"zero_stage": 1, "partition_count": 2, "fp32": [torch.ones(4)]}, "ds_version": "0.14"}
    torch.save(content, tmp_path / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt")
    assert "the optimizer state of one rank of DeepSpeed ZeRO" in refusal(tmp_path / "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt")


def test_a_folder_of_zero_3_is_named_and_one_of_zero_1_is_read(tmp_path, refusal):
    for rank in range(2):
        torch.save(zero3(), tmp_path / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt")
    assert "a checkpoint of DeepSpeed ZeRO with files such as zero_pp_rank_0_mp_rank_00_model_states.pt" in refusal(tmp_path)
    torch.save({"module": {"layers.0.D": torch.ones(3)}, "param_shapes": []}, tmp_path / "mp_rank_00_model_states.pt")  # all weights
    assert open_checkpoint(tmp_path).tensors["layers.0.D"].read().tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "name", ["_fsdp_wrapped_module._flat_param", "layers.0._flat_param", "_fpw_module.flat_param", "layers.1._flat_param_0"]
)
def test_flat_parameters_of_fsdp_are_named(tmp_path, refusal, name):
    torch.save({"model": {name: torch.ones(10), "head.weight": torch.ones(2, 2)}}, tmp_path / "x.pt")
    line = refusal(tmp_path / "x.pt")
    assert f"1 flat parameter of FSDP ({name})" in line
    assert "FULL_STATE_DICT" in line


def test_a_folder_with_weights_beside_other_folders_is_read(tmp_path):
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "saved_model.pb").write_bytes(b"\x08\x01")
    np.savez(tmp_path / "x.npz", D=np.ones(2))
    assert list(open_checkpoint(tmp_path).tensors) == ["D"]
