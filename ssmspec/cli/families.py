"""The command `families`."""

from typing import Annotated

import typer

from ssmspec.cli.app import app
from ssmspec.cli.options import AsJson
from ssmspec.cli.terminal import echo
from ssmspec.errors import SsmspecError


@app.command()
def families(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show only this family, with all details.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the supported checkpoint families with their tensors, assumptions and sources."""
    from ssmspec.families import FAMILIES
    from ssmspec.report.documents.document import to_json
    from ssmspec.report.documents.families import families_document
    from ssmspec.report.tables.families import families_table, family_text
    from ssmspec.report.tables.parts import console

    if name is not None and name not in FAMILIES:
        raise SsmspecError(f"family {name!r} is unknown; choose one of {', '.join(FAMILIES)}")
    chosen = list(FAMILIES.values()) if name is None else [FAMILIES[name]]
    if as_json:
        echo(to_json(families_document(chosen)))
    else:
        console().print(families_table(chosen) if name is None else family_text(chosen[0]), highlight=False)
