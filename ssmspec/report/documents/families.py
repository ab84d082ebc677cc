"""Known families as a JSON document of schema ssmspec.families/1."""

from collections.abc import Iterable

from ssmspec.families import Family
from ssmspec.families.assumption import Assumption
from ssmspec.report.documents.document import Document
from ssmspec.version import __version__


def families_document(families: Iterable[Family], named: Iterable[Family] = ()) -> Document:
    """What `ssmspec families --json` prints: the tensors and assumptions of every family, and the source of both.

    Args:
        named: what is recognized and not read.
    """
    return {
        "schema": "ssmspec.families/1",
        "version": __version__,
        "families": [_family(family) for family in families],
        "named_only": [
            {
                "name": family.name,
                "title": family.title,
                "tensors": _required(family),
                "reason": family.fixed,
                "source": family.source,
            }
            for family in named
        ],
    }


def _required(family: Family) -> list[Document]:
    return [{slot.names: slot.shape for slot in template.values() if slot.required} for template in family.templates]


def _family(family: Family) -> Document:
    return {
        "name": family.name,
        "title": family.title,
        "selective": family.selective,
        "group": family.group,
        "not_written": family.fixed or None,
        "tensors": _required(family),
        "optional": [{slot.names: slot.shape for slot in template.values() if not slot.required} for template in family.templates],
        "unused_configuration": dict(family.unused),
        "assumptions": [_assumption(each) for each in family.assumptions],
        "source": family.source,
    }


def _assumption(assumption: Assumption) -> Document:
    return {
        "name": assumption.name,
        "about": assumption.about,
        "values": list(assumption.values),
        "number": assumption.typical is not None,
        "default": None if assumption.required else assumption.usual,
        "configuration_keys": list(assumption.keys),
        "told_by": assumption.told_by,
        "source": assumption.source,
    }
