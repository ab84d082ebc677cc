import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from growth import DIMENSIONS, exponents, seconds_of


def test_exponents_are_those_of_a_power_and_see_a_term_that_comes_late():
    sizes = [1, 2, 4, 8, 16]
    assert exponents(sizes, [0.5 * size**1.5 for size in sizes]) == pytest.approx((1.5, 1.5))
    overall, last = exponents(sizes, [size + 1e-3 * size**3 for size in sizes])
    assert 1 < overall < last < 3


def test_a_command_about_several_files_is_timed(tmp_path):
    make = DIMENSIONS["files"][1]
    assert seconds_of(tmp_path, make(2), ["--points", "64"], 1) > 0.1
    assert len(list(tmp_path.iterdir())) == 2
