"""Benchmarks as a table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from ssmspec.report.tables.parts import plain, plain_table

if TYPE_CHECKING:
    from ssmspec.benchmarks.catalogue import BenchReport
    from ssmspec.benchmarks.contest import Result

HEADINGS = ("benchmark", "peer", "ratio (10..90 %)", "ours", "peer takes", "size")


def bench_table(report: "BenchReport") -> RenderableType:
    """A table of ratios, lines for the scaling runs and for what was not measured, and the hardware of the measurement."""
    parts: list[RenderableType] = []
    if report.results:
        parts.append(plain_table(f"ssmspec bench, {report.date}", HEADINGS, [_row(result) for result in report.results]))
        lines = [
            "",
            "ratio: time of the peer divided by ours (above 1, ours is faster); median of interleaved pairs with their 10..90 % range",
            "both sides gave the same numbers before either was timed; times on shared machines vary, so compare ratios, not seconds",
        ]
        parts += [plain(line) for line in lines]
        parts += [plain(f"{result.name}: {_facts(result.facts)}") for result in report.results if result.facts]
    parts += [
        plain(f"{scaling.name}: {scaling.measures}, time ~ " + _exponents(scaling.dimension, scaling.exponents))
        for scaling in report.scaling
    ]
    parts += [plain(f"not measured: {name}: {reason}") for name, reason in report.skipped.items()]
    return Group(*parts, Text(), plain(hardware_line(report.hardware)))


def hardware_line(hardware: Mapping[str, str | int | None]) -> str:
    """Processor, threads, system and versions in one line."""
    shown = [f"{hardware['cpu']}, {hardware['threads']} threads"]
    shown += [f"{name} {value}" for name, value in hardware.items() if value is not None and name not in ("cpu", "threads")]
    return ", ".join(shown)


def _row(result: "Result") -> tuple[str, ...]:
    low, high = result.spread
    ratio = f"{result.ratio:.3g} ({low:.3g}..{high:.3g})"
    return result.name, result.peer, ratio, seconds_text(result.ours_seconds), seconds_text(result.peer_seconds), size_text(result.size)


def seconds_text(seconds: float) -> str:
    """Seconds with a suitable unit prefix."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def size_text(size: Mapping[str, int]) -> str:
    """Dimensions, each after its letter."""
    return ", ".join(f"{letter} {count}" for letter, count in size.items())


def _facts(facts: Mapping[str, float | int | str]) -> str:
    return ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in facts.items())


def _exponents(dimension: str, exponents: Mapping[str, float]) -> str:
    return ", ".join(f"{dimension}^{value:.2f} ({side})" for side, value in exponents.items())
