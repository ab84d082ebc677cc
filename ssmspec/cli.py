"""The command line: every command parses, calls and prints. Heavy modules are imported inside the commands that need them."""

import glob
import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssmspec import __version__
from ssmspec.cli_run import echo, message, run
from ssmspec.errors import SsmspecError

if TYPE_CHECKING:
    from ssmspec.analysis import AnalysisOptions
    from ssmspec.families import ReadOptions
    from ssmspec.statistics import CheckpointAnalysis

SAMPLE_RATES = (1e-100, 1e100)  # beyond them physical units leave the range of numbers

app = typer.Typer(
    name="ssmspec",
    help="Spectral analysis of trained state space models: what every layer does to every frequency.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class DiscretizationName(StrEnum):
    zoh = "zoh"
    bilinear = "bilinear"
    euler = "euler"
    direct = "direct"


class LruConvention(StrEnum):
    inclusive = "inclusive"
    pre_update = "pre-update"


class ResidueName(StrEnum):
    unit = "unit"
    rms = "rms"


class AxisName(StrEnum):
    theta = "theta"
    omega = "omega"


CheckpointPath = Annotated[Path, typer.Argument(metavar="CKPT", help="Checkpoint file or folder.", show_default=False)]
LayerName = Annotated[str, typer.Option("--layer", help="Exact name, glob, or index of one layer.", show_default=False)]
Output = Annotated[Path, typer.Option("-o", "--output", help="File to write (.npz).", show_default=False)]
FamilyName = Annotated[str | None, typer.Option("--family", help="Read as this family only; 'ssmspec families' lists them.")]
Discretize = Annotated[
    DiscretizationName | None, typer.Option("--discretization", help="Where the file does not say how the layer is discretized.")
]
Convention = Annotated[
    LruConvention | None, typer.Option("--lru-convention", help="Whether the output of an LRU sees the input of its own step.")
]
Length = Annotated[
    int | None, typer.Option("--length", min=1, help="Kernel length for which S4 layers store C, where the file does not say.")
]
Point = Annotated[
    str | None,
    typer.Option("--operating-point", help="Selective layers: delta=V,B=V,C=V with numbers or .npy files; default: the bias point."),
]
Residues = Annotated[
    ResidueName, typer.Option("--residues", help="Selective layers without given B and C: B = C = 1, or the rms over white input.")
]
Calibration = Annotated[
    Path | None, typer.Option("--calibration", help="Selective layers: recorded '<layer>/delta', '<layer>/B', '<layer>/C' (.npz).")
]
MapFile = Annotated[
    Path | None,
    typer.Option("--map", help="A TOML file that says how the tensors of an unknown layout are to be read.", show_default=False),
]
Backend = Annotated[str | None, typer.Option("--backend", help="Engine: reference or cpu. Default: by the size of the work.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def main() -> None:
    """Run the app; errors of the package become one line on stderr and an exit code."""
    sys.exit(run(app, debug="--debug" in sys.argv[1:]))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ssmspec {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options of all commands."""


@app.command()
def analyze(
    checkpoints: Annotated[list[str], typer.Argument(metavar="CKPT...", help="Checkpoint files, folders or globs.", show_default=False)],
    as_json: AsJson = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write all statistics to this file.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write PNG pictures into this folder.")] = None,
    layer: Annotated[
        list[str] | None, typer.Option("--layer", help="Only these layers: exact name, glob, or index. May be repeated.")
    ] = None,
    sample_rate: Annotated[float | None, typer.Option("--sample-rate", help="Samples per second: frequencies in Hz, times in s.")] = None,
    points: Annotated[int, typer.Option("--points", min=16, help="Points of the log-spaced grid of theta.")] = 1024,
    with_skip: Annotated[bool, typer.Option("--with-skip", help="Include the skip connection D.")] = False,
    backend: Backend = None,
    family: FamilyName = None,
    discretization: Discretize = None,
    lru_convention: Convention = None,
    operating_point: Point = None,
    residues: Residues = ResidueName.unit,
    calibration: Calibration = None,
    map_file: MapFile = None,
    length: Length = None,
) -> None:
    """Show what every layer does to every frequency, and its frequency bias.

    Prints one table per checkpoint: median and 5..95 % range over the copies of each layer, and a sparkline of median |H|.
    """
    from ssmspec.analysis import AnalysisOptions
    from ssmspec.writing import Kind, refuse_precious

    _check_sample_rate(sample_rate)
    if csv is not None:
        refuse_precious(csv, Kind.table)
    options = AnalysisOptions(
        layers=tuple(layer or ()),
        family=family,
        read=_read_options(discretization, lru_convention, length, operating_point, residues, calibration, map_file),
        backend=backend,
        points=points,
        with_skip=with_skip,
    )
    found, codes = _analyze_all(_expand(checkpoints), options, None if as_json else lambda analysis: _show(analysis, sample_rate))
    if as_json and found:
        _print_json(found, sample_rate, several=len(found) + len(codes) > 1)
    if csv is not None and found:
        _write_csv(csv, found, sample_rate)
    if plot is not None:
        _write_pictures(plot, found, sample_rate)
    if codes:
        raise typer.Exit(codes[0] if len(set(codes)) == 1 else 2)


def _check_sample_rate(sample_rate: float | None) -> None:
    low, high = SAMPLE_RATES
    if sample_rate is not None and not low <= sample_rate <= high:
        raise typer.BadParameter(
            f"{sample_rate} is no sample rate; give samples per second, a positive number between {low:g} and {high:g}",
            param_hint="--sample-rate",
        )


def _expand(patterns: Iterable[str]) -> list[str]:
    """Paths as given; what is no path but a glob becomes the paths that it matches."""
    from ssmspec.reading import exists

    paths: list[str] = []
    for pattern in patterns:
        matches = [] if exists(Path(pattern)) or not glob.has_magic(pattern) else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
        paths += matches or [pattern]
    return paths


def _analyze_all(
    paths: list[str], options: "AnalysisOptions", show: Callable[["CheckpointAnalysis"], None] | None
) -> tuple[list["CheckpointAnalysis"], list[int]]:
    """Analyze one file after the other; a broken one is reported and the rest are done."""
    from ssmspec.analysis import analyze as run
    from ssmspec.report.progress import LayerProgress

    found, codes = [], []
    for path in paths:
        try:
            with LayerProgress(path) as progress:
                analysis = run(path, options, progress=progress)
        except SsmspecError as error:
            if len(paths) == 1:
                raise
            message(" ".join(str(error).split()))
            codes.append(error.exit_code)
            continue
        found.append(analysis)
        if show:
            show(analysis)
    return found, codes


def _physical(analysis: "CheckpointAnalysis", sample_rate: float | None) -> "CheckpointAnalysis":
    from ssmspec.report.units import in_physical_units

    return analysis if sample_rate is None else in_physical_units(analysis, sample_rate)


def _show(analysis: "CheckpointAnalysis", sample_rate: float | None) -> None:
    from ssmspec.report.tables import analysis_table, console

    output = console()
    output.print(analysis_table(_physical(analysis, sample_rate), unicode=output.encoding.lower().startswith("utf")), highlight=False)
    output.print()


def _print_json(found: list["CheckpointAnalysis"], sample_rate: float | None, *, several: bool) -> None:
    from ssmspec.report.documents import analysis_document, to_json

    documents = [analysis_document(_physical(analysis, sample_rate), sample_rate=sample_rate) for analysis in found]
    echo(to_json(documents if several else documents[0]))


def _write_csv(path: Path, found: list["CheckpointAnalysis"], sample_rate: float | None) -> None:
    from ssmspec.report.documents import to_csv
    from ssmspec.writing import Kind, whole_file

    with whole_file(path, Kind.table) as file:
        file.write(to_csv(_physical(analysis, sample_rate) for analysis in found).encode(errors="backslashreplace"))
    message(f"wrote {path}")


def _write_pictures(folder: Path, found: list["CheckpointAnalysis"], sample_rate: float | None) -> None:
    from ssmspec.report.plots import plot_analysis, safe_names

    stems: set[str] = set()
    for analysis in found:
        path = Path(analysis.path)
        stem = path.stem or path.name
        if stem in stems:
            stem = f"{path.resolve().parent.name}.{path.name}"
        [stem] = safe_names([stem], taken=stems)
        while stem.casefold() in stems:  # the same checkpoint twice
            stem += "+"
        stems.add(stem.casefold())
        written = plot_analysis(analysis, folder, stem, sample_rate=sample_rate)
        message(f"wrote {len(written)} pictures: {written[0]}, ...")


def _read_options(
    discretization: DiscretizationName | None,
    lru_convention: LruConvention | None,
    length: int | None,
    operating_point: str | None,
    residues: ResidueName,
    calibration: Path | None,
    map_file: Path | None,
) -> "ReadOptions":
    from ssmspec.families import ReadOptions
    from ssmspec.families.calibration import open_calibration
    from ssmspec.families.mapping import load_mapping
    from ssmspec.families.operating_point import parse_operating_point

    return ReadOptions(
        discretization=None if discretization is None else discretization.value,
        lru_convention=None if lru_convention is None else lru_convention.value,
        length=length,
        operating_point=None if operating_point is None else parse_operating_point(operating_point),
        residues=residues.value,
        calibration=None if calibration is None else open_calibration(calibration),
        mapping=() if map_file is None else load_mapping(map_file),
    )


@app.command()
def response(
    checkpoint: CheckpointPath,
    layer: LayerName,
    output: Output,
    points: Annotated[int, typer.Option("--points", min=2, help="Points of a log-spaced grid.")] = 1024,
    theta: Annotated[Path | None, typer.Option("--theta", help="Frequencies instead: a .npy vector, on the axis of --axis.")] = None,
    axis: Annotated[AxisName, typer.Option("--axis", help="theta [rad/sample], or omega [rad per model time].")] = AxisName.theta,
    no_beta: Annotated[bool, typer.Option("--no-beta", help="Leave out the beta weight that the layer stores.")] = False,
    backend: Backend = None,
    family: FamilyName = None,
    discretization: Discretize = None,
    lru_convention: Convention = None,
    operating_point: Point = None,
    residues: Residues = ResidueName.unit,
    calibration: Calibration = None,
    map_file: MapFile = None,
    length: Length = None,
) -> None:
    """Write the complex frequency response of one layer, with D.

    Arrays: theta or omega (F,), H (copies, outputs, inputs, F), D (copies, outputs, inputs), name, family.
    """
    from ssmspec.backends import choose_backend, load_backend
    from ssmspec.report.arrays import frequency_grid, write_arrays
    from ssmspec.response import frequency_response

    system = _load(
        checkpoint, layer, family, _read_options(discretization, lru_convention, length, operating_point, residues, calibration, map_file)
    )
    grid = frequency_grid(system.step, axis.value, points, theta)
    pairs = float(system.copies) * system.modes * system.inputs * system.outputs * grid.values.size
    engine = load_backend(backend or choose_backend(pairs))
    result = frequency_response(system, grid, engine, with_beta=not no_beta)
    write_arrays(
        output, checkpoint, {axis.value: grid.values, "H": result.total, "D": system.D, "name": system.name, "family": system.family}
    )
    _written(output, system.assumptions)


@app.command()
def impulse(
    checkpoint: CheckpointPath,
    layer: LayerName,
    length: Annotated[int, typer.Option("--length", min=1, help="Samples of the kernel.", show_default=False)],
    output: Output,
    kernel_length: Annotated[
        int | None, typer.Option("--kernel-length", min=1, help="Kernel length for which S4 layers store C, where the file does not say.")
    ] = None,
    family: FamilyName = None,
    discretization: Discretize = None,
    lru_convention: Convention = None,
    operating_point: Point = None,
    residues: Residues = ResidueName.unit,
    calibration: Calibration = None,
    map_file: MapFile = None,
) -> None:
    """Write the convolution kernel of one layer, without D and without a beta weight.

    Arrays: kernel (copies, outputs, inputs, length), D (copies, outputs, inputs), name, family.
    """
    from ssmspec.report.arrays import write_arrays
    from ssmspec.response import impulse_response

    system = _load(
        checkpoint,
        layer,
        family,
        _read_options(discretization, lru_convention, kernel_length, operating_point, residues, calibration, map_file),
    )
    kernel = impulse_response(system, length)
    write_arrays(output, checkpoint, {"kernel": kernel, "D": system.D, "name": system.name, "family": system.family})
    beta = ("the beta weight is not in the kernel: it has zero phase, so it belongs to the response alone",) if system.sobolev else ()
    _written(output, system.assumptions + beta)


def _load(checkpoint: Path, layer: str, family: str | None, options: "ReadOptions") -> Any:
    from ssmspec.analysis import load_system

    return load_system(checkpoint, layer, options, family)


def _written(output: Path, assumptions: Iterable[str]) -> None:
    for assumption in assumptions:
        message(f"assumed: {assumption}")
    message(f"wrote {output}")


from ssmspec import cli_check, cli_compare, cli_inspect, cli_plot  # noqa: E402, F401  (commands in modules of their own; they need the app above)
