"""The command `report`."""

from pathlib import Path
from typing import Annotated

import typer

from ssmspec.cli.app import command
from ssmspec.cli.options import (
    Backend,
    FamilyName,
    Horizon,
    LayerNames,
    Points,
    Reading,
    SampleRate,
    Threads,
    WithSkip,
    check_sample_rate,
    takes,
    thread_number,
)
from ssmspec.cli.terminal import message
from ssmspec.errors import SsmspecError


@command("report model.safetensors -o report.html", "report before.safetensors after.safetensors -o report.html")
@takes(reading=Reading)
def report(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="CKPT...", help="A checkpoint; two, before and after; or more, or a folder of them, for a run.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File to write (.html). Default: CKPT.report.html in the current folder.", show_default=False),
    ] = None,
    by_order: Annotated[bool, typer.Option("--by-order", help="Pair layers by their order instead of their names.")] = False,
    layer: LayerNames = None,
    sample_rate: SampleRate = None,
    points: Points = 1024,
    with_skip: WithSkip = False,
    horizon: Horizon = None,
    backend: Backend = None,
    threads: Threads = None,
    family: FamilyName = None,
    *,
    reading: Reading,
) -> None:
    """Write a report for the browser: one HTML file that loads nothing.

    It has a summary, a table that sorts and filters, and figures with hover and zoom.
    """
    from ssmspec.checkpoint.remote.path import stem_of
    from ssmspec.commands.analyze import AnalysisOptions
    from ssmspec.commands.report import report as run
    from ssmspec.files.writing import Kind, make_folder_of, refuse_precious, whole_file
    from ssmspec.report.html.page import load_libraries, report_page
    from ssmspec.report.progress import LayerProgress

    check_sample_rate(sample_rate)
    paths = [reading.given(path) for path in checkpoints]
    target = output or Path(f"{stem_of(paths[0])}.report.html")
    if target.suffix.lower() not in Kind.page.value:
        raise SsmspecError(f"{target} is not a valid name for a report; end it in .html")
    refuse_precious(target, Kind.page)
    libraries = load_libraries()
    make_folder_of(target)
    options = AnalysisOptions(
        layers=tuple(layer or ()),
        family=family,
        read=reading.options(),
        backend=backend,
        points=points,
        threads=thread_number(threads),
        with_skip=with_skip,
        horizon=horizon,
    )
    with LayerProgress() as progress:
        found = run(paths, options, by_order=by_order, progress=progress)
    page = report_page(found, libraries, sample_rate=sample_rate)
    with whole_file(target, Kind.page) as file:
        file.write(page)
    message(f"wrote {target}")
    if found.last.problem:
        raise SsmspecError(f"{found.last.path}: {found.last.problem}")
