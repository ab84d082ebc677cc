"""Whether the projections around a selective layer fit each other: their rows are told apart by sizes alone.

Where they contradict each other, B and C cannot be found in them. At the bias point with unit residues nothing of them is used.
"""

from collections.abc import Mapping, Sequence

from ssmspec.errors import LayerError
from ssmspec.families.template import LayerTensors

AXES = ("rows", "columns", "taps")


def size_beside(layer: LayerTensors, name: str, axis: int) -> int | None:
    """The size of a tensor of numbers beside those of the layer along an axis; None without it, or where it holds packed codes.

    Args:
        name: the end of its name.
    """
    tensor = layer.beside.get(name)
    if tensor is None or len(tensor.shape) <= axis or not tensor.dtype.startswith(("float", "bfloat")):
        return None
    return tensor.shape[axis] if tensor.shape[axis] >= 0 else None


def misfit(layer: LayerTensors, expected: Mapping[str, tuple[int, Sequence[int]]]) -> str | None:
    """The first tensor beside those of the layer that has another size than expected, in words, or None.

    Args:
        expected: end of a name -> axis and the sizes that it may have.
    """
    for name, (axis, sizes) in expected.items():
        size = size_beside(layer, name, axis)
        if size is not None and size not in sizes:
            return f"{name} has {size} {AXES[axis]}, expected {' or '.join(map(str, sizes))}"
    return None


def told(problem: str | None) -> tuple[str, ...]:
    """A contradiction as a line for the output."""
    return () if problem is None else (f"the projections contradict each other: {problem}; --residues rms is refused",)


def refuse(layer: LayerTensors, problem: str | None) -> None:
    """Refuse rms residues from projections that contradict each other.

    Raises:
        LayerError: there is a contradiction.
    """
    if problem is not None:
        raise LayerError(
            f"layer {layer.name}: no rms residues, because the projections contradict each other: {problem}; "
            "leave --residues rms out, or record B and C (--calibration)"
        )
