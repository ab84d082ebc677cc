"""Fewer modes: a checkpoint whose layers have a smaller state, and the exact error that this makes.

    read layers -> reduce each to some number of modes -> put them into tensors, rounded -> read those back -> norms of the difference

With a tolerance, the smallest number of modes whose error, of the numbers as they are stored, is within it is found by bisection. Layers
of one family and size keep one number of modes, as the code of most models has one, unless they may differ.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.checkpoint import Checkpoint
from ssmspec.commands.reduce_layer import LayerWork
from ssmspec.commands.reduce_settings import Settings, settings_of
from ssmspec.commands.retune import ChangeOptions, chosen_layers, twin_notes, weights_beside
from ssmspec.errors import LayerError, about
from ssmspec.families import known_families
from ssmspec.families.layers import ReadLayer, find_layers, open_for_layers, read_layers
from ssmspec.families.provenance import trained_entry
from ssmspec.families.state_size import Change
from ssmspec.families.template import Family
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import StateSpace
from ssmspec.tuning.reduction.certificate import Certificate
from ssmspec.tuning.reduction.request import Request

Watch = Callable[[str], None]
SHOWN = 3  # names of layers in one line


@dataclass(frozen=True, slots=True)
class LayerReduction:
    """What happened to one direction of a layer: its system before and after, as stored, the certificate, and notes.

    Args:
        needed: modes that the layer alone would need; `after.modes` where another layer needs more.
        stored: stored modes before and after, of the tensors. parameters: numbers in the tensors of the whole layer, before and after.
        first: whether this is the first direction of its layer, which the parameters are counted with.
    """

    before: StateSpace
    after: StateSpace
    certificate: Certificate
    notes: tuple[str, ...]
    needed: int
    stored: tuple[int, int]
    parameters: tuple[int, int]
    first: bool


@dataclass(frozen=True, slots=True)
class ReducePlan:
    """A reduced checkpoint before it is written.

    Args:
        layers: the layers that change. changes: full arrays of the tensors that change, most in another shape, by name.
        sizes: what configurations say about the state, before and after. mixed: whether layers of one family and size differ now.
        weights: beta weights that no tensor holds, by layer name, including those of layers that do not change.
        remarks: which layers are left unchanged, and why; and what the user must know of the rest.
        trained: what `ssmspec train` recorded about the model in the file's metadata, or None.
        settings: what states the size of the state, and what becomes of it; known when it is known where the result goes.
    """

    checkpoint: Checkpoint
    request: Request
    options: ChangeOptions
    layers: tuple[LayerReduction, ...]
    changes: Mapping[str, npt.NDArray[Any]]
    sizes: tuple[Change, ...]
    weights: Mapping[str, Sobolev]
    remarks: tuple[str, ...] = ()
    trained: Mapping[str, Any] | None = None
    mixed: bool = False
    settings: Settings = field(default_factory=Settings)

    @property
    def change(self) -> Change | None:
        """The sizes of all layers before and after; None where they differ now."""
        return self.sizes[0] if len(self.sizes) == 1 and not self.mixed else None

    def to(self, target: Path | None) -> "ReducePlan":
        """The plan for a file or folder, or for none, which its settings depend on."""
        return replace(self, settings=settings_of(self.checkpoint, self.change, self.trained, target))

    @property
    def notes(self) -> tuple[str, ...]:
        """The remarks, and what becomes of settings."""
        return (*self.remarks, *self.settings.notes)

    @property
    def parameters(self) -> tuple[int, int]:
        """Numbers in the tensors of all layers that change, before and after."""
        first = [layer.parameters for layer in self.layers if layer.first]
        return sum(before for before, _ in first), sum(after for _, after in first)


def plan_reduce(path: Path | str, request: Request, options: ChangeOptions | None = None, watch: Watch = lambda name: None) -> ReducePlan:
    """Read a checkpoint and compute its reduced layers. Nothing is written.

    Args:
        watch: called with the name of a layer when work on it begins.
    Raises:
        SsmspecError: as `analyze`. LayerError: no layer can be reduced as requested; the message says why.
    """
    options = options or ChangeOptions()
    checkpoint = open_for_layers(path, options.read)
    layers, skipped = read_layers(checkpoint, find_layers(checkpoint, options.family, options.read), options.read)
    chosen = chosen_layers(layers, options.layers, checkpoint)
    notes = [f"{item.name} is left unchanged: {item.reason}" for item in skipped if item.kind != "shared"]
    families, read = known_families(options.read), replace(options.read, config=checkpoint.config)
    works: list[LayerWork] = []
    refused: dict[tuple[str, str], list[str]] = {}  # family and reason -> layers
    with about(checkpoint.path), np.errstate(all="ignore"):
        for layer in layers:
            if layer.tensors.name not in chosen:
                continue
            watch(layer.tensors.name)
            try:
                works.append(LayerWork(layer, families[layer.tensors.family], read, request.method))
            except LayerError as error:
                if options.layers:
                    raise LayerError(f"layer {layer.tensors.name} ({layer.tensors.family}) cannot be reduced: {error}") from error
                refused.setdefault((layer.tensors.family, str(error)), []).append(layer.tensors.name)
        notes += _unchanged(refused)
        if not works:
            raise LayerError(f"{checkpoint.path}: no layer can be reduced: {'; '.join(notes)}")
        counts = _counts(works, request, watch)
        plan = ReducePlan(checkpoint, request, options, (), {}, (), weights_beside(layers), tuple(notes), trained_entry(checkpoint))
        for work in works:
            watch(work.layer.tensors.name)
            plan = _with_layer(plan, work, *counts[work.layer.tensors.name])
    if not plan.layers:
        raise LayerError(f"{checkpoint.path}: nothing to reduce: {'; '.join(plan.remarks)}")
    plan = replace(plan, mixed=_is_mixed(plan, layers, families))
    return replace(plan, remarks=(*plan.remarks, *_notes_on_rest(plan)))


def _unchanged(refused: Mapping[tuple[str, str], Sequence[str]]) -> Iterator[str]:
    """One line per reason, with the layers that it holds for."""
    for (family, reason), names in refused.items():
        shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        yield f"{shown} ({family}) {'are' if len(names) > 1 else 'is'} left unchanged: {reason}"


def _is_mixed(plan: ReducePlan, layers: Sequence[ReadLayer], families: Mapping[str, Family]) -> bool:
    """Whether layers of one family that had one size have several now."""
    changed = {layer.after.name: (layer.after.family, layer.stored[0]) for layer in plan.layers}
    kept = [layer.tensors for layer in layers if layer.systems[0].name not in changed]
    sizes = {(each.family, each.sizes.get(found.state)) for each in kept if (found := families[each.family].resizing) is not None}
    return bool(sizes & set(changed.values())) or len({layer.stored[1] for layer in plan.layers}) > 1


def _counts(works: Sequence[LayerWork], request: Request, watch: Watch) -> dict[str, tuple[int, int]]:
    """Modes of every layer by its name: those it keeps, and those it needs alone."""
    needed = {}
    for work in works:
        watch(work.layer.tensors.name)
        needed[work.layer.tensors.name] = _needed(work, request)
    if request.own_sizes:
        return {name: (count, count) for name, count in needed.items()}
    found: dict[str, tuple[int, int]] = {}
    for group in _alike(works):
        most = max(needed[work.layer.tensors.name] for work in group)
        while request.tolerance is not None and most < group[0].modes and not all(_meets(work, request, most) for work in group):
            most += 1  # errors need not fall with every mode
        found |= {work.layer.tensors.name: (most, needed[work.layer.tensors.name]) for work in group}
    return found


def _alike(works: Sequence[LayerWork]) -> Iterator[list[LayerWork]]:
    groups: dict[tuple[str, int], list[LayerWork]] = {}
    for work in works:
        groups.setdefault((work.family.name, work.modes), []).append(work)
    yield from groups.values()


def _needed(work: LayerWork, request: Request) -> int:
    """The smallest number of modes that meets a tolerance, or the number that was asked for; at most what the layer has."""
    count = request.count(work.modes)
    if count is not None:
        return min(count, work.modes)
    low, high = 0, work.modes  # fails, meets
    while high - low > 1:
        middle = (low + high) // 2
        if _meets(work, request, middle):
            high = middle
        else:
            low = middle
    return high


def _meets(work: LayerWork, request: Request, count: int) -> bool:
    try:
        return request.met(work.errors(count))
    except LayerError as error:  # no reduced system of this size can be stored
        work.refusals[count] = str(error).removeprefix(f"layer {work.layer.tensors.name}: ")
        return False


def _with_layer(plan: ReducePlan, work: LayerWork, count: int, needed: int) -> ReducePlan:
    """The plan with one more layer; one that keeps all of its modes stays as it is."""
    tensors, modes = work.layer.tensors, work.modes
    if count >= modes:
        why = "another layer of its size needs them; --own-sizes lets layers differ" if needed < modes else _why_all(plan.request, work)
        return replace(plan, remarks=(*plan.remarks, f"{tensors.name} is left unchanged, with its {modes} modes: {why}"))
    attempt = work.attempt(count)
    before = sum(int(np.prod(tensor.shape)) for tensor in tensors.tensors.values())
    notes = [*_notes(work, count, needed, grown=attempt.parameters > before), *twin_notes(work.layer)]
    entries = [
        LayerReduction(system, stored, certificate, tuple(notes), needed, (modes, count), (before, attempt.parameters), first=place == 0)
        for place, (system, stored, certificate) in enumerate(zip(work.systems, attempt.stored, work.certificates(count), strict=True))
    ]
    changes = {
        each.tensor_names[role]: attempt.tensors.tensors[role].read() for each in (tensors, *work.layer.twins) for role in attempt.changed
    }
    for twin in (tensors, *work.layer.twins):
        changes |= {twin.start + name.removeprefix(tensors.start): values for name, values in attempt.extra.items()}
    change = Change(modes, count, (work.tied, tensors.sizes["H"]) if work.unties else (0, 0))
    sizes = plan.sizes if change in plan.sizes else (*plan.sizes, change)
    return replace(plan, layers=(*plan.layers, *entries), changes={**plan.changes, **changes}, sizes=sizes)


def _why_all(request: Request, work: LayerWork) -> str:
    """Why a layer keeps all of its modes."""
    fewer = work.modes - 1
    if request.tolerance is None:
        asked = f"--modes {request.modes}" if request.modes is not None else f"--keep {request.keep:g}"
        return f"{asked} asks for no fewer"
    if fewer in work.refusals:
        return f"no smaller number meets {request.tolerance:g} ({work.refusals[fewer]})"
    off = f" ({fewer} are off by {request.measure(work.errors(fewer)):.2g})" if fewer else ""
    return f"no smaller number meets {request.tolerance:g}{off}"


def _notes(work: LayerWork, count: int, needed: int, *, grown: bool) -> Iterator[str]:
    if needed < count:
        yield f"alone it would need {needed} modes; it keeps {count}, as the others of its size do (--own-sizes lets layers differ)"
    if work.unties:
        yield (
            f"its {work.tied} shared sets of poles became one set per channel, because channels of one set have steps of their own: "
            f"its code needs n_ssm = {work.layer.tensors.sizes['H']}"
            + (
                "; it has more parameters than before" + ("" if work.systems[0].rank else ", and --method modal keeps the sets")
                if grown
                else ""
            )
        )
    if work.systems[0].rank and not work.picks:
        yield "its low-rank part is zero now: the poles are those of the whole state matrix"
    if len(work.systems) > 1:
        yield f"its {len(work.systems)} directions share their poles and were reduced together"


def _notes_on_rest(plan: ReducePlan) -> Iterator[str]:
    """What else the file holds that no longer fits."""
    optimizer = [note for note in plan.checkpoint.notes if "optimizer" in note]
    if optimizer:
        yield "the optimizer state in the file keeps its old shapes and no longer fits: begin with a new optimizer"
    if plan.mixed:
        yield "layers differ in their number of modes now; a model that takes one state size for all of them does not load the file"


def reduce(
    path: Path | str,
    output: Path | str | None = None,
    *,
    tolerance: float | None = None,
    modes: int | None = None,
    keep: float | None = None,
    method: str = "balanced",
    over: str = "all",
    own_sizes: bool = False,
    options: ChangeOptions | None = None,
    replace_output: bool = False,
) -> ReducePlan:
    """Reduce the state of a checkpoint's layers, and write the result if a name for it is given.

    Args:
        path: a checkpoint. output: the file or folder to write; None computes only.
        tolerance, modes, keep, method, over, own_sizes: see `Request`; exactly one of the first three.
        options: which layers, and how they are read.
        replace_output: whether another file at the output may be replaced.
    Returns:
        The plan: for every layer the systems before and after, and the certificate of its error.
    Raises:
        SsmspecError: as `plan_reduce`; the output exists or cannot be written.
    """
    from ssmspec.commands.reduce_writing import write_reduced

    request = Request(
        method=method,  # type: ignore[arg-type]
        tolerance=tolerance,
        modes=modes,
        keep=keep,
        over=over,  # type: ignore[arg-type]
        own_sizes=own_sizes,
    )
    plan = plan_reduce(path, request, options).to(None if output is None else Path(output))
    if output is not None:
        write_reduced(plan, Path(output), command="ssmspec.reduce", replace_target=replace_output)
    return plan
