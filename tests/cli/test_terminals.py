"""Every command with every kind of reader: a terminal of 20 columns, a pipe in the C locale, a reader that leaves; and odd names."""

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
from commands_in_turn import MARK
from locations import HANG, SAMPLES, TESTS

from ssmspec.cli import whole_app

ODD = "a b\n'ü\u202e"  # space, newline, quote, non-ASCII, and a character that reverses the direction of text
COLOR = re.compile(r"\x1b\[[0-9;]*(?:3[0-9]|4[0-9]|9[0-7]|10[0-7])[0-9;]*m")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
TERMINAL = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an odd name, a model and data with odd names in it."""
    folder = tmp_path_factory.mktemp("terminals") / ODD
    folder.mkdir()
    for name in ("initial", "trained"):
        shutil.copy(SAMPLES / f"s4d_{name}.safetensors", folder / f"{name} {ODD}.safetensors")
    shutil.copy(SAMPLES / "waves_biased.safetensors", folder / f"waves {ODD}.safetensors")
    np.save(folder / f"data {ODD}.npy", np.random.default_rng(0).normal(size=(8, 512, 1)).cumsum(axis=1))
    np.save(folder / f"tokens {ODD}.npy", np.arange(64) % 8)
    return folder


def commands(folder: Path, *, pictures: bool = False) -> dict[str, list[str]]:
    """One use of every command, with the odd names for everything that it reads and writes."""
    drawn = ["--plot", str(folder / f"plots {ODD}")] if pictures else []
    trained, initial, waves, data, tokens = (folder / f"{name} {ODD}{suffix}" for name, suffix in NAMES)
    few = ["--set", "d_model=4", "--set", "n_layers=1", "--set", "d_state=4", "--set", "batch=4", "--steps", "2"]
    retrain = ["--alpha", "2", "--retrain", "waves", "--steps", "2", "--out", str(folder / f"waves run {ODD}")]
    one = ["--layer", "0", "-o"]
    return {
        "analyze": ["analyze", *map(str, (trained, initial)), "--csv", str(folder / f"{ODD}.csv"), *drawn],
        "compare": ["compare", str(initial), str(trained), *drawn],
        "check": ["check", str(trained)],
        "reduce": ["reduce", str(trained), "--keep", "0.5", "--force", "--no-timing", "-o", str(folder / f"small {ODD}.safetensors")],
        "report": ["report", str(trained), "-o", str(folder / f"r {ODD}.html")],
        "retune": ["retune", str(trained), "--alpha", "2", "--beta", "-1", "--force", "-o", str(folder / f"out {ODD}.safetensors")],
        "calibrate": ["calibrate", str(SAMPLES / "mamba2_trained"), "--tokens", str(tokens), "-o", str(folder / f"c {ODD}.npz")],
        "probe": ["probe", str(trained), "--data", str(data)],
        "suggest": ["suggest", str(data), "--checkpoint", str(trained)],
        "plot": ["plot", "response", str(trained), *one, str(folder / f"{ODD}.png")],
        "plot inits": ["plot", "inits", "-o", str(folder / f"inits {ODD}.png")],
        "response": ["response", str(trained), *one, str(folder / f"h {ODD}.npz")],
        "impulse": ["impulse", str(trained), "--length", "4", *one, str(folder / f"k {ODD}.npz")],
        "inspect": ["inspect", str(trained)],
        "export": ["export", str(trained), *one, str(folder / f"e {ODD}.npz")],
        "families": ["families"],
        "retrain": ["retune", str(waves), *retrain, "--force", "-o", str(folder / f"more {ODD}.safetensors")],
        "train": ["train", "forecast", "--data", str(data), *few, "--force", "--out", str(folder / f"run {ODD}")],
        "bench": ["bench", "--only", "cauchy_gpu_vs_torch", "--rounds", "1"],
        "no such file": ["analyze", str(folder / f"missing {ODD}")],
        "help": ["--help"],
    }


NAMES = (("trained", ".safetensors"), ("initial", ".safetensors"), ("waves", ".safetensors"), ("data", ".npy"), ("tokens", ".npy"))
WRITTEN = {"csv": ("",), "png": ("", "inits "), "safetensors": ("out ", "more "), "npz": ("h ", "k ", "e ", "c ")}
WRITERS_ONLY = {"report", "plot", "plot inits", "response", "impulse", "export", "no such file"}  # nothing on standard output


class InTurn:
    """The commands in one process, as `commands_in_turn` runs them.

    Args:
        leave: all of them again, where nobody reads what they print.
    """

    def __init__(self, folder: Path, work: Path, *, leave: bool = False, pictures: bool = False, **environment: str) -> None:
        self.codes, self.errors = work / "codes", work / "errors"
        self.names, words = zip(*commands(folder, pictures=pictures).items(), strict=True)
        (work / "commands").write_bytes(b"\n\0\n".join(b"\0".join(map(os.fsencode, command)) for command in words))
        self.command = [
            sys.executable,
            str(TESTS / "support" / "commands_in_turn.py"),
            str(work / "commands"),
            str(self.codes),
            *([str(self.errors)] if leave else []),
        ]
        dropped = {"COLUMNS", "NO_COLOR", "LC_ALL", "PYTHONIOENCODING", "FORCE_COLOR"}
        self.environment = {key: value for key, value in os.environ.items() if key not in dropped} | TERMINAL | environment

    def assert_codes(self, *allowed: int, refused: Collection[str] = ("no such file",), again: bool = False) -> None:
        found, count = [int(code) for code in self.codes.read_text().split()], len(self.names)
        codes = dict(zip(self.names, found[count:] if again else found[:count], strict=True))
        assert {name: code for name, code in codes.items() if code != 2 * (name in refused) and code not in allowed} == {}

    def parts(self, output: str) -> dict[str, str]:
        return dict(zip(self.names, output.split(MARK)[1:], strict=True))


def in_terminal(run: InTurn, columns: int) -> str:
    """Everything that is sent to a terminal of that width."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(run.command, stdin=slave, stdout=slave, stderr=slave, env=run.environment) as process:
        os.close(slave)
        received = b""
        try:
            while part := os.read(master, 1 << 16):
                received += part
        except OSError:  # what Linux answers when the last writer has closed
            pass
        process.wait(timeout=HANG)
    os.close(master)
    return received.decode()


def test_every_command_is_among_them() -> None:
    names = {command.name or command.callback.__name__ for command in whole_app().registered_commands}
    assert names <= set(commands(Path()))


@pytest.fixture(scope="module")
def narrow(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[InTurn, str]:
    """The commands in a terminal of 20 columns and without a reader, in one process, as loading what they need takes longer than they do;
    and what the terminal was sent."""
    run = InTurn(folder, tmp_path_factory.mktemp("narrow"), leave=True, NO_COLOR="1")
    return run, in_terminal(run, 20)


@pytest.mark.slow
def test_a_terminal_of_20_columns_without_color_shows_everything(narrow: tuple[InTurn, str]) -> None:
    run, output = narrow
    run.assert_codes()
    assert "Traceback" not in output
    assert not COLOR.search(output)
    assert "\u202e" not in output
    for name, text in run.parts(output).items():
        lines = [ESCAPE.sub("", line) for line in text.splitlines()]
        assert sum(map(len, lines)) > 20, name
        if name in {"analyze", "compare", "check", "retune", "suggest", "inspect", "families"}:
            tables = [line for line in lines if not line.startswith("ssmspec: ")]
            assert max(map(len, tables)) <= 20, name
    assert "-1.05" in run.parts(output)["analyze"]  # the bias_slope, not cut off


@pytest.mark.slow
def test_a_pipe_in_the_c_locale_gets_ascii_and_no_escapes(folder: Path, tmp_path: Path) -> None:
    run = InTurn(folder, tmp_path, pictures=True, **C_LOCALE)
    done = subprocess.run(run.command, capture_output=True, env=run.environment, check=False, timeout=HANG)
    refused = {"no such file", "train"}  # the path of the data goes into a config, which is UTF-8
    run.assert_codes(refused=refused)
    out, err = done.stdout.decode("ascii"), done.stderr.decode("ascii")
    assert "\x1b" not in out + err
    assert "Traceback" not in err
    assert all(line.startswith("ssmspec: ") for line in err.splitlines())
    assert {name for name, text in run.parts(out).items() if not text.strip()} == WRITERS_ONLY | refused
    written = [folder / f"{name}{ODD}.{suffix}" for suffix, names in WRITTEN.items() for name in names]
    assert [path for path in written if not path.exists()] == []
    assert len(list((folder / f"plots {ODD}").iterdir())) == 6 + 2  # of analyze and compare
    assert "initial a b\\n'\\udcc3\\udcbc" in (folder / f"{ODD}.csv").read_text()


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_error_of_any_command(narrow: tuple[InTurn, str]) -> None:
    run, _ = narrow
    run.assert_codes(141, again=True)
    assert all(line.startswith("ssmspec: ") for line in run.errors.read_text().splitlines()), run.errors.read_text()
