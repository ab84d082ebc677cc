"""Values of a command line that are what they should be, taken without Typer's converters.

Since 0.28, Typer converts values with pydantic, which takes a quarter of a second to import and set up: a fifth of an analysis of a small
file. Most values need no converter: an option that was not given has its default, and text and paths arrive as text. All others, and all
values in older or newer versions that work differently, are left to Typer.
"""

import os
from pathlib import Path
from typing import Any, get_args, get_origin


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
            wanted = get_args(kind)[0]
            if all(_is_plain(each, wanted, information) for each in value):
                return [wanted(each) for each in value]
        elif not several and kind is not str and type(value) is kind:  # a default: what was typed is text
            return value
        elif not several and _is_plain(value, kind, information):
            return kind(value)
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _is_plain(value: Any, wanted: Any, information: Any) -> bool:
    """Whether a value is text that is wanted as text, or as a path of which Typer would check nothing but that it can be read."""
    if information.parser is not None or not isinstance(value, str):
        return False
    if wanted is Path:
        checks = (information.exists, information.writable, information.resolve_path, information.path_type)
        loose = information.file_okay and information.dir_okay and not any(checks)
        return bool(loose) and "\0" not in value and (os.access(value, os.R_OK) or not os.path.lexists(value))
    return wanted is str
