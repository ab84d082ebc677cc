"""Speech Commands: one folder of sounds per word, and lists of the sounds that are held out.

Source: arXiv 1804.03209, section 5 (README of the data set, version 0.02); state-spaces/s4, src/dataloaders/datasets/sc.py.
"""

from pathlib import Path

import numpy as np

from ssmspec.errors import SsmspecError
from ssmspec.training.datasets.release import find_files, read_lines
from ssmspec.training.datasets.sequences import SHORTEST, Rows, Sequences, find_sounds, read_sound

KIND = "16000 Hz, 1 channel, int16"
SAMPLES = 16_000  # samples per second; shorter sounds are padded with zeros
LISTS = ("validation_list.txt", "testing_list.txt")
FOLDERS = ("", "speech_commands_v0.02/", "SpeechCommands/", "SpeechCommands/speech_commands_v0.02/")


def read_speech_commands(folder: str, longest: int = SAMPLES) -> tuple[Sequences, tuple[Rows, Rows, Rows]]:
    """All sounds, with the words as their labels, and the parts for training, validation and testing.

    Args:
        folder: the folder of the words and lists, or its parent. longest: number of samples to which sounds are cut or padded.
    Returns:
        Sequences with values (B, longest, 1) int16, and the numbers of the sounds of every part.
    Raises:
        SsmspecError: the layout is different, a sound is damaged or of another kind, a listed sound is missing, or a part is empty.
    """
    _, lists = find_files(folder, [[f"{place}{name}" for name in LISTS] for place in FOLDERS], "Speech Commands (version 0.02)")
    place = lists[0].parent
    paths, labels, notes = find_sounds(place)
    if labels is None:
        raise SsmspecError(f"{place}: there are sounds beside the lists; expected sounds in subfolders that are named after the words")
    names = tuple(f"{path.parent.name}/{path.name}" for path in paths)
    values = np.zeros((len(paths), longest, 1), np.int16)
    for row, path in enumerate(paths):
        found, kind = read_sound(path)
        if kind != KIND or len(found) < SHORTEST:
            raise SsmspecError(f"{path}: {len(found)} samples, {kind}; expected {KIND}, as in Speech Commands; convert it")
        values[row, : len(found)] = found[:longest]
    sequences = Sequences(values, None, np.full(len(paths), longest, np.int64), str(place), names, labels, notes)
    return sequences, _parts(names, lists)


def _parts(names: tuple[str, ...], lists: list[Path]) -> tuple[Rows, Rows, Rows]:
    """The numbers of the sounds in neither list, in the first list, and in the second list."""
    rows = {name: row for row, name in enumerate(names)}
    part = np.zeros(len(names), np.int64)
    for number, path in enumerate(lists, start=1):
        for name in map(str.strip, read_lines(path)):
            if name not in rows:
                raise SsmspecError(f"{path} names {name}, but there is no such sound; unpack the data set again")
            part[rows[name]] = number
    training, validation, test = (np.flatnonzero(part == number) for number in range(3))
    if not len(training) or not len(test):
        raise SsmspecError(f"{lists[1]}: {len(test)} sounds are held out and {len(training)} are in no list; expected at least one of each")
    return training, validation, test
