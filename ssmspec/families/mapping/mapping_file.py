"""The text form of a mapping: a TOML file that describes how to read the tensors of an unknown layout.

    [[layer]]
    match = "blocks.*.ssm"         # glob of the layers' prefixes, "" for the root of the file
    kind = "siso"                  # siso: H channels of N modes; mimo: one system with I inputs, O outputs and N modes
    discretization = "zoh"         # zoh, bilinear, euler; direct: the poles are stored as they are on the z-plane
    output = "2Re"                 # 2Re: half of each conjugate pair is stored; Re: the output is the real part
    [layer.pole_real]
    tensor = "lambda_re"           # its name below the prefix
    transform = "-exp"             # from the stored number to the quantity
    axes = "H N"                   # what the axes of the tensor are

A layer of several directions says `directions = 4` or their names; "K H" and "K*H" are axes of tensors that hold all of them. P and Q make
the state matrix diag(pole) - P Q^*, and `kernel_length = L` says that C is stored as C (I - Abar^L).

A quantity may be a product or a sum of two tensors (`times`, `plus`, then `then`), and of a pair each part may have its own transform
(`transform_real`, `transform_imag`).

A layer that stores its convolution kernel is of the kind "kernel"; `ssmspec.families.mapping.explicit_mapped` has its keys.

Every table of a file becomes a family of its own, which claims only layers that `match` matches.
"""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ssmspec.errors import SsmspecError
from ssmspec.families.mapping import mapped, stacked
from ssmspec.families.mapping.combined import OPERATIONS, parse_other, parse_text
from ssmspec.families.mapping.explicit_mapped import explicit_family
from ssmspec.families.mapping.mapped import COMPLEX, LETTERS, POLE, Layout, Part, template
from ssmspec.families.mapping.transform import IDENTITY
from ssmspec.families.template import Family
from ssmspec.files.reading import known_keys, parse_toml, read_toml, shown
from ssmspec.systems.statespace import DISCRETIZATIONS

KINDS = {"siso": "HNR", "mimo": "NIOR"}
"""Kind -> the letters that are allowed for its axes."""
DEFAULT_AXES = {
    "siso": dict.fromkeys((*POLE, "B", "B_scale", "C", "P", "Q"), "H N") | {"step": "H", "D": "H"},
    "mimo": dict.fromkeys((*POLE, "step", "B_scale", "P", "Q"), "N") | {"B": "N I", "C": "O N", "D": "I"},
}
OUTPUTS = ("2Re", "Re")
REQUIRED = ("match", "kind", "discretization", "output")
OTHERS = ("delay", "directions", "kernel_length")
MOST_DIRECTIONS = 64
POLES = ({"pole"}, {"pole_real"}, {"pole_real", "pole_imag"}, {"pole_abs", "pole_phase"})  # the last one only on the z-plane


def load_mapping(path: Path | str) -> tuple[Family, ...]:
    """The families that a mapping file describes, in its order.

    Raises:
        SsmspecError: the file cannot be read, is not valid TOML, or has invalid content; one line that names the file.
    """
    return _families(read_toml(Path(path)), str(path))


def parse_mapping(text: str, source: str) -> tuple[Family, ...]:
    """The same from the text of such a file; messages refer to it as `source`.

    Raises:
        SsmspecError: the same errors as `load_mapping`.
    """
    return _families(parse_toml(text, source), source)


def _families(document: Mapping[str, Any], source: str) -> tuple[Family, ...]:
    layers = document.get("layer")
    if not isinstance(layers, list) or not layers or not all(isinstance(layer, dict) for layer in layers):
        raise SsmspecError(f"{source}: has no [[layer]] table (with two brackets); expected at least one")
    known_keys(document, ("layer",), source)
    names = ["mapped"] if len(layers) == 1 else [f"mapped-{number}" for number in range(1, len(layers) + 1)]
    found = []
    for number, (name, layer) in enumerate(zip(names, layers, strict=True), start=1):
        where = f"{source}: [[layer]] {number}"
        explicit = layer.get("kind") == "kernel"
        found.append(explicit_family(name, layer, source, where) if explicit else _family(name, _layout(layer, source, where)))
    return tuple(found)


def _family(name: str, layout: Layout) -> Family:
    reader = stacked if layout.directions else mapped
    return Family(
        name=name,
        title="as described by a mapping",
        source=layout.source,
        templates=(template(layout),),
        read=partial(reader.read, layout),
        write=partial(reader.write, layout),
        match=layout.match,
    )


def _layout(table: Mapping[str, Any], source: str, where: str) -> Layout:
    """One [[layer]] table; `where` starts every message about it."""
    known_keys(table, (*REQUIRED, *OTHERS, *LETTERS), where)
    missing = [key for key in REQUIRED if key not in table]
    if missing:
        raise SsmspecError(f"{where}: {', '.join(missing)} missing; a layer needs {', '.join(REQUIRED)}")
    if not isinstance(table["match"], str):
        raise SsmspecError(f"{where}: match is {shown(table['match'])}, expected a glob of layer names, such as 'layers.*'")
    kind = _choice(table, "kind", tuple(KINDS), where)
    discretization = _choice(table, "discretization", DISCRETIZATIONS, where)
    delay = table.get("delay", 0)
    if type(delay) is not int or delay not in (0, 1):
        raise SsmspecError(f"{where}: delay is {shown(delay)}, expected 0 (the output sees the input of its own step) or 1")
    parts = {
        quantity: _part(table[quantity], quantity, kind, f"{where}: {quantity}")
        for quantity in LETTERS
        if quantity in table and not (quantity == "step" and not isinstance(table["step"], dict))
    }
    _check_quantities(table, kind, discretization, where)
    _check_low_rank(table, discretization, where)
    _check_names(parts, where)
    return Layout(
        source=source,
        match=table["match"],
        discretization=discretization,
        half=_choice(table, "output", OUTPUTS, where) == "2Re",
        delay=delay,
        step=None if "step" in parts or "step" not in table else _positive(table["step"], f"{where}: step"),
        kernel_length=_kernel_length(table.get("kernel_length", 0), where),
        directions=_directions(table.get("directions"), parts, where),
        parts=parts,
    )


def _kernel_length(value: object, where: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 40:
        raise SsmspecError(f"{where}: kernel_length is {shown(value)}, expected a number of samples (0: C is stored as it is)")
    return value


def _directions(value: object, parts: Mapping[str, Part], where: str) -> tuple[str, ...]:
    """Name ends of the directions: numbers where a count is given."""
    counted = any(axis.startswith("K") for part in parts.values() for axis in part.axes)
    if value is None:
        if counted:
            raise SsmspecError(f"{where}: an axis K counts directions, and directions is missing; expected a number or a list of names")
        return ()
    names: list[Any] = [str(number) for number in range(value)] if type(value) is int and value <= MOST_DIRECTIONS else []
    if isinstance(value, list):
        names = value
    words = all(isinstance(name, str) and (name.isidentifier() or name.isdecimal()) for name in names)
    if not words or not 0 < len(set(names)) == len(names) <= MOST_DIRECTIONS:
        text = f"expected a number from 1 to {MOST_DIRECTIONS}, or a list of different names such as ['forward', 'backward']"
        raise SsmspecError(f"{where}: directions is {shown(value)}, {text}")
    if not counted and len(names) > 1:
        raise SsmspecError(f"{where}: directions is given, and no tensor has an axis K (or K*H, K*N) that counts them")
    return tuple(names)


def _check_low_rank(table: Mapping[str, Any], discretization: str, where: str) -> None:
    if "Q" in table and "P" not in table:
        raise SsmspecError(f"{where}: Q needs a P; the state matrix is diag(pole) - P Q^*")
    for key in ("P", "kernel_length"):
        if table.get(key) and discretization != "bilinear":
            raise SsmspecError(
                f"{where}: {key} needs discretization 'bilinear', which low-rank state matrices have; it is {discretization!r}"
            )


def _check_quantities(table: Mapping[str, Any], kind: str, discretization: str, where: str) -> None:
    poles = {quantity for quantity in POLE if quantity in table}
    possible = POLES if discretization == "direct" else POLES[:3]
    if poles not in possible:
        ways = "; ".join(" and ".join(sorted(way, reverse=True)) for way in possible)
        raise SsmspecError(f"{where}: poles are given by {', '.join(sorted(poles)) or 'nothing'}; with {discretization!r} expected {ways}")
    if discretization == "direct" and "step" in table:
        raise SsmspecError(f"{where}: step has no meaning with 'direct', where poles are discrete; remove it")
    if discretization != "direct" and "step" not in table:
        raise SsmspecError(
            f"{where}: step is missing, and {discretization!r} needs it: a table [layer.step], or a number such as step = 0.01"
        )
    if kind == "mimo" and not {"B", "C"} <= set(table):
        raise SsmspecError(f"{where}: a layer of kind 'mimo' needs both B and C")
    if "B_scale" in table and "B" not in table:
        raise SsmspecError(f"{where}: B_scale is given without B; add the B that it scales")


def _check_names(parts: Mapping[str, Part], where: str) -> None:
    seen: dict[str, str] = {}
    for quantity, part in parts.items():
        for name in part.names:
            if name in seen:
                raise SsmspecError(f"{where}: tensor {shown(name)} is named twice, by {seen[name]} and by {quantity}")
            seen[name] = quantity
    for quantity, part in parts.items():
        if part.other is not None and part.other.name in seen:
            raise SsmspecError(
                f"{where}: tensor {shown(part.other.name)} is the {part.other.operation} of {quantity} and the tensor of "
                f"{seen[part.other.name]}; exchange the two tensors of one of them"
            )


def _part(table: object, quantity: str, kind: str, where: str) -> Part:
    if not isinstance(table, dict):
        raise SsmspecError(f"{where} is {shown(table)}, expected a table [layer.{quantity}] with tensor = ...")
    own = ("real", "imag", "times", "transform_real", "transform_imag") if quantity in COMPLEX else ("scale", *OPERATIONS, "then")
    own = (*own, "multiples_from") if quantity == "pole_phase" else own
    known_keys(table, ("tensor", "axes", "transform", *own), where)
    two = {"real", "imag"} & set(table)
    if ("tensor" in table) == bool(two) or len(two) == 1:
        either = "tensor = ..., or both real = ... and imag = ..." if quantity in COMPLEX else "tensor = ..."
        raise SsmspecError(f"{where}: names {'too many tensors' if 'tensor' in table else 'too few tensors'}; expected {either}")
    names = tuple(_name(table[key], f"{where}: {key}") for key in ("tensor", "real", "imag") if key in table)
    axes = _axes(table.get("axes", DEFAULT_AXES[kind][quantity]), quantity, kind, where)
    text = table.get("transform", "none")
    other = parse_other(table, axes, where)
    if quantity not in COMPLEX:
        if "then" in table and other is None:
            raise SsmspecError(f"{where}: then applies to a product or a sum, but times and plus are missing; use transform")
        transform = parse_text(text, where, _positive(table.get("scale", 1.0), f"{where}: scale"))
        first = table.get("multiples_from", 0)
        if "multiples_from" in table and (type(first) is not int or not 0 < first < 1 << 20 or "N" in axes):
            raise SsmspecError(f"{where}: multiples_from is {shown(first)}, expected a whole number from 1, and no axis N")
        then = parse_text(table.get("then", "none"), f"{where}: then")
        return Part(names, axes, transform, other=other, then=then, multiples_from=first)
    if text not in ("none", "conj"):
        raise SsmspecError(
            f"{where}: transform {shown(text)} is unknown for complex numbers; expected none or conj, or transform_real and transform_imag"
        )
    sides = parse_text(table.get("transform_real", "none"), where), parse_text(table.get("transform_imag", "none"), where)
    return Part(names, axes, IDENTITY, conjugate=text == "conj", sides=sides, other=other)


def _axes(text: object, quantity: str, kind: str, where: str) -> tuple[str, ...]:
    letters = [letter for letter in LETTERS[quantity] if letter in KINDS[kind]]
    axes = tuple(text.split()) if isinstance(text, str) else ()
    possible = {"1", "K", *letters, *(f"K*{letter}" for letter in letters)}
    named = [letter for axis in axes if axis != "1" for letter in axis.split("*")]
    if not isinstance(text, str) or not set(axes) <= possible or len(set(named)) < len(named):
        raise SsmspecError(
            f"{where}: axes are {shown(text)}, expected a list such as {' '.join(letters)!r} of these letters and 1, once each"
            " (with K for directions, or K*H where one axis has both)"
        )
    return axes


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or not value or "|" in value:
        raise SsmspecError(f"{where} is {shown(value)}, expected the name of a tensor below the prefix")
    return value


def _positive(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise SsmspecError(f"{where} is {shown(value)}, expected a positive number")
    return _as_float(value, where)


def _as_float(value: float, where: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise SsmspecError(f"{where} is {shown(value)}, which is too large") from None


def _choice(table: Mapping[str, Any], key: str, choices: tuple[Any, ...], where: str) -> Any:
    if table[key] not in choices:
        raise SsmspecError(f"{where}: {key} {shown(table[key])} is unknown; choose one of {', '.join(choices)}")
    return table[key]
