"""Transforms from a stored number to the quantity that it parameterizes, and back: "-exp", "exp(-exp)", "softplus"."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssmspec.errors import SsmspecError
from ssmspec.families.parameterization import inverse_softplus, softplus
from ssmspec.systems.statespace import FloatArray

Function = Callable[[FloatArray], FloatArray]

FUNCTIONS: dict[str, tuple[Function, Function]] = {
    "none": (np.positive, np.positive),
    "exp": (np.exp, np.log),
    "log": (np.log, np.exp),
    "softplus": (softplus, inverse_softplus),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda y: np.log(y) - np.log1p(-y)),
    "tanh": (np.tanh, np.arctanh),
    "reciprocal": (np.reciprocal, np.reciprocal),
    "complement": (lambda x: 1 - x, lambda y: 1 - y),
}
"""Name -> function and inverse, elementwise."""

_TERM = re.compile(r"\s*(-?)\s*(\w+)\s*(?:\((.*)\)\s*)?", re.DOTALL)
DEEPEST = 8  # nested functions; real layouts need fewer, and the limit keeps the error quick


@dataclass(frozen=True, slots=True)
class Transform:
    """value = scale * s1 f1(s2 f2(... x)) with signs s and functions f, outermost first."""

    steps: tuple[tuple[float, str], ...]
    scale: float = 1.0

    def apply(self, stored: FloatArray) -> FloatArray:
        """The quantity, in the layout of the stored tensor; overflow gives inf without a warning."""
        with np.errstate(all="ignore"):
            for sign, name in reversed(self.steps):
                stored = sign * FUNCTIONS[name][0](stored)
            return self.scale * stored

    def invert(self, value: FloatArray) -> FloatArray:
        """The stored number that gives a value; NaN or infinite if no number does."""
        with np.errstate(all="ignore"):
            value = value / self.scale
            for sign, name in self.steps:
                value = FUNCTIONS[name][1](sign * value)
            return value

    def log(self) -> "Transform | None":
        """The transform whose exponential this one is, or None."""
        return Transform(self.steps[1:]) if self.scale == 1 and self.steps[:1] == ((1.0, "exp"),) else None


IDENTITY = Transform(((1.0, "none"),))


def parse_transform(text: str, scale: float = 1.0) -> Transform:
    """Parse a transform: a function, optionally with a minus sign, of another function or of the stored number.

    Raises:
        SsmspecError: the text is not a valid transform; the message lists the available functions.
    """
    steps: list[tuple[float, str]] = []
    rest: str | None = text
    while rest is not None:
        term = _TERM.fullmatch(rest)
        if term is None or term[2] not in FUNCTIONS or len(steps) == DEEPEST:
            raise SsmspecError(
                f"transform {text!r} is unknown; expected one of {', '.join(FUNCTIONS)}, optionally with a minus sign, "
                "or one applied to another such as 'exp(-exp)'"
            )
        steps.append((-1.0 if term[1] else 1.0, term[2]))
        rest = term[3]
    return Transform(tuple(steps), scale)
