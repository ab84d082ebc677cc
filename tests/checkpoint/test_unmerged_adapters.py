"""LoRA beside the weights that it changes: W + scaling B A, the scaling told, assumed or refused; and adapters alone."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import quantizing
import torch
from safetensors.torch import save_file

from ssmspec.checkpoint import open_checkpoint
from ssmspec.checkpoint.derived import DerivedTensor
from ssmspec.checkpoint.write.write_changed import write_changed
from ssmspec.errors import CheckpointError

MODULE = "base_model.model.layers.0.mixer.x_proj"
Tensors = dict[str, torch.Tensor]


def parts(rng: np.random.Generator, adapter: str = ".default", rank: int = 3) -> Tensors:
    """A projection of 6 x 8 with one adapter."""
    draw = lambda *shape: torch.from_numpy(rng.standard_normal(shape).astype(np.float32))  # noqa: E731
    return {
        f"{MODULE}.base_layer.weight": draw(6, 8),
        f"{MODULE}.base_layer.bias": draw(6),
        f"{MODULE}.lora_A{adapter}.weight": draw(rank, 8),
        f"{MODULE}.lora_B{adapter}.weight": draw(6, rank),
    }


def merged(tensors: Tensors, scaling: float) -> np.ndarray:
    """W + scaling B A in float64, element by element."""
    base = next(t for name, t in tensors.items() if name.endswith(("base_layer.weight", "x_proj.weight"))).double().numpy()
    A, B = (next(t for name, t in tensors.items() if key in name).double().numpy() for key in ("lora_A", "lora_B"))
    return np.array([[base[i, j] + scaling * sum(B[i, r] * A[r, j] for r in range(len(A))) for j in range(8)] for i in range(6)])


def save(folder: Path, tensors: Tensors, config: dict[str, object] | None = None) -> Path:
    save_file(tensors, folder / "x.safetensors")
    if config is not None:
        (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder / "x.safetensors"


def adapted(path: Path) -> DerivedTensor:
    found = open_checkpoint(path).tensors[f"{MODULE}.weight"]
    assert isinstance(found, DerivedTensor)
    return found


@pytest.mark.parametrize("adapter", [".default", ".french", ""])
@pytest.mark.parametrize(
    ("config", "scaling", "words"),
    [
        (None, 1, "no lora_alpha is known: taken as r"),
        ({"r": 3, "lora_alpha": 6}, 2, "lora_alpha / r of adapter_config.json"),
        ({"lora_alpha": 6}, 2, "lora_alpha / r of adapter_config.json"),
        ({"r": 3, "lora_alpha": 6, "use_rslora": True}, 6 / 3**0.5, "lora_alpha / sqrt(r) of adapter_config.json"),
        ({"r": 8, "lora_alpha": 6, "rank_pattern": {"x_proj": 3}, "alpha_pattern": {"mixer.x_proj": 12}}, 4, "lora_alpha / r"),
        ({"r": 3}, 1, "no lora_alpha is known"),
    ],
)
def test_the_weight_is_its_base_plus_the_adapter(tmp_path, rng, adapter, config, scaling, words):
    tensors = parts(rng, adapter)
    checkpoint = open_checkpoint(save(tmp_path, tensors, config))
    assert list(checkpoint.tensors) == [f"{MODULE}.bias", f"{MODULE}.weight"]
    found = adapted(tmp_path / "x.safetensors")
    assert np.allclose(found.read(), merged(tensors, scaling), rtol=1e-5, atol=1e-6)
    assert np.array_equal(found.read(slice(4, 1, -2)), found.read()[4:1:-2])
    (note,) = checkpoint.notes
    assert words in note
    assert note.startswith(f"{MODULE}.weight: base_layer with adapter{adapter.replace('.', ' ')}: plus {scaling:g} lora_B lora_A")


def test_the_configuration_of_the_file_itself_will_do(tmp_path, rng):
    tensors = parts(rng)
    torch.save({"state_dict": tensors, "config": {"lora": {"lora_alpha": 9, "r": 3}}}, tmp_path / "x.pt")
    assert np.allclose(adapted(tmp_path / "x.pt").read(), merged(tensors, 3), rtol=1e-5, atol=1e-6)


def test_old_names_without_base_layer(tmp_path, rng):
    tensors = {name.replace(".base_layer", ""): tensor for name, tensor in parts(rng).items()}
    assert np.allclose(adapted(save(tmp_path, tensors)).read(), merged(tensors, 1), rtol=1e-5, atol=1e-6)


def test_a_quantized_base_is_dequantized_first(tmp_path, rng):
    codes, values = quantizing.bitsandbytes(rng, 6, 8)
    tensors = parts(rng)
    tensors |= {f"{MODULE}.base_layer.{name}": tensor for name, tensor in codes.items()}
    found = adapted(save(tmp_path, tensors))
    delta = merged(tensors | {f"{MODULE}.base_layer.weight": torch.zeros(6, 8)}, 1)
    assert np.allclose(found.read(), values + delta, rtol=1e-5, atol=1e-6)
    assert found.origin.endswith("base bitsandbytes nf4 (blocks of 64)")


def test_a_convolution_has_its_kernel_in_lora_a(tmp_path, rng):
    draw = lambda *shape: torch.from_numpy(rng.standard_normal(shape).astype(np.float32))  # noqa: E731
    tensors = {"c.base_layer.weight": draw(4, 3, 5), "c.lora_A.default.weight": draw(2, 3, 5), "c.lora_B.default.weight": draw(4, 2, 1)}
    found = open_checkpoint(save(tmp_path, tensors)).tensors["c.weight"].read()
    A, B = tensors["c.lora_A.default.weight"].numpy(), tensors["c.lora_B.default.weight"].numpy()
    assert np.allclose(found, tensors["c.base_layer.weight"].numpy() + np.einsum("or,rik->oik", B[:, :, 0], A), rtol=1e-5, atol=1e-6)


def test_a_copy_that_was_trained_whole_takes_the_place_of_the_original(tmp_path):
    names = ("m.original_module.D", "m.modules_to_save.default.D", "n.original_module.D", "n.modules_to_save.a.D", "n.modules_to_save.b.D")
    tensors = {name: torch.full((2,), float(number)) for number, name in enumerate(names)}
    checkpoint = open_checkpoint(save(tmp_path, tensors | parts(np.random.default_rng(1))))
    assert checkpoint.tensors["m.D"].read().tolist() == [1, 1]
    assert checkpoint.tensors["n.D"].read().tolist() == [2, 2]  # which of two copies is active is not stored: both are there
    assert {"n.modules_to_save.a.D", "n.modules_to_save.b.D"} <= checkpoint.tensors.keys()
    assert "trained copies (modules_to_save) in place of the originals: m.D" in checkpoint.notes


def second(tensors: Tensors) -> None:
    tensors |= {name.replace("default", "other"): tensor.clone() for name, tensor in tensors.items() if "lora_" in name}


REFUSED = {
    "r is 0": (lambda t: t.update({f"{MODULE}.lora_A.default.weight": torch.ones(0, 8)}), None, "its rank r is 0"),
    "another width": (lambda t: t.update({f"{MODULE}.lora_A.default.weight": torch.ones(3, 7)}), None, "shapes do not fit: lora_A (3, 7)"),
    "another height": (lambda t: t.update({f"{MODULE}.lora_B.default.weight": torch.ones(5, 3)}), None, "shapes do not fit"),
    "another rank": (lambda t: t.update({f"{MODULE}.lora_B.default.weight": torch.ones(6, 4)}), None, "shapes do not fit"),
    "vectors": (lambda t: t.update({f"{MODULE}.lora_B.default.weight": torch.ones(6)}), None, "shapes do not fit"),
    "no lora_B": (lambda t: t.pop(f"{MODULE}.lora_B.default.weight"), None, "it lacks lora_B"),
    "DoRA": (lambda t: t.update({f"{MODULE}.lora_magnitude_vector.default.weight": torch.ones(6)}), None, "DoRA scales the columns, too"),
    "two adapters": (second, None, "adapters default, other, which cannot be added: which of several adapters is active is not stored"),
    "r of another adapter": (lambda t: None, {"r": 16, "lora_alpha": 32}, "r in adapter_config.json is 16, and lora_A has 3 rows"),
    "an alpha of text": (lambda t: None, {"r": 3, "lora_alpha": "x"}, "lora_alpha in adapter_config.json reads x, expected a number"),
    "an alpha that is infinite": (lambda t: None, {"r": 3, "lora_alpha": float("inf")}, "expected a number"),
    "a base that cannot be read": (
        lambda t: t.update({f"{MODULE}.base_layer.weight.absmax": torch.ones(1)}),
        None,
        "its base is bitsandbytes",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_adapters_that_cannot_be_added_are_refused_by_name(tmp_path, rng, case):
    change, config, words = REFUSED[case]
    tensors = parts(rng)
    change(tensors)
    path = save(tmp_path, tensors, config)
    with pytest.raises(CheckpointError, match=re.escape(words)) as caught:
        adapted(path).read()
    assert f"tensor '{MODULE}.weight'" in str(caught.value)
    assert str(caught.value).isprintable()


def test_an_adapter_without_its_weight_is_told(tmp_path, rng):
    tensors = {name: tensor for name, tensor in parts(rng).items() if "lora_" in name} | {"layers.0.D": torch.ones(3)}
    checkpoint = open_checkpoint(save(tmp_path, tensors))
    assert checkpoint.notes == (f"adapters skipped, as the weights that they change are not here: {MODULE}",)


@pytest.mark.parametrize("given", ["", "adapter_model.safetensors"])
def test_adapters_alone_are_named_with_their_base(tmp_path, rng, refusal, given):
    alone = {name: tensor for name, tensor in parts(rng, "").items() if "lora_" in name}
    save_file(alone, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "base_model_name_or_path": "state-spaces/mamba-130m-hf"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    line = refusal(tmp_path / given if given else tmp_path)
    assert "LoRA adapters alone of state-spaces/mamba-130m-hf (1 module, r 3, lora_alpha 6)" in line
    assert "PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(new)" in line
    (tmp_path / "adapter_config.json").write_text("{")
    assert "LoRA adapters alone (1 module)" in refusal(tmp_path / given if given else tmp_path)


def test_adapters_beside_a_model_are_said_not_to_be_applied(tmp_path, rng):
    save_file({"D": torch.ones(2)}, tmp_path / "model.safetensors")
    save_file({name: tensor for name, tensor in parts(rng).items() if "lora_" in name}, tmp_path / "adapter_model.safetensors")
    assert open_checkpoint(tmp_path).notes == ("adapter_model.safetensors is not applied to model.safetensors; merge it with peft",)


def test_a_whole_folder_of_peft_is_its_model(tmp_path, rng):
    tensors = parts(rng)
    save(tmp_path, tensors, {"r": 3, "lora_alpha": 6})
    (tmp_path / "x.safetensors").rename(tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    assert np.allclose(checkpoint.tensors[f"{MODULE}.weight"].read(), merged(tensors, 2), rtol=1e-5, atol=1e-6)
    assert len(checkpoint.notes) == 1


def test_writing_keeps_names_and_parts_and_refuses_the_sum(tmp_path, rng):
    path = save(tmp_path, parts(rng))
    checkpoint = open_checkpoint(path)
    bias = np.arange(6, dtype=np.float32)
    write_changed(checkpoint, tmp_path / "new.safetensors", {f"{MODULE}.bias": bias})
    again = open_checkpoint(tmp_path / "new.safetensors")
    assert again.tensors[f"{MODULE}.bias"].name == f"{MODULE}.base_layer.bias"  # as the file has it
    assert again.tensors[f"{MODULE}.bias"].read().tolist() == bias.tolist()
    assert np.array_equal(again.tensors[f"{MODULE}.weight"].read(), checkpoint.tensors[f"{MODULE}.weight"].read())
    with pytest.raises(CheckpointError, match="and cannot be replaced there"):
        write_changed(checkpoint, tmp_path / "other.safetensors", {f"{MODULE}.weight": np.ones((6, 8))})
