"""Training that starts from a retuned checkpoint and writes back into it: what `ssmspec retune --retrain` does after its recipe.

waves and denoise continue a model of their own kind. regress, classify and forecast train a model around any layers that have a module.
A checkpoint with the names of `ssmspec.nn.SequenceModel` is trained and written as a whole. Of any other checkpoint, only the layers are
trained and written, and everything around them is new.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.checkpoint import Checkpoint, open_checkpoint
from ssmspec.commands.retune import LayerRetune, RetunePlan
from ssmspec.errors import LayerError, SsmspecError
from ssmspec.families import ReadOptions
from ssmspec.families.layers import ReadLayer, find_layers, read_layers, select_layers
from ssmspec.families.provenance import trained_entry
from ssmspec.files.reading import characters
from ssmspec.nn.from_checkpoint import as_tensor, stack
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import StateSpace
from ssmspec.training.engine.run import FinishedRun
from ssmspec.training.engine.run_folder import FINAL, START, find_task, write
from ssmspec.training.engine.state import start_bytes
from ssmspec.training.task import State, Task, changed

OWN_LAYER = "layer"  # name of the only layer in the tasks that have their own kind of model
BETA = ("beta", "beta_convention", "theta_ref")  # options of a layer that follow from the weights of the plan


@dataclass(frozen=True, slots=True)
class Start:
    """What a run starts from, and where its result goes.

    Args:
        settings: settings of the task. tensors: tensors by their names in the model of the task.
        names: names of tensors in the checkpoint, by their names in the model. layers: layers by their names in the model.
        whole: whether the checkpoint is the entire model.
    """

    settings: Any
    tensors: State
    names: Mapping[str, str]
    layers: Mapping[str, ReadLayer]
    whole: bool

    def record(self, plan: RetunePlan) -> dict[str, str]:
        """What the config of the run records about its start."""
        return {
            "checkpoint": characters(str(plan.checkpoint.path.absolute())),
            "sha256": hashlib.sha256(start_bytes(self.tensors)).hexdigest(),
        }


def plan_start(plan: RetunePlan, task: str, preset: str | None, given: Mapping[str, Any]) -> Start:
    """The model of a retuned checkpoint, in the form that a task trains.

    Args:
        preset: preset of the task. None takes the settings of an earlier run of this task if the checkpoint records them, else "small".
        given: settings that the user chose.
    Raises:
        SsmspecError: a task or setting is unknown, the checkpoint is not a model of the task, or its layers have no module.
    """
    kind = find_task(task)
    base, told = kind.preset(preset or "small"), trained_entry(plan.checkpoint) or {}
    layers, _ = read_layers(plan.checkpoint, find_layers(plan.checkpoint, plan.options.family, plan.options.read), plan.options.read)
    if kind.adopt is None:
        return _stack_start(plan, base, told, given, layers)
    earlier = told.get("settings", {}) if told.get("task") == task and preset is None else {}
    return _own_start(plan, kind, changed(base, earlier), given, layers)


def _own_start(plan: RetunePlan, kind: Task, settings: Any, given: Mapping[str, Any], layers: Sequence[ReadLayer]) -> Start:
    """The start for waves or denoise, where the checkpoint is a model of the task, with the same names."""
    assert kind.adopt is not None
    checkpoint = plan.checkpoint
    tensors = {
        name: as_tensor(plan.changes[name] if name in plan.changes else stored.read()) for name, stored in checkpoint.tensors.items()
    }
    settings = kind.adopt(changed(settings, given), tensors)
    layer = next((layer for layer in layers if layer.tensors.name == OWN_LAYER), None)
    if layer is None:
        raise LayerError(
            f"{checkpoint.path}: no readable layer is called {OWN_LAYER!r}; start from a checkpoint that 'ssmspec train' wrote"
        )
    chosen = {"alpha": settings.alpha * plan.recipe.scaling.alpha} if plan.recipe.start is None else {"alpha": plan.recipe.start.alpha}
    settings = changed(settings, {**chosen, **_beta(plan.weights.get(OWN_LAYER), settings), **given})
    return Start(settings, tensors, {name: name for name in tensors}, {OWN_LAYER: layer}, whole=True)


def _beta(weight: Sobolev | None, settings: Any) -> dict[str, Any]:
    """A weight in the form of settings."""
    if weight is None:
        return {"beta": 0.0}
    if (weight.beta != weight.beta[0]).any():
        raise LayerError(
            f"layer {OWN_LAYER} has one beta per copy, from {weight.beta.min():g} to {weight.beta.max():g}; give a single one with --beta"
        )
    if weight.length not in (None, settings.length):
        raise LayerError(
            f"layer {OWN_LAYER} has a beta for {weight.length} samples, but the task has {settings.length}; set --sequence-length"
        )
    return {"beta": float(weight.beta[0]), "beta_convention": weight.convention, "theta_ref": weight.theta_ref}


def _stack_start(plan: RetunePlan, base: Any, told: Mapping[str, Any], given: Mapping[str, Any], layers: Sequence[ReadLayer]) -> Start:
    """The start for layers of any checkpoint, between a new encoder and decoder or those of the checkpoint."""
    found = stack(layers if _is_whole(layers, plan.checkpoint) else _chosen(plan, layers), plan.checkpoint)
    options = {name: value for name, value in found.options.items() if name not in BETA}
    for name, value in options.items():
        if given.get(name, value) != value:
            raise SsmspecError(f"{name} is {value} in the checkpoint, not {given[name]}; leave this option out")
    if found.whole and isinstance(told.get("model"), dict):
        options |= {"prenorm": told["model"]["prenorm"]} if "prenorm" in told["model"] else {}
        if told.get("task") == plan.recipe.training and "pooling" in told["model"]:
            options["pooling"] = told["model"]["pooling"] or "none"
    options["alpha"] = plan.recipe.scaling.alpha if plan.recipe.start is None else plan.recipe.start.alpha
    weights = [plan.weights[s.name] for layer in found.layers.values() for s in layer.systems if s.name in plan.weights]
    if weights:
        one = weights[0]
        options |= {"beta": float(one.beta.mean()) or 1.0, "beta_convention": one.convention, "theta_ref": one.theta_ref}
    elif options["layout"] == "freqbias-block":
        options |= {"beta_convention": "lra", "theta_ref": None}
    tensors = found.state(plan.checkpoint, {**plan.changes, **plan.added}, plan.weights)
    return Start(changed(base, {**options, **given}), tensors, found.names, found.layers, found.whole)


def _is_whole(layers: Sequence[ReadLayer], checkpoint: Checkpoint) -> bool:
    try:
        return stack(layers, checkpoint).whole
    except LayerError:
        return False


def _chosen(plan: RetunePlan, layers: Sequence[ReadLayer]) -> list[ReadLayer]:
    names = {system.name for system in select_layers([s for layer in layers for s in layer.systems], plan.options.layers, plan.checkpoint)}
    return [layer for layer in layers if names & {system.name for system in layer.systems}]


def begin(folder: Path, start: Start) -> None:
    """Write what a run starts from into its folder."""
    write(folder / START, start_bytes(start.tensors))


def trained_plan(plan: RetunePlan, start: Start, run: FinishedRun, folder: Path) -> RetunePlan:
    """The plan with the trained values of the checkpoint's tensors.

    Args:
        run: the run that started from `start`, in the folder.
    """
    state = {name: tensor.detach().cpu().numpy() for name, tensor in run.outcome.problem.model.state_dict().items()}
    changes, added, left = _new_values(plan, start, state)
    systems = _systems(folder / FINAL, plan)
    retuned = {entry.before.name: entry for entry in plan.layers}
    entries, weights = [], dict(plan.weights)
    for place, layer in start.layers.items():
        for before, trained in zip(layer.state_spaces, systems[place], strict=True):
            after = replace(trained, name=before.name, family=before.family)
            entry = retuned.get(before.name, LayerRetune(before, after, (), {}))
            entries.append(replace(entry, after=after, notes=(*entry.notes, _learned(run, plan))))
            if "s" not in layer.tensors and f"{place}.s" not in state and after.sobolev is not None:
                weights[before.name] = after.sobolev
    own = [name for name in state if name not in start.names or name in left]
    notes = [f"written: {_parts(name for name in state if name not in own)}"]
    notes += [f"not written, and only in {folder / FINAL}: {_parts(own)}{_why(own, start, left)}"] if own else []
    return replace(
        plan,
        layers=tuple(entries),
        changes=changes,
        added=added,
        weights=weights,
        notes=(*plan.notes, *notes),
        trained=run.outcome.problem.about() if start.whole and not own else None,
    )


def _new_values(
    plan: RetunePlan, start: Start, state: Mapping[str, npt.NDArray[Any]]
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]], set[str]]:
    """Changed and added arrays by their names in the checkpoint, including twins, and which tensors of the model have no place there."""
    checkpoint, changes, added, left = plan.checkpoint, dict(plan.changes), dict(plan.added), set()
    for name, place in start.names.items():
        if name not in state:
            continue
        stored = checkpoint.tensors.get(place)
        if stored is None:
            if checkpoint.container.startswith("safetensors") and (start.whole or place in added):
                added[place] = state[name]
            else:
                left.add(name)
        elif tuple(stored.shape) != state[name].shape:
            left.add(name)
        elif not np.array_equal(state[name], start.tensors[name].numpy().astype(state[name].dtype)):
            changes[place] = state[name]
    for layer in start.layers.values():
        pairs = [(layer.tensors.tensor_names[role], name) for twin in layer.twins for role, name in twin.tensor_names.items()]
        changes |= {twin: changes[own] for own, twin in pairs if own in changes}
    return changes, added, left


def _systems(final: Path, plan: RetunePlan) -> dict[str, tuple[StateSpace, ...]]:
    """The layers of the trained model, by their names in the model."""
    checkpoint, options = open_checkpoint(final), ReadOptions(assume=plan.options.read.assume)
    layers, _ = read_layers(checkpoint, find_layers(checkpoint, None, options), options)
    return {tensors.name: layer.state_spaces for layer in layers for tensors in (layer.tensors, *layer.twins)}


def _learned(run: FinishedRun, plan: RetunePlan) -> str:
    first = run.outcome.measures[0]
    base = "" if first.baseline is None else f" (baseline {first.baseline:.4g})"
    return f"trained on {plan.recipe.training} for {run.summary.steps} steps: {first.name} {first.value:.4g}{base}"


def _parts(names: Iterable[str]) -> str:
    """The names of a model's modules as text, in the order of their first tensors."""
    return ", ".join(dict.fromkeys(name.partition(".")[0] for name in names)) or "nothing"


def _why(own: Sequence[str], start: Start, left: set[str]) -> str:
    if not left:
        return "; the checkpoint has no tensors of these names" if start.whole else "; the checkpoint has different ones around its layers"
    return f"; {', '.join(sorted(left))} of another shape, or with no place, in the checkpoint"
