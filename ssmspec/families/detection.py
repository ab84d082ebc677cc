"""Detect the SSM layers in a set of tensors, and report prefixes that almost match a family."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from operator import is_

from ssmspec.errors import LayerError
from ssmspec.families.named import Recognized, recognize
from ssmspec.families.prefixes import candidate_prefixes
from ssmspec.families.template import Family, Fit, LayerTensors, Template, Tensor, fit, join

NEAR = 0.5  # an incomplete prefix is reported if it has at least this share of a template's required tensors


@dataclass(frozen=True, slots=True)
class NearMiss:
    """Tensors under one prefix that look like a layer but cannot be read as one."""

    prefix: str
    family: str
    missing: tuple[str, ...]
    wrong: tuple[str, ...]
    unexpected: tuple[str, ...]

    def describe(self) -> str:
        """One line: the family it resembles and why it does not match."""
        return f"nearest family {self.family}: {self.reasons()}"

    def reasons(self) -> str:
        """Why it does not match: missing, misshapen and unexpected tensors."""
        parts = []
        if self.missing:
            parts.append("missing " + ", ".join(self.missing))
        if self.wrong:
            parts.append("; ".join(self.wrong))
        if self.unexpected:
            parts.append("unexpected " + _shortened(self.unexpected))
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Detection:
    """SSM layers in model order, near misses among the tensors that no layer claimed, and mixers that are recognized and not read."""

    layers: tuple[LayerTensors, ...]
    near_misses: tuple[NearMiss, ...]
    named: tuple[Recognized, ...] = ()


def detect(tensors: Mapping[str, Tensor], families: Iterable[Family]) -> Detection:
    """Match every template of every family against the tensor names and shapes. No values are read, and the tensor order is kept.

    Families of a mapping file are tried first, then templates with longer name suffixes, because they explain more of a name. A tensor
    belongs to the first layer that claims it.

    Raises:
        LayerError: a family of a mapping file matches no layer.
    """
    families = tuple(families)
    by_last_word: dict[str, list[str]] = defaultdict(list)
    for name in tensors:
        by_last_word[name.rsplit(".", 1)[-1]].append(name)
    names_below = _NamesBelow(tensors)
    claimed: set[str] = set()
    layers: list[LayerTensors] = []
    attempts: list[tuple[Family, Template, Fit]] = []
    for family, template in _in_order(families):
        for prefix in candidate_prefixes(template, by_last_word, NEAR):
            if family.match is not None and not fnmatchcase(prefix, family.match):
                continue
            found = fit(family, template, prefix, tensors)
            if claimed & set(found.names.values()):
                continue
            if found.complete:
                claimed |= set(found.names.values())
                layers.append(_layer(family, found, tensors, names_below))
            else:
                attempts.append((family, template, found))
    for family in families:
        if family.match is not None and family.name not in {layer.family for layer in layers}:
            raise LayerError(_without_layer(family, tensors, by_last_word))
    position = {name: index for index, name in enumerate(tensors)}
    layers.sort(key=lambda layer: min(position[name] for name in layer.tensor_names.values()))
    named = recognize(tensors, layers)
    prefixes = {prefix for each in named for prefix in each.prefixes}
    misses = _near_misses(attempts, claimed, names_below, tensors, families)
    return Detection(tuple(layers), tuple(miss for miss in misses if miss.prefix not in prefixes), named)


def _layer(family: Family, found: Fit, tensors: Mapping[str, Tensor], names_below: "_NamesBelow") -> LayerTensors:
    start, used = join(found.prefix, ""), set(found.names.values())
    return LayerTensors(
        name=found.prefix or "root",
        family=family.name,
        tensors={role: tensors[name] for role, name in found.names.items()},
        tensor_names=found.names,
        sizes=found.sizes,
        beside={name[len(start) :]: tensors[name] for name in names_below.of(start) if name not in used},
    )


def _distance(found: Fit) -> tuple[int, int, int]:
    """Sort key: number of problems, then of missing tensors, then of tensors found. A tensor of the wrong shape is nearer than none."""
    return len(found.missing) + len(found.wrong), len(found.missing), -len(found.names)


_ordered: list[
    tuple[tuple[Family, ...], list[tuple[Family, Template]]]
] = []  # of the last families: most commands have the same for all files


def _in_order(families: tuple[Family, ...]) -> list[tuple[Family, Template]]:
    """Their templates in the order in which they are tried."""
    for before, pairs in _ordered:
        if len(before) == len(families) and all(map(is_, before, families)):
            return pairs
    pairs = sorted([(family, template) for family in families for template in family.templates], key=_rank)
    _ordered[:] = [(families, pairs)]
    return pairs


def _rank(pair: tuple[Family, Template]) -> tuple[bool, int]:
    family, template = pair
    return family.match is None, 0 if family.match is not None else -_depth(template)


def _depth(template: Template) -> int:
    """Number of words in its longest name suffix."""
    return max(suffix.count(".") for slot in template.values() for suffix in slot.suffixes())


def _without_layer(family: Family, tensors: Mapping[str, Tensor], by_last_word: Mapping[str, list[str]]) -> str:
    """Why a family of a mapping file matches no layer: what is wrong at the nearest prefix, or where its tensor names do occur."""
    start = f"{family.source}: match {family.match!r} matches no layer"
    (template,) = family.templates
    prefixes = candidate_prefixes(template, by_last_word)
    fits = [fit(family, template, prefix, tensors) for prefix in prefixes if fnmatchcase(prefix, family.match or "")]
    if fits:
        best = min(fits, key=_distance)
        if best.complete:
            return f"{start}: the tensors of {best.prefix or 'the root'} belong to an earlier [[layer]]"
        unexpected = _unexpected(template, best.prefix, _NamesBelow(tensors))
        return f"{start}; the nearest is {best.prefix or 'the root'}: " + NearMiss("", "", best.missing, best.wrong, unexpected).reasons()
    if prefixes:
        return f"{start}; its tensors are under {_shortened(tuple(repr(prefix) for prefix in prefixes))}"
    return f"{start}: no tensor is named {' or '.join(slot.names for slot in template.values())}"


def _near_misses(
    attempts: list[tuple[Family, Template, Fit]],
    claimed: set[str],
    names_below: "_NamesBelow",
    tensors: Mapping[str, Tensor],
    families: tuple[Family, ...],
) -> tuple[NearMiss, ...]:
    """The best attempt under every prefix that no layer uses, then prefixes whose name alone suggests a family."""
    best: dict[str, NearMiss] = {}
    told: set[str] = set()
    for family, template, found in sorted(attempts, key=lambda attempt: _distance(attempt[2])):
        names = set(found.names.values()) | {wrong.split(" ", 1)[0] for wrong in found.wrong}
        nothing_fits = bool(found.missing) and not found.names
        if not names.isdisjoint(claimed) or not names.isdisjoint(told) or found.foreign or nothing_fits:
            continue
        told |= names
        best[found.prefix] = NearMiss(
            found.prefix or "root", family.name, found.missing, found.wrong, _unexpected(template, found.prefix, names_below)
        )
    for prefix, family in _promising_prefixes(tensors, families):
        if prefix not in best and claimed.isdisjoint(names_below.of(prefix + ".")):
            template = family.templates[0]
            missing = fit(family, template, prefix, tensors).missing
            best[prefix] = NearMiss(prefix, family.name, missing, (), _unexpected(template, prefix, names_below))
    return tuple(best[prefix] for prefix in sorted(best, key=names_below.first))


class _NamesBelow:
    """Finds the tensors whose names begin with a given string, by bisection: there may be 100 000 tensors and as many prefixes."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._position = {name: index for index, name in enumerate(tensors)}
        self._sorted = sorted(tensors)

    def of(self, start: str) -> list[str]:
        """The names, in the order of the file."""
        first = last = bisect_left(self._sorted, start)
        while last < len(self._sorted) and self._sorted[last].startswith(start):
            last += 1
        return sorted(self._sorted[first:last], key=self._position.__getitem__)

    def first(self, start: str) -> int:
        """The position of the first of them in the file."""
        return self._position[self.of(start)[0]] if start else 0


def _unexpected(template: Template, prefix: str, names_below: _NamesBelow) -> tuple[str, ...]:
    expected = {suffix for slot in template.values() for suffix in slot.suffixes()}
    start = join(prefix, "")
    return tuple(name[len(start) :] for name in names_below.of(start) if name[len(start) :] not in expected)


def _promising_prefixes(tensors: Mapping[str, Tensor], families: tuple[Family, ...]) -> list[tuple[str, Family]]:
    hints = {hint: family for family in families for hint in family.hints}
    found: dict[str, Family] = {}
    for name in tensors:
        words = name.split(".")
        for depth, word in enumerate(words[:-1]):
            if word in hints:
                found.setdefault(".".join(words[: depth + 1]), hints[word])
                break
    return list(found.items())


def _shortened(names: tuple[str, ...], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
