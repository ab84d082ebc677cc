"""Where in a file a template may fit: the prefixes before names that end as its tensors do."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

from ssmspec.families.template import Slot, Template


def candidate_prefixes(template: Template, by_last_word: Mapping[str, Sequence[str]], share: float = 0.0) -> list[str]:
    """Every prefix that precedes the suffix of a required tensor, each once; only prefixes with at least `share` of the required ones."""
    required = _required(tuple(template.values()))
    words, spare = by_last_word.keys(), (1 - share) * len(required)
    possible = []
    for place, (endings, last_words) in enumerate(required):
        if not words.isdisjoint(last_words):
            possible.append(endings)
        elif place - len(possible) >= spare:  # so many are absent before this one
            return []
    present: Counter[str] = Counter()
    for endings in possible:
        below: dict[str, None] = {}
        for suffix, word in endings:
            for name in by_last_word.get(word, ()):
                if name == suffix or name.endswith("." + suffix):
                    below[name[: -len(suffix) - 1] if name != suffix else ""] = None
        present.update(below.keys())
    return [prefix for prefix, count in present.items() if count >= share * len(required)]


@lru_cache(maxsize=4096)
def _required(slots: tuple[Slot, ...]) -> tuple[tuple[tuple[tuple[str, str], ...], frozenset[str]], ...]:
    """The possible suffixes of every required one, each with its last word, and those words."""
    suffixes = [tuple((suffix, suffix.rsplit(".", 1)[-1]) for suffix in slot.suffixes()) for slot in slots if slot.required]
    return tuple((endings, frozenset(word for _, word in endings)) for endings in suffixes)
