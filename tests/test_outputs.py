"""Whatever fails while a command writes, the complete old or new file is there, the input is kept, and the next run cleans up."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from disk import disk_of
from faults import Faults, faulty
from locations import HANG, TESTS
from outputs import INPUTS, OUTPUTS, X, carried_out, check, files, prepare, temporary
from program import Result, Type

from ssmspec.commands import compare

DAILY = ("analyze --csv", "impulse -o", "check --init", "retune --in-place", "retune folder")
EVERY = [name if name in DAILY else pytest.param(name, marks=pytest.mark.nightly) for name in OUTPUTS]
TWICE = [
    name if name in ("check --init", "retune -o") else pytest.param(name, marks=pytest.mark.nightly)
    for name in ("analyze --csv", "response -o", "check --init", "retune -o", "retune folder")
]
QUICK = [name for name, output in OUTPUTS.items() if not output.slow]
FAULTS: dict[str, Callable[[], BaseException]] = {
    "disk full": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "disk broken": lambda: OSError(errno.EIO, os.strerror(errno.EIO)),
    "interrupt": KeyboardInterrupt,
}


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """A command that was interrupted ignores further interrupts, as its process is about to end."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every command of a test the comparison that the first one made. It takes longer than all the writing."""
    compare_systems, found = compare.compare_systems, []

    def once(*arguments: Any, **options: Any) -> Any:
        if not found:
            found.append(compare_systems(*arguments, **options))
        return found[0]

    monkeypatch.setattr(compare, "compare_systems", once)


def assert_one_line(done: Result, *words: str) -> None:
    assert done.code == 2, done
    assert done.err.count("\n") == 1, done.err
    for word in words:
        assert word in done.err


@pytest.mark.usefixtures("compared_once")
@pytest.mark.parametrize("name", EVERY)
def test_a_fault_at_any_operation_leaves_the_old_or_the_new(name: str, typed: Type, tmp_path: Path) -> None:
    """Every operation fails once, in one of three ways, and the next run is as if nothing had failed."""
    output, folder = OUTPUTS[name], tmp_path
    prepare(folder, output)
    before = files(folder)
    assert typed(*output.typed).code == 0
    after = files(folder)
    prepare(folder, output)
    count = Faults()
    with faulty(count):
        assert typed(*output.typed).code == 0
    for at in range(len(count.seen)):
        kind = list(FAULTS)[at % 3]
        prepare(folder, output)
        with faulty(Faults(at, FAULTS[kind]())):
            done = typed(*output.typed)
        where = f"{kind} at {count.seen[at]}, operation {at} of {len(count.seen)}: {done}"
        check(output, before, after, files(folder))
        assert done.code in (0, 130 if kind == "interrupt" else 2), where
        assert done.code == 0 or done.err.count("\n") == 1, where
        assert done.code or files(folder).keys() == after.keys(), where
        assert count.seen[at] == "unlink" or temporary(folder) == [], where
        assert typed(*output.typed, *output.again).code == 0, where
        carried_out(output, after, folder)


def kill_at_system_calls(folder: Path, kills: int, *names: str) -> dict[str, dict[str, int]]:
    script = str(TESTS / "support" / "kill_at_system_calls.py")
    done = subprocess.run(
        [sys.executable, script, str(folder), str(kills), *names], capture_output=True, text=True, check=False, timeout=HANG
    )
    if "Operation not permitted" in done.stderr or "Function not implemented" in done.stderr:
        pytest.skip("this system does not let a process trace its children")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="traces children as Linux does")
def test_a_command_killed_at_a_system_call_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    found = kill_at_system_calls(tmp_path, 6, "check --init", "impulse -o", "analyze --csv", "retune --in-place")
    assert {each["killed"] for each in found.values()} == {6}
    assert sum(each["changed"] for each in found.values()) > 0


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform != "linux", reason="traces children as Linux does")
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_command_killed_at_most_system_calls_leaves_the_old_or_the_new(name: str, tmp_path: Path) -> None:
    found = kill_at_system_calls(tmp_path, 30 if OUTPUTS[name].slow else 200, name)[name]
    assert found["killed"] == min(found["calls"], 30 if OUTPUTS[name].slow else 200)


@pytest.mark.parametrize("size", [0, 300])
@pytest.mark.parametrize("name", EVERY)
def test_a_full_disk_is_one_line_and_leaves_the_old(name: str, size: int, typed: Type, tmp_path: Path) -> None:
    output, folder = OUTPUTS[name], tmp_path
    prepare(folder, output)
    before = files(folder)
    with disk_of(size):
        done = typed(*output.typed)
    assert_one_line(done, "cannot write", "File too large")
    assert {key: data for key, data in files(folder).items() if not key.startswith("run/")} == before
    assert temporary(folder) == []


PLACED: dict[str, tuple[tuple[str, ...], str]] = {
    "analyze --csv": (("analyze", X, "--points", "16", "--csv"), ".csv"),
    "analyze --copies": (("analyze", X, "--points", "16", "--copies"), ".csv"),
    "analyze --plot": (("analyze", X, "--points", "16", "--plot"), ""),
    "compare --csv": (("compare", X, X, "--points", "16", "--csv"), ".csv"),
    "compare --plot": (("compare", X, X, "--points", "16", "--plot"), ""),
    "response -o": (("response", X, "--layer", "0", "--points", "16", "-o"), ".npz"),
    "impulse -o": (("impulse", X, "--layer", "0", "--length", "8", "-o"), ".npz"),
    "plot -o": (("plot", "heatmap", X, "--points", "16", "-o"), ".png"),
    "report -o": (("report", X, "--points", "16", "-o"), ".html"),
    "check --init": (("check", "--force", "--init"), ".toml"),
    "retune -o": (("retune", X, "--alpha", "2", "--force", "-o"), ".safetensors"),
    "retune folder": (("retune", "model", "--alpha", "2", "--force", "-o"), ""),
    "retune --plot": (("retune", X, "--alpha", "2", "--dry-run", "--plot"), ""),
    "train --out": (("train", "waves", "--steps", "6", "--out"), ""),
}
MADE = ("missing", "n", "-")  # folders that are made where they are missing
MAKING = ("plot -o", "report -o")  # make the folder of a file
PLACES = ("/proc/nothing/y", "/sys/y", "/dev/full", "missing/deep/y", "before.safetensors/y", "n" * 250 + "/" + "n" * 250, "-")


CASES = [
    (name, place)
    for name, (_, suffix) in PLACED.items()
    for place in PLACES
    if not place.startswith(MADE) or (suffix and (name not in MAKING or place == "-"))
]


@pytest.mark.parametrize(("name", "place"), CASES, ids=lambda text: text[:20])
def test_places_that_cannot_be_written_are_one_line(name: str, place: str, typed: Type, tmp_path: Path) -> None:
    """These bind root, too: what is not there, what the kernel does not let be made, and a device that is always full."""
    arguments, suffix = PLACED[name]
    prepare(tmp_path, OUTPUTS["check --init"])
    before = files(tmp_path)
    done = typed(*arguments, place if place in ("/dev/full", "-") else place + suffix)
    assert_one_line(done, place[:20])
    assert files(tmp_path) == before
    assert temporary(tmp_path) == []


@pytest.mark.parametrize("name", QUICK)
def test_targets_behind_links_are_replaced_and_the_links_stay(name: str, typed: Type, tmp_path: Path) -> None:
    output, real = OUTPUTS[name], tmp_path / "elsewhere"
    prepare(tmp_path, output)
    real.mkdir()
    for target in output.old:
        (tmp_path / target).rename(real / target)
        (tmp_path / target).symlink_to(Path("elsewhere", target))
    if name == "retune folder":
        (tmp_path / "out").symlink_to("elsewhere/out")
    before = files(tmp_path)
    assert typed(*output.typed).code == 0
    assert all((tmp_path / target).is_symlink() for target in output.old)
    assert all((real / target).read_bytes() != before[target] for target in output.old)
    assert name != "retune folder" or (real / "out/model.safetensors").exists()
    assert all((tmp_path / given).read_bytes() == data for given, data in INPUTS.items() if given != output.in_place)
    assert temporary(tmp_path) == []


LOOP = """
import contextlib, io, sys
import typer.main
from ssmspec.cli import whole_app
from ssmspec.cli.terminal import run
sys.argv = ["ssmspec", *sys.argv[1:]]
command = typer.main.get_command(whole_app())
for _ in range(6):
    with contextlib.redirect_stdout(io.StringIO()):
        code = run(command, debug=False)
    if code:
        sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", TWICE)
def test_two_processes_that_write_the_same_target_leave_one_of_both(name: str, typed: Type, tmp_path: Path) -> None:
    """A reader always sees the old file or the file of one process. Both processes succeed, and nothing temporary is left."""
    output = OUTPUTS[name]
    prepare(tmp_path, output)
    before = files(tmp_path)
    assert typed(*output.typed).code == 0
    after = files(tmp_path)
    prepare(tmp_path, output)
    command = [sys.executable, "-c", LOOP, *output.typed, *output.again]
    writers = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) for _ in range(2)]
    while any(writer.poll() is None for writer in writers):
        with suppress(FileNotFoundError):  # a folder was exchanged while it was read
            check(output, before, after, files(tmp_path))
    errors = [writer.communicate()[1].decode() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], errors
    carried_out(output, after, tmp_path)


def test_an_input_that_is_also_the_target_is_refused_or_meant(typed: Type, tmp_path: Path) -> None:
    prepare(tmp_path, OUTPUTS["check --init"])
    before = files(tmp_path)
    for arguments, suffix in PLACED.values():
        if suffix and arguments[0] != "check":
            done = typed(*arguments, X)
            assert done.code == 2, done
    assert files(tmp_path) == before
