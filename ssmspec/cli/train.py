"""The command `train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssmspec.cli.app import app
from ssmspec.cli.options import AsJson, BetaConvention, PrecisionName
from ssmspec.cli.terminal import echo, message
from ssmspec.errors import SsmspecError

if TYPE_CHECKING:
    from ssmspec.training.engine.run_folder import RunConfig


@app.command()
def train(
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="waves or denoise; regress, classify or forecast on your own data.", show_default=False)
    ],
    data: Annotated[
        str | None,
        typer.Option("--data", help="Sequences: .npy, .npz, .csv, or a folder of .wav, by label in subfolders or not.", show_default=False),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="What to learn of every sequence: .npy, .npz:NAME or .csv.", show_default=False)
    ] = None,
    alpha: Annotated[
        str | None, typer.Option("--alpha", help="Factor on Im of the initial poles: 10, or 10*pi, pi/3.", show_default=False)
    ] = None,
    beta: Annotated[float | None, typer.Option("--beta", help="Exponent of a Sobolev weight.", show_default=False)] = None,
    beta_convention: Annotated[
        BetaConvention | None, typer.Option("--beta-convention", help="Which weight; default: that of the preset.", show_default=False)
    ] = None,
    theta_ref: Annotated[
        float | None, typer.Option("--theta-ref", help="Knee of angular and causal [rad/sample].", show_default=False)
    ] = None,
    init: Annotated[
        str | None,
        typer.Option("--init", help="Initial poles: own (of the task), s4d-lin, s4d-inv, ...; default: own.", show_default=False),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of every random draw; default: 0.", show_default=False)] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Optimizer steps.", show_default=False)] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate of what has no other.", show_default=False)] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting of config.toml, in TOML. May be repeated.")
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", help="small (seconds), paper (the published settings), or, with --data, large.")
    ] = "small",
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1, ...; with torchrun cuda or cpu. Default: cpu.", show_default=False)
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option("--accumulate", min=1, help="Do every batch in so many parts, to save memory.", show_default=False)
    ] = None,
    precision: Annotated[
        PrecisionName | None,
        typer.Option("--precision", help="Of matrix products; kernels stay float32. Default: float32.", show_default=False),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="Of torch; default: 1, the fastest for small, and all for others.", show_default=False),
    ] = None,
    closed_form: Annotated[bool, typer.Option("--closed-form", help="denoise: solve the least squares instead of training.")] = False,
    sweep: Annotated[
        str | None,
        typer.Option(
            "--sweep", help='Many runs: "alpha=0.1,1,10 beta=-1,0,1", or published, the settings of the paper.', show_default=False
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs per setting of a sweep.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run; default: TASK-alphaA-betaB-seedS here.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the run in the folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a small model with a chosen frequency bias, and measure the bias before, during and after.

    The run folder has config.toml, metrics.jsonl, checkpoints that the other commands read, pictures and a README.md.
    """
    from ssmspec.training.engine.processes import command_line, processes
    from ssmspec.training.engine.run import all_threads, checked_device, environment
    from ssmspec.training.engine.run_folder import RunConfig, find_task
    from ssmspec.training.task import changed

    if resume and force:
        raise SsmspecError("--resume goes on with a run and --force replaces it; give one of them")
    kind = find_task(task)
    given = _given(alpha, beta, beta_convention, theta_ref, init, seed, steps, lr) | files(data, target) | assignments(setting or ())
    settings = changed(kind.preset(preset), given)
    config = RunConfig(
        task=task,
        preset=preset,
        settings=settings if resume and not sweep else kind.prepare(settings),
        device=checked_device(device or "cpu"),
        threads=threads or (1 if preset == "small" else all_threads()),
        closed_form=closed_form,
        accumulate=accumulate or 1,
        precision=(precision or PrecisionName.float32).value,
        command=command_line(),
        environment=environment(),
    )
    if closed_form and kind.solve is None:
        raise SsmspecError(f"{task} has no closed form; leave --closed-form out")
    if processes() > 1 and (closed_form or sweep is not None):
        raise SsmspecError(f"{'--closed-form' if closed_form else '--sweep'} is the work of one process; start it without torchrun")
    if sweep is None and seeds > 1:
        raise SsmspecError("--seeds belongs to --sweep; give --seed for one run")
    name = (
        f"{task}-sweep" if sweep else f"{task}-alpha{config.settings.alpha:.6g}-beta{config.settings.beta:.6g}-seed{config.settings.seed}"
    )
    given |= {
        key: getattr(config, key)
        for key, value in {"device": device, "threads": threads, "accumulate": accumulate, "precision": precision}.items()
        if value is not None
    }
    _start(config, out or Path(name), given, sweep, seeds, resume=resume, force=force, as_json=as_json)


def _given(
    alpha: str | None,
    beta: float | None,
    convention: BetaConvention | None,
    theta_ref: float | None,
    init: str | None,
    seed: int | None,
    steps: int | None,
    lr: float | None,
) -> dict[str, Any]:
    """The settings that have options of their own, where given."""
    from ssmspec.training.engine.sweep import parse_number

    named = {
        "alpha": None if alpha is None else parse_number(alpha),
        "beta": beta,
        "beta_convention": None if convention is None else convention.value,
        "theta_ref": theta_ref,
        "init": init,
        "seed": seed,
        "steps": steps,
        "lr": lr,
    }
    return {name: value for name, value in named.items() if value is not None}


def files(data: str | None, target: str | None) -> dict[str, Any]:
    """Settings that name files, by their absolute paths, so that a run can be resumed from anywhere."""
    return {name: str(Path(path).absolute()) for name, path in (("data", data), ("target", target)) if path is not None}


def assignments(texts: "list[str] | tuple[str, ...]") -> dict[str, Any]:
    """NAME=VALUE in TOML; a value that is no TOML is text."""
    import tomllib

    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise SsmspecError(f"--set {text}: expected NAME=VALUE")
        try:
            found[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[name] = value
    return found


def _start(
    config: "RunConfig",
    folder: Path,
    given: dict[str, Any],
    sweep: str | None,
    seeds: int,
    *,
    resume: bool,
    force: bool,
    as_json: bool,
) -> None:
    if sweep is not None:
        _sweep(config, folder, sweep, seeds, resume=resume, force=force, as_json=as_json)
    else:
        _run(config, folder, given, resume=resume, force=force, as_json=as_json)


def _run(config: "RunConfig", folder: Path, given: dict[str, Any], *, resume: bool, force: bool, as_json: bool) -> None:
    from ssmspec.report.documents.document import to_json
    from ssmspec.report.documents.train import run_document
    from ssmspec.report.tables.parts import console
    from ssmspec.report.tables.train import run_text
    from ssmspec.training.engine.run import run_together
    from ssmspec.training.engine.run_folder import new_folder, write_config

    def prepare() -> "RunConfig":
        if resume:
            return resumed(config, folder, given)
        new_folder(folder, force=force)
        write_config(folder, config)
        return config

    finished = run_together(prepare, folder, note=message)
    if finished is None:
        return
    if as_json:
        echo(to_json(run_document(finished.summary)))
    else:
        console().print(run_text(finished.summary), highlight=False)
    message(f"wrote {folder}")


def resumed(config: "RunConfig", folder: Path, given: dict[str, Any]) -> "RunConfig":
    """The config of the folder, which options may repeat but not contradict."""
    from ssmspec.training.engine.run_folder import read_config

    found = read_config(folder)
    if found.task != config.task:
        raise SsmspecError(f"{folder} holds a run of the task {found.task}, not {config.task}; name another folder with --out")
    for name in given:
        before, now = (getattr(each if hasattr(each, name) else each.settings, name) for each in (found, config))
        if before != now:
            raise SsmspecError(f"{folder} holds a run with {name} {before}, not {now}; leave it out, or name another folder with --out")
    if config.start and found.start.get("sha256") != config.start["sha256"]:
        raise SsmspecError(f"{folder} holds a run that began with other tensors; repeat its options, or name another folder with --out")
    if found.environment != config.environment:
        changes = [
            f"{key} {found.environment.get(key)} -> {value}"
            for key, value in config.environment.items()
            if found.environment.get(key) != value
        ]
        message(f"the run was started under other conditions and may differ in its last bits: {', '.join(changes)}")
    return found


def _sweep(config: "RunConfig", folder: Path, text: str, seeds: int, *, resume: bool, force: bool, as_json: bool) -> None:
    from ssmspec.report.documents.document import to_json
    from ssmspec.report.documents.train import sweep_document
    from ssmspec.report.tables.parts import console
    from ssmspec.report.tables.train import sweep_text
    from ssmspec.training.engine.sweep import open_sweep, parse_sweep, run_sweep, sweep_title

    pairs = parse_sweep(text, config.kind.published.get(config.preset, ()), config.settings)
    open_sweep(folder, config, text, seeds, resume=resume, force=force)
    rows = run_sweep(folder, config, pairs, seeds, message)
    if as_json:
        echo(to_json(sweep_document(sweep_title(config), config.command, rows)))
    else:
        console().print(sweep_text(sweep_title(config), rows), highlight=False)
    message(f"wrote {folder}")
