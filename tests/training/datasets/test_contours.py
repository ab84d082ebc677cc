"""Pictures of Pathfinder: an algorithm that sees only the picture finds the label."""

import numpy as np
import pytest
from scipy import ndimage

from ssmspec.errors import SsmspecError
from ssmspec.training.datasets.contours import Strokes, arrange, draw, render

FEW = Strokes(dashes=8, short_dashes=3, distractors=2, apart=4.0)


def marks_are_joined(contours: list[np.ndarray], marks: np.ndarray) -> bool:
    """Whether a path of bright pixels leads from mark to mark in a picture without gaps."""
    solid = Strokes(dashes=FEW.dashes, short_dashes=FEW.short_dashes, distractors=FEW.distractors, apart=FEW.apart, dash=3.0, gap=0.0)
    bright = render(contours, marks, solid) > 0.2
    groups, _ = ndimage.label(bright, np.ones((3, 3)))
    first, second = (groups[tuple(mark.astype(int))] for mark in marks)
    assert first
    assert second
    return bool(first == second)


@pytest.mark.parametrize("same", [True, False])
def test_only_marks_of_label_1_lie_on_one_contour(same: bool, rng: np.random.Generator) -> None:
    found = [marks_are_joined(*arrange(FEW, same, rng)) for _ in range(30)]
    assert sum(found) == (30 if same else 0)


def test_pictures_are_gray_balanced_and_repeatable() -> None:
    pictures, labels = draw(21, FEW, np.random.default_rng(3))
    assert pictures.shape == (21, 32, 32)
    assert pictures.dtype == np.float32
    assert pictures.min() == 0
    assert pictures.max() == 1
    assert labels.sum() == 10
    again, _ = draw(21, FEW, np.random.default_rng(3))
    assert np.array_equal(pictures, again)


def test_both_labels_have_the_same_ink() -> None:
    """Brightness does not give the label away: the means differ by less than three standard errors."""
    pictures, labels = draw(200, FEW, np.random.default_rng(4))
    ink = pictures.mean((1, 2))
    one, other = ink[labels == 0], ink[labels == 1]
    assert abs(one.mean() - other.mean()) < 3 * np.sqrt(one.var() / len(one) + other.var() / len(other))


def test_the_sizes_of_the_arena_can_be_drawn() -> None:
    pictures, _ = draw(2, Strokes(), np.random.default_rng(5))
    assert pictures.shape == (2, 32, 32)


def test_contours_that_cannot_fit_are_refused() -> None:
    with pytest.raises(SsmspecError, match="does not fit"):
        Strokes(side=16)
