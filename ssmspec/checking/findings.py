"""What a check of checkpoints found: plain data, ready for text, JSON and JUnit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a rule says about a layer.

    Args:
        rule: id of the rule.
        severity: how bad it is; only errors fail, and warnings where the check is strict.
        layer: name of the layer; of a threshold without a layer its glob; of a skipped layer its prefix.
        message: what was found, in one line, with the numbers.
    """

    rule: str
    severity: Severity
    layer: str
    message: str


@dataclass(frozen=True, slots=True)
class CheckedLayer:
    """A layer and the rules that it went through.

    Args:
        name, family: as in an analysis.
        problem: why no number of the layer can be trusted, or None.
        applied: ids of the rules that were applied.
        left_out: ids of the rules that need numbers that can be trusted, where the layer has none.
    """

    name: str
    family: str
    problem: str | None
    applied: tuple[str, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointCheck:
    """One checkpoint: its layers in model order, the findings in the order of the layers, those about no layer last, and notes on reading it."""

    path: str
    container: str
    size: int
    tensors: int
    layers: tuple[CheckedLayer, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unread:
    """A file that could not be checked, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All checkpoints of one call.

    Args:
        checks: those that could be read. unread: those that could not.
        strict: warnings fail, too.
        rules_file: where rules and thresholds come from beside the built-in ones.
    """

    checks: Sequence[CheckpointCheck]
    unread: Sequence[Unread] = ()
    strict: bool = False
    rules_file: str | None = None

    def fails(self, finding: Finding) -> bool:
        """Whether a finding makes the check fail."""
        return finding.severity == "error" or (self.strict and finding.severity == "warning")

    @property
    def passed(self) -> bool:
        """Everything was read, and nothing was found that fails."""
        return not self.unread and not any(self.fails(finding) for check in self.checks for finding in check.findings)

    def count(self, severity: Severity) -> int:
        """Findings of one severity in all checkpoints."""
        return sum(finding.severity == severity for check in self.checks for finding in check.findings)
