"""Synthetic words for presets that need no speech data: a voice that glides from one vowel to another.

A word is an ordered pair of the vowels a, i and u, so only the order distinguishes "ai" from "ia". A voice is a sum of harmonics of its
pitch, which are louder near the two lowest formants. The formants glide. Pitch, length of the vocal tract, time of the change, loudness
and noise differ from word to word. The words are not recorded speech, so results on them are not comparable with those on Speech Commands.

Source of the formants: G. E. Peterson, H. L. Barney, Control methods used in a study of the vowels, 1952, table II, men.
"""

import itertools

import numpy as np
import numpy.typing as npt

from ssmspec.systems.statespace import FloatArray

SAMPLE_RATE = 16_000  # [Hz]
FORMANTS = {"a": (730.0, 1090.0), "i": (270.0, 2290.0), "u": (300.0, 870.0)}  # [Hz]
BANDWIDTHS = (60.0, 100.0)  # [Hz], at half power
WORDS = tuple(map("".join, itertools.permutations(FORMANTS, 2)))
HIGHEST = 3000.0  # highest frequency of a harmonic [Hz]
NOISE = 2.0  # standard deviation of the noise relative to that of the voice


def draw_words(count: int, samples: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Sounds (count, samples) float32, and the index of each in `WORDS`. All words are about equally frequent."""
    codes = rng.permutation(np.arange(count) % len(WORDS))
    return np.stack([_word(WORDS[code], samples, rng) for code in codes]).astype(np.float32), codes


def _word(word: str, samples: int, rng: np.random.Generator) -> FloatArray:
    """One sound, (samples,), whose voice has a standard deviation of 0.3 to 1."""
    time = np.arange(samples) / samples
    mixed = 1 / (1 + np.exp(-(time - rng.uniform(0.35, 0.65)) / 0.05))
    tract = rng.uniform(0.9, 1.15)
    first, second = (np.array(FORMANTS[vowel]) * tract for vowel in word)
    formants = first[:, None] * (1 - mixed) + second[:, None] * mixed
    pitch = rng.uniform(90, 220) * (1 + rng.uniform(-0.2, 0.2) * (time - 0.5))
    harmonics = np.arange(1, HIGHEST // pitch.max() + 1)[:, None]
    loudness = sum(1 / (1 + ((harmonics * pitch - formant) / width) ** 2) for formant, width in zip(formants, BANDWIDTHS, strict=True))
    phase = 2 * np.pi * (np.cumsum(pitch) / SAMPLE_RATE + rng.random())
    voice = (loudness / harmonics**0.5 * np.sin(harmonics * phase)).sum(axis=0)
    return rng.uniform(0.3, 1) * (voice / voice.std() + NOISE * rng.standard_normal(samples))
