"""Benchmarks as JSON (schema ssmspec.bench/1)."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from ssmspec.report.documents.document import Document
from ssmspec.version import __version__

if TYPE_CHECKING:
    from ssmspec.benchmarks.catalogue import BenchReport
    from ssmspec.benchmarks.contest import Result


def bench_document(report: "BenchReport") -> Document:
    """The document of schema ssmspec.bench/1; seconds are medians per call."""
    return {
        "schema": "ssmspec.bench/1",
        "version": __version__,
        "date": report.date,
        "results": [_result_document(result) for result in report.results],
        "scaling": [asdict(scaling) for scaling in report.scaling],
        "skipped": [{"name": name, "reason": reason} for name, reason in report.skipped.items()],
        "hardware": dict(report.hardware),
    }


def _result_document(result: "Result") -> Document:
    low, high = result.spread
    return {**asdict(result), "spread": {"p10": low, "p90": high}}
