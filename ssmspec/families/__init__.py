"""Checkpoint families: which tensors a layer consists of, and which state space they define. The built-in families are in `known/`."""

from ssmspec.families.detection import Detection, NearMiss, detect
from ssmspec.families.known import FAMILIES
from ssmspec.families.template import Family, LayerTensors, OperatingPoint, ReadOptions, Tensor


def known_families(options: ReadOptions) -> dict[str, Family]:
    """All families by name: those of the user's mapping file first, then the built-in ones."""
    return {family.name: family for family in options.mapping} | FAMILIES


__all__ = [
    "FAMILIES",
    "Detection",
    "Family",
    "LayerTensors",
    "NearMiss",
    "OperatingPoint",
    "ReadOptions",
    "Tensor",
    "detect",
    "known_families",
]
