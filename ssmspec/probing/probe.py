"""`ssmspec.probe`: the frequency sensitivity of a model in memory."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from ssmspec.errors import SsmspecError
from ssmspec.nn.live import unwrapped
from ssmspec.probing.entry import at_most, find_entry, first_tensor, named_module, sliced, to_device
from ssmspec.probing.passes import Passes, Progress, Wanted, output_of
from ssmspec.probing.restored import prepared
from ssmspec.probing.result import Probe

BLOCKS = "blocks"  # what chooses the blocks of the model


def probe(
    model: nn.Module,
    inputs: Any,
    *,
    output: str | Callable[[Any], Tensor] | None = None,
    layers: str | Sequence[str] | None = None,
    samples: int = 8,
    at: str | None = None,
    layout: str = "BLC",
    per_step: bool | None = None,
    axes: str | None = None,
    grid: tuple[int, int] | None = None,
    class_token: int | None = None,
    max_length: int | None = None,
    batch: int = 8,
    seed: int = 0,
    progress: Progress = lambda name, done, whole: None,
) -> Probe:
    """How strongly the output of a whole model responds to every frequency of its input, by a few backward passes.

        >>> import torch, ssmspec
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Conv1d(1, 1, 3, padding=1)
        >>> result = ssmspec.probe(model, torch.randn(8, 1, 256), layout="BCL")
        >>> len(result), result.names, result[0].curve.shape
        (1, ('input',), (129,))
        >>> H = torch.fft.rfft(model.weight[0, 0], 256).abs().square()
        >>> bands = result[0].bands()
        >>> bool(abs(bands[-1].mean - H[64:].mean()) < 4 * bands[-1].error)
        True

    Args:
        model: any torch module. Nothing of it is changed when this returns or fails.
        inputs: a tensor, or a tuple or dict of what the model takes; the first tensor is the signal, and its first axis the examples.
            Of integers, such as tokens, the output of the embedding is the signal.
        output: the key or attribute of what the model returns, the name of a module whose output is meant, or a function that takes the
            output from what the model returns. Default: the first tensor; of a language model of transformers its last hidden state.
        layers: names or globs of blocks, from whose inputs S is measured in the same passes, along every path from there, such as one
            around the block; "blocks" for those of the model's longest list of modules.
        samples: draws of v per input. With at most so many outputs per input, they are taken one by one, which is exact.
        at: name of the module whose output is the signal, such as an embedding.
        layout: axes of the signal: "BLC", "BCL", "LBC" or "BL". Signals of four axes are pictures, (B, C, H, W), along their diagonal.
        per_step: whether there are outputs at every step, which takes a Hann window. Default: whether an axis of the output has L samples.
        axes: "L" or "HW": also the power spectra of what the blocks of `layers` give, over time or over height and width.
        grid, class_token: for "HW", height and width of the tokens, and the place of a token that is no pixel.
        max_length: cut the inputs to so many samples. batch: inputs per pass. seed: of the draws.
        progress: called with a name, passes done and their number.
    Returns:
        Probe, with one entry per place: "input" and the blocks.
    Raises:
        SsmspecError: an option is unknown or out of range, or the output cannot be differentiated.
    """
    own = unwrapped(model)
    _check(samples=samples, batch=batch, max_length=max_length)
    if axes not in (None, "L", "HW"):
        raise SsmspecError(f"axes={axes!r} is unknown; choose 'L' (time) or 'HW' (height and width)")
    blocks, notes = chosen_blocks(own, layers)
    if axes is not None and not blocks:
        raise SsmspecError("axes asks for spectra of what blocks give; name the blocks with layers, or give layers='blocks'")
    called, captured, take, more = _output(own, output, at)
    device = next((tensor.device for tensor in own.parameters()), torch.device("cpu"))
    given = to_device(inputs, device)
    first = first_tensor(given)
    entry = find_entry(own, given, at)
    assert first is not None or at is not None
    if first is not None and max_length is not None:
        axis = 0 if layout == "LBC" else 2 if layout == "BCL" else 1
        whole = first.shape[axis] if first.ndim > axis else 0
        if whole > max_length:
            given = at_most(given, axis, max_length, whole)
            notes += (f"inputs of {whole} samples were cut to {max_length}",)
    wanted = Wanted(
        output=take,
        captured=captured,
        blocks=blocks,
        samples=samples,
        seed=seed,
        layout=layout,
        per_step=per_step,
        features=axes,
        grid=grid,
        extra=class_token,
    )
    passes = Passes(called, entry, wanted, named=own)
    count = 1 if first is None or layout == "LBC" else len(first)
    step = count if layout == "LBC" else batch
    starts = range(0, count, step)
    with prepared(own):
        for start in starts:
            passes.run(sliced(given, slice(start, start + step)) if layout != "LBC" else given, progress, len(starts) * samples)
    return Probe(passes.measured(f"model {type(own).__name__}", notes + more))


def _check(**counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and value < 1:
            raise SsmspecError(f"{name} is {value}; expected at least 1")


def chosen_blocks(model: nn.Module, layers: str | Sequence[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of blocks, and notes.

    Args:
        layers: names or globs; "blocks" for those of the longest list of modules, the first of several.
    Raises:
        SsmspecError: a name matches no module.
    """
    if layers is None:
        return (), ()
    every = [name for name, _ in model.named_modules() if name]
    if layers == BLOCKS:
        lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module)]
        if not lists:
            return (), ("the model has no list of modules, so no blocks were found; name them with layers",)
        name, found = max(lists, key=lambda each: len(each[1]))
        prefix = f"{name}." if name else ""
        return tuple(f"{prefix}{key}" for key, _ in found.named_children()), ()
    names: dict[str, None] = {}
    for pattern in (layers,) if isinstance(layers, str) else layers:
        found_names = [pattern] if pattern in every else [name for name in every if fnmatchcase(name, pattern)]
        if not found_names:
            named_module(model, pattern)
        names |= dict.fromkeys(found_names)
    return tuple(names), ()


def _output(
    model: nn.Module, output: str | Callable[[Any], Tensor] | None, at: str | None
) -> tuple[nn.Module, str | None, Callable[[Any], Tensor], tuple[str, ...]]:
    """The module that is called, the module whose output is captured, the function that takes the output, and notes."""
    if callable(output):
        return model, None, output, ()
    if output is not None:
        if any(name == output for name, _ in model.named_modules() if name):
            return model, output, output_of(None), (f"S is that of the output of {output}, which takes passes of its own",)
        return model, None, output_of(output), ()
    base = getattr(model, "base_model", None)
    if isinstance(base, nn.Module) and base is not model and callable(getattr(model, "get_input_embeddings", None)):
        return base, None, output_of("last_hidden_state"), ("the output is the last hidden state, not the logits",)
    return model, None, output_of(None), ()
