"""Pathfinder of the Long Range Arena from its release files. Pictures are read when they are needed.

Source: state-spaces/s4, src/dataloaders/lra.py (PathFinderDataset: the hardest contours, and the place of the label);
arXiv 2011.04006, section 2.5.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ssmspec.errors import SsmspecError
from ssmspec.training.datasets.release import find_files, read_lines

HARDEST = "curv_contour_length_14"
PLACES = (1, 3)  # positions of the file name and the label in a line "imgs/0 sample_0.png 0 1 ...", whose first word is the folder


def read_pathfinder(folder: str, side: int) -> tuple[list[Path], npt.NDArray[np.int64]]:
    """Paths of all pictures and their labels, which are 1 if the two marks lie on one contour.

    Args:
        folder: the folder pathfinder<side>, or its parent. side: side of a picture [pixels].
    Raises:
        SsmspecError: the layout is different, or a line is not valid.
    """
    inside = f"{HARDEST}/metadata"
    layouts = [[f"pathfinder{side}/{inside}"], [inside], [f"lra_release/pathfinder{side}/{inside}"]]
    _, (metadata,) = find_files(folder, layouts, f"Pathfinder with {side} x {side} pixels (lra_release)")
    files = sorted(metadata.glob("*.npy"), key=lambda path: (len(path.stem), path.stem))  # text files, despite their suffix
    if not files:
        raise SsmspecError(f"{metadata} has no .npy files; expected the lists of pictures and labels")
    paths, labels = [], []
    for file in files:
        for number, line in enumerate(read_lines(file), start=1):
            words = line.split()
            if len(words) <= max(PLACES) or words[PLACES[1]] not in ("0", "1"):
                raise SsmspecError(f"{file}, line {number}: expected folder, file, a number, and 0 or 1; fetch the file again")
            paths.append(metadata.parent / words[0] / words[PLACES[0]])
            labels.append(int(words[PLACES[1]]))
    return paths, np.array(labels, np.int64)


def read_gray(paths: Sequence[Path], side: int) -> npt.NDArray[np.uint8]:
    """Gray pictures, (B, side, side).

    Raises:
        SsmspecError: a file is not a picture, or has another size.
    """
    from PIL import Image

    pictures = np.empty((len(paths), side, side), np.uint8)
    for place, path in enumerate(paths):
        try:
            with Image.open(path) as file:
                gray = np.asarray(file.convert("L"))
        except Exception as error:  # damaged bytes must never cause a traceback, whatever Pillow raises for them
            raise SsmspecError(f"{path} cannot be read as a picture ({type(error).__name__}); fetch it again") from error
        if gray.shape != (side, side):
            raise SsmspecError(f"{path} has {gray.shape[1]} x {gray.shape[0]} pixels; expected {side} x {side}")
        pictures[place] = gray
    return pictures
