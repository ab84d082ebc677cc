"""Explicit kernels: sums at any frequency, blocks, parts, and limits."""

import numpy as np
import pytest

from ssmspec.errors import LayerError
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.kernel import NUMBERS_AT_ONCE, HeldKernel, KernelSystem
from ssmspec.systems.trigonometric import DIRECT, SampledSums, smooth_size


def system_of(kernel: np.ndarray, first_lag: int = 0) -> KernelSystem:
    return KernelSystem(
        name="layer", family="test", shape=kernel.shape, source=HeldKernel(kernel), D=np.zeros(kernel.shape[:3]), first_lag=first_lag
    )


def horner(samples: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """sum_l k[l] e^(-i theta l) in extended precision, by another order of operations than a sum over samples."""
    turn = np.exp(-1j * theta.astype(np.clongdouble))
    total = np.zeros((len(samples), len(theta)), np.clongdouble)
    for column in samples[:, ::-1].T:
        total = total * turn + column[:, None]
    return total


@pytest.mark.parametrize("length", [1, 2, 3, 7, DIRECT, DIRECT + 1, 600, 3001])
def test_sums_at_any_frequency_are_those_of_horner(rng: np.random.Generator, length: int) -> None:
    samples = rng.standard_normal((2, length))
    theta = np.concatenate([[0, np.pi], np.geomspace(1e-9, np.pi, 60), np.pi - np.geomspace(1e-9, 1, 20)])
    wanted = horner(samples, theta)
    sums = SampledSums(samples)
    assert np.abs(sums.at(theta) - wanted).max() < 2e-13 * np.abs(samples).sum(axis=1).max()
    apart = np.stack([theta, theta[::-1]])  # frequencies of its own for every sequence
    assert np.abs(sums.at(apart) - np.stack([wanted[0], wanted[1, ::-1]])).max() < 2e-13 * np.abs(samples).sum(axis=1).max()


@pytest.mark.parametrize("least", [1, 2, 7, 11, 97, 1001, 4097, 123457])
def test_a_smooth_size_has_small_factors_and_none_is_smaller(least: int) -> None:
    def is_smooth(number: int) -> bool:
        for factor in (2, 3, 5):
            while number % factor == 0:
                number //= factor
        return number == 1

    assert smooth_size(least) == next(number for number in range(least, 2 * least + 1) if is_smooth(number))


class Counted:
    """A source that remembers what it was asked for."""

    known_finite = False

    def __init__(self, values: np.ndarray, *, shared: bool = False) -> None:
        self.values, self.shared, self.asked = values, shared, []

    def samples(self, start: int, stop: int) -> np.ndarray:
        self.asked.append((start, stop))
        return self.values[start:stop]


def test_a_kernel_is_read_a_few_copies_at_a_time(rng: np.random.Generator) -> None:
    length = NUMBERS_AT_ONCE // 2
    kernel = np.broadcast_to(rng.standard_normal((5, 1, 1, 1)), (5, 1, 1, length))
    source = Counted(kernel)
    system = KernelSystem(name="layer", family="test", shape=kernel.shape, source=source, D=np.zeros((5, 1, 1)))
    places = [(place.start, place.stop) for place, samples in system.blocks() if samples.shape[0] == place.stop - place.start]
    assert places == source.asked == [(0, 2), (2, 4), (4, 5)]
    shared = Counted(kernel, shared=True)
    assert len(list(KernelSystem(name="x", family="test", shape=kernel.shape, source=shared, D=np.zeros((5, 1, 1))).blocks())) == 3
    assert shared.asked == [(0, 5)]


def test_chosen_copies_are_read_and_no_others(rng: np.random.Generator) -> None:
    kernel = rng.standard_normal((8, 1, 1, 4))
    source = Counted(kernel)
    part = KernelSystem(name="layer", family="test", shape=kernel.shape, source=source, D=np.zeros((8, 1, 1))).pick([1, 2, 5]).pick([0, 2])
    np.testing.assert_array_equal(part.impulse(4), kernel[[1, 5]])
    assert source.asked == [(1, 2), (5, 6)]


def test_a_delay_and_a_look_ahead_turn_the_phase(rng: np.random.Generator) -> None:
    kernel, theta = rng.standard_normal((1, 1, 1, 5)), np.array([0.3, 2.0])
    grid = FrequencyGrid(theta, "theta")
    base = system_of(kernel).response(grid).dynamic
    for lag in (-5, -2, 1, 3):
        np.testing.assert_allclose(system_of(kernel, lag).response(grid).dynamic, base * np.exp(-1j * theta * lag), rtol=1e-13)
    np.testing.assert_array_equal(system_of(kernel, 2).impulse(9)[0, 0, 0], [0, 0, *kernel[0, 0, 0], 0, 0])
    np.testing.assert_array_equal(system_of(kernel, -2).impulse(6)[0, 0, 0], [*kernel[0, 0, 0], 0])


def test_energy_is_the_sum_of_squares(rng: np.random.Generator) -> None:
    kernel = rng.standard_normal((3, 2, 2, 9))
    np.testing.assert_allclose(system_of(kernel).energy(), [sum(v * v for v in copy.ravel()) for copy in kernel], rtol=1e-14)


def test_contradictions_and_limits_are_refused(rng: np.random.Generator) -> None:
    kernel = rng.standard_normal((2, 1, 1, 4))
    with pytest.raises(LayerError, match="D has shape"):
        KernelSystem(name="layer", family="test", shape=kernel.shape, source=HeldKernel(kernel), D=np.zeros((1, 1, 1)))
    with pytest.raises(LayerError, match="expected at least one"):
        system_of(np.zeros((0, 1, 1, 4)))
    with pytest.raises(LayerError, match="exists only in discrete time; use the axis theta"):
        system_of(kernel).response(FrequencyGrid(np.array([1.0]), "omega"))
    with pytest.raises(LayerError, match="expected at least 1"):
        system_of(kernel).impulse(0)
    with pytest.raises(LayerError, match="GiB"):
        system_of(kernel).impulse(1 << 40)
