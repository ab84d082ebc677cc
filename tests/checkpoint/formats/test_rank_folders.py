"""Folders of tensor-parallel ranks: joined they are the whole model, tensor by tensor; alone each is said to be one of several."""

import json
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import mixers
import numpy as np
import pytest
import torch

from ssmspec.checkpoint import open_checkpoint
from ssmspec.checkpoint.write.write_changed import write_changed
from ssmspec.errors import CheckpointError, SsmspecError

PREFIX = "decoder.layers.0.mixer."
AROUND = {
    "embedding.word_embeddings.weight": torch.arange(24.0).reshape(8, 3),
    "decoder.layers.1.mlp.linear_fc2.weight": torch.arange(12.0).reshape(3, 4),
    "decoder.layers.1.self_attention.linear_qkv.weight": torch.arange(36.0).reshape(12, 3),
    "decoder.layers.1.mlp.linear_fc1.layer_norm_weight": torch.arange(3.0),
    "decoder.final_norm.weight": torch.ones(3),
}
CUT = {
    "embedding.word_embeddings.weight": 0,
    "decoder.layers.1.mlp.linear_fc2.weight": 1,
    "decoder.layers.1.self_attention.linear_qkv.weight": 0,
}


def write_rank(place: Path, tensors: Mapping[str, torch.Tensor], **others: object) -> None:
    place.mkdir(parents=True, exist_ok=True)
    content = {name: tensor.clone() for name, tensor in tensors.items()}
    torch.save({"model": content, "iteration": 10, "args": None, "checkpoint_version": 3.0, **others}, place / "model_optim_rng.pt")


def ranks_of(whole: Mapping[str, torch.Tensor], share, count: int, **sizes: int) -> list[dict[str, torch.Tensor]]:
    found = []
    for rank in range(count):
        around = {name: tensor if name not in CUT else tensor.chunk(count, CUT[name])[rank] for name, tensor in AROUND.items()}
        found.append({PREFIX + name: tensor for name, tensor in share(whole, rank, count, **sizes).items()} | around)
    return found


def assert_joined(folder: Path, whole: Mapping[str, torch.Tensor]) -> None:
    tensors = open_checkpoint(folder).tensors
    names = {PREFIX + name: tensor for name, tensor in whole.items()} | AROUND
    assert sorted(tensors) == sorted(names)
    for name, tensor in names.items():
        assert np.array_equal(tensors[name].read(), tensor.numpy()), name
        assert np.array_equal(tensors[name].read(slice(1, 3)), tensor[1:3].numpy()), name


@pytest.mark.parametrize("told", [True, False], ids=["groups told", "groups from content"])
@pytest.mark.parametrize(("count", "groups"), [(2, 1), (2, 2), (4, 1), (4, 2), (4, 4), (2, 4)])
def test_ranks_of_mamba2_are_the_whole_mixer(tmp_path, rng, count, groups, told):
    whole = mixers.mamba2(rng, groups=groups)
    args = Namespace(mamba_num_groups=groups, mamba_state_dim=8, tensor_model_parallel_size=count) if told else None
    for rank, tensors in enumerate(ranks_of(whole, mixers.share_of_mamba2, count, groups=groups)):
        write_rank(tmp_path / f"mp_rank_{rank:02d}", tensors, args=args)
    assert_joined(tmp_path, whole)
    assert open_checkpoint(tmp_path).notes[0] == f"joined from {count} tensor-parallel ranks"


def test_ranks_of_mamba1_are_the_whole_mixer(tmp_path, rng):
    whole = mixers.mamba1(rng)
    for rank, tensors in enumerate(ranks_of(whole, mixers.share_of_mamba1, 4)):
        write_rank(tmp_path / f"mp_rank_{rank:02d}", tensors)
    assert_joined(tmp_path, whole)


def test_gates_of_heads_are_joined_along_the_axis_of_the_heads(tmp_path):
    for rank in range(2):
        tensors = {
            "l.A_log": torch.full((1, 1, 4, 1), float(rank)),
            "l.dt_bias": torch.full((8,), float(rank)),
            "l.o_norm.weight": torch.ones(4),
        }
        write_rank(tmp_path / f"mp_rank_0{rank}", tensors | {"l.q_conv1d.weight": torch.ones(4, 1, 4)})
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.tensors["l.A_log"].read().reshape(-1).tolist() == [0.0] * 4 + [1.0] * 4
    assert checkpoint.tensors["l.dt_bias"].shape == (16,)
    assert "l.q_conv1d.weight: skipped, as no rule says how their ranks are joined" in checkpoint.notes
    with pytest.raises(SsmspecError, match=r"1 tensors \(l.q_conv1d.weight\) cannot be joined, so that the file would lack them"):
        write_changed(checkpoint, tmp_path / "x.safetensors", {})


@pytest.mark.parametrize("gated", [True, False])
def test_a_gated_projection_is_cut_in_each_half(tmp_path, gated):
    whole = torch.arange(24.0).reshape(8, 3)
    gate, value = whole.chunk(2)
    for rank in range(2):
        own = torch.cat([gate.chunk(2)[rank], value.chunk(2)[rank]]) if gated else whole.chunk(2)[rank]
        write_rank(tmp_path / f"mp_rank_0{rank}", {"mlp.linear_fc1.weight": own}, args=Namespace(swiglu=gated))
    assert np.array_equal(open_checkpoint(tmp_path).tensors["mlp.linear_fc1.weight"].read(), whole.numpy())


@pytest.mark.parametrize(
    "layout",
    [
        "run/iter_0000010/mp_rank_{}/model_optim_rng.pt",
        "run/mp_rank_{}_000/model_optim_rng.pt",
        "run/mp_rank_{}/model_weights.ckpt",
        "run/mp_rank_{}/some--val_loss=1.0.ckpt",
        "run/tp_rank_{}_pp_rank_000/model_weights.ckpt",
        "run/global_step10/mp_rank_{}_model_states.pt",
    ],
)
def test_layouts_of_megatron_nemo_and_deepspeed(tmp_path, rng, layout):
    whole = mixers.mamba2(rng)
    for rank, tensors in enumerate(ranks_of(whole, mixers.share_of_mamba2, 2)):
        place = tmp_path / layout.format(f"{rank:02d}")
        place.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"module" if "model_states" in layout else "model": tensors}, place)
    assert_joined(tmp_path / "run", whole)


@pytest.mark.parametrize(("name", "text"), [("latest_checkpointed_iteration.txt", "20"), ("latest", "global_step20")])
def test_a_run_folder_says_which_step_is_the_latest(tmp_path, rng, name, text):
    whole = mixers.mamba2(rng)
    kind = "iter_00000" if text == "20" else "global_step"
    for step in (10, 20):
        for rank, tensors in enumerate(ranks_of(whole, mixers.share_of_mamba2, 2)):
            write_rank(tmp_path / f"{kind}{step}" / f"mp_rank_0{rank}", {n: t * (step == 20) for n, t in tensors.items()})
    with pytest.raises(CheckpointError, match="a folder with 2 steps of a run"):
        open_checkpoint(tmp_path)
    (tmp_path / name).write_text(text)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.notes[0] == f"the checkpoint in {kind}20"
    assert np.array_equal(checkpoint.tensors[f"{PREFIX}A_log"].read(), whole["A_log"].numpy())


def test_layers_of_pipeline_stages_keep_their_numbers_under_their_stage(tmp_path, rng):
    wholes = [mixers.mamba2(rng), mixers.mamba2(rng)]
    for stage, whole in enumerate(wholes):
        for rank in range(2):
            tensors = {PREFIX + name: tensor for name, tensor in mixers.share_of_mamba2(whole, rank, 2).items()}
            write_rank(tmp_path / f"mp_rank_0{rank}_00{stage}", tensors)
    checkpoint = open_checkpoint(tmp_path)
    assert "in each of 2 pipeline stages, whose layers are numbered anew in each" in checkpoint.notes[0]
    for stage, whole in enumerate(wholes):
        assert np.array_equal(checkpoint.tensors[f"stage{stage}.{PREFIX}A_log"].read(), whole["A_log"].numpy())


def test_one_rank_of_a_model_that_was_not_split_is_the_model(tmp_path, rng):
    whole = mixers.mamba2(rng)
    odd = {f"{PREFIX}odd": torch.ones(2, 2)}
    write_rank(tmp_path / "iter_0000010" / "mp_rank_00", {PREFIX + name: tensor for name, tensor in whole.items()} | AROUND | odd)
    assert_joined(tmp_path, whole | {"odd": torch.ones(2, 2)})
    assert not open_checkpoint(tmp_path / "iter_0000010" / "mp_rank_00").partial


@pytest.mark.parametrize("inside", ["", "model_optim_rng.pt"])
def test_one_rank_alone_is_said_to_be_one_of_several(tmp_path, rng, inside):
    whole = mixers.mamba2(rng, groups=2)
    args = Namespace(mamba_num_groups=2, n_groups=2, hidden_size=32)
    for rank, tensors in enumerate(ranks_of(whole, mixers.share_of_mamba2, 2, groups=2)):
        write_rank(tmp_path / f"mp_rank_0{rank}", tensors, args=args)
    checkpoint = open_checkpoint(tmp_path / "mp_rank_01" / inside)
    assert checkpoint.partial == "tensor-parallel rank 1 of 2"
    assert "tensor-parallel rank 1 of 2: every layer is a part of one; give the folder of all ranks" in checkpoint.notes
    assert checkpoint.config == {"hidden_size": 32}  # the numbers of groups are those of the whole model


def test_a_rank_without_the_others_is_told_by_its_arguments(tmp_path, rng):
    (tensors, _) = ranks_of(mixers.mamba2(rng), mixers.share_of_mamba2, 2)
    torch.save({"model": tensors, "args": Namespace(tensor_model_parallel_size=2)}, tmp_path / "x.pt")
    assert open_checkpoint(tmp_path / "x.pt").partial == "one tensor-parallel rank of 2 (its args say so)"
    write_rank(tmp_path / "run" / "mp_rank_00", tensors, args=Namespace(tensor_model_parallel_size=2))
    with pytest.raises(CheckpointError, match="1 of the 2 tensor-parallel ranks that its args tell"):
        open_checkpoint(tmp_path / "run")


def test_ranks_that_do_not_fit_are_one_clear_line(tmp_path, rng, refusal):
    whole = mixers.mamba2(rng)
    shares = ranks_of(whole, mixers.share_of_mamba2, 2)
    write_rank(tmp_path / "a" / "mp_rank_00", shares[0])
    write_rank(tmp_path / "a" / "mp_rank_02", shares[1])
    assert "tensor-parallel rank 1 of 3 is missing (stage 0)" in refusal(tmp_path / "a")
    write_rank(tmp_path / "b" / "mp_rank_00", shares[0])
    write_rank(tmp_path / "b" / "mp_rank_01", {name: tensor for name, tensor in shares[1].items() if not name.endswith("A_log")})
    assert f"rank 1 lacks tensor '{PREFIX}A_log', which rank 0 has" in refusal(tmp_path / "b")
    write_rank(tmp_path / "c" / "mp_rank_00", shares[0])
    write_rank(tmp_path / "c" / "mp_rank_01", shares[1] | {f"{PREFIX}in_proj.weight": torch.ones(7, 32)})
    assert f"the parts of tensor '{PREFIX}in_proj.weight' differ" in refusal(tmp_path / "c")
    write_rank(tmp_path / "d" / "mp_rank_00", shares[0])
    write_rank(tmp_path / "d" / "mp_rank_01", shares[1] | {f"{PREFIX}out_proj.weight": torch.ones(9, 16)})
    assert f"the parts of tensor '{PREFIX}out_proj.weight' do not fit together along axis 1" in refusal(tmp_path / "d")
    write_rank(tmp_path / "e" / "mp_rank_00", shares[0])
    write_rank(tmp_path / "e" / "mp_rank_01", shares[1] | {"decoder.final_norm.weight": torch.ones(4)})
    assert "'decoder.final_norm.weight', which every rank should have alike, has different shapes" in refusal(tmp_path / "e")
    write_rank(tmp_path / "f" / "mp_rank_00_000", shares[0])
    write_rank(tmp_path / "f" / "mp_rank_00_002", shares[0])
    assert "pipeline stages 0, 2: some are missing" in refusal(tmp_path / "f")


def test_an_empty_rank_folder_says_what_it_lacks(tmp_path, refusal):
    (tmp_path / "mp_rank_00").mkdir()
    (tmp_path / "mp_rank_01").mkdir()
    assert "without weights" in refusal(tmp_path) or "mp_rank_00" in refusal(tmp_path)


def test_joined_ranks_are_written_as_one_file(tmp_path, rng):
    whole = mixers.mamba2(rng)
    for rank, tensors in enumerate(ranks_of(whole, mixers.share_of_mamba2, 2)):
        write_rank(tmp_path / "run" / f"mp_rank_0{rank}", tensors)
    checkpoint = open_checkpoint(tmp_path / "run")
    write_changed(checkpoint, tmp_path / "x.safetensors", {f"{PREFIX}D": np.arange(8, dtype=np.float32)})
    assert_joined(tmp_path / "x.safetensors", whole | {"D": torch.arange(8.0)})
    (tmp_path / "run" / "config.json").write_text(json.dumps({"a": 1}))
    assert open_checkpoint(tmp_path / "run").config["a"] == 1
