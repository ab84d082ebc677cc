"""What is in a checkpoint: which tensors make up which SSM layer, the near misses, and all other tensors."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ssmspec.checking.finite import Key, Reads, key_of, owned_tensors
from ssmspec.checkpoint import Checkpoint, average_in, open_checkpoint
from ssmspec.checkpoint.derived import DerivedTensor
from ssmspec.errors import NoLayerError, SsmspecError
from ssmspec.families import Family, LayerTensors, NearMiss, ReadOptions, Tensor, detect, known_families
from ssmspec.families.layers import ReadLayer, readable_layers
from ssmspec.families.surroundings import kind_of
from ssmspec.statistics import Skipped
from ssmspec.systems.trust import assess

Document = dict[str, Any]


def inspect_checkpoint(path: Path | str, options: ReadOptions | None = None) -> Document:
    """The document of schema ssmspec.inspect/1. Of the tensors, only those that analysis needs are read.

    Raises:
        CheckpointError: the file cannot be read. A file without SSM layers is not an error here.
        LayerError: the mapping in the options matches no layer.
    """
    options = options or ReadOptions()
    checkpoint, families, reads = open_checkpoint(path), known_families(options), Reads()
    detection = detect(checkpoint.tensors, families.values())
    notes = [*checkpoint.notes, *(f"{each.describe()} ({', '.join(each.prefixes)})" for each in detection.named)]
    states: dict[Key, Document] = {}
    try:
        states = _states(*readable_layers(checkpoint, reads.watch(detection), options))
    except SsmspecError as error:  # tensors that are damaged; names and shapes can still be shown
        notes.append(f"the values of the layers cannot be read: {error}")
    owned = owned_tensors(detection.layers)
    return {
        "schema": "ssmspec.inspect/1",
        "checkpoint": {
            "path": str(checkpoint.path),
            "container": checkpoint.container,
            "bytes": checkpoint.size,
            "tensors": len(checkpoint.tensors),
            **({} if checkpoint.transfer is None else {"read": asdict(checkpoint.transfer)}),
        },
        "layers": [
            _layer(layer, families[layer.family], owned[key_of(layer)], reads.complete()) | UNKNOWN | states.get(key_of(layer), {})
            for layer in detection.layers
        ],
        "near_misses": [_near_miss(miss) for miss in detection.near_misses],
        "other": _other(checkpoint, owned),
        "config": _scalars(checkpoint.config),
        "notes": notes,
    }


UNKNOWN: Document = {"directions": [], "copy_of": None, "problem": None, "faults": []}


def _states(layers: Sequence[ReadLayer], skipped: Iterable[Skipped]) -> dict[Key, Document]:
    """What reading the layers says of them: their directions, of what they are copies, and whether their values can be used."""
    states: dict[Key, Document] = {}
    for layer in layers:
        trusts = [(system, assess(system)) for system in layer.systems]
        problems = [f"{system.name}: {trust.problem}" if len(trusts) > 1 else trust.problem for system, trust in trusts if trust.problem]
        names = [system.name for system in layer.systems]
        states[key_of(layer.tensors)] = {
            "directions": names if names != [layer.tensors.name] else [],
            "problem": "; ".join(problems) or None,
            "faults": list(dict.fromkeys(text for _, trust in trusts for text in trust.gaps)),
        }
        states |= {key_of(twin): {"copy_of": layer.tensors.name} for twin in layer.twins}
    return states | {(item.name, item.family or ""): {"problem": item.reason} for item in skipped if item.kind == "unread"}


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


def _layer(layer: LayerTensors, family: Family, owned: Mapping[str, Tensor], read: Collection[str]) -> Document:
    roles = {name: role for role, name in layer.tensor_names.items()}
    return {
        "name": layer.name,
        "average": average_in(layer.name),
        "family": family.name,
        "title": family.title,
        "selective": family.selective,
        "sizes": dict(layer.sizes),
        "tensors": {name: _tensor(owned[name]) | {"role": role, "read": name in read} for name, role in roles.items()},
        "unread": {name: _tensor(tensor) for name, tensor in owned.items() if name not in roles},
    }


def _tensor(tensor: Tensor) -> Document:
    """Shape, None for sizes that nothing tells, and dtype; of a tensor that is stored as something else also what that is."""
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


def _other(checkpoint: Checkpoint, owned: Mapping[Key, Mapping[str, Tensor]]) -> list[Document]:
    """Tensors outside SSM layers, in file order, and what they seem to belong to.

    Tensors of one shape whose names differ only in numbers form one group.
    """
    under = {name for tensors in owned.values() for name in tensors}
    groups: Counter[tuple[str, tuple[int, ...], str]] = Counter()
    example: dict[tuple[str, tuple[int, ...], str], str] = {}
    for name, tensor in checkpoint.tensors.items():
        if name not in under:
            group = ".".join("*" if part.isdigit() else part for part in name.split(".")), tensor.shape, tensor.dtype
            groups[group] += 1
            example.setdefault(group, name)
    return [
        {"name": group[0], "kind": kind_of(example[group]), "count": count, **_tensor(checkpoint.tensors[example[group]])}
        for group, count in groups.items()
    ]


def _scalars(config: Mapping[str, object]) -> Document:
    """The scalar entries of a configuration, which fit on a line each. NaN and infinities become words, because JSON has neither."""
    scalars = {key: value for key, value in config.items() if value is None or isinstance(value, str | int | float | bool)}
    return {key: str(value) if isinstance(value, float) and not math.isfinite(value) else value for key, value in scalars.items()}
