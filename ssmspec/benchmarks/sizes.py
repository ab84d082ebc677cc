"""The sizes at which the benchmarks run. K copies, N stored modes, F frequencies, B batch, H features, L samples."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StepSize:
    """One training step of an S4D layer: B sequences of H features and L samples, N stored modes (d_state = 2 N)."""

    B: int
    H: int
    N: int
    L: int


@dataclass(frozen=True, slots=True)
class CheckpointSize:
    """A checkpoint of minimal S4D layers, H features and N stored modes each."""

    layers: int
    H: int
    N: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """All sizes of a run; tests use smaller ones.

    Args:
        K, N, F: sizes of the Cauchy sum.
        channels: number of copies that python-control evaluates; its time is extrapolated to all.
        step, step_long, step_n64: training steps; the long one has few features, so that the naive layer fits in memory.
        checkpoint: size of the file that `analyze` reads. balance: copies and modes of the layer that is balanced.
        sweep: values of every dimension in the scaling runs; the other dimensions stay at K, N, F and `sweep_step`.
    """

    K: int = 256
    N: int = 32
    F: int = 4096
    channels: int = 1
    step: StepSize = StepSize(B=8, H=128, N=32, L=1024)
    step_long: StepSize = StepSize(B=4, H=32, N=32, L=16384)
    step_n64: StepSize = StepSize(B=8, H=128, N=64, L=1024)
    checkpoint: CheckpointSize = CheckpointSize(layers=48, H=64, N=32)
    balance: tuple[int, int] = (128, 32)
    sweep_step: StepSize = StepSize(B=4, H=32, N=32, L=1024)
    sweep: Mapping[str, tuple[int, ...]] = field(
        default_factory=lambda: {
            "N": (4, 8, 16, 32, 64, 128),
            "F": (512, 1024, 2048, 4096, 8192, 16384),
            "K": (16, 32, 64, 128, 256, 512),
            "L": (512, 1024, 2048, 4096, 8192, 16384),
        }
    )


USUAL = Sizes()
