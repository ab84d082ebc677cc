"""Checks as text, JSON (schema ssmspec.check/1) and JUnit XML."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from xml.etree import ElementTree as ET

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ssmspec import __version__
from ssmspec.checking.findings import SEVERITIES, CheckedLayer, CheckpointCheck, CheckReport, Finding
from ssmspec.files.writing import printable
from ssmspec.report.documents.analyze import Document
from ssmspec.report.tables.analyze import MOST_ROWS, readable_size

STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}
ENDLESS = 1 << 20  # columns
UNTRUSTED = "not applied: no number of this layer can be trusted"


def print_report(report: CheckReport, console: Console) -> None:
    """One line per finding, a table per checkpoint, and the count of all; lines are whole in a pipe or a file."""
    text = report_text(report)
    if not console.is_terminal:
        console.width = max(console.width, Measurement.get(console, console.options.update(max_width=ENDLESS), text).maximum)
    console.print(text, highlight=False)


def report_text(report: CheckReport) -> RenderableType:
    """The same as a renderable."""
    return Group(*(part for check in report.checks for part in _checkpoint_text(check)), Text(summary_line(report)))


def _checkpoint_text(check: CheckpointCheck) -> Iterator[RenderableType]:
    size = readable_size(check.size)
    yield Text(
        f"{printable(check.path)}  ({check.container}, {size}, {check.tensors} tensors; {_count(len(check.layers), 'layer')})", style="bold"
    )
    yield Text()
    if not check.findings:
        yield Text("no findings")
    else:
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for heading in ("severity", "rule", "layer", "message"):
            table.add_column(heading, overflow="fold")
        for finding in check.findings[:MOST_ROWS]:
            table.add_row(
                Text(finding.severity, style=STYLES[finding.severity]), *map(_cell, (finding.rule, finding.layer, finding.message))
            )
        yield table
    if len(check.findings) > MOST_ROWS:
        yield Text(f"... and {len(check.findings) - MOST_ROWS} more; --format json lists them all")
    yield Text()


def _cell(text: str) -> Text:
    return Text(_one_line(text))


def _one_line(text: str) -> str:
    """Without characters that a terminal would obey, which names in a file may hold."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def summary_line(report: CheckReport) -> str:
    """N errors, M warnings, I infos in K layers, and whether that is enough."""
    counts = ", ".join(_count(report.count(severity), severity) for severity in SEVERITIES)
    layers = _count(sum(len(check.layers) for check in report.checks), "layer")
    files = f" of {len(report.checks)} checkpoints" if len(report.checks) > 1 else ""
    unread = f"; {_count(len(report.unread), 'file')} not read" if report.unread else ""
    strict = " (strict: warnings fail)" if report.strict else ""
    return f"{counts} in {layers}{files}{unread}: {'passed' if report.passed else 'failed'}{strict}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def report_document(report: CheckReport) -> Document:
    """The document of schema ssmspec.check/1: one for any number of checkpoints."""
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
        "layers": [asdict(layer) for layer in check.layers],
        "findings": [asdict(finding) | {"fails": report.fails(finding)} for finding in check.findings],
    }


def report_junit(report: CheckReport) -> str:
    """JUnit XML in ASCII: a test suite per checkpoint, a test case per rule and layer.

    Findings that fail are failures; others are the output of a test that passed. Files that could not be read are suites with an error.
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
    """The text without the characters that XML 1.0 cannot hold; markup is escaped where it is written."""
    return "".join(c if c in "\t\n" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c >= "\U00010000" else "\ufffd" for c in text)
