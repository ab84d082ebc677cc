"""`ssmspec.check` and what it returns."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssmspec.api.analyze import Layers
from ssmspec.api.collection import Collection
from ssmspec.api.inputs import opened
from ssmspec.api.keywords import analysis_options
from ssmspec.checking.findings import CheckedLayer, CheckReport, Finding
from ssmspec.checking.rules_file import RuleSet, load_rules, rules_of
from ssmspec.commands.check import check as run
from ssmspec.report.documents.check import report_document
from ssmspec.report.documents.document import Document
from ssmspec.report.tables.check import summary_line


class LayerFindings:
    """One layer that was checked, and what the rules found in it."""

    def __init__(self, layer: CheckedLayer, findings: Sequence[Finding]) -> None:
        self._layer = layer
        self.findings = tuple(findings)

    @property
    def name(self) -> str:
        """Its name in the checkpoint."""
        return self._layer.name

    @property
    def problem(self) -> str | None:
        """Why its numbers cannot be trusted, or None."""
        return self._layer.problem

    @property
    def applied(self) -> tuple[str, ...]:
        """Ids of the rules that were applied."""
        return self._layer.applied

    def summary(self) -> str:
        """The layer in one line."""
        found = "; ".join(f"{each.severity} {each.rule}: {each.message}" for each in self.findings)
        return f"{self.name}: {found or 'nothing found'}"

    def __repr__(self) -> str:
        return f"<LayerFindings {self.summary()}>"


class Check(Collection[LayerFindings]):
    """The layers of a model with what the rules found in them; `passed` tells whether the check passed."""

    def __init__(self, report: CheckReport, layers: Iterable[LayerFindings]) -> None:
        super().__init__(layers)
        self._report = report

    @property
    def passed(self) -> bool:
        """True if no finding makes the check fail."""
        return self._report.passed

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings: in layer order, then those that concern no layer."""
        return tuple(finding for check in self._report.checks for finding in check.findings)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual, in words."""
        return tuple(note for check in self._report.checks for note in check.notes)

    def to_dict(self) -> Document:
        """The document of `ssmspec check --format json` (schema ssmspec.check/1). It always holds all layers."""
        return report_document(self._report)

    def _some(self, items: Sequence[LayerFindings]) -> "Check":
        return Check(self._report, items)

    def _rows(self) -> tuple[Sequence[str], list[list[object]]]:
        headings = ("layer", "rule", "severity", "message", "fails")
        names = set(self.names)
        everything = {layer.name for check in self._report.checks for layer in check.layers}
        found = [each for each in self.findings if each.layer in names or each.layer not in everything]
        return headings, [[each.layer, each.rule, each.severity, each.message, self._report.fails(each)] for each in found]

    def _wide(self) -> list[dict[str, object]]:
        counts = [{kind: sum(each.severity == kind for each in layer.findings) for kind in ("error", "warning", "info")} for layer in self]
        return [{"layer": layer.name, "problem": layer.problem, **count} for layer, count in zip(self, counts, strict=True)]

    def _title(self) -> str:
        return f"{self._report.checks[0].path}: {summary_line(self._report)}"

    def _remarks(self) -> Sequence[str]:
        known = {layer.name for check in self._report.checks for layer in check.layers}
        others = [f"{each.layer}: {each.severity} {each.rule}: {each.message}" for each in self.findings if each.layer not in known]
        return [*others, *(f"note: {note}" for note in self.notes)]

    def _html_table(self) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
        headings, rows = self._rows()
        return headings[:4], ([str(cell) for cell in row[:4]] for row in rows)


def check(
    what: Any,
    rules: Path | str | Mapping[str, Any] | None = None,
    layers: Layers = None,
    *,
    strict: bool = False,
    shallow: bool = False,
    **options: Any,
) -> Check:
    """Apply rules to every SSM layer of a model.

        >>> import ssmspec
        >>> found = ssmspec.check("sample_checkpoints/s4d_trained.safetensors")
        >>> found.passed
        True
        >>> limit = {"threshold": [{"statistic": "bias_slope", "max": -1.0}]}
        >>> ssmspec.check("sample_checkpoints/s4d_trained.safetensors", rules=limit).passed
        False

    Args:
        what: anything that `ssmspec.analyze` takes, except a list.
        rules: a rules file, or its content as a mapping; by default the built-in rules.
        layers: exact names, globs or indices; all by default.
        strict: warnings fail, too. shallow: look only at the tensors that analysis needs.
        options: as for `ssmspec.analyze`.
    Raises:
        SsmspecError: as `ssmspec.analyze`; the rules are not valid.
    """
    chosen = analysis_options(layers, options)
    rule_set = _rule_set(rules)
    found = run(opened(what, chosen.read), rule_set, chosen, shallow=shallow)
    report = CheckReport((found,), strict=strict, rules_file=rule_set.source)
    by_layer = {layer.name: [each for each in found.findings if each.layer == layer.name] for layer in found.layers}
    return Check(report, (LayerFindings(layer, by_layer[layer.name]) for layer in found.layers))


def _rule_set(rules: Path | str | Mapping[str, Any] | None) -> RuleSet:
    if rules is None:
        return RuleSet()
    return rules_of(rules, "rules") if isinstance(rules, Mapping) else load_rules(rules)
