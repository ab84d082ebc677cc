"""What a search concludes from its numbers, and the picture of its landscape."""

from dataclasses import replace

import numpy as np
import pytest
from drawing import overlapping

from ssmspec.report.documents.search_results import Confirmed, SearchSummary, SuggestedSetting, TrialRow
from ssmspec.report.documents.search_words import verdict
from ssmspec.report.figures.search import landscape_figure
from ssmspec.training.search.conduct import single_command

BASE = Confirmed("baseline", 1.0, 0.0, 0.5, (0.50, 0.52, 0.54))  # mean 0.52, spread 0.02
SUGGESTED = SuggestedSetting((2.0, 8.0), 4.0, 1.0, 0.1)
TRIALS = [
    TrialRow(0, 1.0, 0.0, "complete", 0.5, 12, "baseline"),
    TrialRow(1, 4.0, 1.0, "complete", 0.45, 12, "suggest"),
    TrialRow(2, 30.0, -1.0, "stopped early", 0.9, 5, ""),
    TrialRow(3, 5.0, 1.5, "complete", 0.3, 12, ""),
    TrialRow(4, 90.0, 1.9, "failed", None, 3, "", "the loss is nan"),
]


def summary(*confirmed: Confirmed, larger: bool = False, suggested: SuggestedSetting = SUGGESTED) -> SearchSummary:
    plain = {"title": "waves, preset small", "command": "ssmspec train waves", "goal": "mean of error_*", "space": "alpha=1..2", "seed": 0}
    more = {"jobs": 1, "trials": TRIALS, "seeds": (1, 2, 3), "best_command": "ssmspec train waves", "notes": ()}
    return SearchSummary(larger=larger, confirmed=(BASE, *confirmed), suggested=suggested, **plain, **more)


def setting(name: str, mean: float, alpha: float = 5.0, beta: float = 1.5, spread: float = 0.02) -> Confirmed:
    return Confirmed(name, alpha, beta, None, (mean - spread, mean, mean + spread))


def test_gain_and_spread_are_those_of_the_difference_of_two_runs() -> None:
    one = setting("trial 3", 0.3, spread=0.03)
    for larger, sign in ((False, 1), (True, -1)):
        found = summary(one, larger=larger)
        assert found.gain(one) == pytest.approx(sign * 0.22)
        assert found.gain_spread(one) == pytest.approx(np.sqrt(0.02**2 + 0.03**2))
        assert found.exceeds(one) is not larger
        assert found.best is (BASE if larger else one)


def test_the_spread_of_a_difference_is_that_of_drawn_differences(rng: np.random.Generator) -> None:
    """For many seeds, against the standard deviation of all differences of independent runs."""
    first, second = (rng.normal(mean, spread, 4000) for mean, spread in ((0.0, 1.0), (3.0, 2.0)))
    a, b = (Confirmed(name, 1.0, 0.0, None, tuple(values)) for name, values in (("a", first), ("b", second)))
    assert summary().gain_spread(b, a) == pytest.approx(np.std(second - rng.permutation(first), ddof=1), rel=0.03)


VERDICTS = {
    "helps": ([setting("suggest", 0.51, 4, 1), setting("trial 3", 0.3)], "Tuning alpha and beta helps here: mean of error_* 0.3 +- 0.02"),
    "within": ([setting("suggest", 0.51, 4, 1), setting("trial 3", 0.50)], "does not help measurably: mean of error_* 0.5 +- 0.02"),
    "sure": (
        [setting("trial 3", 0.2, spread=0.5), setting("trial 1", 0.4, 2, 1)],
        "0.4 +- 0.02 at alpha 2, beta 1, against 0.52 +- 0.02 for the baseline (alpha 1, beta 0); the gain of 0.12 exceeds its spread "
        "of 0.0283. A better mean with a larger spread: alpha 5, beta 1.5.",
    ),
    "baseline": ([setting("suggest", 0.6, 4, 1), setting("trial 3", 0.53)], "does not help here: with fresh seeds, no setting is better"),
    "suggest best": ([setting("suggest", 0.3, 4, 1), setting("trial 3", 0.4)], "mean of error_* 0.3 +- 0.02, the best of these settings"),
    "suggest near": (
        [setting("suggest", 0.31, 4, 1), setting("trial 3", 0.3)],
        "0.01 behind the best setting, within the spread of 0.0283",
    ),
    "suggest half": ([setting("suggest", 0.41, 4, 1), setting("trial 3", 0.3)], "it has 50% of the gain that the search found"),
    "suggest worse": (
        [setting("suggest", 0.6, 4, 1), setting("trial 3", 0.3)],
        "which is worse than the baseline by 0.08, more than the spread",
    ),
    "inside": (
        [setting("trial 3", 0.3, 5, 1.05), setting("suggest", 0.4, 4, 1)],
        "lies in the range of suggest, and the best beta is that of",
    ),
    "above": (
        [setting("trial 3", 0.3, 9, 0.3), setting("suggest", 0.4, 4, 1)],
        "lies above the range of suggest, and the best beta is 0.7 below",
    ),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_the_verdict_says_what_the_numbers_say(case: str) -> None:
    confirmed, text = VERDICTS[case]
    assert text in " ".join(verdict(summary(*confirmed)))


def test_without_values_of_suggest_the_verdict_gives_the_reason() -> None:
    found = summary(setting("trial 3", 0.3), suggested=SuggestedSetting(reason="too few samples"))
    assert verdict(found)[1:] == ["suggest has no values here: too few samples."]


def test_the_landscape_has_a_point_per_value_and_reaches_over_the_ranges() -> None:
    found = summary(setting("suggest", 0.4, 4, 1), setting("trial 3", 0.3))
    figure = landscape_figure(found, {"alpha": (0.1, 100.0, True), "beta": (-2.0, 2.0, False)})
    axes = figure.axes[0]
    early, complete = axes.collections
    np.testing.assert_array_equal(complete.get_offsets(), [[1, 0], [4, 1], [5, 1.5]])
    np.testing.assert_array_equal(complete.get_array(), [0.5, 0.45, 0.3])
    np.testing.assert_array_equal(early.get_offsets(), [[30, -1]])
    assert early.get_sizes()[0] < complete.get_sizes()[0]
    marks = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert marks == {"baseline": [[1, 0]], "best with fresh seeds": [[5, 1.5]], "range of suggest": [[2, 1], [8, 1]]}
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "linear", "alpha", "beta")
    assert axes.get_xlim()[0] <= 0.1
    assert axes.get_xlim()[1] >= 100
    assert overlapping(figure) == []


def test_the_landscape_of_one_range_has_the_value_as_height() -> None:
    found = summary(setting("trial 3", 0.3))
    axes = landscape_figure(found, {"beta": (-2.0, 2.0, False)}).axes[0]
    np.testing.assert_array_equal(axes.collections[1].get_offsets(), [[0, 0.5], [1, 0.45], [1.5, 0.3]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("beta", "mean of error_*")


def test_the_command_for_a_setting_keeps_the_other_options() -> None:
    command = "ssmspec train forecast --data 'a b.csv' --search=alpha=1..2 --trials 3 --alpha 7 --set batch=8 --json --resume --jobs=2"
    single = single_command(command, replace(BASE, alpha=0.25, beta=-1.5))
    assert single == "ssmspec train forecast --data 'a b.csv' --set batch=8 --alpha 0.25 --beta -1.5"
