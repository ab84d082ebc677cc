"""From a checkpoint to one with a different frequency bias: the pipeline of `ssmspec retune`, and the counterpart of `analyze`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from ssmspec.checkpoint import Checkpoint
from ssmspec.checkpoint.formats.folders import is_index
from ssmspec.errors import LayerError, SsmspecError, about
from ssmspec.families import ReadOptions, known_families
from ssmspec.families.layers import ReadLayer, find_layers, open_for_layers, read_layers, select_layers
from ssmspec.families.provenance import (
    trained_entry,
    written_by_ssmspec,
)
from ssmspec.families.rewrite import changed_values, systems_as_stored
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import StateSpace
from ssmspec.systems.trust import GROWING, Trust, assess
from ssmspec.tuning.poles.reinitialization import Place
from ssmspec.tuning.poles.scaling import aliasing
from ssmspec.tuning.recipe import Recipe, apply
from ssmspec.tuning.spectra.matching import Match

SLOT = "freqbias-block"  # the family whose original code reads beta


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeOptions:
    """Which layers are changed, and how they are read.

    Args:
        layers: exact names, globs or indices; empty selects all. family, read: as for `analyze`.
    """

    layers: tuple[str, ...] = ()
    family: str | None = None
    read: ReadOptions = field(default_factory=ReadOptions)


@dataclass(frozen=True, slots=True)
class LayerRetune:
    """What happened to one layer: its system before and after, notes, and the figures of each step by name."""

    before: StateSpace
    after: StateSpace
    notes: tuple[str, ...]
    figures: Mapping[str, float]
    match: Match | None = None


@dataclass(frozen=True, slots=True)
class RetunePlan:
    """A retuned checkpoint before it is written.

    Args:
        layers: the layers that change. changes, added: full arrays by tensor name.
        weights: beta weights that no tensor holds, by layer name, including those of layers that do not change.
        notes: which layers are left unchanged, and why.
        trained: what `ssmspec train` recorded about the model in the file's metadata, or None.
    """

    checkpoint: Checkpoint
    recipe: Recipe
    options: ChangeOptions
    layers: tuple[LayerRetune, ...]
    changes: Mapping[str, np.ndarray]
    added: Mapping[str, np.ndarray]
    weights: Mapping[str, Sobolev]
    notes: tuple[str, ...] = ()
    trained: Mapping[str, Any] | None = None

    @property
    def changes_nothing(self) -> bool:
        """Whether every layer is unchanged, because a fit was declined or there was nothing to convert."""
        return not (self.changes or self.added) and all(layer.before.sobolev is layer.after.sobolev for layer in self.layers)


def plan_retune(path: Path | str, recipe: Recipe, options: ChangeOptions | None = None) -> RetunePlan:
    """Read a checkpoint and compute its retuned layers. Nothing is written.

    Raises:
        SsmspecError: as `analyze`. LayerError: a layer cannot be changed as requested; the message says what can be done instead.
    """
    options = options or ChangeOptions()
    checkpoint = open_for_layers(path, options.read)
    layers, skipped = read_layers(checkpoint, find_layers(checkpoint, options.family, options.read), options.read)
    chosen = chosen_layers(layers, options.layers, checkpoint)
    left = tuple(f"{item.name} is left unchanged: {item.reason}" for item in skipped if item.kind != "shared")
    plan = RetunePlan(checkpoint, recipe, options, (), {}, {}, weights_beside(layers), left, trained=trained_entry(checkpoint))
    with about(checkpoint.path), np.errstate(all="ignore"):  # an overflow is refused, or reported for the layer
        for number, layer in enumerate(layers, start=1):
            if layer.tensors.name in chosen:
                plan = _with_layer(plan, layer, Place(number, len(layers), _pole_sets(layer, options)))
    if not plan.layers:
        raise LayerError(f"{checkpoint.path}: no layer is usable; {'; '.join(plan.notes)}")
    return plan


def _pole_sets(layer: ReadLayer, options: ChangeOptions) -> int | None:
    """The number of copies with poles of their own; None where all have."""
    return 1 if known_families(options.read)[layer.tensors.family].one_set else layer.tensors.sizes.get("S")


def chosen_layers(layers: Sequence[ReadLayer], wanted_names: Sequence[str], checkpoint: Checkpoint) -> set[str]:
    """Names of the layers that were chosen by their own name or by the name of a twin."""
    systems = [system for layer in layers for system in layer.systems]
    twins = {pattern: _with_twin(layers, pattern) for pattern in wanted_names}
    patterns = [pattern for pattern in wanted_names if not twins[pattern]]
    wanted = {system.name for system in (select_layers(systems, patterns, checkpoint) if patterns or not twins else ())}
    own = {layer.tensors.name for layer in layers if wanted & {system.name for system in layer.systems}}
    return own.union(*twins.values())


def _with_twin(layers: Sequence[ReadLayer], pattern: str) -> set[str]:
    """Names of the layers that a pattern matches if it matches a twin of at least one layer; otherwise empty.

    A twin is a copy of a layer under a name that no system has.
    """
    named = [layer for layer in layers if any(pattern == twin.name or fnmatchcase(twin.name, pattern) for twin in layer.twins)]
    others = [layer for layer in layers if named and fnmatchcase(layer.tensors.name, pattern)]
    return {layer.tensors.name for layer in (*named, *others)}


def weights_beside(layers: Iterable[ReadLayer]) -> dict[str, Sobolev]:
    """Beta weights that no tensor of a layer holds, by the names of its systems."""
    pairs = [(system.name, system.sobolev) for layer in layers if "s" not in layer.tensors for system in layer.systems]
    return {name: weight for name, weight in pairs if weight is not None}


def _with_layer(plan: RetunePlan, layer: ReadLayer, place: Place) -> RetunePlan:
    """The plan with one more layer. A layer that cannot be trusted is left unchanged, or is an error if it was requested by name."""
    absent = next((system.no_poles for system in layer.systems if system.no_poles), None)
    trusts = [] if absent else [assess(system) for system in layer.systems]
    problem = absent or _cannot_be_changed(plan.recipe, trusts)
    if problem and plan.options.layers:
        raise LayerError(f"{plan.checkpoint.path}: layer {layer.tensors.name} cannot be retuned: {problem}")
    if problem:
        return replace(plan, notes=(*plan.notes, f"{layer.tensors.name} is left unchanged: {problem}"))
    tensors, before_systems = layer.tensors, layer.state_spaces
    slot = tensors.family == SLOT
    tuned = apply(plan.recipe, before_systems, place, features=tensors.sizes.get("H", before_systems[0].copies), slot=slot)
    changes, stored, notes = _changed_tensors(plan, layer, tuned.systems)
    aliases, figures = aliasing(before_systems, stored)
    growing = [] if plan.recipe.start else [f"{text}; they change with the others" for trust in trusts for text in trust.gaps]
    notes = [*tuned.notes, *dict.fromkeys(growing), *aliases, *notes, *twin_notes(layer)]
    entries = [
        LayerRetune(before, after, tuple(notes), tuned.figures | figures, tuned.match)
        for before, after in zip(before_systems, stored, strict=True)
    ]
    return replace(
        plan,
        layers=(*plan.layers, *entries),
        changes={**plan.changes, **changes, **_beta_tensors(layer, tuned.systems, plan)},
        added={**plan.added, **(_slot_tensors(layer, tuned.systems) if slot and plan.recipe.weighting else {})},
        weights=_weights(plan.weights, tuned.systems, slot=slot),
    )


def _cannot_be_changed(recipe: Recipe, trusts: Sequence[Trust]) -> str | None:
    """Why a layer cannot take the recipe, or None. Factors and weights are defined for growing poles, too; everything else is not."""
    faults = [fault for trust in trusts for fault in trust.faults]
    if recipe.start is not None:
        return None  # a new initialization repairs it
    fitted = recipe.matching or recipe.diagonalize or (recipe.weighting and recipe.weighting.bake)
    if not fitted and all(trust.sound.size for trust in trusts) and all(fault.kind == GROWING for fault in faults):
        return None
    return "; ".join(dict.fromkeys(fault.text for fault in faults)) or None


def twin_notes(layer: ReadLayer) -> list[str]:
    """A line for every copy of a layer, which changes with it."""
    return [f"{twin.name} holds the same values and changes with it" for twin in layer.twins]


def _changed_tensors(
    plan: RetunePlan, layer: ReadLayer, tuned: Sequence[StateSpace]
) -> tuple[dict[str, np.ndarray], list[StateSpace], list[str]]:
    """New tensors by name, including those of twins, the systems that they hold after rounding, and notes on what they cannot hold."""
    family = known_families(plan.options.read)[layer.tensors.family]
    read = replace(plan.options.read, config=plan.checkpoint.config)
    values = changed_values(family, layer.tensors, layer.state_spaces, tuned, read, anew=plan.recipe.start is not None)
    stored, notes = systems_as_stored(family, layer.tensors, values, tuned, read)
    before = [None if plan.recipe.start else system for system in layer.state_spaces]
    problem = next((text for pair in zip(before, stored, strict=True) if (text := _new_fault(*pair) or _beyond_float32(pair[1]))), None)
    if problem:
        raise LayerError(f"{plan.checkpoint.path}: layer {layer.tensors.name} would become unusable: {problem}; make smaller changes")
    names = [tensors.tensor_names for tensors in (layer.tensors, *layer.twins)]
    return {each[role]: array for each in names for role, array in values.items()}, stored, notes


def _new_fault(before: StateSpace | None, after: StateSpace) -> str | None:
    """The fault of copies of a changed layer that were sound before, or None."""
    known = set() if before is None else set(range(before.copies)) - set(assess(before).sound.tolist())
    return next((fault.text for fault in assess(after).faults if not known.issuperset(fault.copies.tolist())), None)


def _beyond_float32(system: StateSpace) -> str | None:
    """The problem of a system that exceeds float32, or None. A stored logarithm can hold more, but models compute its exp in float32."""
    limits = np.finfo(np.float32)
    for what, values in (
        ("poles", np.abs(system.poles)),
        ("steps", system.step),
        ("poles times steps", np.abs(system.poles * system.step)),
    ):
        if not ((values < limits.max / 4) & ((values > 4 * limits.tiny) | (values == 0))).all():
            return f"its {what} range from {values.min():.3g} to {values.max():.3g}, beyond float32"
    return None


def _weights(weights: Mapping[str, Sobolev], tuned: Sequence[StateSpace], *, slot: bool) -> dict[str, Sobolev]:
    """The weights stored beside the tensors, with those of one layer replaced."""
    names = {system.name for system in tuned}
    others = {name: weight for name, weight in weights.items() if name not in names}
    own = {system.name: system.sobolev for system in tuned if not slot and system.sobolev is not None and system.sobolev.beta.any()}
    return others | own


def _slot_tensors(layer: ReadLayer, tuned: Sequence[StateSpace]) -> dict[str, Any]:
    """The beta tensors, by name, for a block and its twins that have none yet. A beta of zero needs none: no tensor means zero."""
    weight = tuned[0].sobolev
    if "s" in layer.tensors or weight is None or not weight.beta.any():
        return {}
    values = weight.beta.reshape(-1, layer.tensors.sizes["H"]).astype(np.float32)
    places = [tensors.tensor_names["A_real"].removesuffix("kernel.A_real") for tensors in (layer.tensors, *layer.twins)]
    return {f"{place}s": values for place in places}


def _beta_tensors(layer: ReadLayer, tuned: Sequence[StateSpace], plan: RetunePlan) -> dict[str, np.ndarray]:
    """The tensors of a changed beta that `ssmspec.nn` stores beside those of the family, by name. The metadata hold beta as well."""
    found = {}
    for name in (f"{tensors.name}.beta" for tensors in (layer.tensors, *layer.twins)):
        tensor, weight = plan.checkpoint.tensors.get(name), tuned[0].sobolev
        size = 0 if tensor is None else int(np.prod(tensor.shape))
        if tensor is not None and plan.recipe.weighting is not None and tuned[0].copies == size:
            found[name] = (np.zeros(size) if weight is None else weight.beta).reshape(tensor.shape)
    return found


def default_target(path: Path, word: str = "retuned") -> Path:
    """`<stem>.retuned<suffix>` beside the input. For a folder, or the index of shards in a folder, the folder's name with `.retuned`."""
    folder = path if path.is_dir() else path.parent if is_index(path) else None
    if folder is None:
        return path.with_name(f"{path.stem}.{word}{path.suffix}")
    named = folder if folder.name not in ("", "..") else folder.resolve()  # "." and ".." have no name of their own
    return named.with_name(f"{named.name}.{word}")


def only_checkpoint(folder: Path, options: ChangeOptions | None = None) -> Path:
    """The only checkpoint with SSM layers in a folder, not counting those that ssmspec wrote itself.

    Args:
        options: family and mapping, as for `plan_retune`.
    Raises:
        SsmspecError: there is none, or there are several; the message lists them.
    """
    # by content, because checkpoints of flax and others have no suffix or an uncommon one
    names = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    opened = {path: checkpoint for path in names if (checkpoint := _with_layers(path, options or ChangeOptions())) is not None}
    ours = [path for path, checkpoint in opened.items() if written_by_ssmspec(path, checkpoint)]
    shards = {file for path, checkpoint in opened.items() for file in checkpoint.files if file != path}
    found = [path for path in opened if path not in shards and path not in ours]
    if len(found) == 1:
        return found[0]
    listed = f": {_listed(found)}" if found else f" (it wrote {_listed(ours)})" if ours else ""
    raise SsmspecError(
        f"no checkpoint was given, and the current folder has {len(found) or 'none'} that ssmspec did not write itself{listed}; give one"
    )


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:10]) + (", ..." if len(paths) > 10 else "")


def _with_layers(path: Path, options: ChangeOptions) -> Checkpoint | None:
    try:
        checkpoint = open_for_layers(path, options.read)
        return checkpoint if find_layers(checkpoint, options.family, replace(options.read, assume={})).layers else None
    except SsmspecError:
        return None
