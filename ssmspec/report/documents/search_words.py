"""What the numbers of a search say, in words: whether tuning alpha and beta helps, and how good `suggest` was."""

import math

from ssmspec.report.documents.search_results import BASELINE, SUGGEST, Confirmed, SearchSummary


def verdict(summary: SearchSummary) -> list[str]:
    """Sentences about the settings that were run with fresh seeds."""
    return [_tuning(summary), *_suggested(summary)]


def _number(value: float) -> str:
    return f"{value:.3g}"


def _with_spread(each: Confirmed) -> str:
    return f"{_number(each.mean)} +- {_number(each.spread)}"


def _tuning(summary: SearchSummary) -> str:
    base, best = summary.baseline, summary.best
    if not math.isfinite(base.mean):
        return "The loss of the baseline is not finite, so no gain over it is known."
    if best is base:
        return f"Tuning alpha and beta does not help here: with fresh seeds, no setting is better than the baseline ({base.label})."
    gain, spread = _number(summary.gain(best)), _number(summary.gain_spread(best))
    figures = f"{summary.goal} {_with_spread(best)} at {best.label}, against {_with_spread(base)} for the baseline ({base.label})"
    if summary.exceeds(best):
        luckier = [each.label for each in summary.confirmed if summary.gain(each, best) > 0]
        others = f" A better mean with a larger spread: {'; '.join(luckier)}." if luckier else ""
        return f"Tuning alpha and beta helps here: {figures}; the gain of {gain} exceeds its spread of {spread}.{others}"
    return f"Tuning alpha and beta does not help measurably: {figures}; the gain of {gain} does not exceed its spread of {spread}."


def _suggested(summary: SearchSummary) -> list[str]:
    given, found = summary.suggested, summary.named(SUGGEST)
    if given.alpha is None or given.middle is None or given.beta is None:
        return [f"suggest has no values here: {given.reason}."]
    head = f"suggest has alpha {given.alpha[0]:.4g}..{given.alpha[1]:.4g}, for which {given.middle:.4g} stands, and beta {given.beta:.4g}"
    if found is None:
        return [f"{head}, which is the baseline itself."]
    return [f"{head}: {_how_good(summary, found)}.", *_where(summary)]


def _how_good(summary: SearchSummary, found: Confirmed) -> str:
    base, best = summary.baseline, summary.best
    if not (math.isfinite(found.mean) and math.isfinite(base.mean)):
        return "its loss, or that of the baseline, is not finite"
    gain, spread = summary.gain(found), summary.gain_spread(found)
    text = f"{summary.goal} {_with_spread(found)}"
    if found is best:
        return f"{text}, the best of these settings"
    behind = summary.gain(best, found)
    if gain < -spread:
        return f"{text}, which is worse than the baseline by {_number(-gain)}, more than the spread of {_number(spread)}"
    reach = f"{_number(behind)} behind the best setting"
    if not summary.exceeds(best, found):
        return f"{text}, {reach}, within the spread of {_number(summary.gain_spread(best, found))}"
    share = f"; it has {gain / summary.gain(best):.0%} of the gain that the search found" if summary.exceeds(best) and gain > 0 else ""
    return f"{text}, {reach}, more than the spread of {_number(summary.gain_spread(best, found))}{share}"


def _where(summary: SearchSummary) -> list[str]:
    """Where the best setting lies beside the values of `suggest`, if the best one is a gain."""
    given, best = summary.suggested, summary.best
    if best.name in (BASELINE, SUGGEST) or not summary.exceeds(best) or given.alpha is None or given.beta is None:
        return []
    low, high = given.alpha
    inside = "lies in" if low <= best.alpha <= high else f"lies {'below' if best.alpha < low else 'above'}"
    away = best.beta - given.beta
    beta = (
        "is that of suggest"
        if abs(away) <= (given.error or 0.0)
        else f"is {abs(away):.2g} {'above' if away > 0 else 'below'} that of suggest"
    )
    return [f"The best alpha {inside} the range of suggest, and the best beta {beta}."]
