"""Find the tensors of an unknown layout that look like an SSM layer, by their names and shapes.

The words of a name indicate the quantity ("log_delta" is a step). The axes are chosen so that the shapes of a layer agree.
"""

import glob
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ssmspec.families.mapping.mapped import COMPLEX
from ssmspec.families.template import Tensor, join

WORDS = {
    "step": "dt delta step steps timescale timescales tau",
    "pole": "lambda lam lmbda a pole poles eig eigs eigenvalue eigenvalues",
    "pole_real": "decay damping damp",
    "pole_imag": "omega frequency frequencies freq freqs",
    "pole_abs": "nu radius rho modulus mag magnitude abs",
    "pole_phase": "theta phase angle arg",
    "B": "b",
    "B_scale": "gamma",
    "C": "c residue residues",
    "D": "d skip feedthrough",
    "P": "p",
    "Q": "q",
}
QUANTITY = {word: quantity for quantity, words in WORDS.items() for word in words.split()}
REAL, IMAG, LOG = {"re", "real"}, {"im", "imag", "imaginary"}, {"log", "ln", "inv"}  # S4 calls the logarithm of its step inv_dt
RESIDUES = {"residue", "residues"}
OTHER = {"raw", "param", "params", "unconstrained", "softplus", "diag", "tilde", "bar", "ssm", "neg", "vec"}
WRAPPERS = {"weight", "data", "value"}  # last words without meaning: the word before is the name
ORDER = ("pole", "pole_real", "pole_imag", "pole_abs", "pole_phase", "C", "B", "B_scale", "step", "D", "P", "Q")
LOW_RANK = "H N|N H|N|R H N|H N R|1 N|N R|R N"
AXES = {
    "siso": {"step": "H|H 1|1 H|H N|N H|N||1", "D": "H|1 H|H 1", "P": LOW_RANK, "Q": LOW_RANK, "": "H N|N H|1 H N|1 N H|N|1 N|H|H N 1"},
    "mimo": {"step": "N|N 1|1 N||1", "B": "N I|I N", "C": "O N|N O", "D": "I|O I|I O", "P": "N|N R|R N", "Q": "N|N R|R N", "": "N|N 1|1 N"},
}
"""Kind -> quantity -> possible axes, the most usual first; "" stands for any other quantity."""
LEFT_OUT = 10  # cost of skipping a tensor; choosing axes further down their list costs 1 per place


@dataclass(frozen=True, slots=True)
class Stored:
    """The tensors of one quantity below a prefix: a single tensor, or real and imaginary parts."""

    names: tuple[str, ...]
    words: frozenset[str]
    tensor: Tensor

    def shapes(self, quantity: str) -> Iterator[tuple[int, ...]]:
        """The shape without a trailing axis of 2 (if it has one), then the full shape."""
        shape = self.tensor.shape
        if quantity in COMPLEX and len(self.names) == 1 and shape[-1:] == (2,) and not self.tensor.dtype.startswith("complex"):
            yield shape[:-1]
        yield shape


@dataclass(frozen=True, slots=True)
class Solution:
    """A kind, and axes by quantity, for which the shapes agree."""

    cost: int
    kind: str
    axes: Mapping[str, str]
    sizes: Mapping[str, int]


@dataclass(slots=True)
class Group:
    """Layers of the same form: their glob, their prefixes, and the quantities of the first layer.

    Args:
        unfit: names below the prefix that stand for a quantity which is not used. others: all other names below it, numbers as `*`.
    """

    match: str
    quantities: dict[str, Stored]
    solution: Solution
    names: set[str]
    prefixes: list[str] = field(default_factory=list)
    unfit: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def find_groups(tensors: Mapping[str, Tensor]) -> list[Group]:
    """Groups of layers that resemble an SSM, those with the most quantities first. No tensor belongs to two groups."""
    found: dict[tuple[str, tuple[str, ...]], Group | None] = {}
    for prefix, below in _by_prefix(tensors).items():
        match = ".".join("*" if word.isdigit() else glob.escape(word) for word in prefix.split("."))
        key = (match, tuple(sorted(below)))
        if key not in found:
            quantities = _quantities(below)
            solution = _solve(quantities)
            names = {suffix for stored in quantities.values() for suffix in stored.names}
            found[key] = None if solution is None else Group(match, quantities, solution, names)
        group = found[key]
        if group is not None:
            group.prefixes.append(prefix)
    kept: list[Group] = []
    used: set[str] = set()
    candidates = [group for group in found.values() if group is not None]
    for group in sorted(candidates, key=lambda group: (-len(group.solution.axes), -len(group.match))):
        names = {f"{prefix}.{name}" if prefix else name for prefix in group.prefixes for name in group.names}
        if not names & used:
            used |= names
            kept.append(group)
    _account(kept, tensors)
    return kept


def _account(groups: Sequence[Group], tensors: Mapping[str, Tensor]) -> None:
    """Say for every group which tensors below its layers are in no quantity of any group."""
    owner = {prefix: group for group in groups for prefix in group.prefixes}
    told = {
        join(prefix, name)
        for group in groups
        for prefix in group.prefixes
        for quantity in group.solution.axes
        for name in group.quantities[quantity].names
    }
    for name in tensors:
        words = name.split(".")
        prefix = next((p for depth in range(len(words) - 1, -1, -1) if (p := ".".join(words[:depth])) in owner), None)
        if prefix is not None and name not in told:
            end = words[len(prefix.split(".")) if prefix else 0 :]
            shown = ".".join("*" if word.isdigit() else word for word in end)
            kept = owner[prefix].unfit if ".".join(end) in owner[prefix].names or _meaning(name) else owner[prefix].others
            if shown not in kept:
                kept.append(shown)


def _by_prefix(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors with a meaningful name, under every prefix that may be a layer's: the module that holds them, and its parent."""
    result: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        words = name.split(".")
        length = 2 if words[-1] in WRAPPERS | REAL | IMAG and len(words) > 1 else 1
        if _meaning(name) is None or "|" in name or not name.isprintable() or 0 in tensor.shape:
            continue
        for depth in (length, length + 1):
            if depth == length or (len(words) >= depth and not words[-depth].isdigit()):
                result[".".join(words[:-depth])][".".join(words[-depth:])] = tensor
    return result


def _meaning(name: str) -> tuple[str, frozenset[str]] | None:
    """The quantity that a name stands for, and the words of the name; None if a word does not fit."""
    *_, before, last = ("", *name.split("."))
    word = before if last in WRAPPERS else f"{before}_{last}" if last in REAL | IMAG else last
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^A-Za-z_]+", word)
    words = [part.lower() for part in parts]
    found = [QUANTITY[part] for part in words if part in QUANTITY]
    if len(found) != 1 or not set(words) <= QUANTITY.keys() | REAL | IMAG | LOG | OTHER:
        return None
    return found[0], frozenset(words)


def _quantities(below: Mapping[str, Tensor]) -> dict[str, Stored]:
    """The quantities that the tensors of one prefix stand for; of two tensors with the same meaning, the first is used."""
    pieces: dict[tuple[str, str], tuple[str, frozenset[str]]] = {}
    for suffix in below:
        meaning = _meaning(suffix)
        if meaning is not None:
            quantity, words = meaning
            side = "" if words & IMAG and words & REAL else "imag" if words & IMAG else "real" if words & REAL else ""
            pieces.setdefault((quantity, side), (suffix, words))
    found: dict[str, Stored] = {}
    for (quantity, side), (suffix, words) in pieces.items():
        other = pieces.get((quantity, "imag"))
        if quantity in ("B", "C", "P", "Q") and side == "real" and other is not None and below[suffix].shape == below[other[0]].shape:
            found[quantity] = Stored((suffix, other[0]), words, below[suffix])
        elif quantity == "pole" and side:
            found[f"pole_{side}"] = Stored((suffix,), words, below[suffix])
        elif side != "imag":
            found.setdefault(quantity, Stored((suffix,), words, below[suffix]))
    return _one_kind_of_poles(found)


def _one_kind_of_poles(found: dict[str, Stored]) -> dict[str, Stored]:
    """Keep one description of the poles: modulus and phase, a real part with or without an imaginary part, or complex poles."""
    polar = "pole_abs" in found and ("pole_phase" in found or "pole_imag" in found)
    for alias, quantity in (("pole_imag", "pole_phase"),) if polar else (("pole_abs", "pole_real"), ("pole_phase", "pole_imag")):
        if alias in found and quantity not in found:
            found[quantity] = found.pop(alias)
    drop = {"pole", "pole_real", "pole_imag", "step"} if polar else {"pole_abs", "pole_phase"}
    if not polar and "pole" in found:
        stored = found["pole"]
        if "pole_imag" in found and "pole_real" not in found:
            found["pole_real"] = found.pop("pole")
        elif "pole_real" in found:
            drop |= {"pole"}
        elif not stored.tensor.dtype.startswith("complex") and (stored.tensor.shape[-1:] != (2,) or stored.words & LOG):
            found["pole_real"] = found.pop("pole")
    return {quantity: found[quantity] for quantity in ORDER if quantity in found and quantity not in drop}


def _solve(quantities: dict[str, Stored]) -> Solution | None:
    """The kind and axes of lowest cost; None if there are no poles, or too few other quantities."""
    best: Solution | None = None
    poles = [quantity for quantity in quantities if quantity.startswith("pole")]
    residues = "C" in quantities and bool(quantities["C"].words & RESIDUES)
    least = 2 if residues else 3  # poles and residues are a system without anything else
    if not ({"pole", "pole_real", "pole_abs"} & set(poles)) or len(quantities) < least:
        return None
    for kind in AXES:
        for solution in _solutions(kind, list(quantities.items()), 0, {}, {}):
            known = solution.axes.keys()
            enough = len(known) >= least and known >= set(poles) and ("step" in known or "C" in known)
            whole = kind == "siso" or {"B", "C"} <= known
            if enough and whole and not ("B_scale" in known and "B" not in known) and (best is None or solution.cost < best.cost):
                best = solution
    return best


def _solutions(kind: str, left: list[tuple[str, Stored]], cost: int, axes: dict[str, str], sizes: dict[str, int]) -> Iterator[Solution]:
    if not left:
        yield Solution(cost, kind, axes, sizes)
        return
    (quantity, stored), *rest = left
    choices = AXES[kind].get(quantity, AXES[kind][""]).split("|")
    fitting = [
        (place, choice, agreed)
        for place, choice in enumerate(choices)
        for shape in stored.shapes(quantity)
        if (agreed := _agree(choice.split(), shape, sizes)) is not None
    ]
    for place, choice, agreed in fitting:
        yield from _solutions(kind, rest, cost + place, axes | {quantity: choice}, agreed)
    if not fitting and not quantity.startswith("pole"):
        yield from _solutions(kind, rest, cost + LEFT_OUT, axes, sizes)


def _agree(axes: list[str], shape: tuple[int, ...], sizes: dict[str, int]) -> dict[str, int] | None:
    if len(axes) != len(shape):
        return None
    sizes = dict(sizes)
    for axis, size in zip(axes, shape, strict=True):
        if (1 if axis == "1" else sizes.setdefault(axis, size)) != size:
            return None
    return sizes
