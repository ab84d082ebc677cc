"""Names of SSM layers in files of Keras: they get those that the same tensors have in PyTorch, and so the readers of families find them.

Keras 3 numbers the variables of a layer in the order in which they were made, Keras 2 writes their names, and kernels have the axes of
PyTorch's weights in the opposite order. Source: NikolasMarkou/dl_techniques, src/dl_techniques/models/mamba/components.py (MambaLayer).
"""

from collections.abc import Iterator, Mapping

Path = tuple[str, ...]
Shape = tuple[int, ...]

OWN = (("A_log", ("vars", "0")), ("D", ("vars", "1")))  # variables of the layer itself: name, place in Keras 3
PROJECTIONS = ("in_proj", "conv1d", "x_proj", "dt_proj", "out_proj")
KERNEL_AND_BIAS = (("weight", "kernel", ("vars", "0")), ("bias", "bias", ("vars", "1")))


def names_in_pytorch(shapes: Mapping[Path, Shape]) -> dict[Path, tuple[Path, bool]]:
    """Of the variables of Mamba layers, the names in PyTorch, and whether the axes are in the opposite order there.

    Args:
        shapes: of all variables, by path; names of Keras 2 without their ":0".
    """
    found: dict[Path, tuple[Path, bool]] = {}
    for path in shapes:
        for numbered in (True, False):
            ending = OWN[0][1] if numbered else (OWN[0][0],)
            if path[-len(ending) :] == ending:
                layer = path[: -len(ending)]
                places = dict(_places(layer, numbered=numbered))
                if _is_mamba(shapes, layer, places):
                    found |= {place: name for place, name in places.items() if place in shapes}
    return found


def _places(layer: Path, *, numbered: bool) -> Iterator[tuple[Path, tuple[Path, bool]]]:
    for name, number in OWN:
        yield (*layer, *(number if numbered else (name,))), ((*layer, name), False)
    for projection in PROJECTIONS:
        for ours, theirs, number in KERNEL_AND_BIAS:
            place = number if numbered else (theirs,)
            yield (*layer, projection, *place), ((*layer, projection, ours), ours == "weight")


def _is_mamba(shapes: Mapping[Path, Shape], layer: Path, places: Mapping[Path, tuple[Path, bool]]) -> bool:
    """Whether the variables have the shapes of Mamba: (d, N), (d,), x_proj (d, r + 2 N), dt_proj (r, d) with its bias (d,)."""
    by_name = {name[len(layer) :]: shapes[place] for place, (name, _) in places.items() if place in shapes}
    A, D = by_name.get(("A_log",), ()), by_name.get(("D",), ())
    x, dt, bias = (by_name.get(name, ()) for name in (("x_proj", "weight"), ("dt_proj", "weight"), ("dt_proj", "bias")))
    if (len(A), len(x), len(dt)) != (2, 2, 2):
        return False
    return D == bias == (A[0],) and x == (A[0], dt[0] + 2 * A[1]) and dt[1] == A[0]
