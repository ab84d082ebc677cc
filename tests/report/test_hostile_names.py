"""Names in files are hostile input: pictures draw them literally, and documents contain nothing that a reader would execute."""

import csv
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from program import Type, checkpoint, s4d_tensors

from ssmspec.errors import LayerError
from ssmspec.report.figures import FIGURES
from ssmspec.report.figures.style import literal, short_name

NAMES = (
    *("a$x^{$", "$$", r"\$a$b\frac", "_hidden", "=1+1", "@SUM(A1)", "-2", "</text>&"),
    *("a\u202eb", "a\u2028b", "a\x85b", "a\x9b31mb", "a\x7fb", "tab\tb"),
)
DRAWN = [name for name, kind in FIGURES.items() if kind.function is not None]


def hostile(folder: Path, name: str, file: str = "model") -> Path:
    tensors = {key.replace("layers.0", name, 1): value for key, value in s4d_tensors().items()}
    return checkpoint(folder, tensors, f"{file}.safetensors")


@pytest.mark.parametrize(("figure", "name"), [*((figure, "a$x^{$\u202e</b>") for figure in DRAWN), *(("poles", name) for name in NAMES)])
def test_every_picture_draws_the_name_as_it_is_spelled(typed: Type, tmp_path: Path, figure: str, name: str) -> None:
    path = hostile(tmp_path, name, "a$b^{$")
    done = typed("plot", figure, path, "-o", "x.svg", "--points", 16)
    assert done.code == 0, done.err
    words = "".join(ET.fromstring((tmp_path / "x.svg").read_text(encoding="utf-8")).itertext())
    shown = literal(name).replace(r"\$", "$")
    assert shown in words or "a$b^{$" in words
    assert all(character.isprintable() or character in "\n\t \xa0" for character in words)  # mathtext has spaces that do not break


@pytest.mark.parametrize("name", NAMES[:3])
def test_pictures_of_two_checkpoints_and_of_an_analysis(typed: Type, tmp_path: Path, name: str) -> None:
    before, after = hostile(tmp_path, name), hostile(tmp_path, name, "after")
    for arguments in (
        ("analyze", before, "--plot", "p"),
        ("plot", "compare", before, after, "-o", "x.svg"),
        ("compare", before, after, before, "--plot", "h"),
    ):
        done = typed(*arguments)
        assert done.code == 0, done.err
    assert literal(name).replace(r"\$", "$") in "".join(ET.fromstring((tmp_path / "x.svg").read_text(encoding="utf-8")).itertext())


@pytest.mark.parametrize("name", NAMES)
def test_documents_hold_nothing_that_is_not_printable_and_no_formula(typed: Type, tmp_path: Path, name: str) -> None:
    path = hostile(tmp_path, name)
    text = typed("analyze", path, "--json", "--csv", "x.csv", "--copies", "y.csv").out
    assert all(line.isprintable() for line in text.split("\n"))
    assert json.loads(text)["layers"][0]["name"] == name
    junit = typed("check", path, "--format", "junit").out
    assert all(line.isprintable() for line in junit.split("\n"))
    ET.fromstring(junit)
    assert json.loads(typed("check", path, "--format", "json").out)["checkpoints"][0]["layers"][0]["name"] == name
    compared = typed("compare", path, path, "--csv", "z.csv", "--json")
    assert all(line.isprintable() for line in compared.out.split("\n"))
    for table in ("x.csv", "y.csv", "z.csv"):
        rows = list(csv.reader((tmp_path / table).read_text(encoding="utf-8").splitlines()))
        cells = [cell for row in rows[1:] for cell in row]
        assert all(cell.isprintable() for cell in cells)
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@")) or (cell.startswith("-") and not is_number(cell))]


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell != "-2"  # the name of a layer


def test_an_error_is_one_printable_line_for_callers_of_the_python_interface() -> None:
    assert str(LayerError("layer a\x1b[31m\u2028b:\nwrong")) == r"layer a\x1b[31m\u2028b: wrong"


def test_a_short_name_keeps_what_it_escapes_whole() -> None:
    assert short_name("x" * 50 + "$", 10) == "..." + "x" * 6 + r"\$"
