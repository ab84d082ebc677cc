"""Which tensors hold quantized weights, by their names and dtypes, and what is said of them.

A weight of a known scheme takes the place of the tensors that encode it, under the name that it has in the model. One of an unknown scheme
does, too, and is refused by name when it is read: codes never pass for values.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ssmspec.checkpoint.derived import AnyTensor, DerivedTensor, JoinedTensor
from ssmspec.checkpoint.quantized.bitsandbytes import blockwise
from ssmspec.checkpoint.quantized.packed import pack_quantized, words
from ssmspec.checkpoint.quantized.scaled import fp4, fp8, int8
from ssmspec.checkpoint.quantized.stored import Quantized, Stored
from ssmspec.checkpoint.remote.path import Location
from ssmspec.checkpoint.tensors import StoredTensor, short

WHOLE = ("int", "uint")
FLOAT8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
OPAQUE: Mapping[str, tuple[str, str]] = {
    "W_q": ("HQQ", ""),
    "q_weight": ("EXL2", "q_scale"),
    "trellis": ("EXL3", "suh"),
    "Qidxs": ("QuIP#", ""),
    "codes": ("AQLM", "codebooks"),
    "indices": ("VPTQ", "centroids"),
    "weight._data": ("quanto", "weight._scale"),
    "_weight_qdata": ("torchao", ""),
    "weight_blocks": ("MXFP4 in blocks", "weight_scales"),
}
"""Own name of the codes -> scheme, and another tensor of the module that has to be there; their layouts are not read."""
SHOWN = 4  # names in a note


def dequantizable(
    tensors: Mapping[str, AnyTensor], config: Mapping[str, object], path: Location
) -> tuple[dict[str, AnyTensor], tuple[str, ...]]:
    """The tensors with every quantized weight in the place of those that encode it, and notes that name them by scheme.

    Args:
        tensors: of the file, by name. config: of the model; its `quantization_config` tells what tensors do not.
        path: for messages.
    """
    told = config.get("quantization_config")
    settings: dict[str, Any] = dict(told) if isinstance(told, dict) else {}
    stored = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, StoredTensor | JoinedTensor)}
    found = {weight.name: weight for weight in _weights(stored, settings, path)}
    if not found:
        return dict(tensors), ()
    hidden = {id(part) for weight in found.values() for part in weight.encoded}
    kept = {name: tensor for name, tensor in tensors.items() if id(tensor) not in hidden}
    return kept | found, tuple(_notes(found.values()))


def _weights(stored: Mapping[str, Stored], settings: Mapping[str, Any], path: Location) -> Iterator[DerivedTensor]:
    for name, tensor in stored.items():
        module, _, own = name.rpartition(".")
        start = f"{module}." if module else ""
        if own in ("qweight", "weight_packed") and f"{start}weight" in stored:
            continue
        if own == "qweight":
            yield words(Quantized(f"{start}weight", path, stored, settings), tensor)
        elif own == "weight_packed":
            weight = Quantized(f"{start}weight", path, stored, settings)
            yield fp4(weight, tensor) if tensor.dtype == "uint8" else pack_quantized(weight, tensor)
        elif _is_opaque(name, start, stored):
            yield _opaque(name, start, tensor, path, stored)
        elif f"{name}.absmax" in stored or f"{name}.quant_map" in stored:
            yield blockwise(Quantized(name, path, stored, settings), tensor)
        elif tensor.dtype.startswith(("float8", *WHOLE)):
            kept = _by_dtype(Quantized(name, path, stored, settings), tensor)
            if kept is not None:
                yield kept


def _by_dtype(weight: Quantized, tensor: Stored) -> DerivedTensor | None:
    """A weight that kept its name; None for tensors that are values."""
    if tensor.dtype in FLOAT8 and tensor.shape:
        return None if weight.name.endswith(("_scale", "_scales", "_scale_inv")) else fp8(weight, tensor)
    if not tensor.dtype.startswith(WHOLE) or len(tensor.shape) < 2 or not weight.name.endswith("weight"):
        return None
    return int8(weight, tensor) if tensor.dtype == "int8" else fp4(weight, tensor)


def _is_opaque(name: str, start: str, stored: Mapping[str, Stored]) -> bool:
    own, start = _own(name, start)
    if own not in OPAQUE or f"{start}weight" in stored:
        return False
    other = OPAQUE[own][1]
    return not other or f"{start}{other}" in stored


def _own(name: str, start: str) -> tuple[str, str]:
    """The own name, which may have a dot, and the prefix of its module."""
    above, _, last = start.rstrip(".").rpartition(".")
    longer = f"{last}.{name[len(start) :]}"
    return (longer, f"{above}." if above else "") if longer in OPAQUE else (name[len(start) :], start)


def _opaque(name: str, start: str, tensor: Stored, path: Location, stored: Mapping[str, Stored]) -> DerivedTensor:
    own, start = _own(name, start)
    weight = Quantized(f"{start}weight", path, stored, {})
    return weight.refused(OPAQUE[own][0], "its layout is not known here", (tensor,))


def _notes(weights: Iterable[DerivedTensor]) -> Iterator[str]:
    """A line for each scheme: which weights, and whether they can be dequantized."""
    groups: dict[tuple[str, bool], list[DerivedTensor]] = {}
    for weight in weights:
        groups.setdefault((weight.origin, bool(weight.refusal)), []).append(weight)
    for (origin, refused), group in groups.items():
        names = ", ".join(short(weight.name, 80) for weight in group[:SHOWN])
        names += f" and {len(group) - SHOWN} more" if len(group) > SHOWN else ""
        words = group[0].refusal if refused else f"{origin}, dequantized where values are needed"
        yield f"{names}: {words}"
