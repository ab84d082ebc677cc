"""The command `analyze`."""

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmspec.cli.analyze_output import Results, Tabling
from ssmspec.cli.app import command
from ssmspec.cli.options import (
    AsJson,
    Backend,
    FamilyName,
    Horizon,
    LayerNames,
    Points,
    Reading,
    SampleRate,
    StatisticNames,
    Threads,
    WithSkip,
    check_sample_rate,
    expand,
    takes,
    thread_number,
)
from ssmspec.cli.spreading import Spreading, outcomes
from ssmspec.cli.terminal import complain
from ssmspec.errors import SsmspecError

if TYPE_CHECKING:
    from ssmspec.commands.each_file import AnalyzeFile
    from ssmspec.parallel.workplace import Workplace
    from ssmspec.report.documents.rendering import Rendered


@command(
    "analyze model.safetensors",
    "analyze runs/*.safetensors --csv bias.csv",
    "analyze runs --sort bias_slope --top 20 --jobs 8 --cache .ssmspec",
    "analyze hf://state-spaces/mamba2-2.7b --json",
)
@takes(tabling=Tabling, spreading=Spreading, reading=Reading)
def analyze(
    checkpoints: Annotated[list[str], typer.Argument(metavar="CKPT...", help="Files, folders, globs or addresses.", show_default=False)],
    as_json: AsJson = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the statistics to this CSV file.")] = None,
    copies: Annotated[
        Path | None, typer.Option("--copies", help="Write the statistics of each copy to this CSV file (rad/sample, samples).")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write PNG pictures into this folder.")] = None,
    statistics: StatisticNames = None,
    layer: LayerNames = None,
    sample_rate: SampleRate = None,
    points: Points = 1024,
    with_skip: WithSkip = False,
    horizon: Horizon = None,
    backend: Backend = None,
    threads: Threads = None,
    family: FamilyName = None,
    *,
    tabling: Tabling,
    spreading: Spreading,
    reading: Reading,
) -> None:
    """Show what every layer does to every frequency, and its frequency bias.

    Prints a table per checkpoint: median and 5..95 % range over the copies of each layer, and a sparkline of median |H|. The checkpoints of
    a folder, or more than 10, are rows of one table.
    """
    from ssmspec.commands.analyze import AnalysisOptions
    from ssmspec.commands.cache import ResultCache
    from ssmspec.commands.each_file import AnalyzeFile
    from ssmspec.files.writing import Kind, refuse_precious
    from ssmspec.report.documents.rendering import Rendering
    from ssmspec.statistics import HEADLINES, STATISTICS

    check_sample_rate(sample_rate)
    for table in (csv, copies):
        if table is not None:
            refuse_precious(table, Kind.table)
    tabling.check(as_json=as_json, copies=copies, plot=plot)
    place = spreading.place(threads)
    files = {"csv": csv, "copies": copies, "parquet": tabling.parquet}
    paths = [reading.given(path) for path in expand(checkpoints)]
    options = AnalysisOptions(
        layers=tuple(layer or ()),
        family=family,
        read=reading.options(),
        backend=backend,
        points=points,
        threads=thread_number(threads) if place.alone else place.threads,
        with_skip=with_skip,
        horizon=horizon,
        details="poles" if plot else None,
        files=len(paths),
        statistics=tabling.statistics(statistics, tuple(STATISTICS) if as_json or any(files.values()) else HEADLINES),
    )
    shown = tabling.statistics(statistics, HEADLINES)
    in_one = not as_json and tabling.one_table(checkpoints, paths)
    rendering = Rendering(
        json=as_json,
        several=len(paths) > 1,
        table=not (as_json or in_one),
        columns=shown if in_one else (),
        csv=csv is not None,
        rows=tabling.parquet is not None,
        copies=copies is not None,
        plot=plot,
        sample_rate=sample_rate,
    )
    cache = None if tabling.cache is None else ResultCache.at(tabling.cache, options, sample_rate)
    calibrated = options.read.calibration is not None
    with Results(rendering, tabling, shown=shown, statistics=tuple(options.chosen), calibrated=calibrated, files=files) as results:
        stems = [""] * len(paths) if plot is None else _stems(paths)
        codes = _analyze_all(list(zip(paths, stems, strict=True)), AnalyzeFile(options, rendering, cache), place, results.take)
        results.write()
    if codes:
        raise typer.Exit(codes[0] if len(set(codes)) == 1 else 2)


def _analyze_all(
    items: list[tuple[str, str]], task: "AnalyzeFile[Rendered]", place: "Workplace", take: "Callable[[Rendered], None]"
) -> list[int]:
    """Analyze the files, each with a stem for its pictures, and keep no result. Returns the exit codes.

    A file that fails is reported, and the rest are done. A file without a usable layer is shown before it is reported.
    """
    from ssmspec.commands.each_file import Failure

    codes = []
    with closing(outcomes(task if len(items) > 1 else task.run, items, place, lambda item: item[0])) as results:
        for found in results:
            if isinstance(found, Failure):
                complain(found.text)
                codes.append(found.exit_code)
                continue
            take(found)
            if found.problem:
                complain(" ".join(f"{found.path}: {found.problem}".split()))
                codes.append(SsmspecError.exit_code)
            del found  # before the next one comes
    return codes


def _stems(paths: Sequence[str]) -> list[str]:
    """What the names of the pictures of each checkpoint begin with; no two are equal, also where case does not count."""
    from ssmspec.checkpoint.remote.path import is_address, stem_in
    from ssmspec.report.quick_import import import_quickly

    import_quickly()
    from ssmspec.report.figures.style import safe_names

    stems: dict[str, str] = {}
    for path in paths:
        stem = stem_in(path)
        if stem in stems.values() and not is_address(path):
            stem = f"{Path(path).resolve().parent.name}.{Path(path).name}"
        [stem] = safe_names([stem], taken=set(stems))
        while stem.casefold() in stems:  # the same checkpoint twice
            stem += "+"
        stems[stem.casefold()] = stem
    return list(stems.values())
