"""The SSM layers of an open checkpoint: which there are, each distinct one as a state space, and those that the user chose."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from ssmspec.checkpoint import Described, open_checkpoint
from ssmspec.errors import LayerError, NoLayerError, about
from ssmspec.families import Detection, Family, LayerTensors, ReadOptions, Tensor, detect, known_families
from ssmspec.families.encoded import as_stored, said_of, watched
from ssmspec.families.provenance import Attached, attached
from ssmspec.statistics import Skipped
from ssmspec.systems.statespace import StateSpace, untrustworthy

SHARED = "(shared module)"  # how the reason ends for which a layer is skipped that is a copy of another
FINGERPRINT = 1 << 14  # bytes of a tensor that are compared to tell layers apart
DIGESTED = 1 << 26  # bytes of a tensor that are all compared before two layers are called one


class Source(Described, Protocol):
    """Tensors by name in the order of layers: an open checkpoint, or a model in memory."""

    @property
    def tensors(self) -> Mapping[str, Tensor]: ...


def find_layers(checkpoint: Source, family: str | None = None, options: ReadOptions | None = None) -> Detection:
    """SSM layers of a checkpoint by tensor names and shapes.

    Raises:
        LayerError: an unknown family name, or a mapping that names no layer. NoLayerError: no layer; the text says what was seen and
            which family comes nearest.
    """
    families = known_families(options or ReadOptions())
    if family is not None and family not in families:
        raise LayerError(f"family {family!r} is unknown; choose one of {', '.join(families)}")
    try:
        detection = detect(checkpoint.tensors, families.values() if family is None else [_named(families[family])])
    except LayerError as error:
        raise LayerError(f"{checkpoint.path}: {error}") from error
    if detection.layers:
        return detection
    wanted = "SSM layer" if family is None else f"layer of family {family}"
    names = list(checkpoint.tensors)
    seen = f"{len(names)} tensors such as {', '.join(names[:3])}" if names else "no tensors at all"
    near = "; ".join(f"{miss.prefix}: {miss.describe()}" for miss in detection.near_misses[:1])
    more = f" (and {len(detection.near_misses) - 1} more)" if len(detection.near_misses) > 1 else ""
    advice = (
        f"; {near}{more}"
        if near
        else "; no known family comes near ('ssmspec families' lists them; 'ssmspec inspect --suggest-map' drafts a mapping for others)"
    )
    raise NoLayerError(f"{checkpoint.path}: no {wanted} found: it holds {seen}{advice}")


@dataclass(frozen=True, slots=True)
class ReadLayer:
    """One layer: its tensors, its state spaces (one, or one for each direction), and later layers that hold the same values."""

    tensors: LayerTensors
    systems: tuple[StateSpace, ...]
    twins: tuple[LayerTensors, ...] = ()


def _named(family: Family) -> Family:
    return replace(family, templates=(*family.templates, *family.when_named))


def read_systems(checkpoint: Source, detection: Detection, options: ReadOptions) -> tuple[list[StateSpace], list[Skipped]]:
    """The state spaces of all layers in model order, each distinct one once, and what was left out.

    Raises:
        LayerError: every layer contradicts its family; otherwise such a layer is among the skipped.
    """
    layers, skipped = read_layers(checkpoint, detection, options)
    return [system for layer in layers for system in layer.systems], skipped


def read_layers(checkpoint: Source, detection: Detection, options: ReadOptions) -> tuple[list[ReadLayer], list[Skipped]]:
    """The layers of a checkpoint in model order, each distinct one once, and what was left out; raises as `read_systems`."""
    with about(checkpoint.path):  # too little memory
        layers, skipped, problems = try_layers(checkpoint, detection, options, attached(checkpoint), _originals(detection.layers))
    if problems and not layers:
        raise LayerError(f"{checkpoint.path}: {problems[0]}" + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""))
    return layers, skipped


def try_layers(
    checkpoint: Source, detection: Detection, options: ReadOptions, weights: Attached, originals: Sequence[str]
) -> tuple[list[ReadLayer], list[Skipped], list[str]]:
    """As `read_layers`, but layers that contradict their family are only told, even if all do.

    Args:
        weights: of beta, beside the tensors.
        originals: for every layer the name of the first one that is the same, mostly its own.
    """
    families = known_families(options)
    options = replace(options, config=checkpoint.config)
    layers: dict[str, ReadLayer] = {}
    skipped = [Skipped(miss.prefix, miss.describe()) for miss in detection.near_misses]
    partial = getattr(checkpoint, "partial", "")
    part_of_model = (f"{partial} alone: a part of the model's layer",) if partial else ()
    problems: list[str] = []  # not the errors: their tracebacks would hold this frame, and what was read, in memory
    for layer, original in zip(detection.layers, originals, strict=True):
        if original != layer.name:
            skipped.append(Skipped(layer.name, f"the same tensors as {original} {SHARED}"))
            if original in layers:
                layers[original] = replace(layers[original], twins=(*layers[original].twins, layer))
            continue
        try:
            with np.errstate(all="ignore"):  # what overflows or is not finite is for `untrustworthy` to say
                shown, encoded = watched(layer)
                systems = families[layer.family].read(shown, options)
            said = (*part_of_model, *said_of(encoded))
            systems = [replace(system, assumptions=(*system.assumptions, *said)) for system in systems] if said else systems
            layers[layer.name] = ReadLayer(layer, tuple(_weighted(system, layer, weights) for system in systems))
        except LayerError as error:
            problems.append(str(error))
            skipped.append(Skipped(layer.name, str(error)))
    return list(layers.values()), skipped, problems


def _weighted(system: StateSpace, layer: LayerTensors, weights: Attached) -> StateSpace:
    """The system with the beta weight that the checkpoint has beside its tensors, and a line that says so."""
    if weights.problem:
        return replace(system, assumptions=(*system.assumptions, weights.problem))
    entry = weights.weights.get(system.name)
    if entry is None:
        return system
    if "digest" in entry and entry["digest"] != layer_digest(layer):
        return replace(
            system, assumptions=(*system.assumptions, f"{weights.place} describes another version of this layer: its beta is left out")
        )
    if system.sobolev is not None:
        return replace(system, assumptions=(*system.assumptions, f"beta is the layer's own; that in {weights.place} is left out"))
    text = f"beta is from {weights.place}; the code that this file comes from does not apply it"
    return replace(system, sobolev=weights.weight(system.name, system.copies), assumptions=(*system.assumptions, text))


def _originals(layers: Sequence[LayerTensors]) -> list[str]:
    """For every layer the name of the first one with the same tensors, mostly its own.

    Matrices may be gigabytes in all, so they are looked at only where all vectors agree, and read whole only where their beginnings agree.
    """
    originals = [layer.name for layer in layers]
    groups = [list(range(len(layers)))]
    for look in (partial(_fingerprint, matrices=False), partial(_fingerprint, matrices=True), _digest):
        finer: dict[tuple[int, bytes], list[int]] = defaultdict(list)
        for number, group in enumerate(groups):
            for index in group if len(group) > 1 else ():
                finer[number, look(layers[index])].append(index)
        groups = list(finer.values())
    for group in groups:
        for index in group:
            originals[index] = layers[group[0]].name
    return originals


def layer_digest(layer: LayerTensors) -> str:
    """A digest of the values of a layer's tensors, in hexadecimal digits."""
    return _digest(layer).hex()


def _digest(layer: LayerTensors) -> bytes:
    """A hash of every byte of every tensor of a layer; of tensors above DIGESTED bytes, of their first and last rows."""
    result = hashlib.blake2b()
    for _, tensor in as_stored(layer):
        if not tensor.shape:
            continue
        rows = tensor.shape[0]
        height = max(1, FINGERPRINT * 64 // max(1, 8 * int(np.prod(tensor.shape[1:]))))
        small = 8 * int(np.prod(tensor.shape)) <= DIGESTED
        for start in range(0, rows, height) if small else (0, max(0, rows - height)):
            result.update(np.ascontiguousarray(tensor.read(slice(start, start + height))).tobytes())
    return result.digest()


def _fingerprint(layer: LayerTensors, *, matrices: bool) -> bytes:
    """Bytes that differ between distinct layers: shapes, and the first 64 rows of every tensor but not much more than FINGERPRINT bytes."""
    parts = []
    for role, tensor in as_stored(layer):
        parts.append(f"{layer.family} {role} {tensor.shape} {tensor.dtype} ".encode())
        if not tensor.shape:
            parts.append(np.ascontiguousarray(tensor.read()).tobytes())
        elif matrices or len(tensor.shape) == 1:
            row = 8 * int(np.prod(tensor.shape[1:]))
            parts.append(np.ascontiguousarray(tensor.read(slice(0, max(1, min(64, FINGERPRINT // max(1, row)))))).tobytes())
    return b"".join(parts)


def select_layers(systems: Sequence[StateSpace], wanted: Sequence[str], checkpoint: Source) -> list[StateSpace]:
    """Layers by exact name, glob, index, or the name of a block with several directions; all of them without a choice.

    Raises:
        LayerError: a choice that names no layer.
    """
    if not wanted:
        return list(systems)
    chosen: set[int] = set()
    for pattern in wanted:
        found = set(_matching(systems, pattern))
        if not found:
            names = ", ".join(system.name for system in systems[:8]) + (", ..." if len(systems) > 8 else "")
            raise LayerError(f"{checkpoint.path}: --layer {pattern} names no layer; there are {len(systems)}: {names}")
        chosen |= found
    return [systems[index] for index in sorted(chosen)]


def _matching(systems: Sequence[StateSpace], pattern: str) -> Iterator[int]:
    exact = [index for index, system in enumerate(systems) if system.name == pattern]
    if exact:
        yield from exact
    elif pattern.isascii() and pattern.isdigit() and len(pattern) < 10 and int(pattern) < len(systems):
        yield int(pattern)
    else:
        for index, system in enumerate(systems):
            if fnmatchcase(system.name, pattern) or system.name.rsplit(":", 1)[0] == pattern:
                yield index


def select_one(systems: Sequence[StateSpace], wanted: str, checkpoint: Source) -> StateSpace:
    """The one layer that a choice names.

    Raises:
        LayerError: none, or several.
    """
    chosen = select_layers(systems, [wanted], checkpoint)
    if len(chosen) > 1:
        raise LayerError(f"--layer {wanted} names {len(chosen)} layers: {', '.join(s.name for s in chosen[:8])}; choose one of them")
    return chosen[0]


def load_system(path: Path | str, layer: str, options: ReadOptions, family: str | None = None) -> StateSpace:
    """One layer of a checkpoint as a state space.

    Raises:
        SsmspecError: as `analyze`; also a layer whose numbers cannot be trusted.
    """
    checkpoint = open_checkpoint(path)
    systems, _ = read_systems(checkpoint, find_layers(checkpoint, family, options), options)
    system = select_one(systems, layer, checkpoint)
    problem = untrustworthy(system)
    if problem:
        raise LayerError(f"{checkpoint.path}: layer {system.name} cannot be used: {problem}")
    return system
