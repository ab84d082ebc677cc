"""Pages of the reference that are written from the program itself, before Sphinx reads the sources.

They lie in docs/reference/generated, which git ignores. `pages` returns their text, which the tests compare with the program.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

FOLDER = Path("reference") / "generated"


def setup(app: Any) -> dict[str, bool]:
    """Write the pages when a build begins. Sphinx calls this."""
    app.connect("builder-inited", lambda app: write(Path(app.srcdir)))
    app.add_directive("public-names", PublicNames)
    app.connect("autodoc-process-docstring", _readable, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class PublicNames(SphinxDirective):
    """Documents every name of `ssmspec.__all__`, and the classes of what the public functions return."""

    def run(self) -> list[nodes.Node]:
        """The nodes of the autodoc directives."""
        node = nodes.section()
        node.document = self.state.document
        self.state.nested_parse(StringList(list(public_names()), source="ssmspec.__all__"), self.content_offset, node, match_titles=True)
        return node.children


RESULTS = (
    "ssmspec.api.analyze.Analysis",
    "ssmspec.api.analyze.Analyses",
    "ssmspec.api.layer.Layer",
    "ssmspec.api.compare.Comparison",
    "ssmspec.api.compare.LayerChange",
    "ssmspec.api.check.Check",
    "ssmspec.api.check.LayerFindings",
    "ssmspec.api.reduce.Reduced",
    "ssmspec.api.reduce.ReducedLayer",
    "ssmspec.api.retune.Retuned",
    "ssmspec.api.retune.RetunedLayer",
    "ssmspec.api.plots.Plots",
    "ssmspec.probing.result.Probe",
    "ssmspec.probing.pictures.ProbePlots",
    "ssmspec.statistics.frequency_sensitivity.FrequencySensitivity",
    "ssmspec.statistics.frequency_sensitivity.FeatureSpectrum",
    "ssmspec.statistics.results.TokenBand",
    "ssmspec.probing.calibrate_result.Calibration",
    "ssmspec.probing.calibrate_result.LayerRecord",
)


REGISTRIES = {
    "FAMILIES": "A `Family` by its name: tensors, assumptions, source, reader and writer. :doc:`/reference/generated/families` lists them.",
    "STATISTICS": "A `Statistic` by its name: unit, axis, definition, source and function. :doc:`/statistics` lists them.",
}


def _readable(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Let docstrings write |H|, which would be a substitution, and code that is only indented."""
    found: list[str] = []
    code = False
    for line in lines:
        last = next((earlier for earlier in reversed(found) if earlier), "")
        if line and not line.startswith(" "):
            code = False
        elif line.startswith("    ") and not code and last and not found[-1] and not last.startswith(" "):
            found += ["::", ""]
            code = True
        found.append(line if code else line.replace("|", "\\|"))
    lines[:] = found


def public_names() -> Iterator[str]:
    """The lines of the directives, functions first."""
    import inspect

    import ssmspec

    kinds: dict[str, list[str]] = {"function": [], "class": [], "data": []}
    for name in ssmspec.__all__:
        value = getattr(ssmspec, name)
        kinds["class" if inspect.isclass(value) else "function" if callable(value) else "data"].append(f"ssmspec.{name}")
    for title, kind, names in (
        ("Functions", "function", kinds["function"]),
        ("What they return", "class", RESULTS),
        ("Classes", "class", kinds["class"]),
    ):
        yield from ("", title, "-" * len(title), "")
        for name in names:
            yield f".. auto{kind}:: {name}"
            yield from ("   :members:", "   :inherited-members: Sequence, Exception") if kind == "class" else ()
            yield ""
    yield from ("", "Registries", "----------", "")
    for name in kinds["data"]:
        yield from (f".. py:data:: {name}", "", f"   {REGISTRIES[name.removeprefix('ssmspec.')]}", "")


def write(docs: Path) -> None:
    """Write every page that differs from the one on disk, and remove those that are no pages anymore."""
    folder = docs / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    found = pages()
    for name, text in found.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in folder.glob("*.md"):
        if path.stem not in found:
            path.unlink()


def pages() -> dict[str, str]:
    """The text of every generated page, by its name without the suffix."""
    return {**dict(command_pages()), **family_pages(), "rules": rules_page(), "schemas": schemas_page()}


def command_pages() -> Iterator[tuple[str, str]]:
    """A page per command: what it does, its usage, its options by panel, its examples."""
    import typer

    from ssmspec.cli import whole_app

    group = typer.main.get_command(whole_app())
    for name, command in sorted(group.commands.items()):  # type: ignore[attr-defined]
        context = command.make_context(f"ssmspec {name}", [], resilient_parsing=True, **group.context_settings)
        yield f"command-{name}", _command_page(name, command, context)


def _command_page(name: str, command: Any, context: Any) -> str:
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        panel = "Arguments" if parameter.param_type_name == "argument" else getattr(parameter, "rich_help_panel", None) or "Options"
        if record:
            panels.setdefault(panel, []).append(record)
    usage = " ".join(["ssmspec", name, *command.collect_usage_pieces(context)])
    parts = [f"# ssmspec {name}", _paragraphs(command.help or ""), f"```text\n{usage}\n```"]
    for panel in sorted(panels, key=("How to read the file", "Engine").__contains__):
        parts += [f"## {panel}", table(("option" if panel != "Arguments" else "argument", "what it does"), map(_option, panels[panel]))]
    if command.epilog:
        examples = "\n".join(f"ssmspec {line}" for line in command.epilog.splitlines())
        parts += ["## Examples", f"```console\n{examples}\n```"]
    return "\n\n".join(parts) + "\n"


def _option(record: tuple[str, str]) -> tuple[str, str]:
    return f"`{record[0]}`", text(record[1])


def _paragraphs(written: str) -> str:
    return "\n\n".join(text(" ".join(part.split())) for part in written.replace("\b", "").split("\n\n"))


def family_pages() -> dict[str, str]:
    """A page with all families, and one page with the details of each."""
    from ssmspec.families import FAMILIES
    from ssmspec.families.named import NAMED
    from ssmspec.report.documents.families import families_document

    document = families_document(FAMILIES.values(), NAMED.values())
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for family in document["families"]:
        groups.setdefault(family["group"], []).append(family)
    parts = ["# Families", f"ssmspec reads {len(document['families'])} families of layers. `ssmspec families` prints the same list."]
    for group, members in groups.items():
        rows = [(f"[`{each['name']}`](family-{each['name']}.md)", text(each["title"]), text(each["source"])) for each in members]
        parts += [f"## {group.capitalize()}", table(("family", "what it is", "source of names and formulas"), rows)]
    rows = [(f"`{each['name']}`", text(each["title"]), text(each["reason"]), text(each["source"])) for each in document["named_only"]]
    parts += ["## Recognized, and not read", table(("name", "what it is", "why it is not read", "source"), rows)]
    names = "\n".join(f"family-{family['name']}" for family in document["families"])
    parts.append(f"```{{toctree}}\n:hidden:\n:maxdepth: 1\n\n{names}\n```")
    return {"families": "\n\n".join(parts) + "\n"} | {f"family-{each['name']}": _family_page(each) for each in document["families"]}


def _family_page(family: Mapping[str, Any]) -> str:
    from ssmspec.families import FAMILIES

    known = FAMILIES[family["name"]]
    parts = [f"# {family['name']}", f"{text(known.title)}. Read {_as_what(known)}.", f"Source of names and formulas: {text(known.source)}"]
    if formula := _formula(known):
        parts += ["## Formula", formula]
    for number, template in enumerate(known.templates, start=1):
        parts.append("## Tensors" if len(known.templates) == 1 else f"## Tensors, layout {number} of {len(known.templates)}")
        rows = [
            (
                " or ".join(f"`{name}`" for name in slot.suffixes()),
                " or ".join(f"`{part}`" if part else "one number" for part in slot.shape.split("|")),
                ", ".join([*(["optional"] if slot.optional else []), *([f"with {slot.group}"] if slot.group else [])]) or "always",
            )
            for slot in template.values()
        ]
        parts.append(table(("name ends in", "shape", "present"), rows))
    parts.append("## Assumptions")
    if known.assumptions:
        rows = [(f"`{each.name}={each.choices()}`", text(each.about), text(each.told_by), text(each.source)) for each in known.assumptions]
        parts += [
            "The first value is the default. Another one is given with `--assume NAME=VALUE`.",
            table(("`--assume`", "what it decides", "told by", "source"), rows),
        ]
    else:
        parts.append("None: the tensors say everything.")
    if known.unused:
        parts += [
            "## Configuration keys that are not used",
            table(("key", "why"), [(f"`{key}`", text(why)) for key, why in known.unused.items()]),
        ]
    parts += [
        "## Writing",
        f"`ssmspec retune` cannot write it: {text(known.fixed)}." if known.fixed else "`ssmspec retune` writes it back.",
    ]
    return "\n\n".join(parts) + "\n"


def _as_what(family: Any) -> str:
    kinds = {
        "explicit kernels": "as an explicit kernel, without poles",
        "at an operating point": "at an [operating point](../../concepts/selective.md)",
    }
    return kinds.get(family.group, "as a time-invariant system")


def _formula(family: Any) -> str:
    """The docstring of the module that reads the family, as it stands there."""
    import inspect

    module = inspect.getmodule(getattr(family.read, "func", family.read))
    written = inspect.getdoc(module) if module is not None and ".families.known." in module.__name__ else None
    return f"```text\n{written}\n```" if written else ""


def rules_page() -> str:
    """The built-in rules of `ssmspec check`."""
    from ssmspec.checking.rules import BUILT_IN

    rows = [(f"`{rule.id}`", rule.severity, text(rule.description)) for rule in BUILT_IN.values()]
    return "# Built-in rules\n\n" + table(("rule", "severity", "fires on"), rows) + "\n"


def schemas_page() -> str:
    """The JSON schemas, as they are in the package."""
    from importlib.resources import files

    parts = [
        "# JSON schemas",
        "Every JSON document names its schema in the field `schema`. The schemas are files of the package, in `ssmspec/report/schemas`.",
    ]
    for path in sorted(files("ssmspec.report").joinpath("schemas").iterdir(), key=lambda path: path.name):
        schema = json.loads(path.read_text(encoding="utf-8"))
        rows = [(f"`{key}`", _type(value), text(value.get("description", ""))) for key, value in schema.get("properties", {}).items()]
        parts += [f"## {schema['$id']}", f"{text(schema['title'])}. File: `{path.name}`.", table(("field", "type", "what it is"), rows)]
        whole = json.dumps(schema, indent=2, ensure_ascii=False)
        parts.append(f"<details><summary>The whole schema</summary>\n\n```json\n{whole}\n```\n\n</details>")
    return "\n\n".join(parts) + "\n"


def _type(value: Mapping[str, Any]) -> str:
    if "const" in value:
        return f"`{value['const']}`"
    kind = value.get("type", "object" if "$ref" in value else "")
    return " or ".join(kind) if isinstance(kind, list) else kind


def table(headings: tuple[str, ...], rows: Any) -> str:
    """A Markdown table. A cell is Markdown; its bars are escaped here."""
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in line) + " |" for line in lines)


def text(written: str) -> str:
    """Plain text as Markdown: signs that mean something there are escaped."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>#$" else sign for sign in written)
