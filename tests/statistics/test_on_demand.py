"""Statistics that are computed when they are first asked for."""

import pickle

import numpy as np
import pytest
from program import S4D

from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.statistics import STATISTICS, Statistic
from ssmspec.statistics.on_demand import OnDemand


def test_each_value_is_computed_once_and_only_when_asked_for() -> None:
    asked: list[str] = []

    def compute(name: str) -> str:
        asked.append(name)
        return name.upper()

    found = OnDemand(("a", "b", "c"), compute)
    assert (list(found), len(found), "b" in found, "d" in found, asked) == (["a", "b", "c"], 3, True, False, [])
    assert (found["b"], found["b"], asked) == ("B", "B", ["b"])
    with pytest.raises(KeyError):
        found["d"]
    assert "2 more on demand" in repr(found)
    assert pickle.loads(pickle.dumps(found)) == found == {"a": "A", "b": "B", "c": "C"}


def test_analyze_computes_no_statistic_until_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []
    of = Statistic.of

    def watched(statistic: Statistic, spectrum: object) -> object:
        computed.append(statistic.name)
        return of(statistic, spectrum)

    monkeypatch.setattr(Statistic, "of", watched)
    layer, other = analyze(S4D).layers
    assert computed == []
    half_life = layer.statistics["half_life"]
    assert np.isfinite(layer.values["half_life"]).all()
    assert (computed, half_life.unit) == (["half_life"], "samples")
    assert other.energy_error is not None
    assert computed == ["half_life"]


def test_statistics_on_demand_are_those_computed_at_once() -> None:
    at_once = analyze(S4D, AnalysisOptions(statistics=tuple(STATISTICS)))
    for late, early in zip(analyze(S4D).layers, at_once.layers, strict=True):
        assert late.statistics == early.statistics
        assert late.energy_error == early.energy_error
        for name, values in early.values.items():
            np.testing.assert_array_equal(late.values[name], values)
