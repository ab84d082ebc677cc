"""The command `reduce`: fewer modes, and the exact error that this makes."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmspec.cli.app import command
from ssmspec.cli.options import FamilyName, LayerNames, Placing, Reading, takes
from ssmspec.cli.retune_options import Retraining
from ssmspec.cli.terminal import echo, message, typed_command
from ssmspec.errors import SsmspecError

if TYPE_CHECKING:
    from ssmspec.commands.reduce import ReducePlan


class MethodName(StrEnum):
    balanced = "balanced"
    modal = "modal"
    h2 = "h2"


class OverName(StrEnum):
    median = "median"
    p95 = "p95"
    all = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many modes are kept, and how they are found."""

    tolerance: Annotated[
        float | None,
        typer.Option("--tolerance", help="Largest H-infinity error, relative to the layer's H-infinity norm.", show_default=False),
    ] = None
    modes: Annotated[int | None, typer.Option("--modes", help="Stored modes per copy.", show_default=False)] = None
    keep: Annotated[float | None, typer.Option("--keep", help="Share of the stored modes to keep, such as 0.5.", show_default=False)] = None
    method: Annotated[MethodName, typer.Option("--method", help="Balanced truncation, modal truncation, or H2-optimal.")] = (
        MethodName.balanced
    )
    over: Annotated[OverName, typer.Option("--over", help="Copies that must meet the tolerance.")] = OverName.all
    own_sizes: Annotated[
        bool, typer.Option("--own-sizes", help="Let layers differ in their number of modes; most models take one for all.")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing(Placing):
    """Where the result goes, and how it is shown."""

    timing: Annotated[bool, typer.Option("--timing/--no-timing", help="Time ssmspec.nn.S4D before and after; needs torch.")] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Training(Retraining):
    """Training after the reduction."""

    target: Annotated[str | None, typer.Option("--target", help="With --retrain: as in train.", show_default=False)] = None
    seed: Annotated[int, typer.Option("--seed", min=0, help="With --retrain: seed of every random draw.")] = 0


@command("reduce model.safetensors -o small.safetensors --tolerance 1e-2", "reduce model.safetensors --keep 0.5 --dry-run")
@takes(size=Size, writing=Writing, retraining=Training, reading=Reading)
def reduce(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="Checkpoint file, folder or address.", show_default=False)],
    layer: LayerNames = None,
    family: FamilyName = None,
    *,
    size: Size,
    writing: Writing,
    retraining: Training,
    reading: Reading,
) -> None:
    """Write a checkpoint with fewer modes, which the model's own code loads at the smaller state size, and state the exact error.

    The input is never changed without --in-place.
    """
    from ssmspec.checkpoint.remote.path import is_address
    from ssmspec.commands.reduce import plan_reduce
    from ssmspec.commands.reduce_writing import check_target
    from ssmspec.commands.retune import ChangeOptions, default_target
    from ssmspec.report.progress import LayerProgress
    from ssmspec.tuning.reduction.request import Request

    retraining.check()
    if retraining.target is not None and retraining.retrain is None:
        raise SsmspecError("--target needs --retrain; give it too, or leave --target out")
    writing.refuse_two_targets()
    if retraining.retrain is not None and writing.dry_run:
        raise SsmspecError("--retrain trains what was written, and --dry-run writes nothing; give one of them")
    request = Request(
        method=size.method.value,
        tolerance=size.tolerance,
        modes=size.modes,
        keep=size.keep,
        over=size.over.value,
        own_sizes=size.own_sizes,
    )
    if reading.download and writing.output is None and not writing.dry_run:
        raise SsmspecError("--download needs -o: the copy in the cache stays as it is")
    given = reading.given(checkpoint)
    if is_address(given) and not writing.dry_run:
        raise SsmspecError(f"{given}: a reduced copy takes the whole file; give --download and -o, or --dry-run for the certificate alone")
    options = ChangeOptions(layers=tuple(() if "all" in (layer or ()) else layer or ()), family=family, read=reading.options())
    with LayerProgress() as progress:
        plan = plan_reduce(given, request, options, watch=lambda name: progress(name, 0, 0))
    place = None if writing.dry_run else Path(given) if writing.in_place else writing.output or default_target(Path(given), "reduced")
    if place is not None:
        check_target(plan, place, replace_target=writing.force, in_place=writing.in_place)
    _carry_out(plan.to(place), place, writing)
    if place is not None and retraining.retrain is not None:
        _retrain(place, options.layers, retraining, writing)


def _carry_out(plan: "ReducePlan", target: Path | None, writing: Writing) -> None:
    from ssmspec.commands.reduce_writing import write_reduced
    from ssmspec.report.documents.document import to_json
    from ssmspec.report.documents.reduce import reduce_document
    from ssmspec.report.tables.parts import console
    from ssmspec.report.tables.reduce import reduce_text

    times = _times(plan) if writing.timing else {}
    if target is not None:
        for note in write_reduced(plan, target, command=typed_command(), replace_target=writing.force, in_place=writing.in_place)[1]:
            message(note)
    if writing.as_json:
        echo(to_json(reduce_document(plan, times, target)))
    else:
        console().print(reduce_text(plan, times, target), highlight=False)


def _times(plan: "ReducePlan") -> dict[str, tuple[float, float]]:
    """Milliseconds per step of the layers that have a module here; none without torch, which is said."""
    if not any(layer.after.family in ("s4d", "s4-diag", "freqbias-block") for layer in plan.layers):
        return {}
    try:
        from ssmspec.commands.reduce_timing import step_times
    except ImportError:
        message("no training step was timed: that needs torch; --no-timing leaves it out")
        return {}
    return step_times(plan)


def _retrain(target: Path, layers: tuple[str, ...], retraining: Training, writing: Writing) -> None:
    """Train the written checkpoint, and write what was learned back into it; the sidecar keeps the certificate of what was before."""
    from ssmspec.cli.retune_training import check_folder, train_plan
    from ssmspec.commands.retune import ChangeOptions, plan_retune
    from ssmspec.commands.retune_writing import write_retuned
    from ssmspec.families.provenance import read_sidecar
    from ssmspec.tuning.recipe import Recipe

    asked = retraining.training(target, retraining.seed, retraining.target)
    assert asked is not None
    check_folder(asked.folder, (target,))
    plan = plan_retune(target, Recipe(training=asked.task), ChangeOptions(layers=layers))
    plan = train_plan(plan, asked, resume=retraining.resume, force=writing.force)
    before = read_sidecar(target) or {}
    also = {"reduction": {key: before[key] for key in ("command", "recipe", "layers", "input") if key in before}}
    for note in write_retuned(plan, target, command=typed_command(), in_place=True, also=also)[1]:
        message(note)
    for note in dict.fromkeys(note for layer in plan.layers for note in layer.notes):
        message(f"{target}: {note}")
    for note in plan.notes:
        message(note)
