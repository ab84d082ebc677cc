"""Checks as JSON (schema ssmspec.check/1), JUnit XML, and the workflow commands of GitHub Actions."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from xml.etree import ElementTree as ET

from ssmspec.checking.findings import SEVERITIES, CheckedLayer, CheckpointCheck, CheckReport, Finding
from ssmspec.checkpoint import average_in
from ssmspec.errors import printable
from ssmspec.report.documents.document import Document, transfer_document
from ssmspec.version import __version__

UNTRUSTED = "not applied: the numbers of this layer cannot be trusted"


def report_document(report: CheckReport) -> Document:
    """The document of schema ssmspec.check/1. One document holds any number of checkpoints."""
    return {
        "schema": "ssmspec.check/1",
        "version": __version__,
        "rules_file": report.rules_file,
        "strict": report.strict,
        "passed": report.passed,
        "counts": {severity: report.count(severity) for severity in SEVERITIES},
        "checkpoints": [_checkpoint_document(check, report) for check in report.checks],
        "unread": [asdict(item) for item in report.unread],
    }


def _checkpoint_document(check: CheckpointCheck, report: CheckReport) -> Document:
    return {
        "path": check.path,
        "container": check.container,
        "bytes": check.size,
        "tensors": check.tensors,
        **transfer_document(check.transfer),
        "looked_at": check.looked_at,
        "unread_tensors": list(check.unread),
        "outside": check.outside,
        "shallow": check.shallow,
        "layers": [asdict(layer) | {"average": average_in(layer.name)} for layer in check.layers],
        "findings": [asdict(finding) | {"fails": report.fails(finding)} for finding in check.findings],
        "notes": list(check.notes),
    }


LEVELS = {"error": "error", "warning": "warning", "info": "notice"}


def report_github(report: CheckReport) -> str:
    """A workflow command of GitHub Actions per finding, which becomes an annotation of the file. A finding that fails is an error.

    Source: docs.github.com, Workflow commands for GitHub Actions: ::error file=...,title=...::message.
    """
    lines = [
        _annotation(
            "error" if report.fails(finding) else LEVELS[finding.severity], check.path, finding.rule, f"{finding.layer}: {finding.message}"
        )
        for check in report.checks
        for finding in check.findings
    ]
    return "\n".join([*lines, *(_annotation("error", item.path, "not read", item.reason) for item in report.unread)])


def _annotation(level: str, path: str, title: str, message: str) -> str:
    return f"::{level} file={_escaped(path, ':,')},title={_escaped(title, ':,')}::{_escaped(printable(message))}"


def _escaped(text: str, more: str = "") -> str:
    """Text with the signs escaped that a workflow command reads as its own."""
    return "".join(f"%{ord(sign):02X}" if sign in "%\r\n" + more else sign for sign in text)


def report_junit(report: CheckReport) -> str:
    """JUnit XML in ASCII: one test suite per checkpoint, one test case per rule and layer.

    Findings that fail become failures. Others become the output of a passed test. A file that cannot be read is a suite with an error.
    """
    root = ET.Element("testsuites", name="ssmspec check")
    for check in report.checks:
        _add_suite(root, check.path, list(_cases(check, report)))
    for item in report.unread:
        case = ET.Element("testcase", classname=_xml(item.path), name="read")
        ET.SubElement(case, "error", message=_xml(item.reason), type="error").text = _xml(item.reason)
        _add_suite(root, item.path, [case])
    for total in ("tests", "failures", "errors", "skipped"):
        root.set(total, str(sum(int(suite.get(total, "0")) for suite in root)))
    ET.indent(root)
    return ET.tostring(root, encoding="us-ascii", xml_declaration=True).decode("ascii")


def _add_suite(root: ET.Element, name: str, cases: Sequence[ET.Element]) -> None:
    suite = ET.SubElement(root, "testsuite", name=_xml(name), tests=str(len(cases)))
    for total, tag in _OUTCOMES:
        suite.set(total, str(sum(case.find(tag) is not None for case in cases)))
    suite.extend(cases)


_OUTCOMES = (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))


def _cases(check: CheckpointCheck, report: CheckReport) -> Iterator[ET.Element]:
    by_case: dict[tuple[str, str], list[Finding]] = {}
    for finding in check.findings:
        by_case.setdefault((finding.layer, finding.rule), []).append(finding)
    for layer in check.layers:
        for rule in layer.applied:
            yield _case(layer.name, rule, by_case.pop((layer.name, rule), []), report)
        yield from _skipped_cases(layer)
    for (name, rule), findings in by_case.items():
        yield _case(name, rule, findings, report)


def _case(layer: str, rule: str, findings: Sequence[Finding], report: CheckReport) -> ET.Element:
    case = ET.Element("testcase", classname=_xml(layer), name=_xml(rule))
    failing = [finding for finding in findings if report.fails(finding)]
    if failing:
        text = "; ".join(finding.message for finding in failing)
        ET.SubElement(case, "failure", message=_xml(text), type=failing[0].severity).text = _xml(f"{layer}: {text}")
    quiet = [f"{finding.severity}: {finding.message}" for finding in findings if not report.fails(finding)]
    if quiet:
        ET.SubElement(case, "system-out").text = _xml("\n".join(quiet))
    return case


def _skipped_cases(layer: CheckedLayer) -> Iterator[ET.Element]:
    for rule in layer.left_out:
        case = ET.Element("testcase", classname=_xml(layer.name), name=_xml(rule))
        ET.SubElement(case, "skipped", message=UNTRUSTED)
        yield case


def _xml(text: str) -> str:
    """The text with escapes for what is not printable, line by line; markup is escaped where it is written."""
    return "\n".join(map(printable, text.split("\n")))
