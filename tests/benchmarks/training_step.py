"""The whole training step of `ssmspec train`, compared with the same model on the minimal S4D as it is usually written.

python tests/benchmarks/training_step.py [--rounds N] [--threads N] [--cpu-time] [--paper]

The peer forms its kernel from a Vandermonde matrix in every step, frozen poles or not, and convolves every example by FFT under
PyTorch's autograd, as state-spaces/s4, models/s4/s4d.py does. Both sides have the same optimizer, start from the same parameters, and
must give the same loss and gradients before anything is timed.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from ssmspec.benchmarks.pairs import Clock, Timing, time_pairs
from ssmspec.benchmarks.s4d_step import VandermondeKernel
from ssmspec.training.engine.loop import new_state
from ssmspec.training.engine.step import Stepper
from ssmspec.training.tasks import TASKS

TOLERANCE = 2e-3  # float32: the Vandermonde matrix rounds l a Delta before it takes the exponential


class NaiveBank(nn.Module):
    """Kernel, Sobolev weight and FFT convolution of every example."""

    def __init__(self, bank: nn.Module, settings: Any, length: int, *, frozen: bool) -> None:
        super().__init__()
        H, N, _ = bank.kernel.C.shape
        self.kernel = VandermondeKernel(H, N)
        self.kernel.load_state_dict(bank.kernel.state_dict())
        for name, parameter in self.kernel.named_parameters():
            parameter.requires_grad_(name == "C" or not (frozen or name == "log_dt"))
        theta = torch.arange(length + 1, dtype=torch.float64) * (math.pi / length)
        self.weight = ((1 + theta / (settings.theta_ref or settings.step)) ** settings.beta).float()

    def forward(self, u: Tensor) -> Tensor:
        """(B, H, L) to (B, H, L)."""
        L = u.shape[-1]
        spectrum = torch.fft.rfft(u, n=2 * L) * torch.fft.rfft(self.kernel(L), n=2 * L) * self.weight
        return torch.fft.irfft(spectrum, n=2 * L)[..., :L]


class NaiveWaves(nn.Module):
    """The model of `waves`, example by example."""

    def __init__(self, problem: Any) -> None:
        super().__init__()
        settings = problem.settings
        self.layer = NaiveBank(problem.model.layer, settings, settings.length, frozen=False)
        self.encoder, self.decoder = (
            nn.Linear(1, settings.channels, bias=settings.offset),
            nn.Linear(settings.channels, len(settings.tones)),
        )
        for name in ("encoder", "decoder"):
            getattr(self, name).load_state_dict(getattr(problem.model, name).state_dict())
        self.waves = problem.sources[0].signals

    def loss(self, amplitudes: Tensor) -> Tensor:
        """Mean square error of the amplitudes."""
        x = self.encoder((amplitudes @ self.waves)[..., None]).transpose(-1, -2)
        y = nn.functional.gelu(self.layer(x)).transpose(-1, -2)
        return nn.functional.mse_loss(self.decoder(y).mean(dim=1), amplitudes)


class NaiveDenoise(nn.Module):
    """The model of `denoise`, image by image."""

    def __init__(self, problem: Any) -> None:
        super().__init__()
        self.layer = NaiveBank(problem.model.layer, problem.settings, problem.settings.length, frozen=True)
        self.mixing = nn.Conv1d(3, 3, kernel_size=1)
        self.mixing.load_state_dict(problem.model.mixing.state_dict())
        self.images = problem.images.float()

    def loss(self, batch: Tensor) -> Tensor:
        """Mean square difference between output and image."""
        images = self.images[batch]
        return nn.functional.mse_loss(self.mixing(self.layer(images)), images)


NAIVE: dict[str, Callable[[Any], Any]] = {"waves": NaiveWaves, "denoise": NaiveDenoise}


def sides(task: str, problem: Any, settings: Any) -> tuple[Callable[[], object], Callable[[], object]]:
    """One step of each side. Fails if they disagree."""
    ours, naive = Stepper(problem, new_state(problem, settings), replace(settings, steps=10**9)), NAIVE[task](problem)
    batch = problem.draw(0, torch.Generator().manual_seed(1))
    check_agreement(problem, naive, batch)
    trained = [parameter for parameter in naive.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.lr, weight_decay=0, fused=True)
    generator = torch.Generator().manual_seed(1)

    def peer() -> None:
        loss = naive.loss(problem.draw(0, generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return ours, peer


def check_agreement(problem: Any, naive: Any, batch: Tensor) -> None:
    """Same loss and same gradients of everything that is trained."""
    losses = problem.loss(batch), naive.loss(batch)
    for loss in losses:
        loss.backward()
    values = [loss.item() for loss in losses]
    assert math.isclose(*values, rel_tol=TOLERANCE), values
    peers = dict(naive.named_parameters())
    for name, parameter in problem.model.named_parameters():
        difference = (parameter.grad - peers[name].grad).norm() / peers[name].grad.norm()
        assert difference < TOLERANCE, (name, float(difference))
        parameter.grad = peers[name].grad = None


def line(text: str) -> None:
    """Print a line on stdout at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def show(task: str, settings: Any, rounds: int, clock: Clock) -> Timing:
    """Times both sides in interleaved pairs and prints medians, ratio, and where our step spends its time.

    What we compute once, and the peer in every step, is not part of a step. Its seconds are printed and count in the ratio of whole runs.
    """
    torch.manual_seed(0)
    start = clock()
    problem = TASKS[task].problem(settings, torch.device("cpu"))
    once = clock() - start
    ours, peer = sides(task, problem, settings)
    timing = time_pairs(ours, peer, rounds=rounds, clock=clock)
    low, high = timing.spread
    seconds = f"ours {1e3 * timing.ours_seconds:.2f} ms, naive {1e3 * timing.peer_seconds:.1f} ms"
    whole = settings.steps * timing.peer_seconds / (once + settings.steps * timing.ours_seconds)
    line(f"{task}: {timing.ratio:.1f} x ({low:.1f}..{high:.1f} over {rounds} pairs); {seconds}")
    line(f"    {1e3 * once:.0f} ms once, and so {whole:.1f} x for the {settings.steps} steps of a run")
    show_profile(ours)
    return timing


def show_profile(step: Callable[[], object], calls: int = 30) -> None:
    """Shares of the largest operators in the time of a step, by their own time."""
    with profile(activities=[ProfilerActivity.CPU]) as record:
        for _ in range(calls):
            step()
    events = sorted(record.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    for event in events[:10]:
        line(f"    {100 * event.self_cpu_time_total / total:5.1f} %  {event.count // calls:4d} calls  {event.key[:60]}")


def main() -> None:
    """Both tasks, at the size of the preset small; with --paper also waves at its published size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true", help="of this process in place of the wall's: for one thread on a busy machine")
    parser.add_argument("--paper", action="store_true", help="also waves with L = 62832 and a batch of 16: a minute")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    line(f"torch {torch.__version__}, {arguments.threads} threads, {'CPU' if arguments.cpu_time else 'wall'} time")
    for task in NAIVE:
        show(task, replace(TASKS[task].preset("small"), beta=1.0), arguments.rounds, clock)
    if arguments.paper:
        paper = TASKS["waves"].preset("paper")
        show("waves", replace(paper, beta=1.0, beta_convention="paper", batch=16, skip=False), 3, clock)


if __name__ == "__main__":
    main()
