"""Clips of two digits that move through a frame and bounce off its edges: a fast one in red and a slow one in blue.

A digit moves in a straight line. Its position, in units of the free room in the frame, is truncated to whole pixels. A digit that would
leave the frame stays at the edge and turns back. Start, direction and digit are random. The speed is fixed.

Source: AnnanYu/FreqBiasSSM, MovingMNIST_gen.py (speeds of 0.15 times 3 and 0.3, colors). The rule for moving and bouncing is that of
NVlabs/ConvSSM, data/moving-mnist-pytorch/moving_mnist.py, after arXiv 1502.04681.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ssmspec.errors import SsmspecError
from ssmspec.systems.statespace import FloatArray

COLORS = 3  # red, green, blue; green stays empty
FAST, SLOW = 0, 2  # the colors of the digits
PUBLISHED_SPEEDS = (0.45, 0.045)  # speeds of the fast and the slow digit, in units of the free room per frame

Glyphs = npt.NDArray[np.floating[Any]]


class Clips:
    """Clips by number. The same number always gives the same clip, whatever else was drawn.

    Args:
        glyphs: (G, h, h) gray values in 0..1. frames: L. side: side of a frame [pixels]. speeds: speeds of the fast and the slow digit, in
            units of the free room, side - h, per frame. seed: seed of all clips.

    Raises:
        SsmspecError: the digits do not fit into a frame with room to move.
    """

    def __init__(self, glyphs: Glyphs, *, frames: int, side: int, speeds: Sequence[float], seed: int) -> None:
        if glyphs.shape[-1] >= side:
            raise SsmspecError(
                f"digits of {glyphs.shape[-1]} pixels have no room to move in frames of {side}; add --set side={2 * glyphs.shape[-1]}"
            )
        self.glyphs, self.frames, self.side, self.speeds, self.seed = glyphs, frames, side, speeds, seed

    def take(self, numbers: Sequence[int] | npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
        """The clips with these numbers, (b, L, 3, side, side) float32 in 0..1."""
        clips = np.zeros((len(numbers), self.frames, COLORS, self.side, self.side), np.float32)
        for clip, number in zip(clips, numbers, strict=True):
            rng = np.random.default_rng([self.seed, int(number)])
            for color, speed in zip((FAST, SLOW), self.speeds, strict=True):
                self._draw(clip[:, color], speed, rng)
        return clips

    def _draw(self, canvas: npt.NDArray[np.float32], speed: float, rng: np.random.Generator) -> None:
        """Draw one digit on an empty canvas (L, side, side)."""
        path = trajectory(self.frames, speed, rng)
        glyph = self.glyphs[rng.integers(len(self.glyphs))]
        inner = np.arange(len(glyph))
        top, left = (path * (self.side - len(glyph))).astype(int)[:, :, None].transpose(1, 0, 2)
        canvas[np.arange(self.frames)[:, None, None], (top + inner)[:, :, None], (left + inner)[:, None, :]] = glyph


def trajectory(frames: int, speed: float, rng: np.random.Generator) -> FloatArray:
    """Positions (frames, 2) in the unit square of a digit that moves by `speed` per frame."""
    place, angle = rng.random(2), rng.random() * 2 * np.pi
    velocity = speed * np.array([np.sin(angle), np.cos(angle)])
    path = np.empty((frames, 2))
    for frame in range(frames):
        place = place + velocity
        velocity = np.where((place <= 0) | (place >= 1), -velocity, velocity)
        path[frame] = place = place.clip(0, 1)
    return path
