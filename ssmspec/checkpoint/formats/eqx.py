"""Equinox: an optional line of JSON, then one .npy stream per leaf, without names; this module also finds the leaves of SSM layers.

Leaves are stored in the order of the modules' fields, depth first. Strings are not stored; Python numbers are stored as 0-d arrays;
bfloat16 has the dtype V2. A run of leaves gets names if its order and shapes match exactly one public layer; all other leaves are named by
position. A run that matches two layers is refused, not guessed.

Sources: patrick-kidger/equinox, equinox/_serialisation.py (tree_serialise_leaves, default_serialise_filter_spec); field orders of
tk-rusch/linoss, models/S5.py, LinOSS.py, LRU.py, and of jaredbmit/damped-linoss, src/damped_linoss/models/LinOSS.py.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from ssmspec.checkpoint.formats.json_text import parse_json
from ssmspec.checkpoint.formats.npz import MAX_ARRAYS, npy_header
from ssmspec.checkpoint.formats.tree import fortran_strides
from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import ITEMSIZE, MAX_DIMENSIONS, Contents, Flag, Span, StoredTensor, extent, problem, short

NPY = b"\x93NUMPY"
LINE = 1 << 20  # largest number of JSON bytes
HEADER = 16_384  # bytes read to find one .npy header; numpy itself refuses headers above 10 000
SPOKEN_KEYS = ("model_name", "model", "name", "architecture", "layer_name")  # hyperparameters that may name the model


@dataclass(frozen=True, slots=True)
class Layout:
    """The leaves of one public layer.

    Args:
        title: name in messages. words: names of the layer in hyperparameters.
        fields: name and shape of every leaf, in order; a shape is a list of symbols and numbers.
        constants: names and dtype kinds of the 0-d leaves that follow; a layer has either all of them or none.
        prefix: prefix of the names; None if the layout only serves to detect ambiguity.
        proven: whether the constants occur only in this layout, so that their presence proves it.
    """

    title: str
    words: frozenset[str]
    fields: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, str], ...] = ()
    prefix: str | None = None
    proven: bool = False


def _fields(names: str, *shapes: str) -> tuple[tuple[str, str], ...]:
    return tuple(zip(names.split(), shapes, strict=True))


_CONSTANTS = (("H", "i"), ("P", "i"), ("conj_sym", "b"), ("clip_eigs", "b"), ("step_rescale", "f"))
_DAMPED = frozenset(("damped-linoss", "d-linoss", "dlinoss", "dampedimex1", "dampedimex2", "dampedim", "dampedex"))
_S5 = "Lambda_re Lambda_im B C D log_step"

LAYOUTS = (
    Layout("S5", frozenset(("s5",)), _fields(_S5, "P", "P", "P H 2", "H P 2", "H", "P 1"), _CONSTANTS, "s5"),
    Layout("S5 with a flat log_step", frozenset(("s5",)), _fields(_S5, "P", "P", "P H 2", "H P 2", "H", "P"), _CONSTANTS, "s5", True),
    Layout("LinOSS", frozenset(("linoss", "im", "imex")), _fields("A_diag B C D steps", "P", "P H 2", "H P 2", "H", "P"), (), "linoss"),
    Layout(
        "damped LinOSS",
        _DAMPED,
        _fields("A_diag G_diag B C D steps", "P", "P", "P H 2", "H P 2", "H", "P"),
        (("state_dim", "i"),),
        "linoss",
        True,
    ),
    Layout(
        "LRU",
        frozenset(("lru",)),
        _fields("nu_log theta_log B_re B_im C_re C_im D gamma_log", "N", "N", "N H", "N H", "H N", "H N", "H", "N"),
        (),
        "lru",
    ),
)


@dataclass(frozen=True, slots=True)
class Match:
    """A layout that matches the leaves from `start` on; `constants` says whether its constants are present."""

    layout: Layout
    start: int
    constants: bool

    @property
    def stop(self) -> int:
        return self.start + len(self.layout.fields)

    def names(self) -> list[str]:
        """The field names of the matched leaves, constants included."""
        constants = self.layout.constants if self.constants else ()
        return [name for name, _ in self.layout.fields + constants]


def is_equinox(path: Location, head: bytes, size: int) -> bool:
    """Whether a file that begins with `head` is Equinox: by its name, or .npy data after a line of text, or two .npy streams in a row."""
    if head.startswith(NPY):
        return path.suffix == ".eqx" or _is_followed_by_another(path, size)
    return head.partition(b"\n")[2].startswith(NPY) or path.suffix == ".eqx"


def _is_followed_by_another(path: Location, size: int) -> bool:
    with path.open("rb") as file:
        try:
            first = _Leaf.at(path, file, 0, size)
        except ValueError:
            return False
        file.seek(first.stop)
        return file.read(len(NPY)) == NPY


def read_equinox(path: Location, size: int) -> Contents:
    """Reads the JSON line and the header of every leaf; array bytes stay in the file.

    Raises:
        CheckpointError: not an Equinox file, a damaged header, a truncated leaf, or leaves that match two layouts.
    """
    with path.open("rb") as file:
        config, offset = _hyperparameters(path, file)
        leaves: list[_Leaf] = []
        while offset < size:
            try:
                leaves.append(_Leaf.at(path, file, offset, size))
            except ValueError as error:
                text = f"an Equinox file whose array {len(leaves)} (byte {offset}) cannot be read: {error}; fetch it again"
                raise problem(path, text) from error
            if len(leaves) > MAX_ARRAYS:
                raise problem(path, f"more than {MAX_ARRAYS} arrays in one file; expected an Equinox model with fewer")
            offset = leaves[-1].stop
    matches = find_layers(path, [(leaf.shape, leaf.kind) for leaf in leaves], config)
    names = leaf_names(len(leaves), matches)
    tensors = {name: replace(leaf.tensor, name=name) for name, leaf in zip(names, leaves, strict=True) if leaf.tensor is not None}
    return Contents("equinox", tensors, config, _notes(matches, len(leaves) - len(tensors)))


def stream_spans(path: Location, size: int) -> tuple[int, dict[int, tuple[int, int]]]:
    """Where the line of JSON ends, and the first byte of every numeric stream and the byte after it, by where its data begin."""
    spans = {}
    with path.open("rb") as file:
        line = offset = _hyperparameters(path, file)[1]
        while offset < size:
            leaf = _Leaf.at(path, file, offset, size)
            if leaf.tensor is not None:
                spans[leaf.tensor.span.offset] = (offset, leaf.stop)
            offset = leaf.stop
    return line, spans


def _hyperparameters(path: Location, file: BinaryIO) -> tuple[dict[str, object], int]:
    """The leading JSON line, as a configuration, and the byte where the arrays begin."""
    line = file.readline(LINE)
    if line.startswith(NPY):
        return {}, 0
    try:
        value = parse_json(line)
    except ValueError as error:
        text = "not an Equinox file: expected one line of JSON, then .npy arrays; save the leaves with numpy.savez under their names"
        raise problem(path, text) from error
    return (value if isinstance(value, dict) else {}), len(line)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One stream: its shape, the kind of its dtype, where it ends, and the tensor, or None if it is not numeric."""

    shape: tuple[int, ...]
    kind: str
    stop: int
    tensor: StoredTensor | None

    @classmethod
    def at(cls, path: Location, file: BinaryIO, offset: int, size: int) -> "_Leaf":
        """The leaf whose stream begins at an offset.

        Raises:
            ValueError: there is no valid header, or the header declares more data than the file has.
        """
        file.seek(offset)
        shape, fortran, dtype, length = npy_header(file.read(HEADER))
        if dtype.hasobject:
            raise ValueError("it holds pickled Python objects, expected numbers")
        if len(shape) > MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
            raise ValueError(f"shape {short(str(shape), 60)}, expected at most {MAX_DIMENSIONS} non-negative integers")
        nbytes = math.prod(shape) * dtype.itemsize
        stop = offset + length + nbytes
        if stop > size:
            raise ValueError(f"expected {nbytes} bytes of data, but only {size - offset - length} are left")
        name = "bfloat16" if dtype.kind == "V" and dtype.names is None and dtype.itemsize == 2 else dtype.name
        if name not in ITEMSIZE:
            return cls(shape, "other", stop, None)
        flags: frozenset[Flag] = frozenset({"big-endian"} if dtype.str[0] == ">" else ())
        strides = fortran_strides(shape) if fortran and len(shape) > 1 else None
        held = extent(shape, strides) * ITEMSIZE[name] if strides else nbytes
        kind = {"u": "i", "V": "f"}.get(dtype.kind, dtype.kind)
        return cls(shape, kind, stop, StoredTensor("", shape, name, Span(path, offset + length, held, strides, flags)))


def find_layers(path: Location, leaves: Sequence[tuple[tuple[int, ...], str]], config: Mapping[str, object]) -> list[Match]:
    """The runs of leaves (shape, kind of dtype) that are layers, in order.

    Raises:
        CheckpointError: a run matches more than one layout, and neither constants nor hyperparameters decide which.
    """
    found = [match for start in range(len(leaves)) for layout in LAYOUTS if (match := _match(layout, leaves, start)) is not None]
    words = {str(config[key]).lower() for key in SPOKEN_KEYS if key in config}
    groups: list[list[Match]] = []
    for match in found:
        if groups and match.start < max(other.stop for other in groups[-1]):
            groups[-1].append(match)
        else:
            groups.append([match])
    return [_decide(path, group, words) for group in groups]


def _decide(path: Location, group: list[Match], words: set[str]) -> Match:
    candidates = [match for match in group if match.layout.proven and match.constants] or group
    candidates = [match for match in candidates if match.layout.words & words] or candidates
    if len(candidates) == 1:
        return candidates[0]
    first, last = min(match.start for match in group), max(match.stop for match in group) - 1
    titles = " or ".join(dict.fromkeys(match.layout.title for match in candidates))
    text = f"Equinox files have no names, and arrays {first}..{last} could be {titles}; save the leaves with numpy.savez under their names"
    raise problem(path, text)


def _match(layout: Layout, leaves: Sequence[tuple[tuple[int, ...], str]], start: int) -> Match | None:
    stop = start + len(layout.fields)
    if stop > len(leaves):
        return None
    sizes: dict[str, int] = {}
    for (_, symbols), (shape, kind) in zip(layout.fields, leaves[start:stop], strict=True):
        wanted = symbols.split()
        if kind != "f" or len(wanted) != len(shape):
            return None
        for symbol, size in zip(wanted, shape, strict=True):
            if size != (int(symbol) if symbol.isdigit() else sizes.setdefault(symbol, size)) or size == 0:
                return None
    behind = leaves[stop : stop + len(layout.constants)]
    constants = bool(behind) and behind == [((), kind) for _, kind in layout.constants]
    return Match(layout, start, constants)


def leaf_names(count: int, matches: Sequence[Match]) -> list[str]:
    """A name for every leaf: "s5.0.Lambda_re" in layers, numbered per layout, and the position for all others."""
    names = [str(position) for position in range(count)]
    numbers: dict[str, int] = {}
    for match in matches:
        prefix = match.layout.prefix or match.layout.title
        number = numbers[prefix] = numbers.get(prefix, -1) + 1
        for position, name in enumerate(match.names(), match.start):
            names[position] = f"{prefix}.{number}.{name}"
    return names


def _notes(matches: Sequence[Match], skipped: int) -> tuple[str, ...]:
    notes = ["Equinox does not store names: arrays are named by position"]
    if matches:
        runs = ", ".join(f"{match.start}..{match.stop - 1} ({match.layout.title})" for match in matches[:6])
        more = f" and {len(matches) - 6} more" if len(matches) > 6 else ""
        notes[0] += f", except those whose order and shapes match a layer: {runs}{more}; optimizer moments would look the same"
    else:
        notes[0] += "; none of them match the order and shapes of S5, LinOSS or LRU"
    if skipped:
        notes.append(f"{skipped} arrays are not numeric and were skipped")
    return tuple(notes)
