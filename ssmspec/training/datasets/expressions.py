"""Expressions of ListOps: nested MIN, MAX, MED and SM over digits, drawn and evaluated by the rules of the arena.

    [MAX 2 9 [MIN 4 7 ] 0 ]  ->  9

A node is a digit with probability 3/4, and always at the greatest depth. Otherwise it is an operator with 2 to `arguments` arguments.
MED is the median, rounded down, and SM is the sum modulo 10. An expression counts one symbol per digit and two per operator. It is kept
if it is shorter than `longest` and longer than `shortest`, and no expression is kept twice.

Source: google-research/long-range-arena, lra_benchmarks/data/listops.py; arXiv 1804.06028; arXiv 2011.04006, section 2.1.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ssmspec.errors import SsmspecError

Symbols = npt.NDArray[np.int8]

# digits are their own symbols
MIN, MAX, MED, SM, END = range(10, 15)
WORDS = (*map(str, range(10)), "[MIN", "[MAX", "[MED", "[SM", "]")
DIGIT = 0.75  # probability of a digit above the greatest depth


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Sizes of expressions. The defaults are those of the arena.

    Args:
        depth: greatest depth of a node, where the root has depth 1. arguments: largest number of arguments of an operator.
        shortest, longest: the number of symbols of an expression lies strictly between them.

    Raises:
        SsmspecError: no expression can be that long.
    """

    depth: int = 10
    arguments: int = 10
    shortest: int = 500
    longest: int = 2000

    def __post_init__(self) -> None:
        most = _most_symbols(self.depth, self.arguments, self.longest)
        if self.depth < 1 or self.arguments < 2 or self.longest - self.shortest < 2 or most <= self.shortest:
            raise SsmspecError(
                f"no expression of depth {self.depth} with up to {self.arguments} arguments has more than {self.shortest} and fewer than "
                f"{self.longest} symbols; choose a smaller shortest (the largest expression has {most} symbols) or a larger longest"
            )


def _most_symbols(depth: int, arguments: int, enough: int) -> int:
    """The number of symbols of the largest expression, or `enough` if there are larger ones."""
    symbols = 1
    for _ in range(depth - 1):
        symbols = min(enough, 2 + arguments * symbols)
    return symbols


def draw(count: int, rules: Rules, rng: np.random.Generator) -> list[Symbols]:
    """Different expressions.

    Args:
        count: number of expressions. rng: generator of all draws.
    Returns:
        Symbols of every expression, int8, in the order in which they were drawn.
    """
    found: dict[bytes, None] = {}
    uniform = _uniform(rng)
    while len(found) < count:
        expression = _grow(uniform, rules)
        if rules.shortest < len(expression) < rules.longest:
            found[bytes(expression)] = None
    return [np.frombuffer(expression, np.int8) for expression in found]


def _uniform(rng: np.random.Generator) -> Iterator[float]:
    """Random numbers in [0, 1). They are drawn in blocks, because drawing them one by one costs ten times as much."""
    while True:
        yield from rng.random(2**14).tolist()


def _grow(uniform: Iterator[float], rules: Rules) -> list[int]:
    """Symbols of one expression. An unfinished expression ends when it has become too long."""
    depth, arguments, longest = rules.depth, rules.arguments, rules.longest
    expression: list[int] = []
    waiting: list[int] = []  # number of arguments still to come for every open operator
    while len(expression) < longest:
        if len(waiting) + 1 < depth and next(uniform) > DIGIT:
            expression.append(MIN + int(4 * next(uniform)))
            waiting.append(2 + int((arguments - 1) * next(uniform)))
            continue
        expression.append(int(10 * next(uniform)))
        while waiting and waiting[-1] == 1:
            expression.append(END)
            waiting.pop()
        if not waiting:
            return expression
        waiting[-1] -= 1
    return expression


def evaluate(symbols: Symbols) -> int:
    """The value of an expression, 0..9.

    Raises:
        SsmspecError: the symbols do not form an expression.
    """
    frames: list[list[int]] = [[]]  # arguments so far of every open operator; the first frame receives the value of the expression
    operators: list[int] = []
    for symbol in symbols.tolist():
        if symbol < MIN:
            frames[-1].append(symbol)
        elif symbol != END:
            operators.append(symbol)
            frames.append([])
        elif operators and frames[-1]:
            value = VALUES[operators.pop()](frames.pop())
            frames[-1].append(value)
        else:
            operators.append(symbol)  # an end without an operator or arguments
            break
    if operators or len(frames[0]) != 1:
        raise SsmspecError(f"{to_text(symbols[:20])} ... is not an expression of ListOps; every operator needs arguments and an end")
    return frames[0][0]


def _median(values: list[int]) -> int:
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) // 2


VALUES: dict[int, Callable[[list[int]], int]] = {MIN: min, MAX: max, MED: _median, SM: lambda values: sum(values) % 10}


def parse(text: str) -> Symbols:
    """Symbols of an expression as it is written in files of the arena. Their parentheses have no meaning.

    Raises:
        SsmspecError: a word is not a symbol.
    """
    words = text.replace("(", " ").replace(")", " ").split()
    try:
        return np.array([_SYMBOLS[word] for word in words], np.int8)
    except KeyError as error:
        raise SsmspecError(f"{error} is not a symbol of ListOps; expected {' '.join(WORDS)}") from None


_SYMBOLS = {word: symbol for symbol, word in enumerate(WORDS)}


def to_text(symbols: Sequence[int] | Symbols) -> str:
    """An expression as readable text."""
    return " ".join(WORDS[symbol] for symbol in symbols)
