"""What all documents share: their type, their schemas, and the conversion of documents and rows to text."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from ssmspec.checkpoint.remote.traffic import Opened, Transfer
from ssmspec.errors import printable

Document = dict[str, Any]

FORMULA = ("=", "+", "-", "@")  # how a cell that a spreadsheet computes begins


def schema(name: str) -> Document:
    """A JSON schema of the package by its short name, such as "analyze-1"."""
    text = files("ssmspec.report").joinpath("schemas", f"{name}.json").read_text(encoding="utf-8")
    document: Document = json.loads(text)
    return document


def transfer_document(transfer: Transfer | None) -> Document:
    """What was read of a remote checkpoint: an entry of its own, or nothing of a local one."""
    return {} if transfer is None else {"read": asdict(transfer)}


def read_document(opened: Iterable[Opened]) -> Document:
    """What was read of remote checkpoints, in a document that is about several: an entry of its own, or nothing if all are local."""
    entries = [{"path": each.path, "size": each.size, **asdict(each.transfer)} for each in opened]
    return {"read": entries} if entries else {}


def to_json(document: Document | list[Document]) -> str:
    """Indented JSON. A number that is not finite is a bug, so it raises ValueError and is not written."""
    return "\n".join(map(escaped, json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False).split("\n")))


def escaped(line: str) -> str:
    """A line of JSON with \\u escapes for what is not printable: controls, line separators, marks of direction, lone surrogates."""
    if line.isprintable():
        return line
    return "".join(character if character.isprintable() else json.dumps(character)[1:-1] for character in line)


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV with "\\n" as line ending. None becomes an empty cell. Text is printable and never a formula to a spreadsheet."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    """Text without controls; an apostrophe stands before what a spreadsheet would compute (OWASP, CSV Injection)."""
    if not isinstance(value, str):
        return value
    shown = printable(value)
    return f"'{shown}" if shown.startswith(FORMULA) else shown
