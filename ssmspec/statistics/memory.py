"""How long decay gates remember, against the context of the model: half-lives over all layers, and the copies that hardly forget."""

from collections.abc import Sequence

import numpy as np

from ssmspec.statistics.results import LayerAnalysis

LONGEST = 1_000_000  # tokens; a copy with a longer half-life counts as one that never forgets, where no context is known
MOST_LAYERS, MOST_COPIES = 4, 8  # that one line names


def memory_notes(layers: Sequence[LayerAnalysis], context: tuple[int, str] | None) -> tuple[str, ...]:
    """Lines about all layers that are decay gates; none without such layers.

    Args:
        context: tokens that the model is made for, and what says so.
    """
    gates = [(layer.name, layer.half_lives) for layer in layers if layer.half_lives is not None]
    lives = np.concatenate([values for _, values in gates]) if gates else np.zeros(0)
    known = lives[np.isfinite(lives)]
    if not known.size:
        return ()
    number = f"{known.size} heads or channels in {len(gates)} {'layer' if len(gates) == 1 else 'layers'}"
    text = f"half-lives of {number}: {known.min():.3g}..{known.max():.3g} tokens, median {np.median(known):.3g}"
    if context is None:
        return (f"{text}; the context length is not known", *_never(gates, LONGEST, "tokens"))
    length, source = context
    share = 100 * float((known > length).mean())
    text += f"; longer than the context of {length} tokens ({source}) in {share:.3g} %"
    return (text, *_never(gates, length, "tokens, the context"))


def _never(gates: Sequence[tuple[str, np.ndarray]], length: int, unit: str) -> tuple[str, ...]:
    """A line with the copies that keep more than half over a length."""
    found = [(name, np.flatnonzero(values > length)) for name, values in gates]
    found = [(name, copies) for name, copies in found if copies.size]
    if not found:
        return ()
    parts = [f"{name}: {_listed(copies)}" for name, copies in found[:MOST_LAYERS]]
    more = f"; and in {len(found) - MOST_LAYERS} more layers" if len(found) > MOST_LAYERS else ""
    total = sum(copies.size for _, copies in found)
    who = "1 copy never forgets: it keeps" if total == 1 else f"{total} copies never forget: they keep"
    return (f"{who} more than half over {length} {unit} ({'; '.join(parts)}{more})",)


def _listed(copies: np.ndarray) -> str:
    text = ", ".join(str(copy) for copy in copies[:MOST_COPIES])
    return text if copies.size <= MOST_COPIES else f"{text} and {copies.size - MOST_COPIES} more"
