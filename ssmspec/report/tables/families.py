"""Known families as text: all families with one line each, or one family with all details."""

from collections.abc import Collection

from rich.console import Group, RenderableType
from rich.text import Text

from ssmspec.families import Family
from ssmspec.families.assumption import shown
from ssmspec.families.template import Slot
from ssmspec.report.tables.parts import plain, plain_table


def families_table(families: Collection[Family]) -> RenderableType:
    """A table with one line per family."""
    rows = [
        (
            family.name,
            family.title,
            ", ".join(slot.names for slot in family.templates[0].values() if slot.required),
            ", ".join(assumption.name for assumption in family.assumptions),
            family.source,
        )
        for family in families
    ]
    return plain_table(f"{len(rows)} families", ("family", "what it is", "tensors", "assumes", "source"), rows)


def family_text(family: Family) -> RenderableType:
    """One family: the tensors of every layout with their shapes, and what it assumes."""
    layouts = [
        plain_table(
            "tensors" if len(family.templates) == 1 else f"tensors, layout {number} of {len(family.templates)}",
            ("name ends in", "shape", ""),
            [(" or ".join(slot.suffixes()), _shape(slot.shape), _presence(slot)) for slot in template.values()],
        )
        for number, template in enumerate(family.templates, start=1)
    ]
    parts: list[RenderableType] = [plain(f"{family.name}: {family.title}", style="bold"), plain(f"source: {family.source}"), Text()]
    for layout in layouts:
        parts += [layout, Text()]
    if not family.assumptions:
        return Group(*parts, plain("assumptions: none"))
    return Group(*parts, _assumptions(family))


def _assumptions(family: Family) -> RenderableType:
    rows = [(f"{each.name}={each.choices()}", shown(each.usual), each.told_by, each.about, each.source) for each in family.assumptions]
    return plain_table("assumptions, set with --assume", ("NAME=VALUE", "default", "told by", "what it decides", "source"), rows)


def _presence(slot: Slot) -> str:
    """When a layer has the tensor."""
    words = (["optional"] if slot.optional else []) + ([f"with {slot.group}"] if slot.group else [])
    return ", ".join(words)


def _shape(shape: str) -> str:
    return " or ".join(part or "one number" for part in shape.split("|"))
