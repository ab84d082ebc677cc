"""The result of `inspect` as text."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ssmspec.checkpoint import count_of_layers
from ssmspec.report.tables.parts import plain, plain_table, readable_size

MOST_TEXT = 200  # at most this many characters of a setting are shown


def inspection_tables(document: Mapping[str, Any]) -> RenderableType:
    """A document of schema ssmspec.inspect/1 as text."""
    checkpoint = document["checkpoint"]
    size = readable_size(checkpoint["bytes"])
    parts: list[RenderableType] = [
        plain(f"{checkpoint['path']}  ({checkpoint['container']}, {size}, {checkpoint['tensors']} tensors)", style="bold")
    ]
    rows = [
        (layer["name"] if first else "", layer["family"] if first else "", tensor["role"], name, _shape(tensor), _dtype(tensor))
        for layer in document["layers"]
        for first, (name, tensor) in _with_first(layer["tensors"].items())
    ]
    if rows:
        count = count_of_layers(layer["name"] for layer in document["layers"])
        headings = ("layer", "family", "role", "tensor", "shape", "dtype")
        parts += [Text(), plain_table(count.replace(" layer", " SSM layer", 1), headings, rows)]
    else:
        parts += [Text(), plain("no SSM layer")]
    if document["near_misses"]:
        near = [
            (miss["prefix"], miss["family"], ", ".join(miss["missing"]), "; ".join(miss["wrong"]), ", ".join(miss["unexpected"]))
            for miss in document["near_misses"]
        ]
        parts += [Text(), plain_table("near misses", ("under", "nearest family", "missing", "wrong", "unexpected"), near)]
    if document["other"]:
        other = [(item["kind"], item["name"], str(item["count"]), _shape(item), _dtype(item)) for item in document["other"]]
        parts += [Text(), plain_table("other tensors", ("what", "name", "count", "shape", "dtype"), other)]
    if document["config"]:
        parts += [Text(), plain("config: " + ", ".join(f"{key}={_cut(value)}" for key, value in document["config"].items()))]
    return Group(*parts, *(plain(f"note: {note}") for note in document["notes"]))


def _cut(value: object) -> str:
    text = str(value)
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}..."


def _shape(tensor: Mapping[str, Any]) -> str:
    return " x ".join("?" if size is None else str(size) for size in tensor["shape"]) or "scalar"


def _dtype(tensor: Mapping[str, Any]) -> str:
    return f"{tensor['dtype']} from {tensor['stored_as']}" if "stored_as" in tensor else tensor["dtype"]


def _with_first(items: Iterable[Any]) -> Iterator[tuple[bool, Any]]:
    for index, item in enumerate(items):
        yield index == 0, item
