"""What Weights & Biases keeps of an offline run: records of protocol buffers in blocks, as LevelDB writes its log."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEAD = 1 << 15, 7  # bytes of a block, and of the header of the file and of every record
WHOLE, FIRST, MIDDLE, LAST = range(1, 5)


def records(folder: Path) -> Iterator[Any]:
    """The records of the one run below a folder."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.rglob("*.wandb")
    for content in _contents(path.read_bytes()):
        record = Record()
        record.ParseFromString(content)
        yield record


def _contents(data: bytes) -> Iterator[bytes]:
    place, parts = HEAD, b""
    while place + HEAD <= len(data):
        if BLOCK - place % BLOCK < HEAD:
            place += BLOCK - place % BLOCK
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        parts += data[place + HEAD : place + HEAD + length]
        place += HEAD + length
        if kind in (WHOLE, LAST):
            yield parts
            parts = b""


def logged(folder: Path) -> list[dict[str, Any]]:
    """What each call of `log` logged, by name."""
    return [_values(record.history.item) for record in records(folder) if record.WhichOneof("record_type") == "history"]


def summary(folder: Path) -> dict[str, Any]:
    """What the summary held in the end, beside what was logged."""
    found = {}
    for record in records(folder):
        if record.WhichOneof("record_type") == "summary":
            found |= _values(record.summary.update)
    return found


def axes(folder: Path) -> dict[str, str]:
    """The axis of every group of names."""
    found = [record.metric for record in records(folder) if record.WhichOneof("record_type") == "metric"]
    return {metric.glob_name: metric.step_metric for metric in found if metric.glob_name}


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
