"""Where in a file a template may fit: the prefixes before names that end as its tensors do."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ssmspec.families.template import Template

MOST_KNOWN = 4096


def candidate_prefixes(template: Template, by_last_word: Mapping[str, Sequence[str]], share: float = 0.0) -> list[str]:
    """Every prefix that precedes the suffix of a required tensor, each once; only prefixes with at least `share` of the required ones."""
    required = _required(template)
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


_Required = tuple[tuple[tuple[tuple[str, str], ...], frozenset[str]], ...]
_known: dict[int, tuple[Template, _Required]] = {}  # by identity: templates live as long as the program, and hashing them takes longer


def _required(template: Template) -> _Required:
    """The possible suffixes of every required one, each with its last word, and those words."""
    known = _known.get(id(template))
    if known is None:
        if len(_known) >= MOST_KNOWN:
            _known.clear()
        suffixes = [tuple((suffix, suffix.rsplit(".", 1)[-1]) for suffix in slot.suffixes()) for slot in template.values() if slot.required]
        known = _known[id(template)] = template, tuple((endings, frozenset(word for _, word in endings)) for endings in suffixes)
    return known[1]
