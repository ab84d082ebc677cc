"""S4D, forward and backward, against the same layer whose kernel is a parameter of H x L samples, so that forming it costs nothing.

python tests/benchmarks/free_kernel.py [--rounds N]

One thread, processor time, interleaved pairs. There are two peers: the layer in plain torch (FFTs under autograd), and our own layer,
with its convolution and its output map. A ratio of 1 to the second one would mean that our kernel is free, too.
"""

import argparse
import copy
import sys
import time

import torch
from torch import Tensor, nn

from ssmspec.benchmarks.pairs import Timing, time_pairs
from ssmspec.benchmarks.s4d_step import SINGLE, layers, training_step
from ssmspec.benchmarks.sizes import StepSize
from ssmspec.nn import S4D
from ssmspec.nn.convolution import fft_convolution, one_sided_fft

SIZES = (StepSize(B=8, H=128, N=32, L=1024), StepSize(B=8, H=128, N=64, L=1024), StepSize(B=4, H=32, N=32, L=16384))


class FreePlain(nn.Module):
    """The published layer in plain torch with a free kernel."""

    def __init__(self, layer: S4D, length: int) -> None:
        super().__init__()
        self.samples = nn.Parameter(layer.impulse_response(length)[0].detach())
        self.D, self.output_linear = nn.Parameter(layer.D.detach().clone()), copy.deepcopy(layer.output_linear)

    def forward(self, u: Tensor) -> tuple[Tensor, None]:
        """(B, H, L) to (B, H, L)."""
        L = u.shape[-1]
        spectrum = torch.fft.rfft(u, n=2 * L) * torch.fft.rfft(self.samples, n=2 * L)
        y = torch.fft.irfft(spectrum, n=2 * L)[..., :L] + u * self.D[:, None]
        return self.output_linear(nn.functional.gelu(y)), None


class FreeOurs(FreePlain):
    """The same with our convolution and output map."""

    def forward(self, u: Tensor) -> tuple[Tensor, None]:
        """(B, H, L) to (B, H, L)."""
        L = u.shape[-1]
        spectrum = one_sided_fft(self.samples[None], 2 * L) + self.D[:, None]
        y = nn.functional.gelu(fft_convolution(u, spectrum, 2 * L).flatten(1, 2))
        linear = self.output_linear[0]
        return nn.functional.glu(torch.baddbmm(linear.bias[:, None], linear.weight.flatten(1).expand(len(y), -1, -1), y), dim=1), None


def contest(size: StepSize, rounds: int) -> dict[str, Timing]:
    """The timings against both peers, after a check that outputs and the gradient of the input agree."""
    ours = layers(size)[0]
    step, found = training_step(ours, size), {}
    for name, peer in (("plain torch", FreePlain(ours, size.L)), ("ours", FreeOurs(ours, size.L))):
        other = training_step(peer, size)
        for one, two in zip(step()[:2], other()[:2], strict=True):
            assert (one - two).norm() <= SINGLE * two.norm(), name
        found[name] = time_pairs(step, other, rounds=rounds, clock=time.process_time)
    return found


def main() -> None:
    """All three sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    for size in SIZES:
        for name, timing in contest(size, rounds).items():
            low, high = timing.spread
            seconds = f"ours {1e3 * timing.ours_seconds:.1f} ms, free {1e3 * timing.peer_seconds:.1f} ms"
            sys.stdout.write(f"{size}, against {name}: {timing.ratio:.2f} ({low:.2f}..{high:.2f} over {rounds} pairs); {seconds}\n")


if __name__ == "__main__":
    main()
