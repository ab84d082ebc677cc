"""`retune` of several checkpoints: where each goes, and what is shown of it."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ssmspec.cli.retune_options import Writing
from ssmspec.cli.spreading import outcomes
from ssmspec.cli.terminal import complain, echo, message, typed_command
from ssmspec.errors import SsmspecError

if TYPE_CHECKING:
    from ssmspec.commands.retune import ChangeOptions
    from ssmspec.parallel.workplace import Workplace
    from ssmspec.tuning.recipe import Recipe


def check_many(writing: Writing, retrain: str | None) -> None:
    """Refuse options that are about one checkpoint.

    Raises:
        SsmspecError: the message names them.
    """
    if retrain is not None or writing.plot is not None:
        option = "--plot" if retrain is None else "--retrain"
        raise SsmspecError(f"{option} with several checkpoints: give one, or leave {option} out")


def retune_many(paths: Sequence[str], recipe: "Recipe", options: "ChangeOptions", writing: Writing, place: "Workplace") -> None:
    """Retune each, and print a line about it, or an array of documents. One that fails is reported, and the others are done.

    Raises:
        SsmspecError: two of them would be written to one place, or one is remote. typer.Exit: one or more failed.
    """
    from ssmspec.commands.analyze import AnalysisOptions
    from ssmspec.commands.each_file import Failure
    from ssmspec.commands.retune_file import RetuneFile
    from ssmspec.report.documents.retune import RetuneRendering
    from ssmspec.report.tables.compare import SHOWN_STATISTICS

    items = [(Path(path), target) for path, target in zip(paths, _targets(paths, writing), strict=True)]
    compared = AnalysisOptions(threads=place.threads, backend=writing.backend, statistics=None if writing.as_json else SHOWN_STATISTICS)
    render = RetuneRendering(writing.as_json)
    task = RetuneFile(recipe, options, compared, typed_command(), writing.force, writing.in_place, render)
    codes, before = [], "[\n"
    with closing(outcomes(task, items, place, lambda item: item[0])) as results:
        for found in results:
            if isinstance(found, Failure):
                complain(found.text)
                codes.append(found.exit_code)
                continue
            echo(f"{before}{found.text}" if writing.as_json else found.text, end="" if writing.as_json else "\n")
            before = ",\n"
            for note in found.notes:
                message(note)
    if writing.as_json:
        echo("\n]" if before.startswith(",") else "[]")
    if codes:
        raise typer.Exit(codes[0] if len(set(codes)) == 1 else 2)


def _targets(paths: Sequence[str], writing: Writing) -> list[Path | None]:
    from ssmspec.checkpoint.remote.path import is_address
    from ssmspec.commands.retune import default_target
    from ssmspec.files.writing import made_folder

    for path in paths:
        if is_address(path):
            raise SsmspecError(f"{path}: of several checkpoints, all must be local; --download fetches them")
    if writing.dry_run:
        return [None] * len(paths)
    if writing.in_place:
        return [Path(path) for path in paths]
    targets = [default_target(Path(path)) if writing.output is None else writing.output / Path(path).resolve().name for path in paths]
    seen: dict[Path, str] = {}
    for path, target in zip(paths, targets, strict=True):
        if target in seen:
            raise SsmspecError(f"{seen[target]} and {path} would both be written to {target}; give them in two commands")
        seen[target] = path
    if writing.output is not None:
        made_folder(writing.output)
    return [*targets]
