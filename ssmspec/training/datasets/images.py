"""Pictures that come with installed packages, cropped and resized to the shape that a task needs. Nothing is downloaded."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ssmspec.errors import SsmspecError
from ssmspec.systems.statespace import FloatArray
from ssmspec.tuning.poles.initializations import unknown


def _grace_hopper() -> Path:
    from matplotlib import cbook

    return Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))


def _packaged(package: str, name: str) -> Callable[[], Path]:
    def find() -> Path:
        spec = find_spec(package.partition(".")[0])
        path = Path(spec.origin).parent.joinpath(*package.split(".")[1:], name) if spec is not None and spec.origin else None
        if path is None or not path.is_file():
            distribution = {"sklearn": "scikit-learn", "skimage": "scikit-image"}[package.partition(".")[0]]
            raise SsmspecError(
                f"the picture {name} comes with {distribution}, which is not installed or lacks it; install it or leave {name} out"
            )
        return path

    return find


PICTURES: dict[str, Callable[[], Path]] = {
    "grace_hopper": _grace_hopper,
    "china": _packaged("sklearn.datasets.images", "china.jpg"),
    "flower": _packaged("sklearn.datasets.images", "flower.jpg"),
    "astronaut": _packaged("skimage.data", "astronaut.png"),
    "coffee": _packaged("skimage.data", "coffee.png"),
}


def load_crops(names: Sequence[str], *, crops: int, size: int, rows: int, columns: int) -> FloatArray:
    """Square crops of pictures, resized and flattened row by row, in -1..1.

    Args:
        names: keys of `PICTURES`. crops: number of crops of every picture. The first crop is in the middle and a quarter of the way down,
            where a face is. The others are at random places, which are the same in every call.
        size: side of a crop in pixels. rows, columns: the size to which a crop is resized.
    Returns:
        (len(names) crops, 3, rows columns), in red, green and blue.
    Raises:
        SsmspecError: a name is unknown, the package of a picture is not installed, or a picture is smaller than a crop.
    """
    from PIL import Image

    generator = np.random.default_rng(0)
    flat = []
    for name in names:
        if name not in PICTURES:
            raise unknown("picture", name, PICTURES)
        with Image.open(PICTURES[name]()) as file:
            picture = file.convert("RGB")
        room = np.array([picture.width - size, picture.height - size])
        if room.min() < 0:
            raise SsmspecError(
                f"the picture {name} has {picture.width} x {picture.height} pixels; choose crops no larger than its smaller side"
            )
        corners = [room // [2, 4], *(generator.integers(0, room + 1) for _ in range(crops - 1))]
        for x, y in corners:
            part = picture.crop((x, y, x + size, y + size)).resize((columns, rows), Image.Resampling.BILINEAR)
            flat.append(np.asarray(part, float).transpose(2, 0, 1).reshape(3, -1) / 127.5 - 1)
    return np.stack(flat)
