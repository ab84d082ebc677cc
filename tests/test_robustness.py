"""What must hold for every request: nothing is lost, nothing hangs, and every failure is one line and an exit code."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from locations import HANG, SAMPLES
from program import S4D, Result, checkpoint, process, s4d_tensors, ssmspec

from ssmspec.cli.terminal import run
from ssmspec.errors import SsmspecError, printable
from ssmspec.files.reading import read_numbers
from ssmspec.files.writing import Kind, whole_file
from ssmspec.report.arrays import frequency_grid
from ssmspec.report.figures.style import safe_name, safe_names


def assert_refused(result: Result, *words: str) -> None:
    assert result.code == 2, result.err
    assert "Traceback" not in result.err
    assert result.err.count("\n") == 1, result.err
    for word in words:
        assert word in result.err


def compare(*arguments: object, cwd: Path = SAMPLES) -> Result:
    return ssmspec("compare", *arguments, cwd=cwd)


def model_folder(folder: Path) -> Path:
    folder.mkdir()
    checkpoint(folder, s4d_tensors())
    (folder / "config.json").write_text('{"model_type": "s4d"}')
    return folder


@pytest.mark.parametrize("command", ["csv other", "csv self", "compare", "response", "impulse", "config", "npz"])
def test_no_output_replaces_weights_or_settings(command: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    a, b = folder / "model.safetensors", checkpoint(tmp_path, s4d_tensors(layers=2), "b.safetensors")
    np.savez(folder / "weights.npz", x=np.ones(3))
    before = {path: path.read_bytes() for path in (a, b, folder / "config.json", folder / "weights.npz")}
    layer = ("--layer", "0", "-o")
    arguments: dict[str, tuple[object, ...]] = {
        "csv other": ("analyze", "--csv", b, a),
        "csv self": ("analyze", a, "--csv", a),
        "compare": (a, a, "--csv", b),
        "response": ("response", folder, *layer, a),
        "impulse": ("impulse", folder, "--length", "4", *layer, b),
        "config": ("impulse", folder, "--length", "4", *layer, folder / "config.json"),
        "npz": ("response", folder, *layer, folder / "weights.npz"),
    }
    result = (compare if command == "compare" else ssmspec)(*arguments[command])
    assert_refused(result, "name another file")
    assert result.out == ""
    assert {path: path.read_bytes() for path in before} == before


def test_files_of_the_same_kind_are_replaced(tmp_path: Path) -> None:
    for _ in range(2):
        assert ssmspec("analyze", S4D, "--csv", tmp_path / "t.csv").code == 0
        assert ssmspec("impulse", S4D, "--layer", "0", "--length", "4", "-o", tmp_path / "k.npz").code == 0
    (tmp_path / "empty").write_bytes(b"")
    assert ssmspec("analyze", S4D, "--csv", tmp_path / "empty").code == 0
    assert (tmp_path / "empty").read_bytes() == (tmp_path / "t.csv").read_bytes()


def test_a_link_to_weights_is_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, s4d_tensors())
    (tmp_path / "t.csv").symlink_to(path)
    assert_refused(ssmspec("analyze", S4D, "--csv", tmp_path / "t.csv"), "t.csv")


def test_a_fifo_is_written_to_and_stays_one(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "link").symlink_to(fifo)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    with whole_file(tmp_path / "link", Kind.table) as file:
        file.write(b"a,b\n")
    reader.join(10)
    assert read == [b"a,b\n"]
    assert fifo.is_fifo()


def test_devices_are_written_to_and_stay_devices() -> None:
    with whole_file(Path("/dev/null"), Kind.arrays) as file:
        np.savez(file, x=np.ones(3))
    assert Path("/dev/null").is_char_device()
    with pytest.raises(SsmspecError, match="No space left"), whole_file(Path("/dev/full"), Kind.table) as file:
        file.write(b"x")


@pytest.mark.parametrize("redirected", [False, True])
def test_csv_goes_to_standard_output(redirected: bool, tmp_path: Path) -> None:
    arguments = ("analyze", S4D, "--json", "--csv", "/dev/stdout")
    if redirected:
        with (tmp_path / "out.dat").open("wb") as out:
            command = [sys.executable, "-m", "ssmspec", *map(str, arguments)]
            assert subprocess.run(command, stdout=out, check=False, timeout=HANG).returncode == 0
        text = (tmp_path / "out.dat").read_text()
    else:
        text = process(*arguments).out
    document, _, table = text.partition("\n}\n")
    assert json.loads(document + "}")["schema"] == "ssmspec.analyze/1"
    assert table.startswith("checkpoint,layer,")


def test_a_dash_is_no_file_name(tmp_path: Path) -> None:
    assert_refused(ssmspec("analyze", S4D, "--csv", "-", cwd=tmp_path), "/dev/stdout")
    assert_refused(ssmspec("impulse", S4D, "--layer", "0", "--length", "4", "-o", "-", cwd=tmp_path), "'-'")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("impulse", "--length", "1000000000"), "GiB"),
        (("impulse", "--length", str(10**22)), "at most"),
        (("response", "--points", "1000000000"), "1000000"),
        (("response", "--points", "1000000000", "--axis", "omega"), "1000000"),
        (("analyze", "--points", "1000000000"), "1000000"),
    ],
)
def test_what_cannot_fit_is_refused_before_it_is_computed(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    command, *options = arguments
    more = () if command == "analyze" else ("--layer", "0", "-o", tmp_path / "x.npz")
    assert_refused(ssmspec(command, S4D, *options, *more), words)


LONG = "n" * 300


def test_names_that_cannot_be_looked_up_are_one_line(tmp_path: Path) -> None:
    kernel = ("impulse", S4D, "--layer", "0", "--length", "4", "-o")
    for arguments in (("analyze", LONG), ("inspect", LONG), ("check", LONG), (*kernel, LONG)):
        assert_refused(ssmspec(*arguments, cwd=tmp_path))
    assert_refused(compare(S4D, LONG, cwd=tmp_path))
    assert_refused(compare(LONG, cwd=tmp_path))
    for arguments in (("analyze", S4D, "--csv", LONG), ("plot", "heatmap", S4D, "-o", LONG + ".png")):
        assert_refused(ssmspec(*arguments, cwd=tmp_path), "too long")
    assert ssmspec(*kernel, tmp_path / ("k" * 250 + ".npz")).code == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may search everything")
def test_a_folder_that_cannot_be_searched_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    for arguments in (("analyze", "closed/x.pt"), ("impulse", S4D, "--layer", "0", "--length", "4", "-o", "closed/k.npz")):
        assert_refused(ssmspec(*arguments, cwd=tmp_path), "ermission")


def test_paths_that_cannot_be_looked_up_do_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from ssmspec.cli.options import expand

    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "exists", refuse)
    assert expand(["closed/x.pt", "y.pt"]) == ["closed/x.pt", "y.pt"]


@pytest.mark.parametrize("layer", ["²", "9" * 5000, "٣"])
def test_odd_digits_name_no_layer(layer: str) -> None:
    assert_refused(ssmspec("analyze", S4D, "--layer", layer), "matches no layer")


def renamed(names: list[str]) -> dict[str, np.ndarray]:
    layers = s4d_tensors(layers=len(names))
    return {
        f"{name}.{key.removeprefix(f'layers.{index}.')}": value
        for index, name in enumerate(names)
        for key, value in layers.items()
        if key.startswith(f"layers.{index}.")
    }


@pytest.mark.usefixtures("blank_pictures")
def test_pictures_of_awkward_names_do_not_collide(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, renamed(["x" * 300, "x" * 299 + "y", "a/b", "a b", "overview", "A-B"]), "m " + "n" * 200 + ".safetensors")
    result = ssmspec("analyze", path, "--layer", "*", "--plot", tmp_path / "pictures")
    assert result.code == 0, result.err
    assert len(list((tmp_path / "pictures").iterdir())) == 7
    result = compare(path, path, "--plot", tmp_path / "ways")
    assert result.code == 0, result.err
    assert len(list((tmp_path / "ways").iterdir())) == 6


def test_plain_names_are_kept_in_file_names() -> None:
    assert safe_names(["layers.0", "layers.1"], taken=["overview"]) == ["layers.0", "layers.1"]
    assert len(safe_name("é" * 300).encode()) < 120


def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    for arguments in (["analyze", str(S4D)], ["analyze", str(S4D), "--json"], ["families"]):
        with Path("/dev/full").open("wb") as full:
            command = [sys.executable, "-m", "ssmspec", *arguments]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, timeout=HANG)
        assert done.returncode == 2
        assert done.stderr.decode() == "ssmspec: cannot write the output: No space left on device\n"


@pytest.mark.parametrize("arguments", ["families", "families --json", f"analyze {S4D}", f"analyze {S4D} --json", "--help"])
def test_a_reader_that_leaves_is_no_error(arguments: str) -> None:
    command = f"'{sys.executable}' -m ssmspec {arguments} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=HANG)
    assert done.stdout.strip() in {"0", "141"}
    assert done.stderr == ""


INTERRUPTED = """
import os, signal, sys, threading, time
from ssmspec.__main__ import main

end = time.process_time() + float(sys.argv.pop(1))

def interrupt():
    while time.process_time() < end:
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
main()
"""


LONG_WORK = ["analyze", "--points", "20000", "--backend", "reference"]


def long_to_analyze(folder: Path) -> Path:
    """A file of a minute's work."""
    return checkpoint(folder, s4d_tensors(layers=100, H=256, N=32))


@pytest.mark.parametrize("delay", [0.15, 1.5])
def test_an_interrupt_is_one_line(delay: float, tmp_path: Path) -> None:
    """After so many seconds of the process's own time, whatever else the machine does: while it is loaded, and while it computes."""
    command = [sys.executable, "-c", INTERRUPTED, str(delay), *LONG_WORK, str(long_to_analyze(tmp_path)), "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "ssmspec: interrupted\n")


def test_an_interrupt_ends_all_processes_of_an_analysis(tmp_path: Path) -> None:
    """As Ctrl-C does, which every process of the group receives."""
    command = [sys.executable, "-m", "ssmspec", *LONG_WORK, str(long_to_analyze(tmp_path)), "--threads", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        try:
            while process.poll() is None and len(children.read_text().split()) < 2:
                time.sleep(0.01)
            started = children.read_text().split()
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=HANG)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert (process.returncode, out, err) == (130, "", "ssmspec: interrupted\n")
    until = time.monotonic() + HANG
    while running := [number for number in started if is_running(number)]:
        assert time.monotonic() < until, running
        time.sleep(0.01)


def is_running(number: str) -> bool:
    """Whether there is such a process that has not ended; one that has may wait for its new parent to notice."""
    try:
        return Path("/proc", number, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("module", ["typer", "numpy"])
def test_an_interrupt_within_code_in_a_string_gives_the_same_exit_code(module: str, tmp_path: Path) -> None:
    """While the program is loaded, and while a command loads what it needs: as when a dataclass is being made."""
    (tmp_path / f"{module}.py").write_text('exec("import signal; signal.raise_signal(signal.SIGINT)")')
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "ssmspec", "analyze", str(S4D)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=HANG)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "ssmspec: interrupted\n")


def test_usage_errors_keep_their_text_and_code() -> None:
    result = ssmspec("analyze", "--nonsense")
    assert result.code == 2
    assert "Usage: " in result.err
    assert "No such option: --nonsense" in result.err
    assert ssmspec("--version").code == 0
    assert ssmspec("analyze", "--help").code == 0


def test_names_that_are_not_utf8_or_not_ascii_reach_every_output(tmp_path: Path) -> None:
    odd = checkpoint(tmp_path, s4d_tensors()).rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xff\xc3\xa9.safetensors")))
    for typed in (ssmspec, partial(process, PYTHONIOENCODING="ascii")):
        assert "m\\udcff" in typed("analyze", odd).out
        document = json.loads(typed("analyze", odd, "--json").out)
        assert document["checkpoint"]["path"] == str(odd)
    assert ssmspec("analyze", odd, "--csv", tmp_path / "t.csv").code == 0
    assert "m\\udcffé" in (tmp_path / "t.csv").read_text(encoding="utf-8")


def test_control_characters_in_names_are_shown_as_escapes(tmp_path: Path) -> None:
    tensors = renamed(["a\x1b[31m\u202e"]) | {"z\x1b]0;t\x07": np.zeros(2, np.float32)}
    path = checkpoint(tmp_path, tensors, "m\x1b[2J.safetensors")
    results = [ssmspec(*words, path) for words in (("analyze",), ("inspect",), ("check",), ("analyze", "--layer", "no"))]
    for result in (*results, compare(path, path)):
        assert result.out + result.err
        assert not {"\x1b", "\x07", "\u202e"} & set(result.out + result.err)
    assert printable("a\x1bé\n") == "a\\x1bé\\n"


def test_settings_that_json_cannot_hold_become_words(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "config.json").write_text('{"a": Infinity, "b": NaN, "c": 1.5}')
    assert json.loads(ssmspec("inspect", folder, "--json").out)["config"] == {"a": "inf", "b": "nan", "c": 1.5}


@pytest.mark.parametrize("rate", ["1e-310", "1e300", "inf", "nan", "0"])
def test_sample_rates_that_leave_the_range_of_numbers_are_refused(rate: str) -> None:
    for arguments in (("analyze", S4D, "--json"), ("plot", "heatmap", S4D, "-o", "/dev/null.png")):
        result = ssmspec(*arguments, "--sample-rate", rate)
        assert result.code == 2
        assert "not a valid sample rate" in result.err


def _fifo(path: Path) -> None:
    os.mkfifo(path)


ARRAYS: dict[str, tuple[Callable[[Path], object], str]] = {
    "fifo": (_fifo, "not a regular file"),
    "folder": (Path.mkdir, "not a regular file"),
    "junk": (lambda path: path.write_bytes(b"junk, no array"), "not a NumPy file"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps([1])), "not a NumPy file"),
    "complex": (lambda path: np.save(path, np.ones(3) * 1j), "complex128"),
    "text": (lambda path: np.save(path, np.array(["a"])), "expected real numbers"),
    "missing": (lambda path: None, "no such file"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_files_that_hold_no_real_numbers_are_one_line(kind: str, tmp_path: Path) -> None:
    make, words = ARRAYS[kind]
    path = tmp_path / "x.npy"
    make(path)
    for arguments in (
        ("response", S4D, "--layer", "0", "--theta", path, "-o", tmp_path / "h.npz"),
        ("analyze", "mamba1_trained.safetensors", "--operating-point", f"B={path}"),
    ):
        result = ssmspec(*arguments)
        assert_refused(result, words)
        assert "allow_pickle" not in result.err


def test_a_calibration_that_is_a_pipe_or_complex_is_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.npz")
    assert_refused(ssmspec("analyze", "mamba1_trained.safetensors", "--calibration", tmp_path / "fifo.npz"), "not a regular file")
    np.savez(tmp_path / "c.npz", delta=np.full(4, 1j))
    assert_refused(ssmspec("analyze", "mamba1_trained.safetensors", "--calibration", tmp_path / "c.npz"), "complex128")


def test_theta_in_float32_reaches_pi(tmp_path: Path) -> None:
    path = tmp_path / "theta.npy"
    np.save(path, np.array([-np.pi, 0, np.pi], np.float32))
    values = frequency_grid(np.ones((1, 1)), "theta", 2, path).values
    np.testing.assert_array_equal(values, [-np.pi, 0, np.pi])
    np.save(path, np.array([3.15]))
    with pytest.raises(SsmspecError, match="Nyquist"):
        frequency_grid(np.ones((1, 1)), "theta", 2, path)
    assert read_numbers(path).dtype == np.float64


@pytest.mark.slow
def test_a_full_disk_under_the_cache_of_compiled_code_does_no_harm(tmp_path: Path) -> None:
    command = f"ulimit -f 1; exec '{sys.executable}' -m ssmspec analyze '{S4D}' --backend cpu --json"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}  # or bytecode is cut off, too
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, env=environment, timeout=HANG)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["backend"] == "cpu"
    assert list(tmp_path.glob("*.code")) == []  # something was compiled for it, and could not be kept


def test_out_of_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda standalone_mode: np.empty(1 << 57), debug=False) == 2
    message = capsys.readouterr().err
    assert message.startswith("ssmspec: out of memory (")
    assert message.count("\n") == 1
