"""The command `train`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from ssmspec.cli.app import command
from ssmspec.cli.options import AsJson, BetaConvention, PrecisionName, takes
from ssmspec.cli.terminal import echo, message
from ssmspec.errors import SsmspecError, needed

if TYPE_CHECKING:
    from ssmspec.training.engine.run_folder import RunConfig
    from ssmspec.training.task import Task


# the keys of `ssmspec.training.tasks.TASKS`, whose modules import torch; a test compares them
OWN_DATA = ("regress", "classify", "forecast")
OTHERS = ("waves", "denoise", "listops", "text", "retrieval", "image", "pathfinder", "pathx", "scifar", "moving-mnist", "audio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Settings of the task that override its preset."""

    data: Annotated[
        str | None,
        typer.Option(
            "--data", help="Sequences: .npy, .npz, .csv, or a folder of .wav files, in subfolders by label or not.", show_default=False
        ),
    ] = None
    target: Annotated[
        str | None, typer.Option("--target", help="What to learn for each sequence: .npy, .npz:NAME or .csv.", show_default=False)
    ] = None
    alpha: Annotated[
        str | None, typer.Option("--alpha", help="Factor on Im of the initial poles: 10, or 10*pi, pi/3.", show_default=False)
    ] = None
    beta: Annotated[float | None, typer.Option("--beta", help="Exponent of a Sobolev weight.", show_default=False)] = None
    beta_convention: Annotated[
        BetaConvention | None,
        typer.Option("--beta-convention", help="Convention of the weight; default: as in the preset.", show_default=False),
    ] = None
    theta_ref: Annotated[
        float | None, typer.Option("--theta-ref", help="Knee of the conventions angular and causal [rad/sample].", show_default=False)
    ] = None
    init: Annotated[
        str | None,
        typer.Option("--init", help="Initial poles: own (those of the task), s4d-lin, s4d-inv, ...; default: own.", show_default=False),
    ] = None
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of every random draw; default: 0.", show_default=False)] = None
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Optimizer steps.", show_default=False)] = None
    lr: Annotated[
        float | None, typer.Option("--lr", help="Learning rate of parameters without a rate of their own.", show_default=False)
    ] = None
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting of config.toml, in TOML. May be repeated.")
    ] = None

    def given(self) -> dict[str, Any]:
        """The settings that were given, by name.

        Raises:
            SsmspecError: a number or an assignment cannot be read.
        """
        from ssmspec.training.engine.sweep import parse_number

        named = {
            "alpha": None if self.alpha is None else parse_number(self.alpha),
            "beta": self.beta,
            "beta_convention": None if self.beta_convention is None else self.beta_convention.value,
            "theta_ref": self.theta_ref,
            "init": self.init,
            "seed": self.seed,
            "steps": self.steps,
            "lr": self.lr,
        }
        named = {name: value for name, value in named.items() if value is not None}
        return named | files(self.data, self.target) | assignments(self.setting or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How and where the task is run."""

    PANEL: ClassVar[str] = "How and where to run"
    preset: Annotated[
        str, typer.Option("--preset", help="small (takes seconds), paper (the published settings), or large (only with --data).")
    ] = "small"
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1, ...; with torchrun, cuda or cpu. Default: cpu.", show_default=False)
    ] = None
    accumulate: Annotated[
        int | None, typer.Option("--accumulate", min=1, help="Process each batch in this many parts, to save memory.", show_default=False)
    ] = None
    precision: Annotated[
        PrecisionName | None,
        typer.Option("--precision", help="Precision of matrix products; kernels stay float32. Default: float32.", show_default=False),
    ] = None
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, help="Threads of torch; default: 1 for the preset small (fastest), all for others.", show_default=False
        ),
    ] = None
    closed_form: Annotated[bool, typer.Option("--closed-form", help="denoise: solve the least squares instead of training.")] = False
    sweep: Annotated[
        str | None,
        typer.Option(
            "--sweep", help='Do many runs: "alpha=0.1,1,10 beta=-1,0,1", or published (the settings of the paper).', show_default=False
        ),
    ] = None
    search: Annotated[
        str | None,
        typer.Option(
            "--search",
            help='Search for the best alpha and beta: "alpha=log:0.1..100 beta=-2..2". Needs the extra search.',
            show_default=False,
        ),
    ] = None
    trials: Annotated[
        int | None,
        typer.Option(
            "--trials", min=1, help="Number of runs of a search before the best settings run again; default: 40.", show_default=False
        ),
    ] = None
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            help="Database for a search on many machines, such as postgresql://...; default: a journal in the folder.",
            show_default=False,
        ),
    ] = None
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Runs of a sweep or a search at once; default: 1.", show_default=False),
    ] = None
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            min=1,
            help="Runs per setting of a sweep (default: 1), or per best setting of a search (default: 3).",
            show_default=False,
        ),
    ] = None
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run; default: TASK-alphaA-betaB-seedS, TASK-sweep or TASK-search.")
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder.")] = False
    force: Annotated[bool, typer.Option("--force", help="Replace the run in the folder.")] = False
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="Write no pictures and no README.md; measure the model at the end only.")
    ] = False
    as_json: AsJson = False

    def given(self) -> dict[str, Any]:
        """Those of these options that were given and that a resumed run has to agree with."""
        named = {"device": self.device, "threads": self.threads, "accumulate": self.accumulate, "precision": self.precision}
        return {name: value for name, value in named.items() if value is not None}


@command("train waves --alpha 10 --beta -1", "train forecast --data series.csv")
@takes(chosen=Chosen, running=Running)
def train(
    task: Annotated[
        str,
        typer.Argument(metavar="TASK", help=f"On your own data: {', '.join(OWN_DATA)}. Others: {', '.join(OTHERS)}.", show_default=False),
    ],
    *,
    chosen: Chosen,
    running: Running,
) -> None:
    """Train a small model with a chosen frequency bias, and measure the bias before, during and after.

    The run folder has config.toml, metrics.jsonl, checkpoints that the other commands can read, pictures and a README.md.
    """
    if running.resume and running.force:
        raise SsmspecError("--resume continues a run and --force replaces it; give one of them")
    if task not in (*OWN_DATA, *OTHERS):
        raise SsmspecError(f"task {task!r} is unknown; choose one of {', '.join((*OTHERS[:2], *OWN_DATA, *OTHERS[2:]))}")
    from ssmspec.training.engine.processes import processes
    from ssmspec.training.engine.run_folder import find_task

    kind = find_task(task)
    given = chosen.given()
    config = _config(kind, given, running)
    if running.closed_form and kind.solve is None:
        raise SsmspecError(f"{task} has no closed form; leave --closed-form out")
    _check_many(running, processes())
    folder = running.out or _default_folder(config, running)
    if running.sweep is not None:
        _sweep(config, folder, running.sweep, running)
    elif running.search is not None:
        _search(config, folder, running.search, running)
    else:
        _run(config, folder, given | {key: getattr(config, key) for key in running.given()}, running)


def _check_many(running: Running, processes: int) -> None:
    """Refuse options of many runs that do not belong together."""
    many = {"--sweep": running.sweep, "--search": running.search}
    given = [name for name, value in many.items() if value is not None]
    if len(given) > 1:
        raise SsmspecError("--sweep runs settings that you name and --search draws them; give one of them")
    if processes > 1 and (running.closed_form or given):
        raise SsmspecError(f"{'--closed-form' if running.closed_form else given[0]} runs in one process; start it without torchrun")
    if not given and running.seeds is not None and running.seeds > 1:
        raise SsmspecError("--seeds needs --sweep or --search; give --seed for one run")
    if not given and running.jobs is not None:
        raise SsmspecError("--jobs needs --sweep or --search; one run uses --threads")
    if running.search is None:
        for name, value in {"--trials": running.trials, "--storage": running.storage}.items():
            if value is not None:
                raise SsmspecError(f"{name} needs --search; leave it out, or give the ranges with --search")


def _config(kind: "Task", given: dict[str, Any], running: Running) -> "RunConfig":
    from ssmspec.training.engine.processes import command_line
    from ssmspec.training.engine.run import all_threads, checked_device, environment
    from ssmspec.training.engine.run_folder import RunConfig
    from ssmspec.training.task import changed

    settings = changed(kind.preset(running.preset), given)
    return RunConfig(
        task=kind.name,
        preset=running.preset,
        settings=settings if running.resume and not running.sweep and not running.search else kind.prepare(settings),
        device=checked_device(running.device or "cpu"),
        threads=running.threads
        or (1 if running.preset == "small" else max(1, all_threads() // (running.jobs or 1 if running.search else 1))),
        closed_form=running.closed_form,
        accumulate=running.accumulate or 1,
        precision=(running.precision or PrecisionName.float32).value,
        command=command_line(),
        environment=environment(),
    )


def _default_folder(config: "RunConfig", running: Running) -> Path:
    if running.sweep:
        return Path(f"{config.task}-sweep")
    if running.search:
        return Path(f"{config.task}-search")
    settings = config.settings
    return Path(f"{config.task}-alpha{settings.alpha:.6g}-beta{settings.beta:.6g}-seed{settings.seed}")


def files(data: str | None, target: str | None) -> dict[str, Any]:
    """Settings that name files, as absolute paths, so that a run can be resumed from any folder."""
    return {name: str(Path(path).absolute()) for name, path in (("data", data), ("target", target)) if path is not None}


def assignments(texts: "list[str] | tuple[str, ...]") -> dict[str, Any]:
    """Settings from NAME=VALUE in TOML. A value that is not valid TOML is taken as text."""
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


def _run(config: "RunConfig", folder: Path, given: dict[str, Any], running: Running) -> None:
    from ssmspec.report.documents.document import to_json
    from ssmspec.report.documents.train import run_document
    from ssmspec.report.tables.parts import console
    from ssmspec.report.tables.train import run_text
    from ssmspec.training.engine.run import run_together
    from ssmspec.training.engine.run_folder import discard_unstarted, new_folder, write_config

    began: list[Path] = []  # the folder, once it is this run's own

    def prepare() -> "RunConfig":
        if running.resume:
            return resumed(config, folder, given)
        new_folder(folder, force=running.force)
        began.append(folder)
        write_config(folder, config)
        return config

    try:
        finished = run_together(prepare, folder, pictures=not running.no_pictures, note=message)
    except SsmspecError:
        for made in began:
            discard_unstarted(made)
        raise
    if finished is None:
        return
    if running.as_json:
        echo(to_json(run_document(finished.summary)))
    else:
        console().print(run_text(finished.summary), highlight=False)
    message(f"wrote {folder}")


def resumed(config: "RunConfig", folder: Path, given: dict[str, Any]) -> "RunConfig":
    """The config of the folder. Options may repeat it but not contradict it."""
    from ssmspec.training.engine.run_folder import read_config

    found = read_config(folder)
    if found.task != config.task:
        raise SsmspecError(f"{folder} holds a run of the task {found.task}, not {config.task}; choose another folder with --out")
    for name in given:
        before, now = (getattr(each if hasattr(each, name) else each.settings, name) for each in (found, config))
        if before != now:
            raise SsmspecError(
                f"{folder} holds a run with {name} {before}, not {now}; leave the option out, or choose another folder with --out"
            )
    if config.start and found.start.get("sha256") != config.start["sha256"]:
        raise SsmspecError(
            f"{folder} holds a run that began with different tensors; repeat its options, or choose another folder with --out"
        )
    if found.environment != config.environment:
        changes = [
            f"{key} {found.environment.get(key)} -> {value}"
            for key, value in config.environment.items()
            if found.environment.get(key) != value
        ]
        message(f"the run was started in another environment, so its results may differ in their last bits: {', '.join(changes)}")
    return found


def _sweep(config: "RunConfig", folder: Path, text: str, running: Running) -> None:
    from ssmspec.parallel.workplace import fitting_jobs
    from ssmspec.report.documents.document import to_json
    from ssmspec.report.documents.train import sweep_document
    from ssmspec.report.tables.parts import console
    from ssmspec.report.tables.train import sweep_text
    from ssmspec.training.engine.sweep import open_sweep, parse_sweep, run_sweep, sweep_title

    seeds = running.seeds or 1
    pairs = parse_sweep(text, config.kind.published.get(config.preset, ()), config.settings)
    open_sweep(folder, config, text, seeds, resume=running.resume, force=running.force)
    place = fitting_jobs(running.jobs or 1, config.threads)
    for note in place.notes:
        message(note)
    rows = run_sweep(folder, config, pairs, seeds, message, pictures=not running.no_pictures, place=place)
    if running.as_json:
        echo(to_json(sweep_document(sweep_title(config), config.command, rows)))
    else:
        console().print(sweep_text(sweep_title(config), rows), highlight=False)
    message(f"wrote {folder}")


def _search(config: "RunConfig", folder: Path, text: str, running: Running) -> None:
    from ssmspec.parallel.workplace import fitting_jobs
    from ssmspec.report.documents.document import to_json
    from ssmspec.report.documents.search import search_document
    from ssmspec.report.tables.parts import console
    from ssmspec.report.tables.search import search_text
    from ssmspec.training.search.conduct import FEWEST_SEEDS, open_search, run_search
    from ssmspec.training.search.space import parse_space
    from ssmspec.training.search.study import Search, check_storage

    seeds = 3 if running.seeds is None else running.seeds
    space = parse_space(text, config.settings)
    if seeds < FEWEST_SEEDS:
        raise SsmspecError(f"--seeds is {seeds}; a search needs at least {FEWEST_SEEDS} fresh seeds, to know the spread")
    check_storage(running.storage, running.jobs or 1)
    needed("optuna", "--search", "search")
    place = fitting_jobs(running.jobs or 1, config.threads)
    for note in place.notes:
        message(note)
    search = Search(folder, config, space, running.trials or 40, place.jobs, running.storage, folder.absolute().name)
    suggested = open_search(search, text, message, resume=running.resume, force=running.force)
    summary = run_search(search, suggested, text, seeds, message, pictures=not running.no_pictures)
    if summary is None:
        return
    if running.as_json:
        echo(to_json(search_document(summary)))
    else:
        console().print(search_text(summary), highlight=False)
    message(f"wrote {folder}")
