"""The command `check`."""

from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssmspec.cli.app import command
from ssmspec.cli.options import FamilyName, LayerNames, Reading, Threads, expand, takes, thread_number
from ssmspec.cli.spreading import Spreading, outcomes
from ssmspec.cli.terminal import complain, echo, message
from ssmspec.errors import SsmspecError

if TYPE_CHECKING:
    from ssmspec.checking.findings import CheckReport
    from ssmspec.commands.check_file import CheckFile
    from ssmspec.parallel.workplace import Workplace

STARTER = "ssmspec-rules.toml"


class CheckFormat(StrEnum):
    text = "text"
    json = "json"
    junit = "junit"
    github = "github"


@command("check model.safetensors --rules rules.toml", "check --init rules.toml")
@takes(spreading=Spreading, reading=Reading)
def check(
    checkpoints: Annotated[
        list[str] | None,
        typer.Argument(metavar="CKPT...", help="Files, folders, globs or addresses; with --init, the file to write.", show_default=False),
    ] = None,
    rules: Annotated[
        Path | None, typer.Option("--rules", help="TOML file that turns rules off, and sets severities and thresholds.", show_default=False)
    ] = None,
    output_format: Annotated[CheckFormat, typer.Option("--format", help="What to print.")] = CheckFormat.text,
    strict: Annotated[bool, typer.Option("--strict", help="Treat warnings as failures.")] = False,
    shallow: Annotated[
        bool, typer.Option("--shallow", help="Read only the tensors that analysis needs, not every tensor of the layers.")
    ] = False,
    layer: LayerNames = None,
    init: Annotated[bool, typer.Option("--init", help=f"Write a commented rules file; default name: {STARTER}.")] = False,
    force: Annotated[bool, typer.Option("--force", help="With --init: replace an existing file.")] = False,
    threads: Threads = None,
    family: FamilyName = None,
    *,
    spreading: Spreading,
    reading: Reading,
) -> None:
    """Apply rules to every layer; the exit code is 1 if a rule fails.

    Built-in rules find what is always wrong or suspicious. A rules file adds limits on any statistic; 'ssmspec check --init' writes one.
    """
    from ssmspec.checking.rules_file import RuleSet, load_rules
    from ssmspec.commands.analyze import AnalysisOptions
    from ssmspec.commands.check_file import CheckFile

    if init:
        _write_starter(checkpoints or [STARTER], force=force)
        return
    if force:
        raise typer.BadParameter("it needs --init; give it too, or leave --force out", param_hint="--force")
    if not checkpoints:
        raise typer.BadParameter("give at least one checkpoint, or --init", param_hint="CKPT...")
    place = spreading.place(threads)
    paths = [reading.given(path) for path in expand(checkpoints)]
    options = AnalysisOptions(
        layers=tuple(layer or ()),
        family=family,
        read=reading.options(),
        threads=thread_number(threads) if place.alone else place.threads,
        files=len(paths),
    )
    task = CheckFile(RuleSet() if rules is None else load_rules(rules), options, shallow)
    report, codes = _check_all(paths, task, place, strict=strict)
    _print(report, output_format)
    if codes:
        raise typer.Exit(codes[0] if len(set(codes)) == 1 and not report.checks else 2)
    if not report.passed:
        raise typer.Exit(1)


def _check_all(paths: list[str], task: "CheckFile", place: "Workplace", *, strict: bool) -> tuple["CheckReport", list[int]]:
    """Check the files. A file that cannot be read is reported, and the rest are done."""
    from ssmspec.checking.findings import CheckReport, Unread
    from ssmspec.checkpoint.remote.path import without_secrets
    from ssmspec.commands.each_file import Failure

    checks, unread, codes = [], [], []
    with closing(outcomes(task if len(paths) > 1 else task.run, paths, place)) as results:
        for found in results:
            if isinstance(found, Failure):
                complain(found.text)
                unread.append(Unread(without_secrets(found.path), without_secrets(found.text)))
                codes.append(found.exit_code)
            else:
                checks.append(found)
    return CheckReport(tuple(checks), tuple(unread), strict=strict, rules_file=task.rules.source), codes


def _print(report: "CheckReport", output_format: CheckFormat) -> None:
    from ssmspec.report.documents.check import report_document, report_github, report_junit
    from ssmspec.report.documents.document import to_json
    from ssmspec.report.tables.check import print_report
    from ssmspec.report.tables.parts import console

    if output_format is CheckFormat.json:
        echo(to_json(report_document(report)))
    elif output_format is CheckFormat.junit:
        echo(report_junit(report))
    elif output_format is CheckFormat.github:
        if annotations := report_github(report):
            echo(annotations)
    else:
        print_report(report, console())


def _write_starter(names: list[str], *, force: bool) -> None:
    from ssmspec.checking.starter import starter_text
    from ssmspec.files.writing import Kind, whole_file

    if len(names) > 1:
        raise SsmspecError(f"--init writes one file, but {len(names)} were given: {', '.join(names[:4])}; give one")
    path = Path(names[0])
    if path.suffix != ".toml":
        raise SsmspecError(f"--init writes a rules file, and {path} is not a valid name for one; give a name that ends in .toml")
    if path.exists() and not force:
        raise SsmspecError(f"{path} exists; give another name, or --force to replace it")
    with whole_file(path, Kind.rules) as file:
        file.write(starter_text().encode())
    message(f"wrote {path}")
