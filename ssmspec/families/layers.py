"""The SSM layers of an open checkpoint: find them, read each distinct one as a state space, and select those the user asked for."""

import hashlib
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from ssmspec.checkpoint import Checkpoint, Described, average_in, open_checkpoint
from ssmspec.checkpoint.remote.path import Location
from ssmspec.errors import LayerError, NoLayerError, about
from ssmspec.families import Detection, Family, LayerTensors, ReadOptions, Tensor, detect, known_families
from ssmspec.families.ahead import Ahead, names_in_layers
from ssmspec.families.assumption import check_assumptions, with_assumptions
from ssmspec.families.encoded import as_stored, watched
from ssmspec.families.provenance import Attached, attached
from ssmspec.families.template import flat_values
from ssmspec.statistics import Skipped
from ssmspec.systems.statespace import StateSpace
from ssmspec.systems.system import System
from ssmspec.systems.trust import GROWING, UNDAMPED, AnySystem, assess

FINGERPRINT = 1 << 14  # bytes of each tensor that are compared first, to tell layers apart
DIGESTED = 1 << 26  # tensors up to this many bytes are compared completely before two layers are treated as one


class Source(Described, Protocol):
    """Tensors by name, in layer order: an open checkpoint or a model in memory."""

    @property
    def tensors(self) -> Mapping[str, Tensor]: ...


def open_for_layers(path: Location | str | Checkpoint, options: ReadOptions | None = None) -> Checkpoint:
    """Opens a checkpoint to read its SSM layers, unless it is open already; of remote shards only those that hold some.

    Raises:
        CheckpointError: as `open_checkpoint`.
    """
    if isinstance(path, Checkpoint):
        return path
    return open_checkpoint(path, partial(names_in_layers, list(known_families(options or ReadOptions()).values())))


def is_remote(checkpoint: Source) -> bool:
    """Whether every read is a request over the network."""
    return getattr(checkpoint, "traffic", None) is not None


def find_layers(checkpoint: Source, family: str | None = None, options: ReadOptions | None = None) -> Detection:
    """Find the SSM layers of a checkpoint by tensor names and shapes.

    Raises:
        LayerError: an unknown family name, a mapping that matches no layer, or an assumption on which no layer depends.
        NoLayerError: there is no SSM layer; the message says what was found instead and which family comes nearest.
    """
    options = replace(options or ReadOptions(), config=checkpoint.config)
    families = known_families(options)
    if family is not None and family not in families:
        raise LayerError(f"family {family!r} is unknown; choose one of {', '.join(families)}")
    try:
        detection = detect(checkpoint.tensors, families.values() if family is None else [_named(families[family])])
        if detection.layers:
            check_assumptions(detection.layers, families, options)
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
    if detection.named:
        advice = "; " + "; ".join(f"{each.describe()} ({_shown(each.prefixes)})" for each in detection.named)
    raise NoLayerError(f"{checkpoint.path}: no {wanted} found: it holds {seen}{advice}")


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@dataclass(frozen=True, slots=True)
class ReadLayer:
    """One layer: its tensors, its state spaces (one, or one per direction), and later layers that hold the same values."""

    tensors: LayerTensors
    systems: tuple[System, ...]
    twins: tuple[LayerTensors, ...] = ()

    @property
    def state_spaces(self) -> tuple[StateSpace, ...]:
        """Its systems, for work on their poles; an error says why a system has none."""
        return tuple(system.state_space() for system in self.systems)


def _named(family: Family) -> Family:
    return replace(family, templates=(*family.templates, *family.when_named))


def read_systems(checkpoint: Source, detection: Detection, options: ReadOptions) -> tuple[list[System], list[Skipped]]:
    """The systems of all layers in model order, each distinct layer once, and what was skipped.

    Raises:
        LayerError: every layer contradicts its family. If only some do, they are returned among the skipped.
    """
    layers, skipped = read_layers(checkpoint, detection, options)
    return [system for layer in layers for system in layer.systems], skipped


def read_layers(checkpoint: Source, detection: Detection, options: ReadOptions) -> tuple[list[ReadLayer], list[Skipped]]:
    """The layers of a checkpoint in model order, each distinct one once, and what was skipped. Raises the same as `read_systems`."""
    layers, skipped = readable_layers(checkpoint, detection, options)
    problems = [item.reason for item in skipped if item.kind == "unread"]
    if problems and not layers:
        raise LayerError(f"{checkpoint.path}: {problems[0]}" + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""))
    return layers, skipped


def readable_layers(checkpoint: Source, detection: Detection, options: ReadOptions) -> tuple[list[ReadLayer], list[Skipped]]:
    """Like `read_layers`, but not an error if no layer can be read."""
    with about(checkpoint.path):  # names the file if memory runs out
        Ahead(detection.layers, is_remote(checkpoint)).vectors()
        return try_layers(checkpoint, detection, options, attached(checkpoint), _originals(detection.layers))


def try_layers(
    checkpoint: Source, detection: Detection, options: ReadOptions, weights: Attached, originals: Sequence[str]
) -> tuple[list[ReadLayer], list[Skipped]]:
    """Like `readable_layers`, for any source of tensors.

    Args:
        weights: beta weights stored beside the tensors.
        originals: for every layer, the name of the first layer with the same tensors (usually its own name).
    """
    families = known_families(options)
    options = replace(options, config=checkpoint.config)
    layers: dict[tuple[str, str], ReadLayer] = {}  # by name and family: two tables of a mapping may describe tensors under one prefix
    copies: list[tuple[tuple[str, str], LayerTensors]] = []
    skipped = [Skipped(miss.prefix, miss.describe(), "near miss", miss.family) for miss in detection.near_misses]
    partial = getattr(checkpoint, "partial", "")
    skipped += [Skipped(prefix, each.describe(), "named", each.family) for each in detection.named for prefix in each.prefixes]
    part_of_model = (f"{partial} alone: a part of the model's layer",) if partial else ()
    ahead = Ahead(detection.layers, is_remote(checkpoint))
    for layer, original in zip(detection.layers, originals, strict=True):
        if original != layer.name:
            skipped.append(Skipped(layer.name, f"the same tensors as {original} (shared module)", "shared", layer.family))
            copies.append(((original, layer.family), layer))
            continue
        try:
            with np.errstate(all="ignore"):  # overflow and values that are not finite are reported by `systems.trust`
                shown, encoded = watched(ahead.noted(layer))
                systems = read_layer(families[layer.family], shown, options)
            ahead.learned(layer)
            said = (*part_of_model, *encoded.said())
            systems = [replace(system, assumptions=(*system.assumptions, *said)) for system in systems] if said else systems
            layers[layer.name, layer.family] = ReadLayer(layer, tuple(_weighted(system, layer, weights) for system in systems))
        except LayerError as error:  # only its text is kept: its traceback would keep this frame and its arrays in memory
            skipped.append(Skipped(layer.name, str(error), "unread", layer.family))
    for key, copy in copies:  # an averaged copy may come before its original
        if key in layers:
            layers[key] = replace(layers[key], twins=(*layers[key].twins, copy))
    return list(layers.values()), skipped


def read_layer(family: Family, layer: LayerTensors, options: ReadOptions) -> list[System]:
    """The systems of one layer, with what was assumed for them.

    Raises:
        LayerError: tensors that contradict the family.
    """
    return with_assumptions(family, layer, options, family.read(layer, options))


def _weighted(system: System, layer: LayerTensors, weights: Attached) -> System:
    """The system with the beta weight that the checkpoint stores beside its tensors, and an assumption that says so."""
    if system.no_poles:  # nothing writes a beta for such a layer
        return system
    if weights.problem:
        return replace(system, assumptions=(*system.assumptions, weights.problem))
    entry = weights.weights.get(system.name)
    digest = (entry or {}).get("digest", weights.digests.get(system.name))
    if digest is not None and digest != layer_digest(layer):
        text = f"{weights.place} describes another version of this layer: so its beta and everything else in it are ignored"
        return replace(system, assumptions=(*system.assumptions, text))
    if entry is None:
        return system
    if system.sobolev is not None:
        return replace(system, assumptions=(*system.assumptions, f"beta is the layer's own; the one in {weights.place} is ignored"))
    text = f"beta comes from {weights.place}; the model's own code does not apply it"
    return replace(system, sobolev=weights.weight(system.name, system.copies), assumptions=(*system.assumptions, text))


def _originals(layers: Sequence[LayerTensors]) -> list[str]:
    """For every layer, the name of the first layer with the same tensors (usually its own name), of the model before its averaged copies.

    Matrices may take gigabytes in total, so they are compared only if all vectors agree, and read completely only if their first rows do.
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
        first = next((index for index in group if average_in(layers[index].name) is None), group[0])
        for index in group:
            originals[index] = layers[first].name
    return originals


def layer_digest(layer: LayerTensors) -> str:
    """A hexadecimal digest of the values of a layer's tensors."""
    return _digest(layer).hex()


def _digest(layer: LayerTensors) -> bytes:
    """A hash of all tensors of a layer. Tensors larger than DIGESTED bytes contribute only their first and last rows."""
    result = hashlib.blake2b()
    for _, tensor in as_stored(layer):
        if not tensor.shape:
            continue
        rows = tensor.shape[0]
        height = max(1, FINGERPRINT * 64 // max(1, 8 * int(np.prod(tensor.shape[1:]))))
        small = 8 * int(np.prod(tensor.shape)) <= DIGESTED
        if _has_giant_rows(tensor):
            result.update(np.ascontiguousarray(flat_values(tensor, 0, FINGERPRINT)).tobytes())
            continue
        for start in range(0, rows, height) if small else (0, max(0, rows - height)):
            result.update(np.ascontiguousarray(tensor.read(slice(start, start + height))).tobytes())
    return result.digest()


def _fingerprint(layer: LayerTensors, *, matrices: bool) -> bytes:
    """Bytes that differ between distinct layers: shapes, and up to 64 first rows of every tensor (about FINGERPRINT bytes at most)."""
    parts = []
    for role, tensor in as_stored(layer):
        parts.append(f"{layer.family} {role} {tensor.shape} {tensor.dtype} ".encode())
        if not tensor.shape:
            parts.append(np.ascontiguousarray(tensor.read()).tobytes())
        elif _has_giant_rows(tensor):
            parts.append(np.ascontiguousarray(flat_values(tensor, 0, FINGERPRINT)).tobytes())
        elif matrices or len(tensor.shape) == 1:
            row = 8 * int(np.prod(tensor.shape[1:]))
            parts.append(np.ascontiguousarray(tensor.read(slice(0, max(1, min(64, FINGERPRINT // max(1, row)))))).tobytes())
    return b"".join(parts)


def _has_giant_rows(tensor: Tensor) -> bool:
    """Whether one row is too large to be read for a comparison: kernels of long convolutions have one row per direction."""
    return 8 * int(np.prod(tensor.shape[1:])) > DIGESTED


def select_layers(
    systems: Sequence[AnySystem], wanted: Sequence[str], checkpoint: Source, skipped: Sequence[Skipped] = ()
) -> list[AnySystem]:
    """Select layers by exact name, glob, index, or the name of a block with several directions; without a selection, all of them.

    Args:
        skipped: what else has a name in the file, to say why it cannot be selected.
    Raises:
        LayerError: an entry of the selection matches no layer.
    """
    if not wanted:
        return list(systems)
    chosen: set[int] = set()
    for pattern in wanted:
        found = set(_matching(systems, pattern))
        reasons = [f"{item.name}: {item.reason}" for item in skipped if item.name == pattern or fnmatchcase(item.name, pattern)]
        if not found and reasons:
            more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
            raise LayerError(f"{checkpoint.path}: --layer {pattern} matches no layer that is read, but {reasons[0]}{more}")
        if not found:
            names = ", ".join(system.name for system in systems[:8]) + (", ..." if len(systems) > 8 else "")
            raise LayerError(f"{checkpoint.path}: --layer {pattern} matches no layer; the {len(systems)} layers are {names}")
        chosen |= found
    return [systems[index] for index in sorted(chosen)]


def _matching(systems: Sequence[System], pattern: str) -> Iterator[int]:
    exact = [index for index, system in enumerate(systems) if system.name == pattern]
    if exact:
        yield from exact
    elif pattern.isascii() and pattern.isdigit() and len(pattern) < 10 and int(pattern) < len(systems):
        yield int(pattern)
    else:
        for index, system in enumerate(systems):
            if fnmatchcase(system.name, pattern) or system.name.startswith(f"{pattern}:"):
                yield index


def block_of(system: str, names: Container[str]) -> str:
    """The one of these names that the layer of a system has: the system's own, or what stands before `:direction`."""
    name = system
    while name not in names and ":" in name:
        name = name.rpartition(":")[0]
    return name


def select_one(systems: Sequence[System], wanted: str, checkpoint: Source, skipped: Sequence[Skipped] = ()) -> System:
    """The one layer that a selection matches.

    Raises:
        LayerError: the selection matches no layer, or more than one.
    """
    chosen = select_layers(systems, [wanted], checkpoint, skipped)
    if len(chosen) > 1:
        raise LayerError(f"--layer {wanted} matches {len(chosen)} layers: {', '.join(s.name for s in chosen[:8])}; choose one of them")
    return chosen[0]


def load_system(path: Path | str, layer: str, options: ReadOptions, family: str | None = None) -> System:
    """Read one layer of a checkpoint, with all of its copies: a state space, or an explicit kernel if it has no poles.

    `systems.trust.assess` tells which copies are sound.

    Raises:
        SsmspecError: the same errors as `analyze`; also if no copy has a finite kernel. A kernel that grows is finite.
    """
    checkpoint = open_for_layers(path, options)
    systems, skipped = read_systems(checkpoint, find_layers(checkpoint, family, options), options)
    system = select_one(systems, layer, checkpoint, skipped)
    trust = assess(system)
    if trust.problem and all(fault.kind not in (GROWING, UNDAMPED) for fault in trust.faults):
        raise LayerError(f"{checkpoint.path}: layer {system.name} cannot be used: {trust.problem}")
    return system
