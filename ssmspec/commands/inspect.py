"""What is in a checkpoint: which tensors make up which SSM layer, the near misses, and all other tensors."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssmspec.checkpoint import Checkpoint, average_in, open_checkpoint
from ssmspec.checkpoint.derived import DerivedTensor
from ssmspec.errors import NoLayerError
from ssmspec.families import Detection, Family, LayerTensors, NearMiss, ReadOptions, detect, known_families
from ssmspec.families.surroundings import kind_of

Document = dict[str, Any]


def inspect_checkpoint(path: Path | str, options: ReadOptions | None = None) -> Document:
    """The document of schema ssmspec.inspect/1. It is made from headers; no tensor is read.

    Raises:
        CheckpointError: the file cannot be read. A file without SSM layers is not an error here.
        LayerError: the mapping in the options matches no layer.
    """
    checkpoint = open_checkpoint(path)
    families = known_families(options or ReadOptions())
    detection = detect(checkpoint.tensors, families.values())
    return {
        "schema": "ssmspec.inspect/1",
        "checkpoint": {
            "path": str(checkpoint.path),
            "container": checkpoint.container,
            "bytes": checkpoint.size,
            "tensors": len(checkpoint.tensors),
        },
        "layers": [_layer(layer, families[layer.family], checkpoint) for layer in detection.layers],
        "near_misses": [_near_miss(miss) for miss in detection.near_misses],
        "other": _other(checkpoint, detection),
        "config": _scalars(checkpoint.config),
        "notes": list(checkpoint.notes),
    }


def suggest_mapping(path: Path | str, options: ReadOptions | None = None) -> str:
    """A draft of a mapping file for the tensors that no known family claims.

    Raises:
        CheckpointError: the file cannot be read. NoLayerError: none of these tensors resemble an SSM layer.
        LayerError: the mapping in the options matches no layer.
    """
    from ssmspec.families.mapping.draft import draft_mapping  # rarely needed

    checkpoint = open_checkpoint(path)
    layers = detect(checkpoint.tensors, known_families(options or ReadOptions()).values()).layers
    claimed = {name for layer in layers for name in layer.tensor_names.values()}
    rest = {name: tensor for name, tensor in checkpoint.tensors.items() if name not in claimed}
    draft = draft_mapping(rest)
    if draft is not None:
        return draft
    known = f"besides {len(layers)} layers that can be read, the file" if layers else "the file"
    seen = f"{len(rest)} other tensors such as {', '.join(list(rest)[:3])}" if rest else "no other tensors"
    raise NoLayerError(f"{checkpoint.path}: no tensors resemble an SSM layer of an unknown layout; {known} holds {seen}")


def _layer(layer: LayerTensors, family: Family, checkpoint: Checkpoint) -> Document:
    tensors = {name: _tensor(checkpoint, name) | {"role": role} for role, name in layer.tensor_names.items()}
    return {
        "name": layer.name,
        "average": average_in(layer.name),
        "family": family.name,
        "title": family.title,
        "selective": family.selective,
        "sizes": dict(layer.sizes),
        "tensors": tensors,
    }


def _tensor(checkpoint: Checkpoint, name: str) -> Document:
    """Shape, None for sizes that nothing tells, and dtype; of a tensor that is stored as something else also what that is."""
    tensor = checkpoint.tensors[name]
    shape = [size if size >= 0 else None for size in tensor.shape]
    origin = {"stored_as": tensor.origin} if isinstance(tensor, DerivedTensor) else {}
    return {"shape": shape, "dtype": tensor.dtype} | origin


def _near_miss(miss: NearMiss) -> Document:
    return {
        "prefix": miss.prefix,
        "family": miss.family,
        "missing": list(miss.missing),
        "wrong": list(miss.wrong),
        "unexpected": list(miss.unexpected),
    }


def _other(checkpoint: Checkpoint, detection: Detection) -> list[Document]:
    """Tensors outside SSM layers, in file order, and what they seem to belong to. Names that differ only in numbers form one group."""
    used = {name for layer in detection.layers for name in layer.tensor_names.values()}
    groups: Counter[str] = Counter()
    example: dict[str, str] = {}
    for name in checkpoint.tensors:
        if name not in used:
            group = ".".join("*" if part.isdigit() else part for part in name.split("."))
            groups[group] += 1
            example.setdefault(group, name)
    layers = {layer.name for layer in detection.layers}
    return [
        {"name": group, "kind": kind_of(example[group], layers), "count": count, **_tensor(checkpoint, example[group])}
        for group, count in groups.items()
    ]


def _scalars(config: Mapping[str, object]) -> Document:
    """The scalar entries of a configuration, which fit on a line each. NaN and infinities become words, because JSON has neither."""
    scalars = {key: value for key, value in config.items() if value is None or isinstance(value, str | int | float | bool)}
    return {key: str(value) if isinstance(value, float) and not math.isfinite(value) else value for key, value in scalars.items()}
