"""A search for alpha and beta as a document and as CSV rows."""

import math
from dataclasses import asdict

from ssmspec.report.documents.document import Document, csv_text
from ssmspec.report.documents.search_results import Confirmed, SearchSummary
from ssmspec.report.documents.search_words import verdict
from ssmspec.version import __version__


def search_document(summary: SearchSummary) -> Document:
    """The document of schema ssmspec.search/1."""
    return {
        "schema": "ssmspec.search/1",
        "version": __version__,
        "title": summary.title,
        "command": summary.command,
        "goal": {"measure": summary.goal, "better": "larger" if summary.larger else "smaller"},
        "space": summary.space,
        "seed": summary.seed,
        "jobs": summary.jobs,
        "repeatable": summary.jobs == 1,
        "trials": [asdict(trial) for trial in summary.trials],
        "seeds": list(summary.seeds),
        "confirmed": [_confirmed_document(summary, each) for each in summary.confirmed],
        "suggested": {**asdict(summary.suggested), "document": summary.suggested.document},
        "best": summary.best.name,
        "best_command": summary.best_command,
        "verdict": verdict(summary),
        "notes": list(summary.notes),
    }


def _confirmed_document(summary: SearchSummary, each: Confirmed) -> Document:
    found: Document = {"name": each.name, "alpha": each.alpha, "beta": each.beta, "searched": each.searched}
    found |= {"values": list(map(_known, each.values)), "mean": _known(each.mean), "spread": _known(each.spread)}
    if each is summary.baseline:
        return found
    compared = {"gain": _known(summary.gain(each)), "gain_spread": _known(summary.gain_spread(each)), "exceeds": summary.exceeds(each)}
    return {**found, **compared}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def search_csv(summary: SearchSummary) -> str:
    """One row per trial and one per run with a fresh seed, with a header."""
    cells: list[tuple[object, ...]] = [("run", "origin", "alpha", "beta", "seed", "state", "steps", summary.goal)]
    for trial in summary.trials:
        place = (f"trial {trial.number}", trial.origin, trial.alpha, trial.beta)
        cells.append((*place, summary.seed, trial.state, trial.steps, trial.value))
    for each in summary.confirmed:
        for seed, value in zip(summary.seeds, each.values, strict=True):
            state = "complete" if math.isfinite(value) else "failed"
            cells.append((each.name, "fresh seed", each.alpha, each.beta, seed, state, None, _known(value)))
    return csv_text(cells)
