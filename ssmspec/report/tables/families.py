"""Known families as text: all families with one line each, or one family with all details."""

from collections.abc import Collection

from rich.console import Group, RenderableType
from rich.text import Text

from ssmspec.families import Family
from ssmspec.families.assumption import shown
from ssmspec.families.named import NAMED
from ssmspec.families.template import Slot
from ssmspec.report.tables.parts import plain, plain_table


def families_table(families: Collection[Family], named: Collection[Family] = ()) -> RenderableType:
    """A table per group with one line per family.

    Args:
        named: what is recognized and not read; `fixed` says why.
    """
    groups: dict[str, list[tuple[str, ...]]] = {}
    for family in families:
        assumed = ", ".join(assumption.name for assumption in family.assumptions)
        groups.setdefault(family.group, []).append((family.name, family.title, _tensors(family), assumed, family.source))
    headings = ("family", "what it is", "tensors", "assumes", "source")
    parts = [plain(f"{len(families)} families", style="bold")]
    tables = [plain_table(f"{group} ({len(rows)})", headings, rows) for group, rows in groups.items()]
    if named:
        rows = [(family.name, family.title, _tensors(family), family.fixed, family.source) for family in named]
        tables.append(plain_table(f"named only ({len(rows)})", ("name", "what it is", "tensors", "why it is not read", "source"), rows))
    return Group(*parts, *(part for table in tables for part in (Text(), table)))


def _tensors(family: Family) -> str:
    return ", ".join(slot.names for slot in family.templates[0].values() if slot.required)


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
    if family.fixed:
        parts += [plain(f"not {'read' if family.name in NAMED else 'written back'}: {family.fixed}"), Text()]
    if not family.assumptions:
        return Group(*parts, plain("assumptions: none"))
    return Group(*parts, _assumptions(family))


def _assumptions(family: Family) -> RenderableType:
    rows = [
        (
            f"{each.name}={each.choices()}",
            "none, it must be said" if each.required else shown(each.usual),
            each.told_by,
            each.about,
            each.source,
        )
        for each in family.assumptions
    ]
    return plain_table("assumptions, set with --assume", ("NAME=VALUE", "default", "told by", "what it decides", "source"), rows)


def _presence(slot: Slot) -> str:
    """When a layer has the tensor."""
    words = (["optional"] if slot.optional else []) + ([f"with {slot.group}"] if slot.group else [])
    return ", ".join(words)


def _shape(shape: str) -> str:
    return " or ".join(part or "one number" for part in shape.split("|"))
