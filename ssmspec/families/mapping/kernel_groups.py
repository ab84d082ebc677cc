"""Find the tensors of an unknown layout that look like a stored convolution kernel, by their names and shapes."""

import glob
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ssmspec.families.mapping.groups import QUANTITY, WRAPPERS
from ssmspec.families.template import Tensor, join

KERNEL = {"h", "taps", "fir", "impulse", "filter", "filters", "kernel", "kernels"}  # the last word of a name; h alone
DENSE = {"kernel", "kernels"}  # matrices of other modules have these names, too
ENVELOPE = {"decay", "window", "mask", "envelope", "modulation"}
SHORT = 16  # samples; shorter depthwise convolutions surround many layers
POLES = {"pole", "poles", "residue", "residues", "eigenvalue", "eigenvalues"}


@dataclass(slots=True)
class KernelGroup:
    """Modules of the same form that hold a kernel.

    Args:
        match: glob of their prefixes. kernel: name below the prefix. axes: of the kernel.
        reversed: it is the weight of a convolution of torch. repeat: channels that share one kernel.
        skip, envelope: names of D, and of a tensor of the same shape that may be a factor, or None.
    """

    match: str
    kernel: str
    tensor: Tensor
    axes: str
    reversed: bool
    repeat: int = 1
    skip: str | None = None
    envelope: str | None = None
    prefixes: list[str] = field(default_factory=list)


def find_kernels(tensors: Mapping[str, Tensor], taken: Collection[str]) -> list[KernelGroup]:
    """Groups of modules that hold a kernel, in file order.

    Args:
        taken: tensors that belong to another layer.
    """
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name not in taken and "|" not in name and name.isprintable() and 0 not in tensor.shape:
            prefix, end = _split(name)
            modules.setdefault(prefix, {})[end] = tensor
    found: dict[tuple[str, str, str, str | None, str | None], KernelGroup] = {}
    for prefix, below in modules.items():
        for end in below:
            group = _group(prefix, end, below)
            if group is not None:
                key = (group.match, end, group.axes, group.skip, group.envelope)
                found.setdefault(key, group).prefixes.append(prefix)
    return list(found.values())


def unread_poles(tensors: Mapping[str, Tensor], taken: Collection[str]) -> list[str]:
    """Names of tensors that are called poles or residues and that no table of a draft names."""
    return [name for name in tensors if name not in taken and not POLES.isdisjoint(_words(name.rsplit(".", 2)[-2:]))]


def _group(prefix: str, end: str, below: Mapping[str, Tensor]) -> KernelGroup | None:
    """The kernel under one name, if it is one."""
    words, tensor = _words([end]), below[end]
    depthwise = "conv" in words and end.rsplit(".", 1)[-1] == "weight"
    if not tensor.dtype.startswith(("float", "bfloat")) or not words or "short" in words:
        return None
    if not depthwise and (words[-1] not in KERNEL or (words[-1] == "h" and len(words) > 1)):
        return None
    skip = next((name for name in below if name != end and [QUANTITY.get(word) for word in _words([name])] == ["D"]), None)
    axes = _axes(tensor.shape, words[-1], depthwise=depthwise, skip=skip is not None)
    if axes is None:
        return None
    rows = dict(zip(axes.split(), tensor.shape, strict=True)).get("H", 1)
    repeat = 1 if skip is None or len(below[skip].shape) != 1 or below[skip].shape[0] % rows else below[skip].shape[0] // rows
    if skip is not None and below[skip].shape != (rows * repeat,):
        skip = None
    envelope = next((name for name in below if not ENVELOPE.isdisjoint(_words([name])) and below[name].shape == tensor.shape), None)
    match = ".".join("*" if word.isdigit() else glob.escape(word) for word in prefix.split("."))
    return KernelGroup(match, end, tensor, axes, depthwise, repeat, skip, envelope)


def _axes(shape: Sequence[int], word: str, *, depthwise: bool, skip: bool) -> str | None:
    """The axes of a kernel of this shape, or None where the shape is not one of a kernel."""
    if not shape or shape[-1] < (SHORT if depthwise or len(shape) == 1 else 2):
        return None
    if len(shape) == 3 and (1 in shape[:2] or not (depthwise or word in DENSE)):
        return "1 H L" if shape[0] == 1 else "H 1 L" if shape[1] == 1 else "O I L"
    if len(shape) == 2 and not depthwise and (skip or word not in DENSE):
        return "H L"
    return "L" if len(shape) == 1 and word not in DENSE else None


def _split(name: str) -> tuple[str, str]:
    """The prefix of the module that holds a tensor, and the name below it; a word without meaning belongs to the name."""
    words = name.split(".")
    count = 2 if words[-1] in WRAPPERS and len(words) > 1 else 1
    return ".".join(words[:-count]), ".".join(words[-count:])


def _words(names: Sequence[str]) -> list[str]:
    """The words of names, without those that have no meaning."""
    parts = [part for name in names for word in name.split(".") if word not in WRAPPERS for part in word.split("_")]
    return [word.lower() for part in parts for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", part)]


def names_of(group: KernelGroup) -> list[str]:
    """Full names of the tensors of a group."""
    ends = [end for end in (group.kernel, group.skip, group.envelope) if end is not None]
    return [join(prefix, end) for prefix in group.prefixes for end in ends]
