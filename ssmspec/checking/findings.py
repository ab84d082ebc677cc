"""The results of a check, as plain data ready for text, JSON and JUnit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ssmspec.checkpoint.remote.traffic import Transfer

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found in a layer.

    Args:
        rule: id of the rule.
        severity: how serious it is. Only errors make the check fail, and warnings if the check is strict.
        layer: name of the layer; the glob of a threshold that matches no layer; the prefix of a skipped layer.
        message: what was found, in one line, with the numbers.
    """

    rule: str
    severity: Severity
    layer: str
    message: str


@dataclass(frozen=True, slots=True)
class CheckedLayer:
    """A layer and the rules that were applied to it.

    Args:
        name, family: as in an analysis.
        problem: why the values of the layer cannot be trusted, or None.
        applied: ids of the rules that were applied.
        left_out: ids of the rules that were skipped because the values of the layer cannot be trusted, or because it has no poles.
    """

    name: str
    family: str
    problem: str | None
    applied: tuple[str, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointCheck:
    """One checkpoint: its layers in model order, and the findings in layer order, followed by those that concern no layer.

    Args:
        tensors: all of the file.
        looked_at: how many of them were looked at, value by value. unread: names of those under layers that were not.
        notes: of the reader. shallow: whether only the tensors that analysis needs were read.
        transfer: what was read of a remote one.
    """

    path: str
    container: str
    size: int
    tensors: int
    layers: tuple[CheckedLayer, ...]
    findings: tuple[Finding, ...]
    looked_at: int = 0
    unread: tuple[str, ...] = ()
    shallow: bool = False
    notes: tuple[str, ...] = ()
    transfer: Transfer | None = None

    @property
    def outside(self) -> int:
        """Tensors outside SSM layers, which are not looked at."""
        return self.tensors - self.looked_at - len(self.unread)


@dataclass(frozen=True, slots=True)
class Unread:
    """A file that could not be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All checkpoints of one call.

    Args:
        checks: checkpoints that could be read. unread: those that could not.
        strict: warnings make the check fail, too.
        rules_file: the file with thresholds and changes to the built-in rules, or None.
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
        """True if every file was read and no finding makes the check fail."""
        return not self.unread and not any(self.fails(finding) for check in self.checks for finding in check.findings)

    def count(self, severity: Severity) -> int:
        """Number of findings of one severity in all checkpoints."""
        return sum(finding.severity == severity for check in self.checks for finding in check.findings)
