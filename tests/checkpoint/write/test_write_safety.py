"""Whatever happens while a checkpoint is written, the target is the complete old file or the complete new one, and the input is kept."""

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from disk import disk_of
from locations import HANG

from ssmspec.checkpoint import open_checkpoint
from ssmspec.checkpoint.write import splice
from ssmspec.checkpoint.write.write_changed import write_changed
from ssmspec.errors import CheckpointError, SsmspecError
from ssmspec.files import replacing

OLD, NEW = np.arange(1000.0), np.arange(1000.0) * 3 + 1


def save(path: Path, values: np.ndarray = OLD) -> Path:
    with path.open("wb") as file:
        np.savez(file, a=values, b=np.ones(10))
    return path


@pytest.fixture
def source(tmp_path) -> Path:
    return save(tmp_path / "x.npz")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


KILL = """
import json, os, shutil, signal, sys
from pathlib import Path
import numpy as np
from ssmspec.checkpoint import open_checkpoint
from ssmspec.checkpoint.write.write_changed import write_changed
from ssmspec.files import replacing

scenario, top = sys.argv[1], Path(sys.argv[2])
folder, in_place, replace, pair = (word in scenario for word in ("folder", "in place", "replace", "pair"))
WATCHED = ("write_changed.py", "whole_folder.py", "replacing.py", "splice.py", "shutil.py", "tempfile.py")
old, new = np.arange(50.0), np.arange(50.0) * 3 + 1
changes = {"t0": new, "t2": new} if folder else {"a": new}
if pair:
    replacing._rename_with = lambda *arguments: False


def before_lines(see):
    # see() is called just before each line of the writing modules is run
    def line(frame, event, argument):
        if event == "line":
            see()
        return line
    sys.settrace(lambda frame, event, argument: line if frame.f_code.co_filename.endswith(WATCHED) else None)


def shards(path, values):
    path.mkdir()
    names = {}
    for number in range(3):
        np.savez(path / f"s{number}.npz", **{f"t{number}": values + number})
        names[f"t{number}"] = f"s{number}.npz"
    (path / "model.index.json").write_text(json.dumps({"weight_map": names}))
    (path / "config.json").write_text("{}")


def target(base):
    return base / ("in" if in_place else "out")


def files(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def state(path):
    return files(path) if path.is_dir() else path.read_bytes() if path.exists() else None


def write(base, begin=lambda: None, replace=replace):
    checkpoint = open_checkpoint(base / "in")
    begin()
    write_changed(checkpoint, target(base), changes, replace=replace, in_place=in_place)
    sys.settrace(None)


pristine, base = top / "pristine", top / "base"
pristine.mkdir()
if folder:
    shards(pristine / "in", old)
else:
    np.savez(pristine / "in.npz", a=old, b=np.ones(3))
    (pristine / "in.npz").rename(pristine / "in")
if replace:
    shards(pristine / "out", -old) if folder else (pristine / "out").write_bytes(b"another checkpoint")
before, given = state(target(pristine)), state(pristine / "in")
shutil.copytree(pristine, base)
write(base)
after = state(target(base))
assert after != before
seen = {"old": 0, "new": 0, "restored": 0}


def check(base):
    found = state(target(base))
    if found is None and before is not None:  # between two renamings
        previous, = base.glob(".out.*.previous")
        assert state(previous) == before
        seen["restored"] += 1
    else:
        assert found in (before, after), "neither old nor new"
        seen["old" if found == before else "new"] += 1
    assert in_place or state(base / "in") == given


def carry_on(base):
    write(base, replace=True)
    assert state(target(base)) == after
    assert not [path.name for path in base.iterdir() if path.name.startswith(".")], "leftovers"


moments = {}  # what is on the disk -> a copy of it, in which no one lives


def look():
    check(base)
    key = str(sorted((name, hash(data)) for name, data in files(base).items()))
    if key not in moments:
        moments[key] = top / str(len(moments))
        shutil.copytree(base, moments[key])


steps = 0


def count():
    global steps
    steps += 1


shutil.rmtree(base)
shutil.copytree(pristine, base)
write(base, lambda: before_lines(look))
for moment in moments.values():
    carry_on(moment)

shutil.rmtree(base)
shutil.copytree(pristine, base)
write(base, lambda: before_lines(count))
for step in range(1, steps, steps // 10):
    shutil.rmtree(base)
    shutil.copytree(pristine, base)
    child = os.fork()
    if not child:
        left = iter(range(step - 1, -1, -1))
        write(base, lambda: before_lines(lambda: next(left) or os.kill(os.getpid(), signal.SIGKILL)))
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    check(base)
    carry_on(base)
print(json.dumps({"moments": len(moments), "steps": steps, **seen}))
"""


@pytest.mark.parametrize(
    "scenario",
    ["file", "file replace", "file in place", "folder", "folder replace", "folder in place", "folder replace pair"],
)
def test_a_process_killed_at_any_line_leaves_the_old_or_the_new_whole(tmp_path, scenario):
    """What is on the disk before each line is what a kill would leave; ten kills prove it. The next call cleans up after every one."""
    done = subprocess.run([sys.executable, "-c", KILL, scenario, str(tmp_path)], capture_output=True, text=True, check=False, timeout=HANG)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["moments"] >= (6 if "folder" in scenario else 4)
    assert result["old"] > 50
    assert result["new"] > 0
    assert (result["restored"] > 0) == ("pair" in scenario)


@pytest.mark.parametrize("size", [0, 100, 4096, 8000])
@pytest.mark.parametrize("kernel", [True, False])
def test_a_full_disk_is_one_line_and_leaves_the_old(source, size, kernel, monkeypatch):
    if not kernel:
        monkeypatch.delattr(os, "copy_file_range")
    target = save(source.with_name("y.npz"), -OLD)
    before = target.read_bytes()
    checkpoint = open_checkpoint(source)
    with disk_of(size), pytest.raises(SsmspecError, match=r"cannot write .*y\.npz: File too large") as caught:
        write_changed(checkpoint, target, {"a": NEW}, replace=True)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert target.read_bytes() == before
    assert names(source.parent) == ["x.npz", "y.npz"]


def test_a_full_disk_leaves_a_folder_as_it_was(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    save(model / "x.npz")
    checkpoint = open_checkpoint(model)
    with disk_of(4096), pytest.raises(SsmspecError, match=r"cannot write .*out: File too large"):
        write_changed(checkpoint, tmp_path / "out", {"a": NEW})
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_the_old(source, call, monkeypatch, arrays):
    def fail(*arguments, **options):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(*(os, "fsync") if call == "fsync" else (Path, "replace"), fail)
    with pytest.raises(SsmspecError, match=r"cannot write .*x\.npz: Input/output error"):
        write_changed(open_checkpoint(source), source, {"a": NEW}, in_place=True)
    assert arrays(source)["a"].tolist() == OLD.tolist()
    assert names(source.parent) == ["x.npz"]


def test_the_new_file_is_on_the_disk_before_it_takes_its_place(source, monkeypatch):
    """Data, then the name, then the folder: what a power failure may cut short is never the only copy."""
    calls = []
    fsync, replace = os.fsync, Path.replace

    def record(handle):
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(Path, "replace", lambda *arguments: calls.append("rename") or replace(*arguments))
    write_changed(open_checkpoint(source), source, {"a": NEW}, in_place=True)
    assert calls == ["file", "rename", "folder"]


@pytest.mark.parametrize("kernel", [True, False])
def test_copying_works_with_and_without_the_kernel(tmp_path, kernel, monkeypatch, arrays):
    """Some file systems refuse copy_file_range; 9 MB are more than one piece."""
    values = np.random.default_rng(0).normal(size=1_200_000)
    save(tmp_path / "x.npz", values)

    def refuse(*arguments):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    if not kernel:
        monkeypatch.setattr(os, "copy_file_range", refuse)
    write_changed(open_checkpoint(tmp_path / "x.npz"), tmp_path / "y.npz", {"b": np.zeros(10)})
    assert np.array_equal(arrays(tmp_path / "y.npz")["a"], values)
    assert (tmp_path / "y.npz").stat().st_size == (tmp_path / "x.npz").stat().st_size


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def cut(path: Path) -> None:
    os.truncate(path, 3000)


@pytest.mark.parametrize("change", [touch, grow, cut, Path.unlink, lambda path: save(path, NEW)])
def test_an_input_changed_since_it_was_opened_is_refused(source, change):
    checkpoint = open_checkpoint(source)
    change(source)
    with pytest.raises(CheckpointError, match=r"x\.npz: (it was changed while ssmspec was working on it|cannot be read: No such file)"):
        write_changed(checkpoint, source.with_name("y.npz"), {"a": NEW})
    assert not source.with_name("y.npz").exists()


@pytest.mark.parametrize("change", [touch, grow, cut])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_input_changed_while_it_is_copied_is_refused(source, change, moment, monkeypatch):
    through = splice.Splice.through

    def interrupted(self, stop):
        if moment == "before":
            change(source)
        through(self, stop)
        if moment == "after":
            change(source)

    monkeypatch.setattr(splice.Splice, "through", interrupted)
    with pytest.raises(CheckpointError, match=r"x\.npz: it (was changed while|ended while)"):
        write_changed(open_checkpoint(source), source.with_name("y.npz"), {"a": NEW})
    assert names(source.parent) == ["x.npz"]


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("x.npz", {}, "it is the checkpoint itself; name another, or use --in-place"),
        ("x.npz", {"replace": True}, "it is the checkpoint itself"),
        ("link", {"replace": True}, "it is the checkpoint itself"),
        ("hard", {"replace": True}, "it is the checkpoint itself"),
        ("other.npz", {}, "it exists; name another, or use --force"),
        ("other.npz", {"in_place": True}, "it exists; name another, or use --force"),
        ("folder", {"replace": True}, "it is a folder; name a file"),
        ("fifo", {"replace": True}, "it is a device, a pipe or standard output; name a file"),
        ("/dev/null", {"replace": True}, "it is a device, a pipe or standard output; name a file"),
        ("missing/y.npz", {}, "No such file or directory; choose an existing folder"),
        ("other.npz/y.npz", {}, "Not a directory"),
        ("n" * 300, {}, "File name too long"),
        ("-", {}, "name a file"),
    ],
)
def test_targets_that_cannot_be_meant_are_refused_in_one_line(source, target, options, words, monkeypatch):
    folder = source.parent
    monkeypatch.chdir(folder)
    (folder / "link").symlink_to("x.npz")
    (folder / "hard").hardlink_to(source)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    save(folder / "other.npz", -OLD)
    before = names(folder), source.read_bytes(), (folder / "other.npz").read_bytes()
    with pytest.raises(SsmspecError, match="cannot write") as caught:
        write_changed(open_checkpoint(source), Path(target), {"a": NEW}, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert before == (names(folder), source.read_bytes(), (folder / "other.npz").read_bytes())


def test_a_file_that_comes_to_be_meanwhile_is_not_replaced(source, monkeypatch):
    through = splice.Splice.through

    def interrupted(self, stop):
        source.with_name("y.npz").write_text("mine")
        through(self, stop)

    monkeypatch.setattr(splice.Splice, "through", interrupted)
    for _ in range(2):
        with pytest.raises(SsmspecError, match=r"cannot write .*y\.npz: File exists"):
            write_changed(open_checkpoint(source), source.with_name("y.npz"), {"a": NEW})
        assert source.with_name("y.npz").read_text() == "mine"
        source.with_name("y.npz").unlink()
        monkeypatch.setattr(replacing, "_rename_with", lambda *arguments: False)


def test_other_files_and_empty_ones_are_replaced(source, arrays):
    target = source.with_name("y.npz")
    target.write_bytes(b"")
    write_changed(open_checkpoint(source), target, {"a": NEW})
    write_changed(open_checkpoint(source), target, {"a": -NEW}, replace=True)
    assert arrays(target)["a"].tolist() == (-NEW).tolist()


def test_modes_are_those_of_the_replaced_file_or_of_the_input(source):
    source.chmod(0o604)
    write_changed(open_checkpoint(source), source.with_name("new.npz"), {"a": NEW})
    target = save(source.with_name("y.npz"))
    target.chmod(0o640)
    write_changed(open_checkpoint(source), target, {"a": NEW}, replace=True)
    write_changed(open_checkpoint(source), source, {"a": NEW}, in_place=True)
    assert [path.stat().st_mode & 0o777 for path in (source.with_name("new.npz"), target, source)] == [0o604, 0o640, 0o604]


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_is_written_through(source, exists, arrays):
    real = source.parent / "elsewhere" / "real.npz"
    real.parent.mkdir()
    if exists:
        save(real, -OLD)
    link = source.with_name("link.npz")
    link.symlink_to(Path("elsewhere", "real.npz"))
    write_changed(open_checkpoint(source), link, {"a": NEW}, replace=exists)
    assert link.is_symlink()
    assert arrays(real)["a"].tolist() == NEW.tolist()


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_folders_and_files_without_permission_are_one_line(source):
    checkpoint, closed = open_checkpoint(source), source.parent / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    with pytest.raises(SsmspecError, match="Permission denied; choose an existing folder that is writable"):
        write_changed(checkpoint, closed / "y.npz", {"a": NEW})
    source.chmod(0o400)
    with pytest.raises(SsmspecError, match="it is write-protected"):
        write_changed(checkpoint, source, {"a": NEW}, in_place=True)
    source.chmod(0)
    with pytest.raises(CheckpointError, match="cannot be read: Permission denied"):
        write_changed(checkpoint, source.with_name("y.npz"), {"a": NEW})


LOOP = """
import sys
from pathlib import Path
import numpy as np
from ssmspec.checkpoint import open_checkpoint
from ssmspec.checkpoint.write.write_changed import write_changed

checkpoint = open_checkpoint(sys.argv[1])
for _ in range(40):
    write_changed(checkpoint, Path(sys.argv[2]), {"a": np.full(1000, float(sys.argv[3]))}, replace=True)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_two_processes_write_the_same_target_each_whole(tmp_path, kind):
    source, target = tmp_path / "in", tmp_path / "out"
    if kind == "folder":
        source.mkdir()
        save(source / "x.npz")
        target.mkdir()
    else:
        save(source)
        target.touch()
    weights = target / "x.npz" if kind == "folder" else target
    writers = [subprocess.Popen([sys.executable, "-c", LOOP, str(source), str(target), value], stderr=subprocess.PIPE) for value in "12"]
    seen: set[float] = set()
    running = True
    while running:  # the last look is at what both have left
        running = any(writer.poll() is None for writer in writers)
        with np.load(weights) if weights.exists() and weights.stat().st_size else save(tmp_path / "none").open("rb") as found:
            values = found["a"] if hasattr(found, "files") else np.zeros(1000)
        assert len(set(values.tolist())) == 1
        seen.add(values[0])
    errors = [writer.communicate()[1] for writer in writers]
    assert errors == [b"", b""]
    assert seen & {1.0, 2.0}
    assert [name for name in names(tmp_path) if name.startswith(".")] == []


def test_the_temporary_file_of_a_living_writer_is_not_taken_for_a_leftover(source, arrays):
    target = source.with_name("y.npz")
    with replacing.new_file(target, 0o644) as first:
        first.write(b"whole")
        write_changed(open_checkpoint(source), target, {"a": NEW})
        assert arrays(target)["a"].tolist() == NEW.tolist()
        assert len(names(source.parent)) == 3
    assert target.read_bytes() == b"whole"


def test_leftovers_of_other_targets_and_programs_stay(source):
    kept = [".y.npz.partial", ".y.npz.ABCDEFGH.partial", ".z.npz.abcdefgh.partial", ".y.npz.abcdefgh.part", "y.npz.abcdefgh.partial"]
    for name in (*kept, ".y.npz.abcdefgh.partial", ".y.npz.01234567.partial"):
        source.with_name(name).write_bytes(b"")
    os.mkfifo(source.with_name(".y.npz.abcdefg_.partial"))
    write_changed(open_checkpoint(source), source.with_name("y.npz"), {"a": NEW})
    assert names(source.parent) == sorted([*kept, ".y.npz.abcdefg_.partial", "x.npz", "y.npz"])


def test_an_interrupt_leaves_nothing_behind(source, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(splice.Splice, "through", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_changed(open_checkpoint(source), source.with_name("y.npz"), {"a": NEW})
    assert names(source.parent) == ["x.npz"]


def test_readers_of_a_replaced_file_keep_the_old_one(source, arrays):
    """A reader that has the file open or mapped while it is replaced continues to read the old bytes."""
    before = source.read_bytes()
    with source.open("rb") as file:
        half = file.read(2000)
        writer = threading.Thread(target=write_changed, args=(open_checkpoint(source), source, {"a": NEW}), kwargs={"in_place": True})
        writer.start()
        writer.join(30)
        assert half + file.read() == before
    assert arrays(source)["a"].tolist() == NEW.tolist()
