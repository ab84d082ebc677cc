"""Options that several commands share, and how a command receives a group of options as one object."""

import dataclasses
import functools
import glob
import inspect
from collections.abc import Callable, Iterable
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from ssmspec.cli.app import COMPUTING, READING
from ssmspec.errors import SsmspecError

if TYPE_CHECKING:
    from ssmspec.families import ReadOptions

SAMPLE_RATES = (1e-100, 1e100)  # outside this range, values in physical units would overflow or underflow


class BetaConvention(StrEnum):
    lra = "lra"
    paper = "paper"
    angular = "angular"
    denoising = "denoising"
    waves = "waves"
    causal = "causal"


class ResidueName(StrEnum):
    unit = "unit"
    rms = "rms"


class PrecisionName(StrEnum):
    float32 = "float32"
    bf16 = "bf16"


CheckpointPath = Annotated[str, typer.Argument(metavar="CKPT", help="Checkpoint file, folder or address.", show_default=False)]
FamilyName = Annotated[
    str | None, typer.Option("--family", help="Read the file as this family only; 'ssmspec families' lists them.", rich_help_panel=READING)
]
MapFile = Annotated[
    Path | None,
    typer.Option(
        "--map", help="TOML file that says how to read the tensors of an unknown layout.", show_default=False, rich_help_panel=READING
    ),
]
Backend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        help="Engine: reference, cpu or gpu. Default: reference or cpu, depending on the size of the work.",
        rich_help_panel=COMPUTING,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="Processor cores to use at most. Default: all, at most 8. Results do not depend on it.",
        show_default=False,
        rich_help_panel=COMPUTING,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


LayerNames = Annotated[list[str] | None, typer.Option("--layer", help="Only these layers: exact name, glob, or index. May be repeated.")]
Points = Annotated[int, typer.Option("--points", min=16, help="Number of points of the log-spaced theta grid.")]
Layout = Annotated[
    str | None, typer.Option("--layout", help="Axes of the data, such as BLC: B sequences, L samples, C channels.", show_default=False)
]
Segment = Annotated[
    int | None,
    typer.Option("--segment", min=16, help="Samples per segment of the spectral estimate; default: from the length of the data."),
]
StatisticNames = Annotated[
    str | None,
    typer.Option(
        "--statistics",
        help="all, or names separated by commas. Default: the two of the table; all for --json, --csv and --copies.",
        show_default=False,
    ),
]
SampleRate = Annotated[float | None, typer.Option("--sample-rate", help="Samples per second; gives frequencies in Hz and times in s.")]
Horizon = Annotated[
    int | None,
    typer.Option(
        "--horizon", min=1, help="Samples of the kernel that stand for layers whose poles do not decay, which have no response otherwise."
    ),
]
LayerName = Annotated[str, typer.Option("--layer", help="Exact name, glob, or index of one layer.", show_default=False)]
ArrayFile = Annotated[Path, typer.Option("-o", "--output", help="File to write (.npz).", show_default=False)]
WithSkip = Annotated[bool, typer.Option("--with-skip", help="Include the skip connection D.")]


def takes(**groups: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Turn the fields of dataclasses into options of a command, which receives one instance of each class under the name given here.

    Args:
        groups: dataclasses whose fields have defaults and are annotated with `typer.Option`. PANEL, if a class has it, is the panel of
            help for those that name none.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(function).parameters.values() if p.name not in groups]
        fields = {name: [field.name for field in dataclasses.fields(group)] for name, group in groups.items()}
        added = [parameter for group in groups.values() for parameter in _parameters(group)]

        @functools.wraps(function)
        def command(**values: Any) -> None:
            made = {name: group(**{field: values.pop(field) for field in fields[name]}) for name, group in groups.items()}
            function(**values, **made)

        command.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]  # what Typer reads to make options
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
        return command

    return decorate


def _parameters(group: type) -> list[inspect.Parameter]:
    """The fields of a dataclass as parameters of a function."""
    kind, panel = inspect.Parameter.POSITIONAL_OR_KEYWORD, getattr(group, "PANEL", None)
    return [inspect.Parameter(f.name, kind, default=f.default, annotation=_in_panel(f.type, panel)) for f in dataclasses.fields(group)]


def _in_panel(annotation: Any, panel: str | None) -> Any:
    """The annotation of an option, in a panel of help unless it names one."""
    option = annotation.__metadata__[0]
    if panel is None or option.rich_help_panel is not None:
        return annotation
    placed = copy(option)
    placed.rich_help_panel = panel
    return Annotated[annotation.__origin__, placed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a file may not state, for commands that read checkpoints."""

    LENGTH: ClassVar[str] = "--length"
    PANEL: ClassVar[str] = READING
    download: Annotated[
        bool, typer.Option("--download", help="Fetch remote checkpoints whole, into a cache, instead of the parts that are needed.")
    ] = False
    assume: Annotated[
        list[str] | None,
        typer.Option(
            "--assume",
            metavar="NAME=VALUE",
            help="Value that a file does not state; 'ssmspec families NAME' lists the assumptions of a family. May be repeated.",
            show_default=False,
        ),
    ] = None
    operating_point: Annotated[
        str | None,
        typer.Option("--operating-point", help="Selective layers: delta=V,B=V,C=V, each V a number or .npy file; default: the bias point."),
    ] = None
    residues: Annotated[
        ResidueName, typer.Option("--residues", help="Selective layers, if B and C are not given: B = C = 1, or their rms for white input.")
    ] = ResidueName.unit
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration", help="Selective layers: file of 'ssmspec calibrate', or .npz of '<layer>/delta', '<layer>/B', '<layer>/C'."
        ),
    ] = None
    map_file: MapFile = None
    stored_length: Annotated[
        int | None, typer.Option("--length", min=1, help="Kernel length for which S4 layers store C, if the file does not state it.")
    ] = None

    def given(self, checkpoint: str) -> str:
        """A checkpoint as it is to be opened: where it was typed, or with --download its local copy.

        Raises:
            CheckpointError: it cannot be fetched.
        """
        return local_copy(checkpoint) if self.download else checkpoint

    def options(self) -> "ReadOptions":
        """These options in the form that the readers of families take. Files that they name are opened.

        Raises:
            SsmspecError: an assumption is not NAME=VALUE, or an operating point, a calibration or a mapping cannot be read.
        """
        from ssmspec.families import ReadOptions
        from ssmspec.families.assumption import parse_assumptions

        found = ReadOptions(
            assume=parse_assumptions(self.assume or ()),
            length=self.stored_length,
            length_option=self.LENGTH,
            residues=self.residues.value,
        )
        if self.operating_point is not None:
            from ssmspec.families.selective.operating_point import parse_operating_point

            found = replace(found, operating_point=parse_operating_point(self.operating_point))
        if self.calibration is not None:
            from ssmspec.families.selective.calibration import open_calibration

            found = replace(found, calibration=open_calibration(self.calibration))
        if self.map_file is not None:
            from ssmspec.families.mapping.mapping_file import load_mapping

            found = replace(found, mapping=load_mapping(self.map_file))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """Where a changed checkpoint is written, over what, and how the change is shown."""

    PANEL: ClassVar[str] = "Output"
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to write; default: <stem>.retuned<suffix>, or .reduced.", show_default=False),
    ] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; write no checkpoint.")] = False
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file other than the input.")] = False
    in_place: Annotated[bool, typer.Option("--in-place", help="Replace the input.")] = False
    as_json: AsJson = False

    def refuse_two_targets(self) -> None:
        """Refuse --in-place beside the name of another file."""
        if self.in_place and self.output is not None:
            raise SsmspecError(f"--in-place writes to the input, and -o {self.output} names another file; give one of them")


def local_copy(checkpoint: str) -> str:
    """The path of a local copy of a checkpoint, fetched if it is remote.

    Raises:
        CheckpointError: it cannot be fetched.
    """
    from ssmspec.checkpoint.remote.download import download
    from ssmspec.report.progress import LayerProgress

    with LayerProgress():
        return str(download(checkpoint))


def check_sample_rate(sample_rate: float | None) -> None:
    """Refuse a sample rate that is not a positive number of samples per second."""
    low, high = SAMPLE_RATES
    if sample_rate is not None and not low <= sample_rate <= high:
        raise typer.BadParameter(
            f"{sample_rate} is not a valid sample rate; give samples per second, a positive number between {low:g} and {high:g}",
            param_hint="--sample-rate",
        )


def chosen_statistics(text: str | None, default: tuple[str, ...]) -> tuple[str, ...]:
    """The names after --statistics.

    Args:
        default: what is taken without the option.
    Raises:
        SsmspecError: a name that no statistic has.
    """
    from ssmspec.statistics import STATISTICS

    if text is None or text.strip() == "all":
        return default if text is None else tuple(STATISTICS)
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in STATISTICS:
            raise SsmspecError(f"--statistics {text}: {name!r} is not a statistic; choose all, or some of {', '.join(STATISTICS)}")
    return names


def thread_number(wanted: int | None) -> int:
    """The number after --threads; by default that of the cores, or of OMP_NUM_THREADS, up to a limit."""
    from ssmspec.backends.threads import MOST, thread_count

    return min(thread_count(), MOST) if wanted is None else wanted


def expand(patterns: Iterable[str]) -> list[str]:
    """Paths as given. A glob that is not itself a path is replaced by the paths that it matches, a folder of checkpoints by these."""
    from ssmspec.checkpoint.remote.path import is_address
    from ssmspec.files.reading import exists

    paths: list[str] = []
    for pattern in patterns:
        plain = is_address(pattern) or exists(Path(pattern)) or not glob.has_magic(pattern)
        matches = [] if plain else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
        paths += matches or (_in_folder(pattern) if not is_address(pattern) and Path(pattern).is_dir() else [pattern])
    return paths


def _in_folder(folder: str) -> list[str]:
    """The checkpoints of a folder that is not one itself; else the folder."""
    from ssmspec.checkpoint.reader import place_of
    from ssmspec.commands.compare import checkpoints_in

    try:
        place_of(Path(folder))
    except (SsmspecError, OSError):
        with suppress(SsmspecError, OSError):
            return [str(path) for path in checkpoints_in(Path(folder))]
    return [folder]
