"""Clips of moving digits: the rule of motion, the colors, and that a number always gives the same clip."""

import numpy as np
import pytest

from ssmspec.errors import SsmspecError
from ssmspec.training.datasets.moving import PUBLISHED_SPEEDS, Clips, trajectory

GLYPHS = np.arange(1, 33, dtype=float).reshape(2, 4, 4) / 32


def clips(**options: object) -> Clips:
    return Clips(GLYPHS, **{"frames": 30, "side": 14, "speeds": PUBLISHED_SPEEDS, "seed": 3} | options)


def places(channel: np.ndarray) -> tuple[np.ndarray, int]:
    """Top left corners (L, 2) of the only digit in frames (L, side, side), and which digit it is."""
    corners = np.array([[np.flatnonzero(frame.any(axis))[0] for axis in (1, 0)] for frame in channel])
    (number,) = {int(np.argmin(np.abs(GLYPHS.max((1, 2)) - frame.max()))) for frame in channel}
    for frame, (top, left) in zip(channel, corners, strict=True):
        np.testing.assert_array_equal(frame[top : top + 4, left : left + 4], GLYPHS[number].astype(np.float32))
        assert np.count_nonzero(frame) == 16
    return corners, number


def test_red_is_fast_blue_is_slow_and_green_is_empty() -> None:
    found = clips().take(range(20))
    assert found.shape == (20, 30, 3, 14, 14)
    assert not found[:, :, 1].any()
    moved = {color: np.concatenate([np.abs(np.diff(places(clip[:, color])[0], axis=0)) for clip in found]) for color in (0, 2)}
    room = 14 - 4
    assert moved[0].max() == np.ceil(0.45 * room)  # a direction along an axis, and whole pixels
    assert moved[2].max() == 1
    assert 0 < moved[2].sum() < 0.2 * moved[0].sum()
    assert {places(clip[:, 0])[1] for clip in found} == {0, 1}


def test_a_number_is_the_same_clip_in_any_company() -> None:
    together = clips().take([5, 9, 5])
    assert np.array_equal(together[0], together[2])
    assert np.array_equal(together[1], clips().take([9])[0])
    assert not np.array_equal(together[0], together[1])
    assert not np.array_equal(together[0], clips(seed=4).take([5])[0])


@pytest.mark.parametrize("speed", PUBLISHED_SPEEDS)
def test_a_digit_moves_straight_with_its_speed_until_it_bounces(speed: float) -> None:
    path = trajectory(200, speed, np.random.default_rng(1))
    assert (path >= 0).all()
    assert (path <= 1).all()
    steps = np.diff(path, axis=0)
    inside = ((path[1:] > 0) & (path[1:] < 1) & (path[:-1] > 0) & (path[:-1] < 1)).all(1)
    np.testing.assert_allclose(np.linalg.norm(steps[inside], axis=1), speed, rtol=1e-12)
    for axis in (0, 1):
        edges = np.flatnonzero((path[:, axis] == 0) | (path[:, axis] == 1))
        assert len(edges) > 2
        for edge in edges[(edges > 0) & (edges < len(path) - 1)]:
            before, after = path[edge] - path[edge - 1], path[edge + 1] - path[edge]
            assert before[axis] * after[axis] <= 0


def test_digits_need_room_to_move() -> None:
    with pytest.raises(SsmspecError, match="digits of 4 pixels have no room to move in frames of 4; add --set side=8"):
        clips(side=4)
