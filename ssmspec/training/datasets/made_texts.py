"""Made-up texts for presets that need no release files: reviews, and pairs of texts on one topic or on two.

The evidence is words of praise or blame, or words of a topic. It is sparse: most words are filler, so a character-level model has to
gather evidence over the whole text. The texts are our own, so results on them are not comparable with results on IMDB or the ACL anthology.
"""

import numpy as np

FILLER = (
    *("the", "a", "of", "and", "in", "on", "with", "for", "film", "scene", "actor", "story", "camera", "music", "ending", "plot"),
    *(
        "street",
        "house",
        "night",
        "long",
        "early",
        "second",
        "whole",
        "there",
        "then",
        "later",
        "again",
        "walks",
        "speaks",
        "turns",
        "waits",
    ),
)
PRAISE = ("wonderful", "superb", "moving", "brilliant", "delightful", "masterly", "charming", "gripping")
BLAME = ("dreadful", "tedious", "clumsy", "dull", "pointless", "shallow", "wooden", "annoying")
SHARE = 0.15  # share of words that are evidence
SLIP = 0.2  # share of these that are evidence for the other side
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"


def draw_reviews(count: int, words: int, rng: np.random.Generator) -> list[tuple[str, int]]:
    """Reviews with a given number of words, and 1 if more words praise than blame. Ties are drawn again."""
    found: list[tuple[str, int]] = []
    while len(found) < count:
        kinds = rng.random(words) < SHARE
        praises = (rng.random(words) < SLIP) != bool(rng.integers(2))
        balance = int(praises[kinds].sum()) * 2 - int(kinds.sum())
        if balance:
            pools = [(PRAISE if praise else BLAME) if kind else FILLER for kind, praise in zip(kinds, praises, strict=True)]
            found.append((" ".join(pool[rng.integers(len(pool))] for pool in pools), int(balance > 0)))
    return found


def draw_pairs(count: int, words: int, topics: int, rng: np.random.Generator) -> list[tuple[str, str, int]]:
    """Pairs of texts with a given number of words, and 1 if both have the same topic. The two classes differ in size by at most one.

    Args:
        topics: number of topics. Each has eight words of its own, which are the same in every call.
    """
    lexicon = _lexicon(topics)
    labels = rng.permutation(np.arange(count) % 2)
    found = []
    for label in labels:
        first = int(rng.integers(topics))
        second = first if label else int((first + rng.integers(1, topics)) % topics)
        found.append((_essay(lexicon[first], words, rng), _essay(lexicon[second], words, rng), int(label)))
    return found


def _lexicon(topics: int) -> list[list[str]]:
    rng = np.random.default_rng(0)

    def word() -> str:
        return "".join(CONSONANTS[rng.integers(len(CONSONANTS))] + VOWELS[rng.integers(len(VOWELS))] for _ in range(3))

    return [[word() for _ in range(8)] for _ in range(topics)]


def _essay(words_of_topic: list[str], words: int, rng: np.random.Generator) -> str:
    pools = [words_of_topic if evidence else FILLER for evidence in rng.random(words) < 2 * SHARE]
    return " ".join(pool[rng.integers(len(pool))] for pool in pools)
