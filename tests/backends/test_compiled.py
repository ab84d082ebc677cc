"""Compiled code that is kept: damaged files are compiled again, and where Numba does not hand it out, nothing is kept."""

from pathlib import Path

import numpy as np
import pytest

from ssmspec.backends import compiled
from ssmspec.backends.compiled import Kernel
from ssmspec.backends.cpu import SINGLE_SUMS


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    return tmp_path


def anew() -> Kernel:
    """The kernel as a new process has it."""
    return Kernel(SINGLE_SUMS.module, SINGLE_SUMS.name, SINGLE_SUMS.arrays)


def test_code_that_is_damaged_is_compiled_again(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anew()._loaded("f8")
    (file,) = kept.iterdir()
    whole, compilations = file.read_bytes(), []
    monkeypatch.setattr(Kernel, "_compiled", lambda self, kind: compilations.append(kind))
    monkeypatch.setattr(compiled, "_code_of", lambda made: compiled._opened(whole))
    for damaged in (whole[:-100], whole[:50] + b"?" + whole[51:], b""):
        file.write_bytes(damaged)
        anew()._loaded("f8")
        assert file.read_bytes() == whole
    anew()._loaded("f8")
    assert compilations == ["f8"] * 3  # the whole file needs none


def test_without_code_to_keep_every_process_compiles(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = np.cos(np.linspace(0, 1, 5)), np.sin(np.linspace(0, 1, 5))
    arguments = (np.array([[[1 - 2j, 0.5j]]]), np.array([[-0.1 + 1j, -2 + 0.3j]]), x[None], y[None])
    from ssmspec.backends import cpu, reference

    monkeypatch.setattr(compiled, "_code_of", lambda made: None)
    monkeypatch.setattr(cpu, "SINGLE_SUMS", anew())
    np.testing.assert_allclose(cpu.cauchy_sum(*arguments), reference.cauchy_sum(*arguments), rtol=1e-13)
    assert list(kept.iterdir()) == []


def test_code_is_kept_per_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+sse2"}
    for name in chosen:
        monkeypatch.delenv(name, raising=False)
    names = {anew()._key("f8")}
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
        names.add(anew()._key("f8"))
    assert len(names) == 3
