"""Write a first draft of a mapping file, with comments on what was guessed and what must be checked.

Transforms are guessed from names and from the range of the stored values; for that, the tensors of one layer are read. Facts that no tensor
holds (discretization, output, delay) are filled in with the usual choice.
"""

import json
import math
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from ssmspec.families.mapping.groups import LOG, Group, Stored, find_groups
from ssmspec.families.mapping.kernel_groups import KernelGroup, find_kernels, names_of, unread_poles
from ssmspec.families.mapping.mapped import COMPLEX
from ssmspec.families.template import Tensor, as_complex, join

MOST_VALUES = 1 << 22  # limit for a tensor that is read to find the range of its values
TITLE = "# A draft, guessed from names, shapes and value ranges. Compare every line with the code; CHECK marks what no tensor determines."

OUTSIDE = 1.1  # |z| of trained poles on the z-plane; nothing keeps them inside the unit circle
MOST_NAMES = 40  # of tensors that are left out, in a line
LOW_RANK = """
# The state matrix is diag(pole) - P Q^*, and Q is P without a table of its own. CHECK: transform = "conj" for a tensor whose conjugate
# enters the kernel; and kernel_length = L, above the first table of the layer, where C is stored as C (I - Abar^L)."""

ALTERNATIVES = {
    ("pole_real", "none"): "or -exp: ",
    ("pole_real", "-exp"): "or -softplus: ",
    ("step", "none"): "or exp: ",
    ("step", "exp"): "or softplus: ",
    ("pole_abs", "sigmoid"): "or exp(-exp): ",
}
"""The transform that a guessed one is most often confused with."""

Lines = Iterator[str]
Values = npt.NDArray[np.complex128] | None


def draft_mapping(tensors: Mapping[str, Tensor]) -> str | None:
    """The text of a mapping file for the layers among these tensors, or None if nothing resembles a layer."""
    groups = find_groups(tensors)
    taken = {
        join(prefix, name)
        for group in groups
        for prefix in group.prefixes
        for quantity in group.solution.axes
        for name in group.quantities[quantity].names
    }
    kernels = find_kernels(tensors, taken)
    taken |= {name for kernel in kernels for name in names_of(kernel)}
    unread = unread_poles(tensors, taken)
    if not (groups or kernels or unread):
        return None
    lines = [line for group in groups for line in _table(group, tensors)] + [line for kernel in kernels for line in _kernel_table(kernel)]
    return "\n".join([TITLE, *lines, *(_about_unread(unread, tensors) if unread else ())]) + "\n"


def _kernel_table(group: KernelGroup) -> Lines:
    """The lines of one [[layer]] table of kind "kernel"."""
    sizes = dict(zip(group.axes.split(), group.tensor.shape, strict=True))
    told = ", ".join(f"{letter} = {size}" for letter, size in sizes.items() if letter != "1")
    yield f"\n[[layer]]\nmatch = {_quoted(group.match)}  # {_layers(group.prefixes)}"
    yield f'kind = "kernel"  # {told}'
    order = ("reversed", "time if the code flips it") if group.reversed else ("time", "reversed if a conv1d of torch uses it as it is")
    yield f'order = "{order[0]}"  # CHECK: or {order[1]}'
    yield "first_lag = 0  # CHECK: below 0 if outputs depend on later inputs"
    if group.repeat > 1:
        yield f"repeat = {group.repeat}  # CHECK: the skip has {group.repeat} times as many channels, so neighbors seem to share a kernel"
    yield f"\n[layer.kernel]\ntensor = {_quoted(group.kernel)}  # shape {group.tensor.shape}"
    yield f'axes = "{group.axes}"' + ("  # CHECK: outputs, then inputs of one system" if "O" in sizes else "")
    if group.envelope is not None:
        yield f"times = {_quoted(group.envelope)}  # CHECK: it has the same shape, and its name is that of a factor"
    if group.skip is not None:
        yield f'\n[layer.D]\ntensor = {_quoted(group.skip)}\naxes = "H"'


def _about_unread(names: list[str], tensors: Mapping[str, Tensor]) -> Lines:
    """What is called poles or residues and has shapes that no table can have."""
    yield "\n# These tensors are called poles or residues, and no axes make their shapes fit those of one layer:"
    for name in names[:MOST_NAMES]:
        yield f"#   {_quoted(name)}  shape {tensors[name].shape}, {tensors[name].dtype}"
    if len(names) > MOST_NAMES:
        yield f"#   and {len(names) - MOST_NAMES} more"
    yield "# A table needs poles and residues of H channels and N modes: pole or pole_real (and pole_imag) and C, with axes such as"
    yield '# "H N" or "N H", "1" for an axis of size one, and a last axis of two for pairs; a letter that is left out is shared.'


def _table(group: Group, tensors: Mapping[str, Tensor]) -> Lines:
    """The lines of one [[layer]] table of the draft."""
    axes, sizes = group.solution.axes, group.solution.sizes
    stored = {quantity: group.quantities[quantity] for quantity in axes}
    values = {quantity: _values(tensors, group.prefixes[0], found.names) for quantity, found in stored.items()}
    direct, low_rank, logs = "pole_abs" in axes or _inside_circle(values, axes), "P" in axes, _logarithms(stored, values)
    rule = "direct" if direct else "bilinear" if low_rank else "euler" if logs else "zoh"
    why = "poles on the z-plane" if direct else "the state matrix has a low-rank part, P" if low_rank else "or bilinear, or euler"
    why = "log z seems to be stored, so z is its exponential; zoh weighs the input by (z - 1)/log z" if rule == "euler" else why
    yield f"\n[[layer]]\nmatch = {_quoted(group.match)}  # {_layers(group.prefixes)}"
    yield f'kind = "{group.solution.kind}"  # {_sizes(sizes, axes)}'
    yield f'discretization = "{rule}"  # CHECK: {why}'
    yield f"output = {_output(values)}"
    yield "delay = 0  # CHECK: 1 if the output of a sample is taken before the state is updated"
    if not direct and "step" not in axes:
        yield "step = 1.0  # CHECK: no tensor looks like the step, so it must be a constant of the code"
    for quantity, found in stored.items():
        yield from _part(quantity, found, axes[quantity], values[quantity], plain=quantity == "pole_real" and logs)
    if low_rank:
        yield LOW_RANK
    for names, reason in ((group.unfit, "shapes or other tensors do not fit them"), (group.others, "their names stand for no quantity")):
        if names:
            more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
            yield f"\n# Left out, because {reason}: {', '.join(map(_quoted, names[:MOST_NAMES]))}{more}"


def _inside_circle(values: Mapping[str, Values], axes: Mapping[str, str]) -> bool:
    """Whether complex poles without a step all lie in the unit disk, where those of the z-plane belong, or hardly outside."""
    poles = values.get("pole")
    return "step" not in axes and poles is not None and bool(poles.size) and float(np.abs(poles).max()) < OUTSIDE


def _logarithms(stored: Mapping[str, Stored], values: Mapping[str, Values]) -> bool:
    """Whether real poles without a step are called logarithms and have the sign of log z."""
    poles, found = values.get("pole_real"), stored.get("pole_real")
    named = found is not None and bool(found.words & LOG) and "pole_imag" not in stored and "step" not in stored
    return named and poles is not None and bool(poles.size) and float(poles.real.max()) < 0


def _part(quantity: str, stored: Stored, axes: str, values: Values, *, plain: bool = False) -> Lines:
    yield f"\n[layer.{quantity}]"
    keys = ("tensor",) if len(stored.names) == 1 else ("real", "imag")
    for key, name in zip(keys, stored.names, strict=True):
        yield f"{key} = {_quoted(name)}  # shape {stored.tensor.shape}"
    if quantity not in COMPLEX:
        transform = "none" if plain else _transform(quantity, stored.words, values)
        told = "values were not read" if values is None else f"values range from {values.real.min():.3g} to {values.real.max():.3g}"
        other = ALTERNATIVES.get((quantity, transform), "")
        yield f'transform = "{transform}"  # CHECK: {other}guessed from the name; {told}'
    yield f'axes = "{axes}"'


def _values(tensors: Mapping[str, Tensor], prefix: str, names: tuple[str, ...]) -> Values:
    """The values of the first tensor, with pairs made complex; None if the dtype is not numeric or there are too many values."""
    tensor = tensors[join(prefix, names[0])]
    if math.prod(tensor.shape) > MOST_VALUES or not tensor.dtype.startswith(("float", "bfloat", "int", "uint", "complex")):
        return None
    array = np.asarray(tensor.read())
    if tensor.dtype.startswith("complex"):
        return array.astype(np.complex128)
    array = array.astype(np.float64)
    return as_complex(array[..., 0], array[..., 1]) if array.shape[-1:] == (2,) else array.astype(np.complex128)


def _transform(quantity: str, words: frozenset[str], values: Values) -> str:
    """The usual parameterization for these name words and signs of values."""
    log = bool(words & LOG)
    low, high = (-math.inf, math.inf) if values is None else (float(values.real.min()), float(values.real.max()))
    if quantity in ("pole_real", "step"):
        sign = "-" if quantity == "pole_real" else ""
        if "softplus" in words:
            return f"{sign}softplus"
        if sign and high < 0 and not log:
            return "none"
        return f"{sign}{'exp' if log or low <= 0 else 'none'}"
    if quantity == "pole_abs":
        if "nu" in words:  # of an LRU: the modulus is exp(-nu)
            return "exp(-exp)" if log or low <= 0 else "exp(-none)"
        return "exp" if log else "none" if 0 <= low <= high <= 1 else "sigmoid"
    return "exp" if log or (quantity == "B_scale" and low < 0) else "none"


def _output(values: Mapping[str, Values]) -> str:
    if "pole_abs" in values:
        return '"Re"  # CHECK: 2Re if half of each conjugate pair is stored and the output is doubled'
    imaginary = _imaginary(values)
    if imaginary is None:
        return '"Re"  # the poles are real'
    below = float((imaginary < 0).mean())
    if 0.25 < below < 0.75:
        return '"Re"  # CHECK: poles of both signs are stored; 2Re if the output is doubled anyway'
    return '"2Re"  # CHECK: half of each conjugate pair seems to be stored; Re if the output is not doubled'


def _imaginary(values: Mapping[str, Values]) -> npt.NDArray[np.float64] | None:
    """The stored imaginary parts of the poles, used for their signs; None for real poles."""
    parts, whole = values.get("pole_imag"), values.get("pole")
    if parts is not None:
        return parts.real
    return None if whole is None or not whole.imag.any() else whole.imag


def _layers(prefixes: list[str]) -> str:
    shown = ", ".join(_quoted(prefix or "the root") for prefix in prefixes[:3])
    return f"{len(prefixes)} with such names: {shown}" + (", ..." if len(prefixes) > 3 else "")


def _sizes(sizes: Mapping[str, int], axes: Mapping[str, str]) -> str:
    """The sizes, with a warning if axes of equal size could be confused."""
    told = ", ".join(f"{letter} = {size}" for letter, size in sizes.items())
    doubtful = [sizes[letter] for letter in "HIO" if letter in sizes and sizes[letter] == sizes.get("N")]
    matrix = len(axes.get("D", "").split()) == 2 and sizes.get("I") == sizes.get("O", 0)
    return told + (": CHECK the order of axes of equal size" if doubtful or matrix else "")


def _quoted(text: str) -> str:
    """A TOML string. JSON uses the same escapes, except for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
