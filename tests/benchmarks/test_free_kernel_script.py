"""The script that compares S4D with layers whose kernel is free: both peers compute what our layer does."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

import free_kernel

from ssmspec.benchmarks.s4d_step import layers, training_step
from ssmspec.benchmarks.sizes import StepSize

TINY = StepSize(B=2, H=3, N=4, L=16)


def test_layers_with_a_free_kernel_have_the_outputs_of_ours() -> None:
    ours = layers(TINY)[0]
    wanted = training_step(ours, TINY)()[:2]
    for peer in (free_kernel.FreePlain, free_kernel.FreeOurs):
        for one, other in zip(training_step(peer(ours, TINY.L), TINY)()[:2], wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
