"""Pictures of Pathfinder with dashed contours and two marks at contour ends. The question is whether both marks lie on the same contour.

Every picture has two long contours and some short distractors. With label 1, the marks are at both ends of one long contour. With
label 0, they are at one end of each long contour. The label can therefore be told only by following a contour. A contour turns by a small
random angle from dash to dash, and keeps its distance from all others. The sizes are those of the arena for 32 x 32 pixels. The way in
which contours are drawn is ours, so results on these pictures are not comparable with results on the release files.

Source of sizes: google-research/long-range-arena, lra_benchmarks/data/pathfinder.py; drewlinsley/pathfinder.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssmspec.errors import SsmspecError
from ssmspec.systems.statespace import FloatArray

Points = FloatArray
Mask = NDArray[np.bool_]
TRIES = 40  # attempts to start a contour before the picture is drawn anew
ANGLES = 8  # attempts at the angle of the next dash
FINE = 2  # number of places along a side of a pixel


@dataclass(frozen=True, slots=True, kw_only=True)
class Strokes:
    """Sizes in pixels, and numbers of things.

    Args:
        side: side of a picture. dashes: number of dashes of a long contour. short_dashes: number of dashes of a distractor.
        distractors: number of distractors. dash: length of a dash. gap: gap between dashes. thickness: thickness of dashes.
        mark: radius of a mark. apart: least distance between contours.
        turn: largest angle between two dashes [rad]; up to three times as large if there is no room.
        contrast: brightness of dashes; marks have brightness 1.

    Raises:
        SsmspecError: a contour is longer than the picture can hold.
    """

    side: int = 32
    dashes: int = 14
    short_dashes: int = 4
    distractors: int = 5
    dash: float = 2.0
    gap: float = 1.0
    thickness: float = 0.5
    mark: float = 1.5
    apart: float = 2.0
    turn: float = 0.5
    contrast: float = 0.75

    def __post_init__(self) -> None:
        if self.dashes * (self.dash + self.gap) > 2 * self.side:
            raise SsmspecError(
                f"a contour of {self.dashes} dashes of {self.dash:g} pixels does not fit into {self.side} x {self.side}; use fewer dashes"
            )


def draw(count: int, strokes: Strokes, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pictures and labels.

    Returns:
        (count, side, side) float32 in 0..1, and (count,) labels 0 and 1, whose numbers differ by at most one.
    """
    labels = rng.permutation(np.arange(count) % 2)
    pictures = np.stack([render(*arrange(strokes, bool(label), rng), strokes) for label in labels]) if count else np.empty((0, 0, 0))
    return pictures.astype(np.float32), labels


def arrange(strokes: Strokes, same: bool, rng: np.random.Generator) -> tuple[list[Points], Points]:
    """The joints (dashes + 1, 2) [pixels] of every contour, long ones first, and the positions (2, 2) of the two marks."""
    lengths = [strokes.dashes] * 2 + [strokes.short_dashes] * strokes.distractors
    while True:
        contours: list[Points] = []
        blocked = np.zeros((FINE * strokes.side,) * 2, bool)
        for dashes in lengths:
            contour = _contour(dashes, blocked, strokes, rng)
            if contour is None:
                break
            contours.append(contour)
            blocked |= _around(contour, strokes)
        if len(contours) == len(lengths):
            first, second = contours[0], contours[1]
            return contours, np.stack([first[0], first[-1] if same else second[-1]])


def _contour(dashes: int, blocked: Mask, strokes: Strokes, rng: np.random.Generator) -> Points | None:
    """Joints of a contour that avoids the blocked places and itself, or None if every attempt failed.

    The contour grows dash by dash, and several angles are tried for each dash.
    """
    pace = strokes.dash + strokes.gap
    low, high = _margin(strokes), strokes.side - _margin(strokes)
    for _ in range(TRIES):
        uniform = rng.random((dashes + 2, ANGLES)).tolist()
        x, y = (low + (high - low) * value for value in uniform[-1][:2])
        angle = 2 * math.pi * uniform[-1][2]
        joints = [(x, y)]
        for values in uniform[:dashes]:
            for tries, value in enumerate(values):
                turned = angle + strokes.turn * (1 + 2 * tries / ANGLES) * (2 * value - 1)
                x, y = joints[-1][0] + pace * math.cos(turned), joints[-1][1] + pace * math.sin(turned)
                inside = low <= x <= high and low <= y <= high
                if inside and not blocked[int(FINE * x), int(FINE * y)] and all(math.dist((x, y), other) >= pace for other in joints[:-1]):
                    joints.append((x, y))
                    angle = turned
                    break
            else:
                break
        points = np.array(joints)
        if len(joints) > dashes and not blocked[tuple((FINE * _between(points)).astype(int).T)].any():
            return points
    return None


def _margin(strokes: Strokes) -> float:
    return strokes.mark + 0.5


def _around(joints: Points, strokes: Strokes) -> Mask:
    """Places that are too close to a contour, (FINE side, FINE side)."""
    places = (np.arange(FINE * strokes.side) + 0.5) / FINE
    squares = [np.square(places[:, None] - points) for points in _between(joints).T]
    return np.asarray((squares[0][:, None] + squares[1][None] < (strokes.apart + strokes.thickness) ** 2).any(-1))


def _between(joints: Points) -> Points:
    """Points along a contour, about one per pixel."""
    parts = np.linspace(joints[:-1], joints[1:], 4, axis=1)[:, :-1]
    return np.concatenate([parts.reshape(-1, 2), joints[-1:]])


def render(contours: list[Points], marks: Points, strokes: Strokes) -> FloatArray:
    """The picture, (side, side) in 0..1. Edges fade over one pixel."""
    starts = np.concatenate([joints[:-1] for joints in contours])
    steps = np.concatenate([np.diff(joints, axis=0) for joints in contours]) * (strokes.dash / (strokes.dash + strokes.gap))
    centers = np.stack(np.meshgrid(np.arange(strokes.side), np.arange(strokes.side), indexing="ij"), -1).reshape(-1, 1, 2) + 0.5
    along = (((centers - starts) * steps).sum(-1) / (steps * steps).sum(-1)).clip(0, 1)
    lines = np.linalg.norm(centers - starts - along[..., None] * steps, axis=-1).min(1)
    spots = np.linalg.norm(centers - marks, axis=-1).min(1)
    bright = np.maximum(strokes.contrast * _inside(lines, strokes.thickness), _inside(spots, strokes.mark))
    return bright.reshape(strokes.side, strokes.side)


def _inside(distance: FloatArray, radius: float) -> FloatArray:
    return np.clip(radius + 0.5 - distance, 0, 1)
