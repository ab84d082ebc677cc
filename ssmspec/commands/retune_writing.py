"""A planned retuning written to its target, with a sidecar that says what was done."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmspec.checkpoint import Checkpoint, open_checkpoint
from ssmspec.checkpoint.write.write_changed import find_destination, write_changed
from ssmspec.commands.analyze import AnalysisOptions, Progress
from ssmspec.commands.compare import SUFFIXES, compare_systems
from ssmspec.commands.retune import SLOT, RetunePlan
from ssmspec.errors import SsmspecError
from ssmspec.families.layers import find_layers, layer_digest, read_layers
from ssmspec.families.provenance import (
    KEY,
    TRAINED,
    input_digests,
    metadata_entry,
    sidecar_path,
    weight_entry,
)
from ssmspec.files.writing import Kind, refuse_precious, whole_file
from ssmspec.statistics.changes import CheckpointComparison
from ssmspec.systems.statespace import StateSpace
from ssmspec.version import __version__


def write_retuned(
    plan: RetunePlan,
    target: Path,
    *,
    command: str,
    replace_target: bool = False,
    in_place: bool = False,
    also: Mapping[str, Any] | None = None,
) -> tuple[list[StateSpace], tuple[str, ...]]:
    """Write the retuned checkpoint in the container of its input, and its sidecar.

    Args:
        command: what the user typed, for the sidecar.
        replace_target: whether another file at the target may be replaced. in_place: whether the target is the input.
        also: further entries of the sidecar.
    Returns:
        The changed layers as read back from the file, and notes on what else was changed or kept by writing.
    Raises:
        SsmspecError: the target exists, cannot be written, or has the suffix of another container; or the input changed meanwhile.
            The target is then unchanged.
    """
    check_target(plan, target, replace_target=replace_target, in_place=in_place)
    document = (
        dict(also or {})
        | _provenance(plan, command)
        | {"input": {"name": plan.checkpoint.path.name, "sha256": input_digests(plan.checkpoint)}}
    )
    weights = {name: weight_entry(weight) for name, weight in plan.weights.items()}
    entry = {"version": __version__, "sobolev": weights} | ({} if plan.trained is None else {TRAINED: plan.trained})
    metadata = {KEY: json.dumps(entry)} if weights or plan.trained or metadata_entry(plan.checkpoint) else {}
    beside = Beside(sidecar_path(target), sidecar_content(document, weights, _new_digests(plan)))
    with beside.written_first():
        notes = write_changed(
            plan.checkpoint, target, plan.changes, added=plan.added, metadata=metadata, replace=replace_target, in_place=in_place
        )
    written = open_checkpoint(target)
    layers, _ = read_layers(written, find_layers(written, plan.options.family, plan.options.read), plan.options.read)
    names = {layer.after.name for layer in plan.layers}
    return [system for layer in layers for system in layer.state_spaces if system.name in names], notes


def compared_and_written(
    plan: RetunePlan,
    target: Path | None,
    options: AnalysisOptions,
    *,
    command: str,
    replace_target: bool,
    in_place: bool,
    progress: Progress | None = None,
) -> tuple[CheckpointComparison, tuple[str, ...]]:
    """What a plan changes, and notes on its writing to the target, which is None if it is not to be written.

    Args:
        options: of the comparison. Others, and errors, as in `write_retuned`.
    """
    if target is not None:
        check_target(plan, target, replace_target=replace_target, in_place=in_place)
    # compare first: if a long comparison fails or is interrupted, no file has changed yet
    before = (str(plan.checkpoint.path), [layer.before for layer in plan.layers])
    after = (target or "not written", [layer.after for layer in plan.layers])
    found = compare_systems(before, after, options, progress=progress)
    if target is None:
        return found, ()
    return found, write_retuned(plan, target, command=command, replace_target=replace_target, in_place=in_place)[1]


def _new_digests(plan: RetunePlan) -> dict[str, str]:
    """Digests of the tensors of layers as they will be read back, by the names of their systems."""
    checkpoint, options = plan.checkpoint, plan.options
    layers, _ = read_layers(checkpoint, find_layers(checkpoint, options.family, options.read), options.read)
    found: dict[str, str] = {}
    for layer in layers:
        if plan.added and layer.tensors.family == SLOT:
            continue  # it holds beta itself, in a tensor that it does not have yet
        new = {role: plan.changes[name] for role, name in layer.tensors.tensor_names.items() if name in plan.changes}
        digest = layer_digest(layer.tensors.with_values(new))
        found |= {system.name: digest for system in layer.systems}
    return found


def sidecar_content(document: Mapping[str, Any], weights: Mapping[str, Mapping[str, Any]], digests: Mapping[str, str]) -> bytes:
    """The sidecar as it is stored: every layer and every weight with the digest of the tensors that it belongs to."""
    layers = [entry | {"digest": digests.get(entry["name"])} for entry in document["layers"]]
    beta = {name: {**entry, "digest": digests[name]} if name in digests else entry for name, entry in weights.items()}
    return json.dumps({**document, "layers": layers, "sobolev": beta}, indent=2).encode()


@dataclass(frozen=True, slots=True)
class Beside:
    """A sidecar that is in place before its checkpoint is.

    Whoever is killed between the two leaves a sidecar whose digests are not those of the checkpoint, and readers say so. The other way
    round, a new checkpoint without its beta would look whole.
    """

    path: Path
    content: bytes

    @contextmanager
    def written_first(self) -> Iterator[None]:
        """Write it; if the block fails, put back what was there before."""
        before = self.path.read_bytes() if self.path.exists() else None
        self._write(self.content)
        try:
            yield
        except BaseException:
            if before is None:
                self.path.unlink(missing_ok=True)
            else:
                self._write(before)
            raise

    def _write(self, content: bytes) -> None:
        with whole_file(self.path, Kind.provenance) as file:
            file.write(content)


def check_target(plan: RetunePlan, target: Path, *, replace_target: bool = False, in_place: bool = False) -> None:
    """Refuse a target that `write_retuned` would refuse, before any work is done. Arguments and errors are the same."""
    check_suffix(plan.checkpoint, target)
    refuse_precious(sidecar_path(target), Kind.provenance)
    find_destination(plan.checkpoint, target, replace=replace_target, in_place=in_place)


def check_suffix(checkpoint: Checkpoint, target: Path) -> None:
    """Refuse a name whose suffix belongs to another container than that of the input, which is the one that is written."""
    if checkpoint.assembled:  # becomes a new safetensors file, of which find_destination says so
        return
    given = checkpoint.path.suffix.lower()
    for suffix in (".safetensors", ".npz", ".eqx", ".msgpack"):
        if (target.suffix.lower() == suffix) != (given == suffix) and checkpoint.path.is_file() and target.suffix.lower() in SUFFIXES:
            raise SsmspecError(
                f"cannot write {target}: the result is {checkpoint.container}, like {checkpoint.path.name}; end its name in {given!r}"
            )


def _provenance(plan: RetunePlan, command: str) -> dict[str, Any]:
    return {
        "schema": "ssmspec.provenance/1",
        "version": __version__,
        "command": command,
        "recipe": plan.recipe.document(),
        "layers": [{"name": layer.after.name, "notes": list(layer.notes), "figures": dict(layer.figures)} for layer in plan.layers],
    }
