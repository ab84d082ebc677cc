"""Convert a nested tree of dicts, lists, modules and tensors to dotted names, configuration and notes."""

import itertools
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ssmspec.checkpoint.derived import JoinedTensor
from ssmspec.checkpoint.formats.tree import Global, Key, NumpyArray, Placeholder, TensorRef
from ssmspec.checkpoint.tensors import StoredTensor, short
from ssmspec.errors import CheckpointError

Leaf = StoredTensor | JoinedTensor | TensorRef | NumpyArray
NamePath = tuple[str, ...]  # nested keys, outermost first; the last one is the tensor's own name, which may contain dots
Report = Callable[[str], CheckpointError]

WRAPPERS = frozenset(("state_dict", "model_state_dict", "model", "net", "module", "params"))
HOLDS_ONLY_WEIGHTS = frozenset(("state_dict", "model_state_dict", "params"))
OPTIMIZERS = frozenset(
    (
        *("opt_state", "optimizer", "optimizers", "optimizer_state", "optimizer_states", "optimizer_state_dict"),
        *("optim", "optim_state", "optim_state_dict"),
    )
)
TRAINING_STATE = frozenset(("lr_schedulers", "lr_scheduler", "scheduler", "schedulers", "loops", "callbacks"))
"""Of a run, neither weights nor an optimizer's: schedules, loops and callbacks (of Lightning, for instance)."""
MODULE_WRAPPERS = frozenset(("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_fpw_module"))
"""Words that torch.compile, activation checkpointing and FSDP (the last one before torch 2.0) put into names."""
AVERAGED = re.compile(r"(^|_)(ema|swa|averaged)(_|$)")  # a word that marks an averaged copy of the weights
CONFIGS = ("hyper_parameters", "hyperparameters", "hparams", "config", "model_config", "model_args", "args")

SCALARS = (type(None), str, bytes, bytearray, int, float, complex, Global)
STORED = (StoredTensor, JoinedTensor, TensorRef)

MAX_DEPTH = 200  # nesting levels; real modules use fewer than 30
MAX_VISITS = 5_000_000  # visited items; containers that share parts could otherwise expand without end
MAX_TENSORS = 100_000  # per file
MAX_NAME = 2_000  # characters
MAX_DOTS = 200  # per name
NOT_FOUND_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Named:
    """The content of a tree: leaves by final name, plain configuration, notes."""

    leaves: Mapping[str, Leaf]
    config: Mapping[str, object]
    notes: tuple[str, ...]


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Sort key that orders numbers inside names by value: "blocks.2" before "blocks.10"."""
    parts = re.split(r"([0-9]+)", name)
    digits = [part.lstrip("0") for part in parts[1::2]]
    keys = [(0, part) for part in parts]
    keys[1::2] = [(len(part), part) for part in digits]
    return (*keys, (0, name))


def plain_name(name: str) -> str:
    """A name without the parts that wrappers add.

    They are DistributedDataParallel (`module.` in front), torch.compile, activation checkpointing and FSDP (`MODULE_WRAPPERS`, anywhere),
    and the adapters of peft (`base_model.model.` in front).
    """
    words = [word for word in name.split(".") if word not in MODULE_WRAPPERS]
    while len(words) > 1 and (words[0] == "module" or (len(words) > 2 and words[:2] == ["base_model", "model"])):
        del words[: 1 if words[0] == "module" else 2]
    return ".".join(words)


def average_in(name: str) -> str | None:
    """The word that marks a layer or tensor as one of an averaged copy of the weights: "ema_model", "model_ema", "swa_model", ...

    It is the first word behind wrappers; further inside it is the name of a module.
    """
    words = _without_wrappers(name)
    return words[0] if len(words) > 1 and AVERAGED.search(words[0]) else None


def kind_of_average(word: str) -> str:
    """What a word that `average_in` found stands for: "EMA", "SWA" or "averaged"."""
    found = AVERAGED.search(word)
    return found[2].upper() if found is not None and len(found[2]) == 3 else "averaged"


def count_of_layers(names: Iterable[str]) -> str:
    """How many layers there are, those of averaged copies of the weights counted apart: "2 layers and 2 of an EMA copy (model_ema)"."""
    words = [average_in(name) for name in names]
    own = words.count(None)
    text = f"{own} layer{'' if own == 1 else 's'}"
    for word, count in Counter(word for word in words if word is not None).items():
        kind = kind_of_average(word)
        text += f" and {count} of an {kind} copy ({short(word, 60)})"
    return text


def common_name(name: str) -> tuple[bool, str]:
    """Whether a name is of an averaged copy, and the name without wrappers, also those that trainers put in front (`model.`, `net.`)."""
    word = average_in(name)
    words = _without_wrappers(name)
    return word is not None, ".".join(words if word is None else _without_wrappers(".".join(words[1:])))


def _without_wrappers(name: str) -> list[str]:
    words = plain_name(name).split(".")
    start = next((place for place, word in enumerate(words[:-1]) if word not in WRAPPERS), len(words) - 1)
    return words[start:]


def without_inner_wrappers(names: Collection[str]) -> dict[str, str]:
    """Names to show -> names in the file: `MODULE_WRAPPERS` directly before the own name of a tensor are dropped.

    Only where the wrapped module has no modules inside (a projection), so that all tensors of a layer keep one prefix, and only where names
    stay unique.
    """
    wrapped = {holder for name in names if (holder := name.rpartition(".")[0]).rpartition(".")[2] in MODULE_WRAPPERS and "." in holder}
    if not wrapped:
        return {name: name for name in names}
    in_order = sorted(names)
    simple = {holder for holder in wrapped if not _has_modules(holder, in_order)}
    shown: dict[str, str] = {}
    for name in names:
        holder, _, own = name.rpartition(".")
        new = f"{holder.rpartition('.')[0]}.{own}" if holder in simple else name
        shown[name if new in shown else new] = name
    return shown if len(shown) == len(names) else {name: name for name in names}


def _has_modules(holder: str, names: Sequence[str]) -> bool:
    """Whether names, which are sorted, go further below a module than one word."""
    start = f"{holder}."
    below = itertools.takewhile(lambda name: name.startswith(start), itertools.islice(names, bisect_left(names, start), None))
    return any("." in name[len(start) :] for name in below)


def check_names(names: Collection[str], report: Report) -> None:
    """Refuses more tensors or longer names than any real model has, because later processing would take minutes.

    Raises:
        CheckpointError (made by `report`).
    """
    if len(names) > MAX_TENSORS:
        raise report(f"{len(names)} tensors in one file; expected at most {MAX_TENSORS}")
    longest = max(map(len, names), default=0)
    if longest > MAX_NAME:
        raise report(f"a name has {longest} characters, expected at most {MAX_NAME}")
    deepest = max((name.count(".") for name in names), default=0)
    if deepest > MAX_DOTS:
        raise report(f"a name has {deepest} dots, expected at most {MAX_DOTS}")


def name_tree(root: object, report: Report) -> Named:
    """Names every tensor of a tree.

    Keys are joined by ".". Wrapper keys at the top are stripped if the names stay unique. Optimizer and training state is skipped.

    Raises:
        CheckpointError (made by `report`): the tree is nested too deeply, has too many tensors, or two tensors of the same name.
    """
    walk = _Walk(report)
    walk.visit(root, ())
    paths = [path for path, _ in walk.found]
    names = final_names(paths, report, sequence=isinstance(root, list | tuple))
    leaves = {name: leaf for name, (_, leaf) in zip(names, walk.found, strict=True)}
    config = _find_config(root, report)
    notes = [f"{kind} skipped: {name} ({count} tensor{'s' if count > 1 else ''})" for name, kind, count in walk.left_out if count]
    if walk.others.count:
        shown = ", ".join(short(name, 60) for name in walk.others.first) + (", ..." if walk.others.count > NOT_FOUND_SHOWN else "")
        notes.append(
            f"{walk.others.count} entries are not tensors: {shown}" if walk.others.count > 1 else f"1 entry is not a tensor: {shown}"
        )
    return Named(leaves, config, tuple(notes))


def final_names(paths: Sequence[NamePath], report: Report, *, sequence: bool = False) -> list[str]:
    """Dotted names without wrapper keys, or with them if two names would otherwise collide.

    Args:
        paths: one per tensor.
        report: creates the error.
        sequence: whether the outermost keys are indices; then "0" is a wrapper key, too.
    """
    stripped = [".".join(_strip(path, sequence)) for path in paths]
    check_names(stripped, report)
    if len(set(stripped)) == len(stripped):
        return stripped
    full = [".".join(path) for path in paths]
    seen: set[str] = set()
    for name in full:
        if name in seen:
            raise report(f"two different tensors are both named '{short(name)}'; save them under distinct names")
        seen.add(name)
    return full


def _strip(path: NamePath, sequence: bool) -> NamePath:
    start = 1 if sequence and len(path) > 1 and path[0] == "0" else 0
    while start < len(path) - 1 and path[start] in WRAPPERS:
        start += 1
    return path[start:]


def _leaf(node: object) -> Leaf | None:
    if isinstance(node, NumpyArray):
        return node if node.dtype else None
    return node if isinstance(node, STORED) else None


def _children(node: object) -> Iterable[tuple[object, object]] | None:
    if isinstance(node, dict):
        return node.items()
    if isinstance(node, list | tuple):
        return enumerate(node)
    return node.children() if isinstance(node, Placeholder) else None


def _text(key: object) -> str:
    if isinstance(key, bytes):
        return key.decode("latin-1")
    if key is None or isinstance(key, (str, int, float)):
        return str(key)
    if isinstance(key, Key):
        return key.text
    return key.name if isinstance(key, Global) else f"<{type(key).__name__}>"


@dataclass(slots=True)
class _Others:
    """Entries that are neither tensors nor configuration: their number, and the names of the first ones."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        if name in CONFIGS:
            return
        self.count += 1
        if len(self.first) < NOT_FOUND_SHOWN:
            self.first.append(name)

    def extend(self, below: "_Others", path: NamePath) -> None:
        self.first += [".".join((*path, name)) for name in below.first[: NOT_FOUND_SHOWN - len(self.first)]]
        self.count += below.count


@dataclass(slots=True)
class _Walk:
    report: Report
    found: list[tuple[NamePath, Leaf]] = field(default_factory=list)
    left_out: list[tuple[str, str, int]] = field(default_factory=list)  # name, kind of state, number of tensors
    others: _Others = field(default_factory=_Others)
    barren: set[int] = field(default_factory=set)  # containers known to hold no tensors, which are not visited again
    active: set[int] = field(default_factory=set)  # containers being visited: meeting one again is a cycle
    visits: int = 0

    def visit(self, node: object, path: NamePath, in_module: bool = False) -> bool:
        """Collects the tensors at and below a node; returns whether there are any."""
        leaf = _leaf(node)
        if leaf is not None:
            self.found.append((path or ("tensor",), leaf))
            if len(self.found) > MAX_TENSORS:
                raise self.report(f"more than {MAX_TENSORS} tensors in one file; expected a checkpoint with fewer")
            return True
        if id(node) in self.barren or id(node) in self.active:
            return False
        children = _children(node)
        if children is None:
            return False
        if len(path) > MAX_DEPTH or len(self.active) > MAX_DEPTH:
            raise self.report(f"containers are nested more than {MAX_DEPTH} levels deep; expected a checkpoint with less nesting")
        self.active.add(id(node))
        found = self._visit_children(node, children, path, in_module)
        self.active.remove(id(node))
        if not found:
            self.barren.add(id(node))
        return found

    def _count(self) -> None:
        self.visits += 1
        if self.visits > MAX_VISITS:
            raise self.report(f"more than {MAX_VISITS} nested entries (endlessly shared?); expected a checkpoint with fewer")

    def _visit_children(self, node: object, children: Iterable[tuple[object, object]], path: NamePath, in_module: bool) -> bool:
        self._count()
        is_module = isinstance(node, Placeholder) and node.is_module
        above_weights = not in_module and not is_module
        only_weights = not HOLDS_ONLY_WEIGHTS.isdisjoint(path)
        quiet = _Others()
        found = False
        for key, child in children:
            self._count()
            name = _text(key)
            if len(name) > MAX_NAME:
                raise self.report(f"a name has {len(name)} characters, expected at most {MAX_NAME}")
            if isinstance(child, SCALARS):
                quiet.add(name)
                continue
            below = (*path[:-1], f"{path[-1]}.{name}") if in_module and path else (*path, name)
            state = _state(name, child, only_weights) if above_weights else None
            if state is not None:
                self._leave_out(below, state, child)
            elif self.visit(child, below, in_module or is_module):
                found = True
            else:
                quiet.add(name)
        if above_weights and (found or not path):
            self.others.extend(quiet, path)
        return found

    def _leave_out(self, path: NamePath, state: str, node: object) -> None:
        counter = _Walk(self.report, visits=self.visits)
        counter.visit(node, path, in_module=True)  # as in a module: nothing below is skipped again
        self.visits = counter.visits
        self.left_out.append((".".join(path), state, len(counter.found)))


def _state(name: str, node: object, only_weights: bool) -> str | None:
    """What an entry is that holds no weights of the model, in words; None for all others.

    Args:
        only_weights: whether it is below a key that holds only weights, so that its name means nothing.
    """
    if isinstance(node, dict) and node.keys() == {"state", "param_groups"}:
        return "optimizer state"
    if only_weights:
        return None
    return "optimizer state" if name in OPTIMIZERS else "training state" if name in TRAINING_STATE else None


def _find_config(root: object, report: Report) -> dict[str, object]:
    """The entries of the outermost dict that are named as configuration; for a tuple, also its plain dicts. A key keeps its first value."""
    found: list[object] = []
    for part in root if isinstance(root, list | tuple) else [root]:
        if isinstance(part, dict):
            found += [part[key] for key in CONFIGS if key in part]
    if isinstance(root, tuple):
        walk = _Walk(report)
        plain_dicts = (part for part in root[1:] if isinstance(part, dict) and _state("", part, only_weights=False) is None)
        found += [part for part in plain_dicts if not walk.visit(part, ())]
    config: dict[str, object] = {}
    conversion = _Plain()
    for part in {id(part): part for part in found}.values():  # each only once, even if it occurs several times
        plain = conversion.convert(part)
        if isinstance(plain, dict):
            config = {**plain, **config}
    return config


class _Plain:
    """Conversion to scalars, strings, lists and dicts; anything else is dropped. At most 100 000 values and 20 nesting levels."""

    def __init__(self) -> None:
        self.left = 100_000

    def convert(self, value: object, depth: int = 0) -> object:
        """The plain value, or _DROP if there is none."""
        self.left -= 1
        if self.left < 0 or depth > 20:
            return _DROP
        if value is None or isinstance(value, str | bool | int | float | complex):
            return value
        if isinstance(value, Global):
            return value.name
        if isinstance(value, Placeholder):
            value = value.state if isinstance(value.state, dict) else value.pairs or value.items or _DROP
        if isinstance(value, dict):
            pairs = [(_text(key), self.convert(item, depth + 1)) for key, item in value.items()]
            return {key: item for key, item in pairs if item is not _DROP}
        if isinstance(value, list | tuple):
            items = [self.convert(item, depth + 1) for item in value]
            return [item for item in items if item is not _DROP]
        return _DROP


_DROP = object()
