"""What a probe costs, in backward passes of the same model: four layers, H 64, L 1024, batch 8, 8 samples, from the input and every block.

python tests/benchmarks/probe_cost.py [--rounds N] [--threads N] [--cpu-time]

One peer is a backward pass of training, with the gradients of all parameters; the other that of the probe, where parameters are
frozen. A probe has eight of the latter, one forward pass, and the DFTs. Outputs at every step are timed, and those of a mean.
"""

import argparse
import sys
import time
from collections.abc import Callable

import torch

import ssmspec
from ssmspec.benchmarks.pairs import time_pairs
from ssmspec.nn import SequenceModel


def main() -> None:
    """Time both kinds of output in interleaved pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true", help="of this process in place of the wall's: for a busy machine")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    sys.stdout.write(f"torch {torch.__version__}, {arguments.threads} threads, {'CPU' if arguments.cpu_time else 'wall'} time\n")
    for outputs, pooling in ((1, None), (10, "mean")):
        torch.manual_seed(0)
        model = SequenceModel(d_input=1, d_output=outputs, d_model=64, n_layers=4, d_state=64, pooling=pooling).eval()
        u = torch.randn(8, 1024, 1)
        leaf = u.clone().requires_grad_()
        for what, frozen in (("training", False), ("frozen parameters", True)):
            timing = time_pairs(_backward(model, leaf, frozen), lambda: _probed(model, u), rounds=arguments.rounds, clock=clock)  # noqa: B023
            kind = "outputs per step" if pooling is None else "ten outputs"
            (low, high), seconds = (
                timing.spread,
                f"one takes {1e3 * timing.ours_seconds:.0f} ms, the probe {1e3 * timing.peer_seconds:.0f} ms",
            )
            sys.stdout.write(f"{kind}: {timing.ratio:.1f} backward passes with {what} ({low:.1f}..{high:.1f}); {seconds}\n")
            sys.stdout.flush()


def _backward(model: SequenceModel, leaf: torch.Tensor, frozen: bool) -> Callable[[], object]:
    """A backward pass that can be repeated."""
    for parameter in model.parameters():
        parameter.requires_grad_(not frozen)
    y = model(leaf)
    v, wanted = torch.ones_like(y), [leaf, *(parameter for parameter in model.parameters() if parameter.requires_grad)]
    return lambda: torch.autograd.grad(y, wanted, v, retain_graph=True, allow_unused=True)


def _probed(model: SequenceModel, u: torch.Tensor) -> object:
    return ssmspec.probe(model, u, layers="blocks", samples=8)


if __name__ == "__main__":
    main()
