"""What a probe costs, in backward passes of the same model: four layers, H 64, L 1024, batch 8, 8 samples, from the input and every block.

python tests/benchmarks/probe_cost.py [--rounds N] [--threads N] [--cpu-time]

The peer is one backward pass from the output to the input, as in the probe: parameters are frozen, and the graph is kept. A probe has eight
of these, one forward pass, and the DFTs. Both kinds of output are timed: one per step and the mean over time.
"""

import argparse
import sys
import time

import torch

import ssmspec
from ssmspec.benchmarks.pairs import time_pairs
from ssmspec.nn import SequenceModel

MOST = 10.0  # backward passes that a probe may cost


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
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        y = model(leaf)
        v = torch.ones_like(y)
        timing = time_pairs(
            lambda: torch.autograd.grad(y, leaf, v, retain_graph=True),  # noqa: B023
            lambda: ssmspec.probe(model, u, layers="blocks", samples=8),  # noqa: B023
            rounds=arguments.rounds,
            clock=clock,
        )
        low, high = timing.spread
        kind = "outputs per step" if pooling is None else "ten outputs"
        seconds = f"one takes {1e3 * timing.ours_seconds:.0f} ms, the probe {1e3 * timing.peer_seconds:.0f} ms"
        sys.stdout.write(f"{kind}: {timing.ratio:.1f} backward passes ({low:.1f}..{high:.1f}), of at most {MOST:g}; {seconds}\n")


if __name__ == "__main__":
    main()
