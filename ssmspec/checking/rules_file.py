"""The text form of rules: a TOML file that disables built-in rules, changes their severity, and sets limits on statistics.

[rules]
disable = ["beyond-nyquist"]

[severity]
step-range = "error"           # error, warning or info

[[threshold]]
statistic = "bias_slope"       # any statistic of `ssmspec analyze --json`
layer = "*"                    # exact name, glob, or index
aggregate = "median"           # over the copies of a layer
min = -2.5                     # min or max may be missing, but not both
max = 0.0
severity = "error"
allow_null = false             # true: layers and copies without a value pass
id = "bias"                    # its name in findings
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssmspec.checking.findings import SEVERITIES
from ssmspec.checking.rules import BUILT_IN, Rule
from ssmspec.checking.thresholds import AGGREGATES, COUNTS, Threshold
from ssmspec.errors import SsmspecError
from ssmspec.files.reading import known_keys, parse_toml, read_toml, shown
from ssmspec.statistics import STATISTICS

TABLES = ("rules", "severity", "threshold")
KEYS = ("statistic", "layer", "aggregate", "min", "max", "severity", "allow_null", "id")


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules of a check: the enabled built-in rules with their severities, and thresholds.

    Args:
        source: the file that they come from; None for the unchanged built-in rules.
    """

    rules: tuple[Rule, ...] = tuple(BUILT_IN.values())
    thresholds: tuple[Threshold, ...] = ()
    source: str | None = None

    def find(self, id: str) -> Rule | None:
        """A built-in rule by its id; None if it is disabled."""
        return next((rule for rule in self.rules if rule.id == id), None)


def load_rules(path: Path | str) -> RuleSet:
    """Read the rules from a file.

    Raises:
        SsmspecError: the file cannot be read, is not valid TOML, or has invalid content; one line that names the file.
    """
    return rules_of(read_toml(Path(path), "; 'ssmspec check --init' writes a rules file to start from"), str(path))


def parse_rules(text: str, source: str) -> RuleSet:
    """The same from the text of such a file; messages refer to it as `source`.

    Raises:
        SsmspecError: the same errors as `load_rules`.
    """
    return rules_of(parse_toml(text, source), source)


def rules_of(document: Mapping[str, Any], source: str) -> RuleSet:
    """The same from the parsed content of such a file. Raises the same."""
    known_keys(document, TABLES, source, "table")
    disabled = _disabled(_table(document, "rules", source), f"{source}: [rules]")
    severities = _table(document, "severity", source)
    for id in severities:
        _rule_id(id, f"{source}: [severity]")
        _choice(severities, id, SEVERITIES, f"{source}: [severity]")
    rules = (replace(rule, severity=severities.get(rule.id, rule.severity)) for rule in BUILT_IN.values() if rule.id not in disabled)
    return RuleSet(tuple(rules), _thresholds(document.get("threshold", []), source), source)


def _table(document: Mapping[str, Any], key: str, source: str) -> dict[str, Any]:
    table = document.get(key, {})
    if not isinstance(table, dict):
        raise SsmspecError(f"{source}: {key} is {shown(table)}, expected a table [{key}]")
    return table


def _disabled(table: Mapping[str, Any], where: str) -> frozenset[str]:
    known_keys(table, ("disable",), where)
    listed = table.get("disable", [])
    if not isinstance(listed, list):
        raise SsmspecError(f'{where}: disable is {shown(listed)}, expected a list of rule ids, such as ["beyond-nyquist"]')
    return frozenset(_rule_id(id, f"{where}: disable") for id in listed)


def _rule_id(id: object, where: str) -> str:
    if not isinstance(id, str) or id not in BUILT_IN:
        raise SsmspecError(f"{where}: rule {shown(id)} is unknown; choose one of {', '.join(BUILT_IN)}")
    return id


def _thresholds(tables: object, source: str) -> tuple[Threshold, ...]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SsmspecError(f"{source}: threshold is {shown(tables)}, expected [[threshold]] tables (with two brackets)")
    taken = set(BUILT_IN)
    for number, table in enumerate(tables, start=1):
        if "id" in table:
            _own_id(table["id"], taken, f"{source}: [[threshold]] {number}")
    found = []
    for number, table in enumerate(tables, start=1):
        threshold = _threshold(table, f"{source}: [[threshold]] {number}")
        found.append(threshold if threshold.id else replace(threshold, id=_new_id(threshold, taken)))
    return tuple(found)


def _own_id(id: object, taken: set[str], where: str) -> None:
    if not isinstance(id, str) or not id.strip() or not id.isprintable():
        raise SsmspecError(f"{where}: id is {shown(id)}, expected a string of one line")
    if id in taken:
        raise SsmspecError(f"{where}: id {shown(id)} is already used by {'a built-in rule' if id in BUILT_IN else 'another threshold'}")
    taken.add(id)


def _new_id(threshold: Threshold, taken: set[str]) -> str:
    """statistic-aggregate, with a number if several thresholds have the same."""
    stem = f"{threshold.statistic}-{threshold.aggregate}"
    id = next(name for name in (stem, *(f"{stem}-{number}" for number in range(2, len(taken) + 3))) if name not in taken)
    taken.add(id)
    return id


def _threshold(table: Mapping[str, Any], where: str) -> Threshold:
    """One [[threshold]] table; `where` starts every message about it. The id is empty if the table has none."""
    known_keys(table, KEYS, where)
    if "statistic" not in table:
        raise SsmspecError(f"{where}: statistic is missing; choose one of {', '.join(STATISTICS)}")
    if not {"min", "max"} & set(table):
        raise SsmspecError(f"{where}: has neither min nor max; give at least one of them")
    low, high = (_number(table[key], f"{where}: {key}") if key in table else None for key in ("min", "max"))
    if low is not None and high is not None and low > high:
        raise SsmspecError(f"{where}: min {low:g} is above max {high:g}, so no value can pass")
    layer = table.get("layer", "*")
    if not isinstance(layer, str) or not layer:
        raise SsmspecError(f"{where}: layer is {shown(layer)}, expected a layer name, glob or index as a string, such as '*'")
    allow_null = table.get("allow_null", False)
    if not isinstance(allow_null, bool):
        raise SsmspecError(f"{where}: allow_null is {shown(allow_null)}, expected true or false")
    return Threshold(
        id=table.get("id", ""),
        statistic=_choice(table, "statistic", tuple(STATISTICS), where),
        layer=layer,
        aggregate=_choice(table, "aggregate", (*AGGREGATES, *COUNTS), where, "median"),
        low=-math.inf if low is None else low,
        high=math.inf if high is None else high,
        severity=_choice(table, "severity", SEVERITIES, where, "error"),
        allow_null=allow_null,
    )


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise SsmspecError(f"{where} is {shown(value)}, expected a finite number")
    return float(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for float64
        return False


def _choice(table: Mapping[str, Any], key: str, choices: Sequence[str], where: str, default: str | None = None) -> Any:
    value = table.get(key, default)
    if value not in choices:
        raise SsmspecError(f"{where}: {key} {shown(value)} is unknown; choose one of {', '.join(choices)}")
    return value
