"""The pages that take the place of a README of everything name every command, option, family, statistic, rule, schema and variable."""

import re
from contextlib import suppress
from pathlib import Path

import pytest
from locations import ROOT
from pages import DOCS, PAGES

from ssmspec.checking.rules import BUILT_IN
from ssmspec.cli import COMMANDS, whole_app
from ssmspec.families import FAMILIES
from ssmspec.families.named import NAMED
from ssmspec.statistics import STATISTICS


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    """The pages that Sphinx writes from the program."""
    import sys

    sys.path.insert(0, str(DOCS / "_ext"))
    try:
        import reference_pages
    except ImportError as error:
        pytest.skip(f"the pages are written in a build of the site: {error}")
    finally:
        sys.path.remove(str(DOCS / "_ext"))
    return reference_pages.pages()


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_page_with_all_its_options(command: str, generated: dict[str, str]) -> None:
    import typer

    assert f"`ssmspec {command}" in page("reference/commands.md")
    assert f"generated/command-{command}\n" in page("reference/commands.md")
    text = generated[f"command-{command}"]
    group = typer.main.get_command(whole_app())
    for option in group.commands[command].params:  # type: ignore[attr-defined]
        names = option.opts if option.param_type_name == "option" else []
        assert all(f"{name}" in text for name in names), names
    assert "\n## Examples\n" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_the_help_have_options_that_exist(command: str) -> None:
    """They name files that do not exist, so they are parsed and not run."""
    import shlex

    import typer

    group = typer.main.get_command(whole_app())
    found = group.commands[command]  # type: ignore[attr-defined]
    for example in found.epilog.splitlines():
        words = shlex.split(example)
        assert words[0] == command
        with suppress(typer.Exit):  # --list prints at once
            found.make_context(command, words[1:])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_in_the_reference_with_its_source_tensors_and_assumptions(family: str, generated: dict[str, str]) -> None:
    known, text = FAMILIES[family], plain(generated[f"family-{family}"])
    assert plain(known.source) in plain(generated["families"])
    assert plain(known.source) in text
    assert plain(known.title) in text
    for template in known.templates:
        assert all(suffix in text for slot in template.values() for suffix in slot.suffixes())
    assert all(plain(assumption.name) in text and plain(assumption.about) in text for assumption in known.assumptions)


def plain(written: str) -> str:
    """Markdown without its escapes."""
    return re.sub(r"\\(.)", r"\1", written)


@pytest.mark.parametrize("name", NAMED)
def test_what_is_recognized_only_is_in_the_reference_with_the_reason(name: str, generated: dict[str, str]) -> None:
    assert f"| `{name}` |" in generated["families"]
    assert plain(NAMED[name].fixed) in plain(generated["families"])


@pytest.mark.parametrize("statistic", STATISTICS)
def test_every_statistic_is_in_the_documentation(statistic: str) -> None:
    assert f"| `{statistic}` |" in page("statistics.md")


def test_every_statistic_and_distance_is_in_the_page_of_statistics() -> None:
    from ssmspec.statistics.curves import CURVES
    from ssmspec.statistics.distances import DISTANCES

    text = page("statistics.md")
    for entry in (*STATISTICS.values(), *CURVES.values(), *DISTANCES.values()):
        line = next((line for line in text.splitlines() if line.startswith(f"| `{entry.name}` |")), None)
        assert line is not None, entry.name
        assert entry.source in line.replace("&#124;", "|")
        assert f"| {entry.unit or '1'} |" in line


@pytest.mark.parametrize("rule", BUILT_IN)
def test_every_rule_is_in_its_page_with_its_severity(rule: str, generated: dict[str, str]) -> None:
    row = f"| `{rule}` | {BUILT_IN[rule].severity} |"
    assert row in page("reference/rules.md")
    assert row in generated["rules"]


def test_every_schema_is_in_its_page(generated: dict[str, str]) -> None:
    schemas = sorted((ROOT / "ssmspec" / "report" / "schemas").glob("*.json"))
    assert len(schemas) > 5
    assert all(f"File: `{path.name}`" in generated["schemas"] for path in schemas)


def test_every_environment_variable_is_in_its_page() -> None:
    text = page("reference/environment.md")
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "ssmspec").rglob("*.py"))
    read = set(re.findall(r"environ(?:\.get\(|\[)\"(\w+)\"", sources)) | {"SSMSPEC_CACHE", "WORLD_SIZE", "RANK"}
    assert {name for name in read if f"`{name}`" not in text} == set()


def test_every_exit_code_is_in_its_page() -> None:
    from ssmspec.errors import INTERRUPTED, NoLayerError, SsmspecError

    text = page("reference/exit-codes.md")
    assert all(f"| {code} |" in text for code in (0, 1, SsmspecError.exit_code, NoLayerError.exit_code, INTERRUPTED))


def test_every_public_name_is_in_the_page_of_the_api(generated: dict[str, str]) -> None:
    import reference_pages

    import ssmspec

    lines = "\n".join(reference_pages.public_names())
    assert all(re.search(rf":: ssmspec\.{name}$", lines, re.MULTILINE) for name in ssmspec.__all__)
    assert "public-names" in page("reference/python.md")


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = set()
    for path in PAGES:
        for block in re.findall(r"```\{toctree\}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            entries = [line.strip() for line in block.splitlines() if line.strip() and not line.startswith(":")]
            listed |= {(path.parent / entry).resolve().with_suffix(".md") for entry in entries}
    pages = {path.resolve() for path in PAGES if path.is_relative_to(DOCS)} - {(DOCS / "index.md").resolve()}
    assert pages <= listed


QUESTIONS = (
    "Is my initialization lost?",
    "Did training change what my model hears?",
    "How long does each head remember?",
    "Will my model work at another sampling rate?",
    "My loss explodes: which layer?",
    "Which alpha and beta for my data?",
    "Read a layout of my own",
    "Gate a pull request",
    "Watch a run in TensorBoard or W&B",
    "Compare thousands of checkpoints",
)


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_has_a_guide(question: str) -> None:
    titles = {path.read_text(encoding="utf-8").split("\n", 1)[0] for path in [*(DOCS / "how-to").glob("*.md"), DOCS / "choosing.md"]}
    assert f"# {question}" in titles


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_linked_files_and_headings_exist(path: Path) -> None:
    for target, _, heading in re.findall(r"\]\(([^)#\s]*)(#([^)\s]*))?\)", path.read_text(encoding="utf-8")):
        if target.startswith("http") or "generated/" in target or not (target or heading):
            continue
        file = path if not target else path.parent / target
        assert file.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in headings}, heading


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_rows_of_a_table_have_as_many_cells_as_its_head(path: Path) -> None:
    """A bar in a cell ends it, and Markdown drops the cells that are too many."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = table.splitlines()
        assert [row for row in rows if len(re.findall(r"(?<!\\)\|", row)) != len(re.findall(r"(?<!\\)\|", rows[0]))] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_picture_has_a_text_and_exists(path: Path) -> None:
    for text, target in re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", path.read_text(encoding="utf-8")):
        assert len(text) >= 8, target
        assert (path.parent / target).exists(), target
