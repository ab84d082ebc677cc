"""The command `retune`: change the frequency bias of a checkpoint and write it back."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmspec.cli.app import app
from ssmspec.cli.options import AsJson, Backend, BetaConvention, FamilyName, LayerNames, Layout, Segment, reads_checkpoints
from ssmspec.cli.retune_training import Training, check_folder, train_plan
from ssmspec.cli.terminal import echo, message, tell_pictures
from ssmspec.cli.train import assignments, files
from ssmspec.errors import SsmspecError

if TYPE_CHECKING:
    from ssmspec.commands.retune import RetunePlan
    from ssmspec.families import ReadOptions
    from ssmspec.tuning.recipe import Matching

# the keys of `ssmspec.tuning.poles.initializations.INITIALIZATIONS`, whose module is too heavy for --help; a test compares them
STARTS = ("s4d-lin", "s4d-inv", "s4d-legs", "s4d-real", "fout", "random", "s5-hippo", "dfout", "lru-ring")


@app.command()
@reads_checkpoints()
def retune(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(metavar="[CKPT]", help="Checkpoint; default: the only one in the current folder.", show_default=False),
    ] = None,
    alpha: Annotated[float | None, typer.Option("--alpha", help="Factor on Im of every pole.", show_default=False)] = None,
    beta: Annotated[float | None, typer.Option("--beta", help="Exponent of a Sobolev weight.", show_default=False)] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write; default: <stem>.retuned<suffix>.", show_default=False)
    ] = None,
    alpha_real: Annotated[float, typer.Option("--alpha-real", help="Factor on Re of every pole.")] = 1.0,
    step_scale: Annotated[float, typer.Option("--step-scale", help="Factor on the step Delta; also for real poles.")] = 1.0,
    preserve_gain: Annotated[bool, typer.Option("--preserve-gain", help="Change C so that every |g_n| stays.")] = False,
    diagonalize: Annotated[bool, typer.Option("--diagonalize", help="Turn low-rank layers into diagonal ones first.")] = False,
    max_diagonalize_error: Annotated[
        float | None, typer.Option("--max-diagonalize-error", min=0, help="Largest median error accepted; default: 0.05.")
    ] = None,
    beta_convention: Annotated[
        BetaConvention | None,
        typer.Option("--beta-convention", help="Default: lra where the layer stores beta, else that of the file, or paper."),
    ] = None,
    theta_ref: Annotated[
        float | None, typer.Option("--theta-ref", help="Knee of angular and causal [rad/sample].", show_default=False)
    ] = None,
    sequence_length: Annotated[
        int | None, typer.Option("--sequence-length", min=1, help="L of denoising and waves [samples].", show_default=False)
    ] = None,
    bake: Annotated[bool, typer.Option("--bake", help="Refit C so that code without beta has the weighted response.")] = False,
    max_bake_error: Annotated[
        float | None, typer.Option("--max-bake-error", min=0, help="Largest median error accepted; default: 0.2.")
    ] = None,
    reinit: Annotated[
        str | None, typer.Option("--reinit", help=f"Start anew: {', '.join(STARTS)}; 'ssmspec plot inits' draws them.")
    ] = None,
    init_b: Annotated[str | None, typer.Option("--init-b", help="Draw of B with --reinit; default: the family's own.")] = None,
    init_c: Annotated[str | None, typer.Option("--init-c", help="Draw of C with --reinit; default: the family's own.")] = None,
    step_min: Annotated[float | None, typer.Option("--step-min", help="Smallest Delta drawn by --reinit; default: 0.001.")] = None,
    step_max: Annotated[float | None, typer.Option("--step-max", help="Largest Delta drawn by --reinit; default: 0.1.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of every random draw.")] = 0,
    match_spectrum: Annotated[
        str | None,
        typer.Option(
            "--match-spectrum", metavar="DATA", help="Fit |H|^2 to the spectrum of these signals; first layer unless --layer all."
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", help="With --match-spectrum: match the cross-spectrum with these. With --retrain: see train."),
    ] = None,
    retrain: Annotated[
        str | None, typer.Option("--retrain", metavar="TASK", help="Then train: waves, denoise, regress, classify or forecast.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="With --retrain: see train.", show_default=False)] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="With --retrain: optimizer steps.", show_default=False)] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="With --retrain: see train.", show_default=False)] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="With --retrain: a setting, in TOML. May be repeated.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="With --retrain; default: the settings in the checkpoint, or small.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option("--device", help="With --retrain: cpu, cuda, cuda:1, ...")] = "cpu",
    threads: Annotated[int, typer.Option("--threads", min=1, help="With --retrain: of torch.")] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", help="With --retrain: folder of the run; default: <stem>-TASK here.", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="With --retrain: go on with the run in the folder.")] = False,
    segment: Segment = None,
    layout: Layout = None,
    layer: LayerNames = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; write no checkpoint.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace another file.")] = False,
    in_place: Annotated[bool, typer.Option("--in-place", help="Replace the input.")] = False,
    as_json: AsJson = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write a PNG of before and after per layer into this folder.")] = None,
    backend: Backend = None,
    family: FamilyName = None,
    *,
    reading: "ReadOptions",
) -> None:
    """Change alpha, beta, the step or the initialization of trained layers, and write the file back in its own format.

    Tensors that the change does not touch stay as they are, byte for byte. The input is never changed without --in-place.
    """
    from ssmspec.backends import load_backend
    from ssmspec.commands.retune import RetuneOptions, check_target, default_target, only_checkpoint, plan_retune
    from ssmspec.tuning.poles.reinitialization import Reinitialization
    from ssmspec.tuning.poles.scaling import Scaling
    from ssmspec.tuning.recipe import Recipe, Weighting

    if plot is not None:
        from ssmspec.report.figures.style import made_folder

        made_folder(plot)
    if backend is not None:
        load_backend(backend)  # one that is missing is found out before anything is written
    if in_place and output is not None:
        raise SsmspecError(f"--in-place writes to the input, and -o {output} names another file; give one of them")
    _require(beta, "--beta", bake=bake, beta_convention=beta_convention, theta_ref=theta_ref, sequence_length=sequence_length)
    _require(bake, "--bake", max_bake_error=max_bake_error)
    _require(diagonalize, "--diagonalize", max_diagonalize_error=max_diagonalize_error)
    _require(reinit, "--reinit", init_b=init_b, init_c=init_c, step_min=step_min, step_max=step_max)
    _require(match_spectrum, "--match-spectrum", layout=layout, segment=segment)
    _require(retrain, "--retrain", data=data, steps=steps, lr=lr, set=setting, preset=preset, out=out, resume=resume)
    if target is not None and (match_spectrum is None) == (retrain is None):
        raise SsmspecError("--target belongs to --match-spectrum or to --retrain; give one of them, the other in a command of its own")
    start = None
    if reinit is not None:
        step_range = (1e-3 if step_min is None else step_min, 1e-1 if step_max is None else step_max)
        factor = 1.0 if alpha is None else alpha
        start = Reinitialization(name=reinit, alpha=factor, seed=seed, step=step_range, inputs=init_b, outputs=init_c)
    recipe = Recipe(
        matching=None if match_spectrum is None else _matching(match_spectrum, target, layout, segment, seed, backend),
        scaling=Scaling(1.0 if alpha is None or start else alpha, alpha_real, step_scale, preserve_gain),
        start=start,
        weighting=None
        if beta is None
        else Weighting(
            beta=beta,
            convention=None if beta_convention is None else beta_convention.value,
            theta_ref=theta_ref,
            length=sequence_length,
            bake=bake,
            max_bake_error=0.2 if max_bake_error is None else max_bake_error,
        ),
        diagonalize=diagonalize,
        max_diagonalize_error=0.05 if max_diagonalize_error is None else max_diagonalize_error,
        training=retrain,
    )
    layers = layer or ([] if match_spectrum is None else ["first"])
    chosen = () if "all" in layers else tuple("0" if name == "first" else name for name in layers)
    options = RetuneOptions(layers=chosen, family=family, read=reading)
    if checkpoint is None:
        checkpoint = only_checkpoint(Path(), options)
        message(f"retuning {checkpoint}, the only checkpoint here")
    plan = plan_retune(checkpoint, recipe, options)
    place = checkpoint if in_place else output or default_target(checkpoint)
    if retrain is not None and not dry_run:
        given = {"seed": seed, "steps": steps, "lr": lr}
        wanted = {name: value for name, value in given.items() if value is not None} | files(data, target) | assignments(setting or ())
        asked = Training(retrain, preset, wanted, device, threads, out or Path(f"{checkpoint.stem}-{retrain}"))
        check_target(plan, place, replace_target=force, in_place=in_place)
        check_folder(asked.folder, (checkpoint, place))
        plan = train_plan(plan, asked, resume=resume, force=force)
    nothing = dry_run or (retrain is None and plan.changes_nothing)
    _carry_out(plan, None if nothing else place, force=force, in_place=in_place, as_json=as_json, plot=plot, backend=backend)


def _require(owner: object, name: str, **belonging: object) -> None:
    """Refuse options that do nothing without another one."""
    idle = [f"--{option.replace('_', '-')}" for option, value in belonging.items() if value is not None and value is not False]
    if idle and (owner is None or owner is False):
        raise SsmspecError(f"{', '.join(idle)} belong{'s' * (len(idle) == 1)} to {name}; give it too, or leave {', '.join(idle)} out")


def _matching(data: str, target: str | None, layout: str | None, segment: int | None, seed: int, backend: str | None) -> "Matching":
    from ssmspec.tuning.recipe import Matching
    from ssmspec.tuning.spectra.estimate import cross_spectrum, power_spectrum
    from ssmspec.tuning.spectra.signals import read_signals

    signals = read_signals(data, layout=layout)
    if target is None:
        return Matching(spectrum=power_spectrum(signals, segment=segment), source=data, seed=seed, backend=backend)
    spectrum = cross_spectrum(signals, read_signals(target, layout=layout), segment=segment)
    return Matching(spectrum=spectrum, source=f"{data} with {target}", seed=seed, backend=backend)


def _carry_out(
    plan: "RetunePlan", target: Path | None, *, force: bool, in_place: bool, as_json: bool, plot: Path | None, backend: str | None
) -> None:
    from ssmspec.commands.analyze import AnalysisOptions
    from ssmspec.commands.compare import compare_systems
    from ssmspec.commands.retune import check_target, write_retuned
    from ssmspec.report.documents.document import to_json
    from ssmspec.report.documents.retune import retune_document
    from ssmspec.report.progress import LayerProgress
    from ssmspec.report.tables.parts import console
    from ssmspec.report.tables.retune import retune_text

    if target is not None:
        check_target(plan, target, replace_target=force, in_place=in_place)
    # compared first: who interrupts a long comparison, or sees it fail, has the files as they were
    with LayerProgress("compare") as progress:
        found = compare_systems(
            (plan.checkpoint.path, [layer.before for layer in plan.layers]),
            (target or "not written", [layer.after for layer in plan.layers]),
            AnalysisOptions(backend=backend),
            progress=progress,
        )
    if target is not None:
        command = shlex.join(["ssmspec", *sys.argv[1:]])
        for note in write_retuned(plan, target, command=command, replace_target=force, in_place=in_place)[1]:
            message(note)
    if as_json:
        echo(to_json(retune_document(plan, found, target)))
    else:
        console().print(retune_text(plan, found, target), highlight=False)
    if plot is not None:
        from ssmspec.report.figures.compare import plot_comparison
        from ssmspec.report.figures.retune import plot_matches

        tell_pictures(plot_comparison(found, plot) + plot_matches(plan, plot))
