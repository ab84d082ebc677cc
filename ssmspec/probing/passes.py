"""The passes of a probe: one forward pass per batch, and one backward pass per draw that serves all places and frequencies.

First order only: `torch.autograd.grad((y * v).sum(), places, retain_graph=True)`, so that custom kernels need no second derivative.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssmspec.errors import SsmspecError
from ssmspec.probing.entry import Entry, called, first_tensor, named_module, replaced
from ssmspec.probing.features import FeatureSums
from ssmspec.probing.transforms import Axes, axes_of
from ssmspec.statistics.frequency_sensitivity import FrequencySensitivity, Probed

INPUT = "input"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is measured.

    Args:
        output: takes the output of the model, and gives the tensor that is differentiated. captured: a module whose output that is instead.
        blocks: names of the blocks from whose input S is measured, too. samples: number of draws. seed: of the draws.
        layout: of the signal. per_step: whether there are outputs at every step; None finds out.
        features: "L" or "HW", the axes of the spectra of what the blocks give; None for none. grid, extra: as in `picture`.
    """

    output: Callable[[Any], Tensor]
    captured: str | None = None
    blocks: tuple[str, ...] = ()
    samples: int = 8
    seed: int = 0
    layout: str = "BLC"
    per_step: bool | None = None
    features: str | None = None
    grid: tuple[int, int] | None = None
    extra: int | None = None


@dataclass
class Place:
    """One place from which S is measured: what autograd needs, and the sums so far."""

    name: str
    edge: Any = None
    reason: str | None = None
    calls: int = 0
    draws: list[Tensor] = field(default_factory=list)
    channels: Tensor | None = None
    rounding: float = 0.0
    largest: float | None = None


class Passes:
    """Collects S over batches of inputs. `run` is called for each of them, and `measured` at the end."""

    def __init__(self, model: nn.Module, entry: Entry, wanted: Wanted, *, named: nn.Module) -> None:
        """`model` is called; `named` is the whole model, in which blocks have their names."""
        self.model, self.entry, self.wanted, self.named = model, entry, wanted, named
        self.places = {name: Place(name) for name in (INPUT, *wanted.blocks)}
        self.features = FeatureSums(wanted.features, wanted.grid, wanted.extra) if wanted.features else None
        self.generator = torch.Generator().manual_seed(wanted.seed)
        self.axes: Axes | None = None
        self.inputs, self.outputs, self.per_step, self.exact, self.done = 0, 0, False, False, 0
        self.notes: dict[str, None] = {}

    def run(self, given: Any, progress: Progress, whole: int) -> None:
        """Measure one batch of inputs.

        Args:
            whole: number of backward passes of all batches, for the progress.
        Raises:
            SsmspecError: the output does not depend on the signal, has no examples, or a gradient is not finite.
        """
        y = self._forward(given)
        examples = self._outputs(y)
        passes = self.outputs if self.exact else self.wanted.samples
        live = [place for place in self.places.values() if place.reason is None and place.edge is not None]
        for each in range(passes):
            v = self._cotangent(y, examples, each)
            product = (y * v).sum()  # of torch.autograd.grad, the argument grad_outputs would do the same, and import sympy
            gradients = torch.autograd.grad(product, [place.edge for place in live], retain_graph=each < passes - 1, allow_unused=True)
            self.done += 1
            progress("probe", self.done, max(whole, self.done))
            for place, gradient in zip(live, gradients, strict=True):
                self._add(place, gradient, first=each == 0)
        for place in self.places.values():
            place.edge = None

    def _forward(self, given: Any) -> Tensor:
        """The output of the model, whose graph begins at the signal."""
        found: dict[str, Tensor] = {}
        with ExitStack() as stack:
            stack.enter_context(self.entry.changed(self.model, self._leaf))
            for place in self.places.values():
                place.calls = 0
            for name in self.wanted.blocks:
                module = named_module(self.named, name)
                stack.callback(module.register_forward_pre_hook(self._watch(self.places[name]), with_kwargs=True).remove)
                if self.features is not None:
                    stack.callback(module.register_forward_hook(self._heard(name)).remove)
            if self.wanted.captured is not None:
                target = named_module(self.named, self.wanted.captured)
                stack.callback(target.register_forward_hook(lambda module, args, result: found.update(y=_tensor(result))).remove)
            result = called(self.model, given)
        if not self.places[INPUT].calls:
            raise SsmspecError(f"the model never called {self.entry.name}, where the signal begins; name another module with at=")
        y = found["y"] if self.wanted.captured is not None and "y" in found else self.wanted.output(result)
        if self.wanted.captured is not None and "y" not in found:
            raise SsmspecError(f"the model never called {self.wanted.captured}; name another output")
        if not y.requires_grad:
            raise SsmspecError("the output does not depend on the signal by operations that can be differentiated; choose another output")
        return torch.view_as_real(y) if y.is_complex() else y

    def _leaf(self, signal: Tensor) -> Tensor:
        place = self.places[INPUT]
        place.calls += 1
        if place.calls > 1:
            raise SsmspecError(f"the model calls {self.entry.name} more than once; name with at= a module that it calls once")
        axes = axes_of(signal, self.wanted.layout, self.wanted.grid, self.wanted.extra)
        if self.axes is not None and axes != self.axes:
            raise SsmspecError(f"the batches have {self.axes.length} and {axes.length} samples; give inputs of one length")
        self.axes = axes
        self.inputs = signal.shape[1 if self.wanted.layout == "LBC" else 0]
        leaf = signal.detach().clone().requires_grad_()
        place.edge = leaf
        return leaf.clone()  # the model may change it in place

    @property
    def _axes(self) -> Axes:
        assert self.axes is not None
        return self.axes

    def _watch(self, place: Place) -> Callable[..., Any]:
        """A hook that remembers the input of a block."""

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            place.calls += 1
            if place.calls > 1:
                place.reason = "it is called more than once"
                return None
            x = first_tensor(args) if first_tensor(args) is not None else first_tensor(kwargs)
            if x is None or not x.is_floating_point():
                place.reason = "its input is not real"
                return None
            ordered = self._axes.ordered(x)
            if isinstance(ordered, str):
                place.reason = f"its input: {ordered}"
                return None
            if x.requires_grad:
                place.edge = torch.autograd.graph.get_gradient_edge(x)
                return None
            place.edge = x.detach().clone().requires_grad_()  # what enters does not depend on the signal
            own = place.edge.clone()
            return (replaced(args, lambda _: own), kwargs) if first_tensor(args) is not None else (args, replaced(kwargs, lambda _: own))

        return hook

    def _heard(self, name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, result: Any) -> None:
            found = first_tensor(result)
            if found is not None and self.features is not None:
                self.features.add(name, found.detach(), self._axes)

        return hook

    def _outputs(self, y: Tensor) -> int:
        """The number of examples; also sets what follows from the shape of the output."""
        axes, inputs = self._axes, self.inputs
        axis = axes.batch_axis(y)
        batch = y.shape[axis] if y.ndim else 0
        if batch == 0 or inputs % batch:
            raise SsmspecError(
                f"the output has shape {tuple(y.shape)} for {inputs} inputs; expected the examples on its first axis; choose output="
            )
        if inputs != batch:
            self.notes[f"{inputs // batch} sequences enter per output, and each counts as an input"] = None
        others = [size for other, size in enumerate(y.shape) if other != axis]
        self.per_step = axes.steps_in(others) if self.wanted.per_step is None else self.wanted.per_step
        if self.wanted.per_step is None and self.per_step and y.ndim == 2:
            self.notes[f"the {axes.length} outputs per input are taken as one per step; per_step=False says otherwise"] = None
        self.outputs = y.numel() // batch
        self.exact = self.outputs <= self.wanted.samples
        return batch

    def _cotangent(self, y: Tensor, examples: int, place: int) -> Tensor:
        """A random v of +-1, or the unit vector of one output, of every example."""
        if not self.exact:
            signs = torch.randint(0, 2, y.shape, generator=self.generator, dtype=torch.int8).to(y.device)
            return (2 * signs - 1).to(y.dtype)
        v = torch.zeros(examples, self.outputs, dtype=y.dtype, device=y.device)
        v[:, place] = 1
        axis = self._axes.batch_axis(y)
        rest = [size for other, size in enumerate(y.shape) if other != axis]
        return v.reshape(examples, *rest).movedim(0, axis)

    def _add(self, place: Place, gradient: Tensor | None, *, first: bool) -> None:
        if gradient is None:
            place.reason = "the output does not depend on it"
            return
        ordered = self._axes.ordered(gradient)
        assert isinstance(ordered, Tensor)
        if place.largest is None:
            place.largest = float(gradient.abs().amax()) or None
        totals, channels, factor = self._summed(ordered, place.largest)
        total = _joined(totals) * factor
        if not torch.isfinite(total).all():
            raise SsmspecError(f"the gradient at {place.name} is not finite; look for NaN in the inputs or the weights, or use float32")
        if self.exact and not first:
            place.draws[-1] += total[:, None]
        elif first:
            place.draws.append(total[:, None])
        else:
            place.draws[-1] = torch.cat([place.draws[-1], total[:, None]], dim=1)
        own = _joined(channels) * factor
        place.channels = own if place.channels is None else place.channels + own
        place.rounding = float(torch.finfo(gradient.dtype).eps)

    def _summed(self, ordered: Tensor, largest: float | None) -> tuple[Tensor, Tensor, float]:
        """Summands of S of every input (B, F, n) and of every channel (C, F, n), and a factor on them.

        The DFT of one input at a time stays in the cache of the processor, which halves the time of a transform of all of them.
        """
        totals: list[Tensor] = []
        channels, factor = ordered.new_zeros(()), 0.0
        for example in torch.split(ordered, 1):
            found, factor = self._axes.power(example, windowed=self.per_step, largest=largest)  # (1, C, F, n)
            totals.append(found.sum(dim=1))
            channels = channels.add_(found[0]) if totals[1:] else found[0]
        return torch.cat(totals), channels, factor * ordered[0, 0].numel() / self.outputs

    def measured(self, path: str, notes: tuple[str, ...]) -> Probed:
        """What the batches gave together."""
        kept, skipped = [], []
        for place in self.places.values():
            if place.reason is not None or place.channels is None:
                skipped.append((place.name, place.reason or "the model does not call it"))
                continue
            draws = torch.cat(place.draws).numpy()
            channels = place.channels.numpy() / (len(draws) * (1 if self.exact else draws.shape[1]))
            limits = _limits(draws, place.rounding)
            kept.append(
                FrequencySensitivity(place.name, self._axes.length, draws, channels, self.outputs, self.per_step, self.exact, limits)
            )
        features = () if self.features is None else self.features.spectra()
        skipped += [] if self.features is None else [(f"features of {name}", why) for name, why in self.features.skipped.items()]
        every = (*self._notes(), *self.notes, *notes)
        return Probed(path, tuple(kept), features, tuple(skipped), every, self.done)

    def _notes(self) -> Sequence[str]:
        kind = (
            f"outputs at every step ({self.outputs} per input): Hann window"
            if self.per_step
            else f"{self.outputs} outputs per input, none per step: no window"
        )
        how = "all of them one by one, which is exact" if self.exact else f"{self.wanted.samples} random draws per input"
        return (f"{kind}; {how}",)


def _joined(squares: Tensor) -> Tensor:
    """The sum of the last axis, of one or two, in float64 on the CPU; `sum` would take several times as long for so short an axis."""
    first, *second = squares.double().unbind(dim=-1)
    return (first + second[0] if second else first).cpu()


AVERAGING = 20.0  # times the largest other value: S(0) of a model that hears little else


def _limits(draws: np.ndarray, eps: float) -> tuple[str, ...]:
    """Notes on what S of a place cannot tell."""
    curve = draws.mean(axis=(0, 1))
    notes = []
    if not curve.any():
        return ("S is zero at every frequency: the output does not change with it",)
    if len(curve) > 2 and curve[0] > AVERAGING * curve[1:].max():
        factor = curve[0] / curve[1:].max() if curve[1:].any() else float("inf")
        notes.append(
            f"S(0) is {factor:.3g} times the largest other value: the output averages over time, and a linear model hears theta = 0 and "
            "next to nothing else through that"
        )
    floor = (16 * eps) ** 2 * curve.mean()
    below = int((curve < floor).sum())
    if below:
        notes.append(f"S of {below} frequencies lies below {floor:.2g}, where rounding decides; a model in float64 resolves more")
    return tuple(notes)


def _tensor(result: Any) -> Tensor:
    found = first_tensor(result)
    if found is None:
        raise SsmspecError(f"the output is {type(result).__name__} without a tensor; choose one with output=")
    return found


def output_of(name: str | None) -> Callable[[Any], Tensor]:
    """The function that takes a tensor from what a model returns: the first, or that of an attribute or key.

    Raises:
        SsmspecError: from the function: there is no such tensor.
    """

    def take(result: Any) -> Tensor:
        if name is None:
            return _tensor(result)
        found = result.get(name) if isinstance(result, Mapping) else getattr(result, name, None)
        if not isinstance(found, Tensor):
            raise SsmspecError(f"the output has no tensor {name!r}; name one that it has, or a module of the model")
        return found

    return take
