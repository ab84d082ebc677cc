"""JSON of headers, indices and configurations, bounded: what a short text of brackets would grow to in memory is refused before."""

import json
from typing import Any

MAX_BYTES = 100_000_000  # of a text; the limit of the safetensors library for a header
MAX_VALUES = 4_000_000  # a header takes ten per tensor


def parse_json(data: bytes) -> Any:
    """The value that a text in UTF-8 holds.

    Raises:
        ValueError: no JSON, a key that occurs twice in one object, or more values or nestings than any checkpoint needs.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(data)} bytes, expected at most {MAX_BYTES}")
    values = sum(data.count(sign) for sign in (b",", b"[", b"{"))  # at least, but for commas and brackets inside of strings
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
