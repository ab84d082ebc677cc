"""Many processes at once on one file and one cache of compiled code, and many files in one process."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from locations import HANG
from program import S4D, Type, checkpoint, s4d_tensors, ssmspec

NO_HOME = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "XDG_CONFIG_HOME": "/dev/null", "MPLCONFIGDIR": "/dev/null"}
"""Nothing below can be made, not even by root."""


def at_once(count: int, **environment: str | None) -> set[tuple[int, bytes, bytes]]:
    """The distinct results (exit code, stdout, stderr) of this many processes that compile, cache and analyze at the same time."""
    merged = {key: value for key, value in {**os.environ, **environment}.items() if value is not None}
    command = [sys.executable, "-m", "ssmspec", "analyze", str(S4D), "--backend", "cpu", "--json"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=merged) for _ in range(count)]
    return {(process.wait(timeout=HANG), *streams) for process in processes for streams in [process.communicate(timeout=HANG)]}


def assert_all_agree(results: set[tuple[int, bytes, bytes]]) -> None:
    [(code, out, err)] = results
    assert (code, err) == (0, b"")
    assert json.loads(out)["backend"] == "cpu"


CACHES = {
    "shared and empty": lambda folder: {"NUMBA_CACHE_DIR": str(folder)},
    "cannot be written": lambda folder: {"NUMBA_CACHE_DIR": "/dev/null", **NO_HOME},
    "no home": lambda folder: {"NUMBA_CACHE_DIR": None, "HOME": None},
}


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*.code")}


@pytest.mark.slow
@pytest.mark.parametrize("cache", CACHES)
def test_processes_on_one_file_agree_to_the_byte(cache: str, tmp_path: Path) -> None:
    """A process that keeps nothing shares nothing, so one of them is compared with one that has the cache of this machine."""
    shared = cache == "shared and empty"
    results = at_once(3 if shared else 1, **CACHES[cache](tmp_path))
    assert_all_agree(results if shared else results | at_once(1))
    if shared:  # the next process loads what they compiled, and writes nothing
        before = contents(tmp_path)
        assert before
        assert_all_agree(results | at_once(1, **CACHES[cache](tmp_path)))
        assert contents(tmp_path) == before


@pytest.mark.nightly
@pytest.mark.parametrize("cache", CACHES)
def test_32_processes_on_one_file_agree_to_the_byte(cache: str, tmp_path: Path) -> None:
    assert_all_agree(at_once(32, **CACHES[cache](tmp_path)))
    assert_all_agree(at_once(32, **CACHES[cache](tmp_path)))  # now from the cache, where there is one


PEAK = """
import resource, sys
from ssmspec.cli.terminal import run
from ssmspec.cli import whole_app
sys.argv = ["ssmspec", *sys.argv[1:]]
code = run(whole_app(), debug=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def many(folder: Path, count: int) -> list[Path]:
    """Distinct checkpoints of a layer each."""
    tensors = s4d_tensors(H=64, N=8)
    paths = []
    for number in range(count):
        tensors["layers.0.D"] = np.full(64, number, np.float32)
        paths.append(checkpoint(folder, tensors, f"m{number:04}.safetensors"))
    return paths


def peak_memory(folder: Path, *options: str) -> tuple[int, int, str]:
    """Exit code, peak of resident memory [kB] and stdout of one call over all checkpoints in a folder."""
    command = [sys.executable, "-c", PEAK, "analyze", f"{folder}/m*.safetensors", "--points", "64", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG)
    return done.returncode, int(done.stderr.splitlines()[-1]), done.stdout


@pytest.mark.parametrize("options", [(), ("--json", "--csv", "t.csv", "--copies", "c.csv")])
def test_analyses_are_not_kept(options: tuple[str, ...], tmp_path: Path, typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many checkpoints there are, one analysis at a time is alive, the one before it at most besides."""
    import ssmspec.commands.each_file
    from ssmspec.statistics import CheckpointAnalysis

    def analyses() -> list[CheckpointAnalysis]:
        return [thing for thing in gc.get_objects() if type(thing) is CheckpointAnalysis]

    others = analyses()  # of tests before, held here so that their number stays
    alive, analyze = [], ssmspec.commands.each_file.analyze

    def counting(*arguments: object, **more: object) -> CheckpointAnalysis:
        alive.append(len(analyses()) - len(others))
        return analyze(*arguments, **more)

    monkeypatch.setattr(ssmspec.commands.each_file, "analyze", counting)
    assert typed("analyze", *many(tmp_path, 6), "--points", "16", *options).code == 0
    assert len(alive) == 6
    assert max(alive) <= 1


@pytest.mark.nightly
@pytest.mark.parametrize("options", [(), ("--json",), ("--csv", "table.csv", "--copies", "copies.csv")])
def test_a_thousand_checkpoints_take_the_memory_of_a_hundred(options: tuple[str, ...], tmp_path: Path) -> None:
    peaks = []
    for count in (100, 1000):
        folder = tmp_path / str(count)
        folder.mkdir()
        many(folder, count)
        placed = (str(tmp_path / f"{count}-{each}") if each.endswith(".csv") else each for each in options)
        code, peak, out = peak_memory(folder, *placed)
        assert code == 0
        assert out.count("m0099") >= 1
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 4_000  # kB: 900 analyses would be 25 MB


@pytest.mark.usefixtures("blank_pictures")
def test_one_broken_file_among_many_is_reported_and_the_rest_are_done(tmp_path: Path) -> None:
    paths = many(tmp_path, 5)
    paths[2].write_bytes(paths[2].read_bytes()[:100])
    options = ("--points", "16", "--csv", tmp_path / "t.csv", "--plot", tmp_path / "pictures", "--json")
    result = ssmspec("analyze", tmp_path / "m*.safetensors", *options)
    assert result.code == 2
    [error] = [line for line in result.err.splitlines() if "m0002" in line]
    assert error.startswith(f"ssmspec: {paths[2]}: ")
    names = [Path(document["checkpoint"]["path"]).name for document in json.loads(result.out)]
    assert names == [path.name for path in paths if path != paths[2]]
    assert len({row.split(",")[0] for row in (tmp_path / "t.csv").read_text().splitlines()[1:]}) == 4
    assert len(list((tmp_path / "pictures").glob("*.overview.png"))) == 4
    checked = ssmspec("check", *paths, "--format", "json")
    assert checked.code == 2
    assert "m0002" in checked.err
    assert len(json.loads(checked.out)["checkpoints"]) == 4
