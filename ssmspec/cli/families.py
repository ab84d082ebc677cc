"""The command `families`."""

from ssmspec.cli.app import app
from ssmspec.cli.options import AsJson
from ssmspec.cli.terminal import echo


@app.command()
def families(as_json: AsJson = False) -> None:
    """List the supported checkpoint families with their tensors and sources."""
    from ssmspec.families import FAMILIES
    from ssmspec.report.documents.document import to_json
    from ssmspec.report.tables.parts import console, plain_table

    listed = [
        {
            "name": family.name,
            "title": family.title,
            "selective": family.selective,
            "tensors": [{slot.names: slot.shape for slot in template.values() if slot.required} for template in family.templates],
            "source": family.source,
        }
        for family in FAMILIES.values()
    ]
    if as_json:
        echo(to_json({"schema": "ssmspec.families/1", "families": listed}))
        return
    rows = [(f.name, f.title, ", ".join(s.names for s in f.templates[0].values() if s.required), f.source) for f in FAMILIES.values()]
    console().print(plain_table(f"{len(rows)} families", ("family", "what it is", "tensors", "source"), rows), highlight=False)
