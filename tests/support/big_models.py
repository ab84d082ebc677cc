"""Mamba-2 in the size of 2.7 billion parameters, as sparse files that take a few kilobytes of disk."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

LAYERS, WIDTH, HEADS, STATES, VOCABULARY = 64, 2560, 80, 128, 50288
INNER = 2 * WIDTH
CHANNELS = INNER + 2 * STATES
Shapes = dict[str, tuple[int, ...]]


def layer_shapes(layer: int) -> Shapes:
    """Names and shapes of one layer, in the order of the module's state dict (mamba_ssm/modules/mamba2.py)."""
    start = f"backbone.layers.{layer}"
    return {
        f"{start}.mixer.dt_bias": (HEADS,),
        f"{start}.mixer.A_log": (HEADS,),
        f"{start}.mixer.D": (HEADS,),
        f"{start}.mixer.in_proj.weight": (2 * INNER + 2 * STATES + HEADS, WIDTH),
        f"{start}.mixer.conv1d.weight": (CHANNELS, 1, 4),
        f"{start}.mixer.conv1d.bias": (CHANNELS,),
        f"{start}.mixer.norm.weight": (INNER,),
        f"{start}.mixer.out_proj.weight": (WIDTH, INNER),
        f"{start}.norm.weight": (WIDTH,),
    }


def all_shapes() -> Shapes:
    """The whole model."""
    shapes: Shapes = {"backbone.embedding.weight": (VOCABULARY, WIDTH)}
    for layer in range(LAYERS):
        shapes |= layer_shapes(layer)
    return shapes | {"backbone.norm_f.weight": (WIDTH,), "lm_head.weight": (VOCABULARY, WIDTH)}


def vectors(shapes: Shapes, rng: np.random.Generator) -> dict[str, np.ndarray[Any, Any]]:
    """The values of the tensors that an analysis reads, in float16."""
    values = {}
    for name, shape in shapes.items():
        word = name.rpartition(".")[2]
        if word in ("A_log", "dt_bias", "D"):
            low, high = {"A_log": (0.0, 2.7), "dt_bias": (-6.9, -2.2), "D": (0.5, 1.5)}[word]
            values[name] = rng.uniform(low, high, shape).astype(np.float16)
    return values


def sparse_safetensors(path: Path, shapes: Shapes, values: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """A safetensors file in the library's order (by name), with holes in place of all other values."""
    entries, at = {}, 0
    for name in sorted(shapes):
        nbytes = 2 * int(np.prod(shapes[name]))
        entries[name] = {"dtype": "F16", "shape": list(shapes[name]), "data_offsets": [at, at + nbytes]}
        at += nbytes
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name, array in values.items():
            file.seek(8 + len(header) + entries[name]["data_offsets"][0])
            file.write(array.tobytes())
        file.truncate(8 + len(header) + at)


def sparse_torch_zip(path: Path, shapes: Shapes, values: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """What torch.save writes, with holes in place of the values; those given are put in afterwards."""
    import torch

    from ssmspec.checkpoint import StoredTensor, open_checkpoint

    with torch.serialization.skip_data():
        torch.save({name: torch.empty(shape, dtype=torch.float16) for name, shape in shapes.items()}, path)
    tensors = open_checkpoint(path).tensors
    with path.open("r+b") as file:
        for name, array in values.items():
            tensor = tensors[name]
            assert isinstance(tensor, StoredTensor)
            file.seek(tensor.span.offset)
            file.write(array.tobytes())
