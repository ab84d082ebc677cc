"""The command `bench`."""

from typing import Annotated

import typer

from ssmspec.cli.app import command
from ssmspec.cli.options import AsJson
from ssmspec.cli.terminal import echo


@command("bench --only cauchy")
def bench(
    as_json: AsJson = False,
    only: Annotated[list[str] | None, typer.Option("--only", help="Only these benchmarks: exact name or glob. May be repeated.")] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Interleaved pairs of runs (ours, peer) per benchmark.")] = 5,
    full: Annotated[
        bool, typer.Option("--full", help="Add long sequences, whole analyses, and how cost grows with each size. Takes minutes.")
    ] = False,
) -> None:
    """Time ssmspec on this machine against torch, python-control, C++ and a naive S4D layer.

    A ratio is the time of the peer divided by ours. Both sides must give the same numbers before either is timed.
    """
    from ssmspec.benchmarks.catalogue import choose, run_benchmarks
    from ssmspec.report.documents.bench import bench_document
    from ssmspec.report.documents.document import to_json
    from ssmspec.report.progress import LayerProgress
    from ssmspec.report.tables.bench import bench_table
    from ssmspec.report.tables.parts import console

    names = choose(only or (), full=full)
    with LayerProgress() as progress:
        report = run_benchmarks(names, rounds=rounds, progress=progress)
    if as_json:
        echo(to_json(bench_document(report)))
        return
    console().print(bench_table(report), highlight=False)
