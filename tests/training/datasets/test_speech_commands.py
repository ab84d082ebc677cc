"""Tiny folders in the layout of Speech Commands, and synthetic words."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from ssmspec.errors import SsmspecError
from ssmspec.training.datasets import vowels
from ssmspec.training.datasets.speech_commands import SAMPLES, read_speech_commands

VALIDATION, TEST = ["no/b_nohash_0.wav"], ["no/c_nohash_0.wav", "yes/c_nohash_1.wav"]
LENGTHS = {
    "no/a_nohash_0.wav": 16_000,
    "no/b_nohash_0.wav": 9000,
    "no/c_nohash_0.wav": 16_000,
    "yes/a_nohash_0.wav": 20_000,
    "yes/b_nohash_0.wav": 16_000,
    "yes/c_nohash_1.wav": 16_000,
}


@pytest.fixture
def words(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Six sounds of two words by three speakers, one short and one long, noise beside them, and the lists."""
    folder = tmp_path / "words"
    for name, length in LENGTHS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        wavfile.write(folder / name, 16_000, rng.integers(-9000, 9000, length).astype(np.int16))
    (folder / "_background_noise_").mkdir()
    wavfile.write(folder / "_background_noise_/running_tap.wav", 16_000, np.ones(40_000, np.int16))
    (folder / "_background_noise_/README.md").write_text("noise")
    (folder / "validation_list.txt").write_text("".join(f"{name}\n" for name in VALIDATION))
    (folder / "testing_list.txt").write_text("\n".join(TEST))
    return folder


def test_lists_decide_which_sounds_are_held_out_and_noise_is_no_word(words: Path) -> None:
    sequences, parts = read_speech_commands(str(words))
    assert sequences.names == tuple(LENGTHS)
    assert sequences.labels == ("no", "no", "no", "yes", "yes", "yes")
    assert [[sequences.names[row] for row in rows] for rows in parts[1:]] == [VALIDATION, TEST]
    assert sorted(np.concatenate(parts)) == list(range(6))
    assert sequences.notes == ("skipped: _background_noise_",)


def test_a_second_of_every_sound_is_kept_and_short_ones_are_filled_up_with_zeros(words: Path) -> None:
    sequences, _ = read_speech_commands(str(words))
    assert sequences.values.shape == (6, SAMPLES, 1)
    for row, name in enumerate(LENGTHS):
        stored = wavfile.read(words / name)[1][:SAMPLES]
        assert np.array_equal(sequences.values[row, : len(stored), 0], stored), name
        assert not sequences.values[row, len(stored) :].any(), name
    assert read_speech_commands(str(words), 500)[0].values.shape == (6, 500, 1)


@pytest.mark.parametrize("above", ["speech_commands_v0.02", "SpeechCommands", "SpeechCommands/speech_commands_v0.02"])
def test_the_folder_above_will_do(words: Path, tmp_path: Path, above: str) -> None:
    (tmp_path / "data" / above).parent.mkdir(parents=True)
    words.rename(tmp_path / "data" / above)
    assert read_speech_commands(str(tmp_path / "data"))[0].names == tuple(LENGTHS)


def truncate(folder: Path) -> None:
    path = folder / "yes/b_nohash_0.wav"
    path.write_bytes(path.read_bytes()[:5000])


def overwrite(rate: int, values: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: wavfile.write(folder / "yes/b_nohash_0.wav", rate, values)


SECOND = np.ones(16_000, np.int16)
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncate, r"yes/b_nohash_0.wav: shorter than its header says: the file is truncated"),
    "no sound": (lambda folder: (folder / "yes/b_nohash_0.wav").write_bytes(b"sound"), r"yes/b_nohash_0.wav: cannot be read as .wav"),
    "rate": (overwrite(8000, SECOND), r"yes/b_nohash_0.wav: 16000 samples, 8000 Hz, 1 channel, int16; expected 16000 Hz"),
    "channels": (overwrite(16_000, np.ones((16_000, 2), np.int16)), r"16000 Hz, 2 channels, int16; expected 16000 Hz, 1 channel, int16"),
    "type": (overwrite(16_000, np.ones(16_000, np.float32)), r"1 channel, float32; expected .* convert it"),
    "empty": (overwrite(16_000, SECOND[:0]), r"yes/b_nohash_0.wav: 0 samples"),
    "no list": (
        lambda folder: (folder / "testing_list.txt").unlink(),
        r"does not hold Speech Commands .*validation_list.txt, testing_list",
    ),
    "missing sound": (lambda folder: (folder / TEST[0]).unlink(), r"testing_list.txt names no/c_nohash_0.wav, but there is no such sound"),
    "nothing held out": (lambda folder: (folder / "testing_list.txt").write_text("\n"), r"0 sounds are held out and 5 are in no list"),
    "nothing to train on": (
        lambda folder: (folder / "testing_list.txt").write_text("\n".join(LENGTHS)),
        r"6 sounds are held out and 0 are in no list",
    ),
    "beside the lists": (lambda folder: wavfile.write(folder / "hum.wav", 16_000, SECOND), r"both sounds and subfolders with sounds"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_another_folder_or_sound_is_one_clear_line(words: Path, damage: str) -> None:
    harm, message = DAMAGES[damage]
    harm(words)
    with pytest.raises(SsmspecError, match=message) as caught:
        read_speech_commands(str(words))
    assert "\n" not in str(caught.value)


def test_sounds_without_words_are_refused(words: Path) -> None:
    for name in LENGTHS:
        (words / name).rename(words / name.replace("/", "_"))
    with pytest.raises(SsmspecError, match=r"expected sounds in subfolders that are named after the words"):
        read_speech_commands(str(words))


def share_above(sounds: np.ndarray, frequency: float) -> float:
    """Of the energy of sounds (B, samples)."""
    energy = np.square(np.abs(np.fft.rfft(sounds))).sum(axis=0)
    return float(energy[np.fft.rfftfreq(sounds.shape[1], 1 / vowels.SAMPLE_RATE) > frequency].sum() / energy.sum())


def test_synthetic_words_go_from_their_first_vowel_to_their_second(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """By the formants: of i, u and a only i has one above 1500 Hz, and only a its lowest above 500 Hz."""
    monkeypatch.setattr(vowels, "NOISE", 0.0)
    sounds, codes = vowels.draw_words(60, 2000, rng)
    assert np.bincount(codes).tolist() == [10] * 6
    for code, word in enumerate(vowels.WORDS):
        parts = {vowel: sounds[codes == code][:, part] for vowel, part in zip(word, (slice(600), slice(1400, None)), strict=True)}
        found = {vowel: (share_above(part, 1500), share_above(part, 500)) for vowel, part in parts.items()}
        if "i" in word:
            other = word.replace("i", "")
            assert found["i"][0] > 2 * found[other][0], word
        if "a" in word:
            other = word.replace("a", "")
            assert found["a"][1] > 2 * found[other][1], word


def test_synthetic_words_have_their_noise_and_depend_on_the_generator_only() -> None:
    first, again, other = (vowels.draw_words(12, 2000, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    above = share_above(first[0], 4000)  # where no voice is, and half of the noise
    assert above == pytest.approx(vowels.NOISE**2 / (1 + vowels.NOISE**2) / 2, rel=0.1)
