"""The command `families`."""

from typing import Annotated

import typer

from ssmspec.cli.app import command
from ssmspec.cli.options import AsJson
from ssmspec.cli.terminal import echo
from ssmspec.errors import SsmspecError


@command("families s4d")
def families(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show only this family, with all details.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the supported checkpoint families with their tensors, assumptions and sources."""
    from ssmspec.families import FAMILIES
    from ssmspec.families.named import NAMED
    from ssmspec.report.documents.document import to_json
    from ssmspec.report.documents.families import families_document
    from ssmspec.report.tables.families import families_table, family_text
    from ssmspec.report.tables.parts import console

    known = {**FAMILIES, **NAMED}
    if name is not None and name not in known:
        raise SsmspecError(f"family {name!r} is unknown; choose one of {', '.join(known)}")
    chosen = [family for family in known.values() if name in (None, family.name)]
    read, named = [family for family in chosen if family.name in FAMILIES], [family for family in chosen if family.name in NAMED]
    if as_json:
        echo(to_json(families_document(read, named)))
    else:
        console().print(families_table(read, named) if name is None else family_text(chosen[0]), highlight=False)
