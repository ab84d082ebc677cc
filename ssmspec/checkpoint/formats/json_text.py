"""JSON of headers, indices and configurations, with limits: a short text of brackets that would take much memory is refused beforehand."""

import json
from typing import Any

MAX_BYTES = 100_000_000  # per text; the limit of the safetensors library for a header
MAX_VALUES = 4_000_000  # a header has ten per tensor


def parse_json(data: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
        ValueError: not JSON, a key that occurs twice in one object, or more values or nesting levels than any checkpoint needs.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(data)} bytes, expected at most {MAX_BYTES}")
    values = sum(data.count(sign) for sign in (b",", b"[", b"{"))  # a lower bound, except that it also counts those in strings
    if values > MAX_VALUES:
        raise ValueError(f"about {values} values, expected at most {MAX_VALUES}")
    text = data.decode("utf-8")
    del data
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a name occurs twice")
    return entries
