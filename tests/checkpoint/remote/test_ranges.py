"""Which byte ranges become one request, and which bytes are held."""

import numpy as np
import pytest

from ssmspec.checkpoint.remote.ranges import Held, joined


@pytest.mark.parametrize(
    ("ranges", "budget", "expected"),
    [
        ([(0, 10), (4106, 4200)], 0, [(0, 4200)]),  # a gap of 4096
        ([(0, 10), (4107, 4200)], 0, [(0, 10), (4107, 4200)]),
        ([(50, 60), (0, 10), (5, 20)], 0, [(0, 60)]),
        ([(0, 100), (20, 30)], 0, [(0, 100)]),
        ([(3, 3)], 0, []),
        ([(0, 1), (6000, 6001), (16000, 16001)], 6000, [(0, 6001), (16000, 16001)]),  # the smaller gap fits into the budget
        ([(0, 1), (6000, 6001), (16000, 16001)], 20000, [(0, 16001)]),
    ],
)
def test_close_ranges_are_one_request(ranges, budget, expected):
    assert joined(ranges, budget=budget) == expected


def test_joined_ranges_cover_what_was_asked_and_exceed_it_by_small_gaps_and_the_budget_only(rng):
    for _ in range(200):
        starts = rng.integers(0, 10**6, 40)
        ranges = [(int(start), int(start + length)) for start, length in zip(starts, rng.integers(1, 3000, 40), strict=True)]
        covered = np.zeros(1_010_000, bool)
        for start, stop in ranges:
            covered[start:stop] = True
        budget = int(rng.integers(0, 60000))
        found = joined(ranges, budget=budget)
        read = np.zeros_like(covered)
        for start, stop in found:
            assert not read[start:stop].any()
            read[start:stop] = True
        assert (read | ~covered).all()
        edges = np.flatnonzero(np.diff((read & ~covered).astype(int), prepend=0, append=0))
        gaps = edges[1::2] - edges[::2]
        assert gaps[gaps > 4096].sum() <= budget


def test_held_bytes_are_those_of_the_file(rng):
    data = rng.integers(0, 256, 5000, np.uint8).tobytes()
    held = Held()
    have = np.zeros(5000, bool)
    for _ in range(100):
        start = int(rng.integers(0, 4900))
        stop = start + int(rng.integers(1, 100))
        missing = [index for first, last in held.missing(start, stop) for index in range(first, last)]
        assert missing == [index for index in range(start, stop) if not have[index]]
        held.add(start, data[start:stop])
        have[start:stop] = True
        assert not held.missing(start, stop)
        assert held.take(start, stop) == data[start:stop]
