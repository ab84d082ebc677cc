"""What the tensors of a layer do not say and its numbers depend on: declared by a family, set by a user with `--assume NAME=VALUE`.

Who decides, in this order: the user; what the checkpoint says in its tensors or its configuration; the default, which is what most code of
the family does. Every one that was settled for a layer is kept with its state space, and printed as one would type it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ssmspec.errors import LayerError, SsmspecError
from ssmspec.families.configuration import unused_keys
from ssmspec.files.reading import one_line
from ssmspec.systems.statespace import Assumed
from ssmspec.systems.system import System

if TYPE_CHECKING:
    from ssmspec.families.template import Family, LayerTensors, ReadOptions

Value = str | float
TRUTH = ("false", "true")
UNSAID = "the file does not say"


def _nothing(layer: LayerTensors, config: Mapping[str, object]) -> tuple[Value, str] | None:
    return None


def _the_same(layer: LayerTensors) -> Value | None:
    return None


def _always(layer: LayerTensors, options: ReadOptions) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """One such thing.

    Args:
        name: what is typed before the equals sign.
        about: what it decides, in words.
        values: words that it can be, the default first.
        typical: a number that it often is, where it can be any finite number, too.
        source: repository and path, or paper, where both choices are found.
        told_by: what in the file or its configuration decides it where something does, in words.
        told: the value that the tensors or the configuration of a layer give, and where it was found; None where they do not say.
        keys: keys of a configuration that it looks at.
        default_for: the default for a layer where it is not the same for all; None for those that have the common one.
        applies: whether a layer depends on it at all; tensors are not read.
        matters: whether another value would change what is read of a layer; it is printed only then.
        quiet: the code of the family has the default and nothing else, so that it is not printed; copies of that code may differ.
        required: published code has several values that give different results, so none is assumed: a layer is refused where neither
            the file nor the user says it. `values` and `typical` are then what to type, each with where it is found in `published`.
        published: what code has which value, in words, where it is required.
    """

    name: str
    about: str
    values: tuple[str, ...]
    typical: float | None = None
    source: str
    told_by: str = "nothing"
    told: Callable[[LayerTensors, Mapping[str, object]], tuple[Value, str] | None] = _nothing
    keys: tuple[str, ...] = ()
    default_for: Callable[[LayerTensors], Value | None] = _the_same
    applies: Callable[[LayerTensors, ReadOptions], bool] = _always
    matters: Callable[[LayerTensors, ReadOptions], bool] = _always
    quiet: bool = False
    required: bool = False
    published: str = ""

    @property
    def usual(self) -> str:
        """The default of most layers."""
        return self.values[0]

    def choices(self) -> str:
        """What it can be, as in a usage line: the default first."""
        return "|".join([*self.values, *(["NUMBER"] if self.typical is not None else [])])

    def parsed(self, given: str | float | bool) -> Value:
        """One of the values, from what a user typed or passed.

        Raises:
            LayerError: something that it cannot be; the text lists what it can.
        """
        word = str(given).lower() if isinstance(given, bool) else str(given)
        if word in self.values:
            return word
        try:
            number = float(given) if self.typical is not None and not isinstance(given, bool) else math.nan
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise LayerError(f"--assume {self.name}={one_line(word)}: expected {self.name}={self.choices()}")
        return number

    def settled(self, layer: LayerTensors, options: ReadOptions) -> Assumed:
        """What it is for a layer, and who says so.

        Raises:
            LayerError: as `parsed`.
        """
        if self.name in options.assume:
            return Assumed(self.name, self.parsed(options.assume[self.name]), "user")
        told = self.told(layer, options.config)
        if told is None and self.required:
            raise LayerError(
                f"layer {layer.name} ({layer.family}): {UNSAID} {self.name} ({self.about}), and published code differs: {self.published}; "
                f"say which with --assume {self.name}=..."
            )
        return Assumed(self.name, self._default(layer), "default") if told is None else Assumed(self.name, told[0], "file")

    def _default(self, layer: LayerTensors) -> Value:
        own = self.default_for(layer)
        return self.usual if own is None else own

    def value(self, layer: LayerTensors, options: ReadOptions) -> Value:
        """What it is for a layer."""
        return self.settled(layer, options).value

    def line(self, layer: LayerTensors, options: ReadOptions) -> str | None:
        """What it is for a layer, as one would type it, and why; None where there is nothing to say."""
        found = self.settled(layer, options)
        if not self.matters(layer, options) or (self.quiet and found.by == "default"):
            return None
        usual = self._default(layer)
        if found.by == "user":
            why = "as asked" if found.value == usual or self.required else f"as asked; the default is {shown(usual)}"
        elif found.by == "file":
            told = self.told(layer, options.config)
            why = "" if told is None else told[1]
        else:
            others = [value for value in (*self.values, self.typical) if value is not None and value != found.value]
            why = f"{UNSAID}; --assume {self.name}={'|'.join(shown(value) for value in others)} for "
            why += "the other" if len(others) == 1 and self.typical is None else "others"
        return f"{self.name}={shown(found.value)} ({why})"


def shown(value: Value) -> str:
    """A value as it is typed."""
    return value if isinstance(value, str) else f"{value:g}"


def with_assumptions(family: Family, layer: LayerTensors, options: ReadOptions, systems: Iterable[System]) -> list[System]:
    """The systems of a layer with everything that was settled for them, a line for each that matters, and what of the configuration
    was not used.
    """
    own = [assumption for assumption in family.assumptions if assumption.applies(layer, options)]
    assumed = tuple(assumption.settled(layer, options) for assumption in own)
    lines = tuple(line for assumption in own if (line := assumption.line(layer, options)) is not None)
    used = {key for assumption in own for key in assumption.keys}
    left = unused_keys(options.config, {key: reason for key, reason in family.unused.items() if key not in used})
    return [replace(system, assumed=assumed, assumptions=(*lines, *system.assumptions, *left)) for system in systems]


def parse_assumptions(texts: Sequence[str]) -> dict[str, str | float | bool]:
    """What was typed after `--assume`, once for each name.

    Raises:
        SsmspecError: no NAME=VALUE, or two values for one name.
    """
    found: dict[str, str | float | bool] = {}
    for text in texts:
        name, separator, value = (part.strip() for part in text.partition("="))
        if not separator or not name or not value:
            raise SsmspecError(f"--assume {one_line(text)}: expected NAME=VALUE, such as discretization=bilinear")
        if found.setdefault(name, value) != value:
            raise SsmspecError(f"--assume {name}={value}: {name} was given as {found[name]}, too; give it once")
    return found


def check_assumptions(layers: Sequence[LayerTensors], families: Mapping[str, Family], options: ReadOptions) -> None:
    """Refuse what the user says about things on which no layer depends.

    Raises:
        LayerError: a name that is unknown or not used here, or a value that it cannot have; the text lists what there is.
    """
    used: dict[str, Assumption] = {}
    for layer in layers:
        for assumption in families[layer.family].assumptions:
            if assumption.applies(layer, options):
                used.setdefault(assumption.name, assumption)
                if assumption.name in options.assume:
                    assumption.parsed(options.assume[assumption.name])
    for name, value in options.assume.items():
        if name in used:
            continue
        known = any(assumption.name == name for family in families.values() for assumption in family.assumptions)
        names = ", ".join(f"{each.name}={each.choices()}" for each in used.values())
        present = ", ".join(dict.fromkeys(layer.family for layer in layers))
        there = f"its layers depend on {names}" if used else f"its layers ({present}) depend on no assumption"
        what = "no layer of this file depends on it" if known else f"{one_line(repr(name))} is unknown"
        raise LayerError(f"--assume {one_line(f'{name}={value}')}: {what}; {there} ('ssmspec families NAME' shows those of a family)")
