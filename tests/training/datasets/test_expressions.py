"""Expressions of ListOps: the arena's rules, and an evaluation that shares no code with ours."""

import re
import statistics
from collections import Counter

import numpy as np
import pytest

from ssmspec.errors import SsmspecError
from ssmspec.training.datasets.expressions import DIGIT, END, MIN, Rules, draw, evaluate, parse, to_text

SMALL = Rules(depth=5, arguments=5, shortest=8, longest=60)


def value_by_python(text: str) -> int:
    """The value of the text as a nested call of Python functions."""
    called = re.sub(r"\[(MIN|MAX|MED|SM)", r"\1(", text).replace("]", ")")
    called = re.sub(r"(?<=[\d)])\s+(?=[\dMS])", ",", re.sub(r"\s+", " ", called))
    names = {
        "MIN": lambda *values: min(values),
        "MAX": lambda *values: max(values),
        "MED": lambda *values: int(statistics.median(values)),
        "SM": lambda *values: sum(values) % 10,
    }
    return eval(called, {"__builtins__": {}}, names)


@pytest.mark.parametrize("rules", [SMALL, Rules()], ids=["small", "arena"])
def test_every_value_is_that_of_python(rules: Rules, rng: np.random.Generator) -> None:
    for symbols in draw(300, rules, rng):
        assert evaluate(symbols) == value_by_python(to_text(symbols))


def test_expressions_keep_the_rules(rng: np.random.Generator) -> None:
    found = draw(500, SMALL, rng)
    assert len({bytes(symbols) for symbols in found}) == 500
    for symbols in found:
        assert SMALL.shortest < len(symbols) < SMALL.longest
        levels, arguments = 0, [0]
        for symbol in symbols:
            if symbol == END:
                assert 2 <= arguments.pop() <= SMALL.arguments
                levels -= 1
                continue
            arguments[-1] += 1
            if symbol >= MIN:
                arguments.append(0)
                levels += 1
            assert levels < SMALL.depth
        assert levels == 0


def test_nodes_are_drawn_with_the_odds_of_the_arena() -> None:
    free = Rules(depth=2, arguments=10, shortest=1, longest=20)
    found = draw(4000, free, np.random.default_rng(1))
    operators = Counter(int(symbols[0]) for symbols in found)
    sizes = Counter(len(symbols) - 2 for symbols in found)
    assert min(operators.values()) > 800
    assert set(sizes) == set(range(2, 11))
    inner = Rules(depth=3, arguments=10, shortest=1, longest=200)
    nodes = [bool(symbol >= MIN) for symbols in draw(400, inner, np.random.default_rng(2)) for symbol in _children(symbols)]
    assert pytest.approx(np.mean(nodes), abs=0.04) == 1 - DIGIT


def _children(symbols: np.ndarray) -> list[int]:
    """The first symbol of every argument of the root."""
    found, level = [], 0
    for symbol in symbols:
        if symbol == END:
            level -= 1
            continue
        if level == 1:
            found.append(int(symbol))
        level += symbol >= MIN
    return found


def test_the_files_of_the_arena_are_parsed() -> None:
    text = "( ( ( ( [MAX 4 ) ( ( ( [MED 3 ) 8 ) ] ) ) 9 ) ] )"
    assert to_text(parse(text)) == "[MAX 4 [MED 3 8 ] 9 ]"
    assert evaluate(parse("( ( ( [MED 3 ) 8 ) ] )")) == 5
    with pytest.raises(SsmspecError, match=r"'\[AVG' is not a symbol"):
        parse("[AVG 1 2 ]")


@pytest.mark.parametrize("text", ["", "[MAX 1 2", "1 2", "]", "[MAX ]", "[MAX 1 ] ]"])
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(SsmspecError, match="is not an expression"):
        evaluate(parse(text))


@pytest.mark.parametrize("sizes", [{"depth": 0}, {"arguments": 1}, {"shortest": 10, "longest": 11}, {"depth": 2, "shortest": 12}])
def test_rules_that_no_expression_keeps_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(SsmspecError, match="no expression of depth"):
        Rules(**sizes)
