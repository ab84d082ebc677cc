"""Operating points of selective layers, recorded with forward hooks while a model reads tokens: Delta or log z, B and C."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from ssmspec.api.inputs import opened
from ssmspec.commands.chosen_layers import choose_layers
from ssmspec.errors import NoLayerError, SsmspecError, needing
from ssmspec.families import FAMILIES, ReadOptions
from ssmspec.families.selective.calibration import RATES
from ssmspec.probing.calibrate_result import Calibration, LayerRecord
from ssmspec.probing.calibrate_streams import RateStream, VectorStream
from ssmspec.version import __version__

with needing("torch", "calibrate"):
    import torch
    from torch import Tensor, nn

    from ssmspec.nn.live import unwrapped
    from ssmspec.probing.calibrate_batches import Seen, pieces
    from ssmspec.probing.calibrate_mixers import CONSTANT, RECORDERS, Found, Read
    from ssmspec.probing.untouched import untouched

Progress = Callable[[str, int, int], None]
MEMORY = 1 << 29  # bytes for the samples of all layers
FEWEST, MOST = 256, 1 << 16  # tokens of a sample
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
SEED = 0


class _Recording:
    """What one layer has seen, or why nothing of it could be recorded."""

    def __init__(self, name: str, family: str, copies: int, keep: int) -> None:
        self.name, self.family, self.copies = name, family, copies
        self.rate = ""
        self.problem = ""
        self._stream = RateStream(copies, keep)
        self._vectors = {letter: VectorStream() for letter in "BC"}

    def take(self, found: Found, mask: Tensor | None, keys: np.ndarray) -> None:
        """Add what was found in a piece of tokens."""
        rate = next(name for name in RATES if name in found)
        for key, values in found.items():
            expected = keys.shape if mask is None else tuple(mask.shape)
            counted = values.flatten(0, 1) if mask is None else values[mask]
            if len(counted) != len(keys) or (key == rate and counted.shape[1:] != (self.copies,)):
                self.problem = f"its {key} has shape {tuple(values.shape)}, expected that of {expected} tokens and {self.copies} copies"
                return
            numbers = counted.float().cpu().double().numpy()
            if not np.isfinite(numbers).all():
                self.problem = f"its {key} is NaN or infinite for some tokens"
                return
            if key == rate:
                self.rate = rate
                self._stream.add(numbers, keys)
            else:
                self._vectors[key].add(numbers)

    def record(self) -> LayerRecord:
        """The statistics over all tokens."""
        vectors = {letter: stream for letter, stream in self._vectors.items() if stream.count}
        return LayerRecord(
            name=self.name,
            family=self.family,
            rate=self.rate,
            tokens=self._stream.count,
            sampled=self._stream.sampled,
            mean=self._stream.mean,
            deviation=self._stream.deviation,
            quantiles=self._stream.quantiles(LEVELS),
            vectors={letter: stream.mean for letter, stream in vectors.items()},
            moments={letter: stream.moments for letter, stream in vectors.items() if stream.moments is not None},
        )


class _Piece:
    """The tokens that the model reads now: which of them count, and their random keys."""

    mask: Tensor | None = None
    keys: np.ndarray = np.zeros(0)


def calibrate(
    model: nn.Module,
    batches: Any,
    *,
    max_length: int | None = None,
    limit: int | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Record what the selective layers of a model do over tokens: mean, deviation and quantiles of Delta (or log z), mean B and C.

    The model runs in eval mode without a cache, and every sequence begins with an empty state. Afterwards the model is as it was before.

    Args:
        model: a causal language model of transformers, or a part of one that takes token numbers.
        batches: token numbers (sequences, length): an array or tensor, an iterable of them, or of mappings with `input_ids` and, where
            sequences are padded, `attention_mask`.
        max_length: sequences are cut into pieces of this length. limit: stop after so many tokens. about: goes into the provenance.
        progress: called with (words, tokens done, tokens in all or 0).
    Returns:
        Calibration, whose `save` writes a file for `analyze`.
    Raises:
        NoLayerError: no layer can be recorded. SsmspecError: a batch is not one of tokens, there are none, or the model fails.
    """
    if not isinstance(model, nn.Module):
        raise SsmspecError(f"model is {type(model).__name__}; give a torch module, such as one of AutoModelForCausalLM.from_pretrained")
    for name, value in (("max_length", max_length), ("limit", limit)):
        if value is not None and value < 1:
            raise SsmspecError(f"{name}={value}; expected 1 or more")
    whole = unwrapped(model)
    recordings, skipped = _recordings(whole)
    piece, seen, generator = _Piece(), Seen(), np.random.default_rng(SEED)
    with untouched(whole), torch.no_grad(), _hooked(whole, recordings, piece):
        for tokens, mask in pieces(batches, _vocabulary(whole), max_length, limit, seen):
            piece.mask, piece.keys = mask, generator.random(seen.add(tokens, mask))
            _run(whole, tokens, mask, seen)
            if progress:
                progress(f"{seen.tokens} tokens", seen.tokens, limit or 0)
    if not seen.tokens:
        raise SsmspecError("batches has no tokens; give at least one sequence")
    records, unseen = _records(recordings)
    skipped = (*skipped, *unseen)
    if not records:
        raise NoLayerError(f"model {type(whole).__name__}: no layer was recorded: {'; '.join(skipped)}")
    return Calibration(records, LEVELS, _provenance(whole, seen, records, limit, about or {}), skipped)


def _recordings(model: nn.Module) -> tuple[list[_Recording], tuple[str, ...]]:
    """An empty recording for every selective layer, and a line for every layer that has none.

    Raises:
        NoLayerError: there is no SSM layer, or none that depends on the input.
    """
    chosen = choose_layers(opened(model, ReadOptions()), (), None, ReadOptions())
    skipped = [f"{item.name}: {item.reason}" for item in chosen.skipped if item.kind == "unread"]
    found = []
    for system in chosen.systems:
        if not FAMILIES[system.family].selective:
            skipped.append(f"{system.name}: {system.family} does not depend on its input")
        elif system.family not in RECORDERS:
            skipped.append(f"{system.name}: it is not known where the code of {system.family} computes its operating point")
        else:
            found.append((system.name, system.family, system.copies))
    if not found:
        raise NoLayerError(f"model {type(model).__name__} has no layer whose operating point can be recorded: {'; '.join(skipped)}")
    keep = int(np.clip(MEMORY // (4 * sum(copies for *_, copies in found)), FEWEST, MOST))
    return [_Recording(*each, keep) for each in found], tuple(skipped)


@contextmanager
def _hooked(model: nn.Module, recordings: Sequence[_Recording], piece: _Piece) -> Iterator[None]:
    """Hooks on the layers, which are removed at the end."""
    with ExitStack() as hooks:
        for recording in recordings:
            try:
                module, read = RECORDERS[recording.family](model.get_submodule(recording.name))
            except (AttributeError, StopIteration, ValueError) as error:
                recording.problem = f"its module is not the one of transformers ({str(error).splitlines()[0] if str(error) else 'no gate'})"
                continue
            handle = module.register_forward_hook(_hook(recording, read, piece), with_kwargs=True)
            hooks.callback(handle.remove)
        yield


def _hook(recording: _Recording, read: Read, piece: _Piece) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        if recording.problem:
            return
        try:
            recording.take(read(args, kwargs, output), piece.mask, piece.keys)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            recording.problem = f"its module is not the one of transformers ({' '.join(str(error).split())[:100]})"

    return hook


def _run(model: nn.Module, tokens: Tensor, mask: Tensor | None, seen: Seen) -> None:
    """One pass. Of a model of transformers, only the inner model runs: the head would make large logits for nothing.

    Raises:
        SsmspecError: the model fails.
    """
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    tokens = tokens.to(device)
    try:
        if not hasattr(model, "base_model_prefix"):
            model(tokens)
            return
        inner = getattr(model, str(model.base_model_prefix), model)
        inner(input_ids=tokens, use_cache=False, **({} if mask is None else {"attention_mask": mask.to(device).long()}))
    except (AttributeError, ImportError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SsmspecError(
            f"model {type(model).__name__} fails on {len(tokens)} sequences of {tokens.shape[1]} tokens ({seen.tokens} so far): {reason}"
        ) from error


def _vocabulary(model: Any) -> int | None:
    """How many tokens the model knows, if its embedding or configuration says so."""
    embedding = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    number = getattr(embedding, "num_embeddings", None)
    found = getattr(getattr(model, "config", None), "vocab_size", None) if number is None else number
    return found if isinstance(found, int) else None


def _records(recordings: Sequence[_Recording]) -> tuple[list[LayerRecord], list[str]]:
    records, skipped = [], []
    for recording in recordings:
        record = recording.record() if recording.rate and not recording.problem else None
        if recording.problem:
            skipped.append(f"{recording.name}: {recording.problem}")
        elif record is None:
            skipped.append(
                f"{recording.name}: the module that gives its operating point did not run: a fused kernel hides it, or no token came"
            )
        elif record.rate == "delta" and not (record.mean > 0).all():
            skipped.append(f"{recording.name}: its delta is 0 for all tokens in some copies")
        else:
            records.append(record)
    return records, skipped


def _provenance(
    model: nn.Module, seen: Seen, records: Sequence[LayerRecord], limit: int | None, about: Mapping[str, Any]
) -> dict[str, Any]:
    config = getattr(model, "config", None)
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in model.parameters() if tensor.dtype.is_floating_point})
    constant = sorted({f"{each.family}: {CONSTANT[each.family]}" for each in records if each.family in CONSTANT})
    return {
        "schema": "ssmspec.calibration/1",
        "ssmspec": __version__,
        "torch": torch.__version__,
        "model": type(model).__name__,
        "model_type": getattr(config, "model_type", None),
        "dtype": ", ".join(dtypes),
        "tokens": seen.tokens,
        "sequences": seen.sequences,
        "sequence_length": seen.longest,
        "limit": limit if seen.cut else None,
        "sampled": min(record.sampled for record in records),
        "sha256": seen.digest.hexdigest(),
        "constant": constant,
        **about,
    }
