"""The cost of SpectralMonitor in training: seconds in its calls divided by seconds of the steps, timed from outside, in one run.

    python tests/benchmarks/monitoring.py [--seconds S] [--threads N]      # a minute; nothing fails on a time

A stack of S4D layers is trained on noise. Every step and every call is timed by the script's own clock, so that what the monitor says of
itself is checked too. The first call, in which modules are imported and an engine may be compiled, is reported apart, as the monitor does.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from ssmspec import SpectralMonitor
from ssmspec.monitoring.monitor import Overhead
from ssmspec.nn import S4D, optimizer_groups

SIZES = {"small": (2, 16, 16, 256, 8), "medium": (4, 64, 64, 1024, 8)}  # layers, H, 2N, L, batch
BUDGETS = (0.02, None)


class Stack(nn.Module):
    """Residual S4D layers between two linear maps."""

    def __init__(self, layers: int, H: int, state: int) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(1, H), nn.Linear(H, 1)
        self.blocks = nn.ModuleList(S4D(H, state, transposed=False) for _ in range(layers))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """(B, L, 1) -> (B, L, 1)."""
        x = self.encoder(u)
        for block in self.blocks:
            x = x + block(x)[0]
        return self.decoder(x)


def run(size: str, budget: float | None, every: int, seconds: float) -> None:
    """Train for this long and print a line."""
    layers, H, state, L, batch = SIZES[size]
    model = Stack(layers, H, state)
    optimizer = torch.optim.AdamW(optimizer_groups(model, lr=1e-3, weight_decay=0.0))
    with tempfile.TemporaryDirectory() as folder:
        monitor = SpectralMonitor(model, [Path(folder) / "bias.jsonl", Path(folder) / "board"], every=every, budget=budget, strict=True)
        start = time.perf_counter()
        monitor(0)
        first, steps, calls, after = time.perf_counter() - start, [], [], []
        begin, measured = time.perf_counter(), False
        while time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            u = torch.randn(batch, L, 1)
            loss = nn.functional.mse_loss(model(u), u.roll(3, 1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done = time.perf_counter()
            steps.append(done - start)
            if measured:
                after.append(done - start)
            measured = monitor(len(steps)) is not None
            calls.append(time.perf_counter() - done)
        own = monitor.overhead
        monitor.finish(len(steps))
    report(f"{size}: {layers} layers, H {H}, N {state // 2}, L {L}; every {every}, budget {budget}", first, steps, calls, after, own)


def report(title: str, first: float, steps: list[float], calls: list[float], after: list[float], own: Overhead) -> None:
    """Print one setting in three lines."""
    step, measured = statistics.median(steps), sorted(calls)[-max(1, len(after)) :]
    later = statistics.median(after or steps) / step
    times = (
        f"{len(steps)} steps of {1e3 * step:.3g} ms; {len(after)} measurements of {1e3 * statistics.median(measured):.3g} ms in the median"
    )
    line(f"{title}: {100 * sum(calls) / sum(steps):.2f} % of the steps' time after the first call, which took {first:.2g} s")
    line(f"    {times}; any other call {1e6 * statistics.median(calls):.2g} us; the step after one {later:.3g} x")
    line(f"    by its own account: {own}")


def line(text: str) -> None:
    """Print a line on stdout at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Both sizes, with the default budget and without one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="of training per setting")
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    line(f"torch {torch.__version__}, {arguments.threads} threads")
    for size in SIZES:
        for budget in BUDGETS:
            run(size, budget, arguments.every, arguments.seconds)


if __name__ == "__main__":
    main()
