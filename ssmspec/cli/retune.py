"""The command `retune`: change the frequency bias of a checkpoint and write it back."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmspec.cli.app import command
from ssmspec.cli.options import FamilyName, LayerNames, Reading, expand, takes
from ssmspec.cli.retune_many import check_many, retune_many
from ssmspec.cli.retune_options import Change, Match, Retraining, Start, Weight, Writing, require
from ssmspec.cli.retune_training import check_folder, train_plan
from ssmspec.cli.spreading import Spreading
from ssmspec.cli.terminal import echo, message, tell_pictures, typed_command
from ssmspec.errors import SsmspecError

if TYPE_CHECKING:
    from ssmspec.checkpoint.remote.traffic import Opened
    from ssmspec.commands.retune import ChangeOptions, RetunePlan
    from ssmspec.tuning.recipe import Recipe


@command("retune model.safetensors --alpha 2 --beta -1 -o tuned.safetensors", "retune model.safetensors --alpha 2 --dry-run")
@takes(change=Change, weight=Weight, writing=Writing, start=Start, match=Match, retraining=Retraining, reading=Reading, spreading=Spreading)
def retune(
    checkpoints: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CKPT...]",
            help="Checkpoints; default: the only one in the current folder. For several, -o is a folder.",
            show_default=False,
        ),
    ] = None,
    layer: LayerNames = None,
    family: FamilyName = None,
    *,
    change: Change,
    weight: Weight,
    start: Start,
    match: Match,
    retraining: Retraining,
    writing: Writing,
    spreading: Spreading,
    reading: Reading,
) -> None:
    """Change alpha, beta, the step or the initialization of trained layers, and write the file back in its own format.

    Tensors that the change does not touch stay the same, byte for byte. The input is never changed without --in-place.
    """
    from ssmspec.checkpoint.remote.path import is_address
    from ssmspec.commands.retune import ChangeOptions, default_target, only_checkpoint, plan_retune
    from ssmspec.commands.retune_writing import check_target

    writing.check()
    _refuse_idle(change, weight, start, match, retraining)
    recipe = _recipe(change, weight, start, match, retraining, writing.backend)
    layers = layer or ([] if match.match_spectrum is None else ["first"])
    chosen = () if "all" in layers else tuple("0" if name == "first" else name for name in layers)
    options = ChangeOptions(layers=chosen, family=family, read=reading.options())
    if reading.download and writing.output is None and not writing.dry_run:
        raise SsmspecError("--download needs -o: the copy in the cache stays as it is")
    paths = expand(checkpoints or ())
    if len(paths) > 1:
        check_many(writing, retraining.retrain)
        retune_many([reading.given(path) for path in paths], recipe, options, writing, spreading.place(None))
        return
    if not paths:
        paths = [str(only_checkpoint(Path(), options))]
        message(f"retuning {paths[0]}, the only checkpoint here")
    given = reading.given(paths[0])
    if is_address(given):
        _dry_run_only(given, recipe, options, writing)
        return
    source = Path(given)
    plan = plan_retune(source, recipe, options)
    place = source if writing.in_place else writing.output or default_target(source)
    asked = None if writing.dry_run else retraining.training(source, start.seed, match.target)
    if asked is not None:
        check_target(plan, place, replace_target=writing.force, in_place=writing.in_place)
        check_folder(asked.folder, (source, place))
        plan = train_plan(plan, asked, resume=retraining.resume, force=writing.force)
    nothing = writing.dry_run or (asked is None and plan.changes_nothing)
    _carry_out(plan, None if nothing else place, writing)


def _dry_run_only(given: str, recipe: "Recipe", options: "ChangeOptions", writing: Writing) -> None:
    """Shows what would change in a remote checkpoint, which is not written: that takes all of it.

    Raises:
        SsmspecError: with the size, where more than that is asked for.
    """
    from ssmspec.commands.retune import plan_retune
    from ssmspec.report.progress import LayerProgress
    from ssmspec.report.tables.parts import readable_size

    with LayerProgress() as progress:
        plan = plan_retune(given, recipe, options)
    if not writing.dry_run:
        size = readable_size(plan.checkpoint.size)
        text = f"{given}: a retuned copy takes the whole file ({size}): give --download to fetch it into the cache, and -o for the result"
        raise SsmspecError(f"{text}; --dry-run shows what would change without it")
    _carry_out(plan, None, writing, progress.opened)


def _refuse_idle(change: Change, weight: Weight, start: Start, match: Match, retraining: Retraining) -> None:
    """Refuse options that have no effect without another option.

    Raises:
        SsmspecError: the message names these options, and the one that is missing.
    """
    require(weight.beta, "--beta", weight, "bake", "beta_convention", "theta_ref", "sequence_length")
    require(weight.bake, "--bake", weight, "max_bake_error")
    require(change.diagonalize, "--diagonalize", change, "max_diagonalize_error")
    require(start.reinit, "--reinit", start, "init_b", "init_c", "step_min", "step_max")
    require(match.match_spectrum, "--match-spectrum", match, "layout", "segment")
    retraining.check()
    if match.target is not None and (match.match_spectrum is None) == (retraining.retrain is None):
        raise SsmspecError(
            "--target needs either --match-spectrum or --retrain; give exactly one of them, and the other in a separate command"
        )


def _recipe(change: Change, weight: Weight, start: Start, match: Match, retraining: Retraining, backend: str | None) -> "Recipe":
    from ssmspec.tuning.poles.scaling import Scaling
    from ssmspec.tuning.recipe import Recipe

    fresh = start.reinitialization(change.alpha)
    alpha = 1.0 if change.alpha is None or fresh else change.alpha
    return Recipe(
        matching=match.matching(start.seed, backend),
        scaling=Scaling(alpha, change.alpha_real, change.step_scale, change.preserve_gain),
        start=fresh,
        weighting=weight.weighting(),
        diagonalize=change.diagonalize,
        max_diagonalize_error=0.05 if change.max_diagonalize_error is None else change.max_diagonalize_error,
        training=retraining.retrain,
    )


def _carry_out(plan: "RetunePlan", target: Path | None, writing: Writing, opened: "Sequence[Opened]" = ()) -> None:
    from ssmspec.commands.analyze import AnalysisOptions
    from ssmspec.commands.retune_writing import compared_and_written
    from ssmspec.report.documents.document import read_document, to_json
    from ssmspec.report.documents.retune import retune_document
    from ssmspec.report.progress import LayerProgress
    from ssmspec.report.tables.compare import SHOWN_STATISTICS
    from ssmspec.report.tables.parts import console
    from ssmspec.report.tables.retune import retune_text

    compared = AnalysisOptions(backend=writing.backend, statistics=None if writing.as_json else SHOWN_STATISTICS)
    with LayerProgress() as progress:
        found, notes = compared_and_written(
            plan,
            target,
            compared,
            command=typed_command(),
            replace_target=writing.force,
            in_place=writing.in_place,
            progress=progress,
        )
    for note in notes:
        message(note)
    if writing.as_json:
        echo(to_json(retune_document(plan, found, target) | read_document(opened)))
    else:
        console().print(retune_text(plan, found, target, opened), highlight=False)
    if writing.plot is not None:
        from ssmspec.report.quick_import import import_quickly

        import_quickly()
        from ssmspec.report.figures.compare import plot_comparison
        from ssmspec.report.figures.retune import plot_matches

        tell_pictures(plot_comparison(found, writing.plot) + plot_matches(plan, writing.plot))
