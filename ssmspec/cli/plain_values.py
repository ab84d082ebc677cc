"""Values of a command line that are what they should be, taken without Typer's converters.

Recent versions of Typer convert values with pydantic, which takes a quarter of a second to import and set up: a fifth of an analysis of a
small file. Most values need no converter: an option that was not given has its default, text and paths arrive as text, and usual numbers
and names are easily told. All others, and all values in versions that work differently, are left to Typer, with its messages.
"""

import os
import re
from enum import Enum
from math import inf
from pathlib import Path
from typing import Any, get_args, get_origin

NUMBERS: dict[Any, re.Pattern[str]] = {
    int: re.compile(r"[+-]?[0-9]{1,18}"),
    float: re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,30})?(e[+-]?[0-9]{1,3})?"),
}


def with_plain_values(parameters: list[Any]) -> list[Any]:
    """The parameters of a command, which convert plain values here, and only the others in Typer."""
    for parameter in parameters:
        if getattr(parameter, "_runtime_param", parameter) is None and hasattr(parameter, "get_runtime_param"):
            parameter._runtime_param = _Plain()
    return parameters


class _Plain:
    """Stands where Typer keeps the converter of a parameter, until a value needs that."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as the function of the command takes it."""
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        kind, information = param.type_descriptor.annotation, param.type_descriptor.parameter_info
        if several and get_origin(kind) is list and not isinstance(value, str):
            kind = get_args(kind)[0]
            if all(_is_plain(each, kind, information) for each in value):
                return [kind(each) for each in value]
        elif not several and kind is not str and type(value) is kind:  # a default: what was typed is text
            return value
        elif not several and _is_plain(value, kind, information):
            return kind(value)
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _is_plain(value: Any, wanted: Any, information: Any) -> bool:
    """Whether a typed value is `wanted(value)` without doubt: text, a usual number within its limits, a name, a path that can be read."""
    if information.parser is not None or not isinstance(value, str):
        return False
    if wanted is Path:  # of which Typer would check nothing else
        checks = (information.exists, information.writable, information.resolve_path, information.path_type)
        loose = information.file_okay and information.dir_okay and not any(checks)
        return bool(loose) and "\0" not in value and (os.access(value, os.R_OK) or not os.path.lexists(value))
    if wanted in NUMBERS:
        low, high = (-inf if information.min is None else information.min), (inf if information.max is None else information.max)
        return bool(NUMBERS[wanted].fullmatch(value)) and low <= wanted(value) <= high
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return any(value == each.value for each in wanted)
    return wanted is str
