"""The result of `inspect` as text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ssmspec.checkpoint import count_of_layers
from ssmspec.checkpoint.remote.traffic import Transfer
from ssmspec.report.tables.parts import MOST_LINES, count_of, grouped, plain, plain_table, read_of, readable_size

MOST_TEXT = 200  # at most this many characters of a setting are shown
MOST_NAMES = 8  # names of tensors in one cell
LINE = 110  # characters of a line of settings


def inspection_tables(document: Mapping[str, Any]) -> RenderableType:
    """A document of schema ssmspec.inspect/1 as text."""
    checkpoint = document["checkpoint"]
    size, tensors = readable_size(checkpoint["bytes"]), count_of(checkpoint["tensors"], "tensor")
    read = read_of(Transfer(**checkpoint["read"]) if "read" in checkpoint else None)
    parts: list[RenderableType] = [plain(f"{checkpoint['path']}  ({checkpoint['container']}, {size}, {tensors}{read})", style="bold")]
    rows = [row for layer in document["layers"] for row in _layer_rows(layer)]
    if rows:
        headings = ("layer", "family", "role", "tensor", "shape", "dtype")
        parts += [Text(), plain_table(_title(document["layers"]), headings, rows), *map(plain, _about_layers(document["layers"]))]
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
        parts += [Text(), *map(plain, _config_lines(document["config"]))]
    return Group(*parts, *(plain(f"note: {note}") for note in document["notes"]))


def _title(layers: Sequence[Mapping[str, Any]]) -> str:
    """How many layers there are, and how many of them are copies or unusable."""
    distinct = [layer["name"] for layer in layers if layer["copy_of"] is None]
    copies, unusable = len(layers) - len(distinct), sum(layer["problem"] is not None for layer in layers)
    extra = [f"{copies} {'copy' if copies == 1 else 'copies'} of them under other names"] if copies else []
    extra += [f"{unusable} unusable"] if unusable else []
    return ", ".join([count_of_layers(distinct).replace(" layer", " SSM layer", 1), *extra])


def _layer_rows(layer: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """One row per tensor with a role; one row for a copy of another layer."""
    name, family = layer["name"], layer["family"]
    if layer["copy_of"] is not None:
        yield name, family, "copy", f"of {layer['copy_of']}", "", ""
        return
    for index, (tensor_name, tensor) in enumerate(layer["tensors"].items()):
        role = tensor["role"] + ("" if tensor["read"] else " (not read)")
        yield name if index == 0 else "", family if index == 0 else "", role, tensor_name, _shape(tensor), _dtype(tensor)


def _about_layers(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is to be known of layers as a whole: whether they can be used, what else is under their names, and what they are called."""
    lines = grouped("unusable", [(layer["problem"], layer["name"]) for layer in layers if layer["problem"]], len(layers), most=MOST_LINES)
    lines += grouped("note", [(text, layer["name"]) for layer in layers for text in layer["faults"]], len(layers), most=MOST_LINES)
    directions = [(", ".join(f":{each.rpartition(':')[2]}" for each in layer["directions"]), layer["name"]) for layer in layers]
    lines += grouped("directions", [pair for pair in directions if pair[0]], len(layers), most=MOST_LINES)
    unread = [(_below(layer), layer["name"]) for layer in layers if layer["unread"]]
    lines += grouped("not read", unread, len(layers), most=MOST_LINES)
    copies = sum(layer["copy_of"] is not None for layer in layers)
    return lines + (["a copy holds the values of another layer; --layer takes the name of that one"] if copies else [])


def _below(layer: Mapping[str, Any]) -> str:
    """Names of the tensors under a layer that have no role in it, without the layer's own."""
    names = [name.removeprefix(f"{layer['name']}.") for name in layer["unread"]]
    return ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")


def _config_lines(config: Mapping[str, Any]) -> Iterator[str]:
    """The settings, as many to a line as fit."""
    line = "config:"
    for number, (key, value) in enumerate(config.items()):
        entry = f" {key}={_cut(value)}" + ("," if number < len(config) - 1 else "")
        if len(line) + len(entry) > LINE and line.strip():
            yield line
            line = " " * len("config:")
        line += entry
    yield line


def _cut(value: object) -> str:
    text = str(value)
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}..."


def _shape(tensor: Mapping[str, Any]) -> str:
    return " x ".join("?" if size is None else str(size) for size in tensor["shape"]) or "scalar"


def _dtype(tensor: Mapping[str, Any]) -> str:
    return f"{tensor['dtype']} from {tensor['stored_as']}" if "stored_as" in tensor else tensor["dtype"]
