"""The bar on stderr counts bytes, of those asked for, as soon as something takes more than a second, and not before."""

import io
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from container_files import CONTAINERS
from rich.control import strip_control_codes
from safetensors.numpy import save_file

from ssmspec.checkpoint.remote import download
from ssmspec.commands.analyze import AnalysisOptions, analyze
from ssmspec.report import progress as module
from ssmspec.report.progress import LayerProgress
from ssmspec.statistics import HEADLINES

OPTIONS = AnalysisOptions(points=64, statistics=HEADLINES)
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        return ESCAPES.sub("", strip_control_codes(self.getvalue()))


@pytest.fixture
def on_terminal(monkeypatch):
    """Makes stderr a terminal, when it is called: pytest has a stderr of its own for each phase of a test."""

    def change() -> Terminal:
        stderr = Terminal()
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        return stderr

    return change


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when it is told to."""
    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_no_bar_within_the_first_second(tmp_path, web, on_terminal, clock):
    CONTAINERS["safetensors"](tmp_path)
    terminal = on_terminal()
    with LayerProgress() as progress:
        clock[0] = 0.9
        analyze(f"{web.url}/model.safetensors", OPTIONS, progress=progress)
    assert terminal.getvalue() == ""


def test_bytes_of_those_asked_for(tmp_path, web, on_terminal, clock):
    path = CONTAINERS["safetensors"](tmp_path)
    seen, terminal = [], on_terminal()
    with LayerProgress() as progress:
        clock[0] = 1.1
        show = progress._show
        progress._show = lambda name, done, total: (seen.append((name, done, total)), show(name, done, total))
        found = analyze(f"{web.url}/model.safetensors", OPTIONS, progress=progress)
    read = [(name, done, total) for name, done, total in seen if name.endswith("MB read")]
    assert all(done <= total <= path.stat().st_size for _, done, total in read)
    assert [done for _, done, _ in read] == sorted(done for _, done, _ in read)
    assert read[-1][1:] == (found.transfer.bytes, found.transfer.bytes)
    assert re.search(r"model\.safetensors: \d\.\d\d of \d\.\d\d MB read ", terminal.text())
    assert seen[-1][0] == found.layers[-1].name  # the work on the layers takes over


def test_a_download_shows_its_total_from_the_first_piece_on(tmp_path, web, on_terminal, clock, monkeypatch):
    size = 12_000_000
    save_file({"D": np.zeros(size // 4, np.float32)}, tmp_path / "model.safetensors")
    seen, terminal = [], on_terminal()
    with LayerProgress() as progress:
        clock[0] = 1.1
        progress._show = lambda name, done, total: seen.append((name, done, total))
        download.download(f"{web.url}/model.safetensors")
    assert terminal.text() == ""  # nothing was drawn by anybody else
    whole = (tmp_path / "model.safetensors").stat().st_size
    pieces = [(done, total) for _, done, total in seen if total >= whole]
    assert len(pieces) > 2
    assert all(total < whole + 100_000 for _, total in pieces)
    assert pieces[-1][0] >= whole
    assert pieces[0][0] < whole / 2


def test_a_stream_that_is_no_terminal_gets_nothing(tmp_path, web, capsys, clock):
    CONTAINERS["safetensors"](tmp_path)
    with LayerProgress() as progress:
        clock[0] = 5.0
        analyze(f"{web.url}/model.safetensors", OPTIONS, progress=progress)
    assert capsys.readouterr().err == ""
