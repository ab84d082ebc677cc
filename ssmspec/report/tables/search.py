"""A search as text: the settings that were run with fresh seeds, and what they say."""

import math
from collections import Counter
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.text import Text

from ssmspec.report.documents.search_results import Confirmed, SearchSummary
from ssmspec.report.documents.search_words import verdict
from ssmspec.report.tables.parts import count_of, plain, plain_table
from ssmspec.report.tables.train import markdown

HEADINGS = ("setting", "alpha", "beta", "in the search", "mean", "spread", "gain", "its spread", "exceeds it")


def search_text(summary: SearchSummary) -> RenderableType:
    """The table, its explanation, the verdict, the notes, and the command for the best setting."""
    rows = [_cells(summary, each) for each in summary.confirmed]
    lines = [*explanation(summary), "", *verdict(summary), *summary.notes]
    command = plain(summary.best_command, style="bold")
    return Group(plain_table(_title(summary), HEADINGS, rows), Text(), *map(plain, lines), command)


def search_card(summary: SearchSummary, pictures: Iterable[str]) -> str:
    """The README.md of the folder of a search."""
    rows = [_cells(summary, each) for each in summary.confirmed]
    lines = [f"# {_title(summary)}", "", f"    {summary.command}", "", *markdown(HEADINGS, rows), ""]
    lines += [*(f"- {line}" for line in (*explanation(summary), *verdict(summary), *summary.notes)), ""]
    lines += ["The command for the best setting:", "", f"    {summary.best_command}", "", *(f"![{name}]({name})" for name in pictures)]
    return "\n".join(lines) + "\n"


def _title(summary: SearchSummary) -> str:
    return f"{summary.title}: {summary.goal}, {'larger' if summary.larger else 'smaller'} is better"


def explanation(summary: SearchSummary) -> list[str]:
    """What the columns are, and what became of the trials."""
    states = Counter(trial.state for trial in summary.trials)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    seeds = ", ".join(map(str, summary.seeds))
    return [
        f"{count_of(len(summary.trials), 'trial')} of {summary.space}, seed {summary.seed}: {counts}",
        f"mean and spread (sample standard deviation) over runs with the fresh seeds {seeds}, which no trial had; only these count, since "
        "the value of a winning trial is too good",
        "gain over the baseline, and the standard deviation of the difference between two such runs",
    ]


def _cells(summary: SearchSummary, each: Confirmed) -> list[str]:
    first = [each.name, f"{each.alpha:.4g}", f"{each.beta:.4g}", "-" if each.searched is None else f"{each.searched:.4g}"]
    first += [f"{each.mean:.4g}", f"{each.spread:.2g}"]
    if each is summary.baseline:
        return [*first, "", "", ""]
    known = math.isfinite(summary.gain_spread(each))
    return [
        *first,
        f"{summary.gain(each):+.3g}",
        f"{summary.gain_spread(each):.2g}",
        ("yes" if summary.exceeds(each) else "no") if known else "-",
    ]
