"""Layers in several processes: the same results in the same order, and errors where their turn comes."""

import os
import signal

import pytest

from ssmspec.backends import threads
from ssmspec.backends.pool import FORKING, mapped
from ssmspec.errors import LayerError

FORKED = pytest.mark.skipif(not FORKING, reason="this system has no fork")


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(processes: int) -> None:
    assert list(mapped(lambda number: number**2, range(7), processes)) == [number**2 for number in range(7)]


@FORKED
def test_items_are_shared_out_to_other_processes_with_one_thread_each() -> None:
    found = list(mapped(lambda _: (os.getpid(), threads.thread_count()), range(4), 2))
    assert os.getpid() not in {process for process, _ in found}
    assert {count for _, count in found} == {1}


def test_a_single_item_stays_in_this_process() -> None:
    assert list(mapped(lambda _: os.getpid(), [0], 8)) == [os.getpid()]


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_is_raised_where_its_turn_comes(processes: int) -> None:
    def work(number: int) -> int:
        if number == 2:
            raise LayerError("layer 2 is wrong")
        return number

    results = mapped(work, range(5), processes)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(LayerError, match="layer 2 is wrong"):
        next(results)


@FORKED
def test_a_process_that_is_killed_is_a_lack_of_memory() -> None:
    with pytest.raises(MemoryError, match="ended by the system"):
        list(mapped(lambda _: os.kill(os.getpid(), signal.SIGKILL), range(3), 2))


def test_a_limit_holds_within_its_block() -> None:
    before = threads.thread_count()
    with threads.limited(before + 3):
        assert threads.thread_count() == before + 3
        with threads.limited(None):
            assert threads.thread_count() == before + 3
    assert threads.thread_count() == before
