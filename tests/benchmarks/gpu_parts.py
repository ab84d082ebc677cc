"""The parts of gpu.py. Each is a generator of figures: what it has given is kept if it fails later.

    python gpu_parts.py PART FILE [--quick]      # appends lines of JSON to FILE: {"figures": ...}, and how the part ended

A part fails by an exception. Values are judged, times never are. Each part imports what it needs by itself, so that a package that is
missing ends only the parts that need it.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from ssmspec.benchmarks.sizes import USUAL, Sizes, StepSize
from ssmspec.training.engine.processes import Team, gradient_group

Figures = Iterator[dict[str, Any]]

SAME = 1e-5  # relative, of losses: sums of float32 in another order
BF16 = 0.01  # likewise, over the first steps in bf16
FIRST = 1e-3  # likewise, of the first loss on GPU and CPU


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how a part runs.

    Args:
        device: "cuda"; "interpreter" for the CPU with interpreted kernels; or "cpu", which tries the parts themselves out.
        quick: whether sizes are small.
    """

    device: str
    quick: bool = False


def probe(place: Place) -> Figures:
    """What is there, and what can run: "gpu", "interpreter" or "none"."""
    from ssmspec.benchmarks.hardware import hardware

    facts: dict[str, Any] = {**hardware(), "cuda": torch.version.cuda}
    facts |= {name: _version(name) for name in ("scipy", "safetensors", "typer")}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        facts |= {
            "gpus": torch.cuda.device_count(),
            "gpu_memory_bytes": properties.total_memory,
            "multiprocessors": properties.multi_processor_count,
            "compute_capability": f"{properties.major}.{properties.minor}",
        }
    if distributed.is_available() and distributed.is_nccl_available():
        facts["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    yield {"hardware": facts, "mode": "gpu" if torch.cuda.is_available() else "interpreter"}
    try:
        import ssmspec.backends.gpu  # noqa: F401
    except ImportError as error:
        yield {"mode": "none", "obstacle": f"the engine gpu cannot be loaded: {error}"}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def kernels(place: Place) -> Figures:
    """Sum and gradients of every kernel against the reference, in roundings and relative to the largest value; unusual arguments."""
    import kernel_values
    from cauchy_problems import ROUNDINGS

    interpreted = place.device == "interpreter"
    few = slice(2 if place.quick else None)
    usual = kernel_values.as_launched() | ({} if interpreted else kernel_values.large())
    wrong = []

    def judged(problems: Mapping[str, Any]) -> Figures:
        for name, arguments in list(problems.items())[few]:
            roundings, relative = kernel_values.errors(arguments)
            yield {"roundings": {name: roundings}, "relative": {name: relative}}
            if not roundings < ROUNDINGS:
                wrong.append(f"{name} is {roundings:.3g} roundings from the reference, at most {ROUNDINGS} are allowed")
            if not relative < kernel_values.TIGHT.get(name, math.inf):
                wrong.append(f"{name} is {relative:.3g} from the reference, at most {kernel_values.TIGHT[name]:g} is allowed")

    with kernel_values.small_tiles() if interpreted else nullcontext():
        yield from judged(kernel_values.cases())
        unusual = kernel_values.unusual()
        yield {"unusual": unusual}
    yield from judged(usual)
    wrong += [f"{name}: {unusual[name]}" for name, wanted in kernel_values.UNUSUAL.items() if unusual[name] != wanted]
    _require(wrong)


def operator(place: Place) -> Figures:
    """torch's operator against its engine on the CPU, with and without rounding to float32."""
    import kernel_values
    from cauchy_problems import ROUNDINGS

    wrong = []
    sizes_of = {"size": (3, 2, 4, 65)} if place.quick or place.device == "interpreter" else {}
    for kind in kernel_values.KINDS:
        error = kernel_values.operator_error(kind, place.device, **sizes_of)
        yield {"roundings": {kind: error}}
        if not error <= 2 * ROUNDINGS:
            wrong.append(f"{kind} differs by {error:.3g} roundings, at most {2 * ROUNDINGS} are allowed")
    for damping, allowed in kernel_values.ROUNDED.items():
        error = kernel_values.operator_rounding(damping, place.device, **sizes_of)
        yield {"relative_with_rounding": {f"damping {damping:g}": error}}
        if not error < allowed:
            wrong.append(f"with damping {damping:g} it differs by {error:.3g}, at most {allowed:g} is allowed")
    _require(wrong)


def layers(place: Place) -> Figures:
    """S4D in every layout and convention, forward and backward, against the CPU."""
    from layers_on_gpu import CLOSE, LAYERS, layer_difference

    chosen = dict(list(LAYERS.items())[: 1 if place.quick else None])
    wrong = []
    for name, options in chosen.items():
        difference = layer_difference(options, place.device)
        yield {"relative": {name: difference}}
        if not difference <= CLOSE:
            wrong.append(f"{name} differs by {difference:.3g}, at most {CLOSE:g} is allowed")
    _require(wrong)


def compiled(place: Place) -> Figures:
    """S4D through torch.compile, with and without CUDA graphs."""
    from layers_on_gpu import CLOSE, MODES, compiled_difference

    wrong = []
    for mode in MODES:
        difference = compiled_difference(mode, place.device)
        yield {"relative": {mode: difference}}
        if not difference <= CLOSE:
            wrong.append(f"{mode} differs by {difference:.3g}, at most {CLOSE:g} is allowed")
    _require(wrong)


def autocast(place: Place) -> Figures:
    """bf16: a layer under autocast, and the first steps of a training run beside those of float32."""
    from layers_on_gpu import NARROW, autocast_difference

    difference = autocast_difference(place.device)
    yield {"layer_relative": difference}
    losses = {precision: _losses(place, precision=precision) for precision in ("float32", "bf16")}
    apart = _apart(*losses.values())
    yield {"losses": losses, "losses_relative": apart}
    _require(
        [f"a layer differs by {difference:.3g}, at most {NARROW:g} is allowed"] * (not difference < NARROW)
        + [f"losses differ by {apart:.3g}, at most {BF16:g} is allowed"] * (not apart <= BF16)
        + ["losses are those of float32, so autocast did nothing"] * (losses["float32"] == losses["bf16"])
    )


class OneOfOne(Team):
    """The only process of a group, which exchanges gradients nevertheless."""

    alone = False


def nccl(place: Place) -> Figures:
    """Training steps of one process in a group of nccl (gloo on a CPU) beside those without a group, and a sum over the group."""
    with tempfile.TemporaryDirectory() as folder:
        distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=0, world_size=1)
        try:
            group = gradient_group(torch.device(place.device, 0))
            yield {"backend": distributed.get_backend(group)}
            values = torch.arange(5.0, device=place.device)
            distributed.all_reduce(values, group=group)
            together = _losses(place, team=OneOfOne())
        finally:
            distributed.destroy_process_group()
    apart = _apart(together, _losses(place))
    yield {"losses_relative": apart}
    _require(
        [f"losses differ by {apart:.3g}, at most {SAME:g} is allowed"] * (not apart <= SAME)
        + [f"a sum over one process gave {values.tolist()}"] * (values.tolist() != [0, 1, 2, 3, 4])
    )


def _losses(place: Place, **options: Any) -> list[float]:
    from small_runs import TINY, stepper

    step = stepper(TINY, place.device, **options)
    found = [step()[0] for _ in range(3 if place.quick else 20)]
    step.close()
    return found


def _apart(found: list[float], wanted: list[float]) -> float:
    return max(abs(ours - theirs) / abs(theirs) for ours, theirs in zip(found, wanted, strict=True))


def engine(place: Place) -> Figures:
    """The Cauchy sum in float32 against torch and the CUDA extension of state-spaces/s4, and its share of the arithmetic limit."""
    from ssmspec.benchmarks import cauchy_gpu
    from ssmspec.benchmarks.pairs import Timing, median_seconds

    first = replace(USUAL, K=2, N=4, F=64) if place.quick else USUAL
    for at in (first, replace(first, K=8 * first.K)):
        for name in ("cauchy_gpu_vs_torch", "cauchy_gpu_vs_s4_extension"):
            yield _measured(name, f"{name}, K {at.K}", at, place)
    at = replace(first, K=64 * first.K)  # too large for the temporaries of torch on most GPUs
    problem = cauchy_gpu.tensors(at, place.device)
    residues, poles = (part.requires_grad_() for part in problem[:2])
    result = cauchy_gpu.cauchy_sum(*problem)
    cotangent = torch.ones_like(result)

    def forward() -> None:
        cauchy_gpu.finished(cauchy_gpu.cauchy_sum(*problem).detach())

    def backward() -> None:
        cauchy_gpu.finished(torch.autograd.grad(result, (residues, poles), cotangent, retain_graph=True)[0])

    pairs = at.K * at.N * at.F
    for name, call in {"forward": forward, "backward": backward}.items():
        seconds = median_seconds(call, rounds=_rounds(place))
        figures = {"seconds": seconds, "pairs": pairs, "pairs_per_second": pairs / seconds}
        if name == "forward" and place.device == "cuda":
            figures |= cauchy_gpu.limit_facts(at, Timing((seconds,), (seconds,)))
        yield {f"alone, K {at.K}": {name: figures}}


def s4d_step(place: Place) -> Figures:
    """Forward and backward pass of S4D against the layer with a Vandermonde matrix, on the device."""
    step = StepSize(B=2, H=3, N=2, L=16)
    at = replace(USUAL, step=step, step_long=step, step_n64=step) if place.quick else USUAL
    for name in ("s4d_step_vs_naive", "s4d_step_vs_naive_n64", "s4d_step_vs_naive_long"):
        yield _measured(name, name, at, place)


def _measured(name: str, title: str, at: Sizes, place: Place) -> dict[str, Any]:
    from ssmspec.benchmarks.catalogue import BENCHMARKS
    from ssmspec.benchmarks.contest import PeerMissing, measure

    benchmark = BENCHMARKS[name]
    there = replace(benchmark, prepare=partial(benchmark.prepare, device=place.device))
    try:
        return {title: asdict(measure(there, at, rounds=_rounds(place)))}
    except PeerMissing as missing:
        return {title: {"skipped": str(missing)}}


def _rounds(place: Place) -> int:
    return 1 if place.quick else 9


def train(place: Place) -> Figures:
    """`ssmspec train waves --preset paper` for 300 steps, and its first loss beside that of the CPU."""
    from small_runs import problem_of

    from ssmspec.cli import main as ssmspec
    from ssmspec.training.engine.record import read_metrics
    from ssmspec.training.tasks import TASKS

    preset, steps = ("small", 4) if place.quick else ("paper", 300)
    with tempfile.TemporaryDirectory() as place_of_runs:
        folder = Path(place_of_runs, "run")
        arguments = ["train", "waves", "--preset", preset, "--device", place.device, "--steps", str(steps)]
        command = ["ssmspec", *arguments, "--no-pictures", "--out", str(folder)]
        yield {"command": " ".join(command[:-2])}
        sys.argv = command
        try:
            ssmspec()
        except SystemExit as stop:
            if stop.code:
                raise RuntimeError(f"the command ended with code {stop.code}") from stop
        finally:
            lines = read_metrics(folder / "metrics.jsonl")
            yield _curve(lines)
        measures = json.loads((folder / "results.json").read_text(encoding="utf-8"))["measures"]
        yield {"measures": {name: measure["value"] for name, measure in measures.items()}}
    if place.device == "cuda":
        yield {"peak_gpu_memory_bytes": torch.cuda.max_memory_allocated()}
    problem = problem_of("waves", TASKS["waves"].preset(preset))
    with torch.no_grad():
        on_cpu = float(problem.loss(problem.draw(0, torch.Generator().manual_seed(problem.settings.seed))))
    apart = _apart([lines[0]["loss"]], [on_cpu])
    yield {"first_loss_on_cpu": on_cpu, "first_loss_relative": apart}
    _require([f"the first loss is {lines[0]['loss']}, on the CPU {on_cpu}: at most {FIRST:g} of it is allowed"] * (not apart <= FIRST))


def _curve(lines: list[dict[str, float]]) -> dict[str, Any]:
    """Steps, seconds of a step without the first ten, and every tenth loss."""
    if not lines:
        return {"steps": 0}
    last, first = lines[-1], lines[min(9, len(lines) // 2)]
    between = last["step"] - first["step"]
    return {
        "steps": last["step"],
        "seconds_in_steps": last["seconds"],
        "seconds_per_step": (last["seconds"] - first["seconds"]) / between if between else last["seconds"],
        "losses": {str(line["step"]): line["loss"] for line in lines if line["step"] % 10 == 0 or line in (lines[0], last)},
    }


def _require(wrong: list[str]) -> None:
    """Raises ValueError with all of these, if there are any."""
    if wrong:
        raise ValueError("; ".join(wrong))


PARTS: Mapping[str, Callable[[Place], Figures]] = {
    part.__name__: part for part in (kernels, operator, layers, autocast, nccl, engine, s4d_step, train, compiled)
}


def main() -> int:
    """Run one part on the device that the environment has. Returns 1 if it failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("probe", *PARTS))
    parser.add_argument("file", type=Path)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    place = Place("interpreter" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda", arguments.quick)
    with arguments.file.open("w", encoding="utf-8") as file:
        try:
            for figures in (PARTS | {"probe": probe})[arguments.part](place):
                _line(file, {"figures": figures})
        except Exception as error:
            traceback.print_exc()
            _line(file, {"status": "failed", "error": f"{type(error).__name__}: {error}"})
            return 1
    return 0


def _line(file: Any, values: Mapping[str, Any]) -> None:
    file.write(json.dumps(values) + "\n")
    file.flush()


if __name__ == "__main__":
    sys.exit(main())
