"""Reading the user's data: every format, every layout, and one line for every mistake."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from ssmspec.errors import SsmspecError
from ssmspec.tuning.spectra import signal_files, signals
from ssmspec.tuning.spectra.signals import as_signals, read_signals


@pytest.fixture
def samples(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(5, 40, 3))


@pytest.mark.parametrize(
    ("layout", "shape"), [("BLC", (5, 40, 3)), ("BCL", (5, 3, 40)), ("LBC", (40, 5, 3)), ("CBL", (3, 5, 40)), ("LCB", (40, 3, 5))]
)
def test_layout_names_the_axes(samples: np.ndarray, layout: str, shape: tuple[int, ...]) -> None:
    given = samples.transpose(["BLC".index(letter) for letter in layout])
    assert given.shape == shape
    result = as_signals(given, layout=layout)
    np.testing.assert_array_equal(result.values, samples)
    assert result.assumptions == ()


@pytest.mark.parametrize(
    ("shape", "expected", "said"),
    [
        ((40,), (1, 40, 1), ()),
        ((5, 40), (5, 40, 1), ("shape (5, 40) read as 5 sequences, 40 samples (layout 'BL')",)),
        ((5, 40, 3), (5, 40, 3), ("shape (5, 40, 3) read as 5 sequences, 40 samples, 3 channels (layout 'BLC')",)),
    ],
)
def test_axes_without_a_layout_follow_the_rule_and_say_so(
    rng: np.random.Generator, shape: tuple[int, ...], expected: tuple[int, ...], said: tuple[str, ...]
) -> None:
    result = as_signals(rng.normal(size=shape))
    assert result.values.shape == expected
    assert result.assumptions == said


def test_npy_is_mapped_not_read(tmp_path: Path, samples: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", samples.astype(np.float32))
    result = read_signals(tmp_path / "a.npy")
    assert isinstance(result.values, np.memmap)
    np.testing.assert_array_equal(result.values, samples.astype(np.float32))
    assert (result.batch, result.length, result.channels, result.sample_rate) == (5, 40, 3, None)


def test_npz_takes_the_only_array_or_x_or_the_named_one(tmp_path: Path, samples: np.ndarray) -> None:
    np.savez(tmp_path / "one.npz", anything=samples)
    np.savez_compressed(tmp_path / "two.npz", x=samples, y=-samples)
    assert read_signals(tmp_path / "one.npz").assumptions[0].startswith("shape")
    chosen = read_signals(tmp_path / "two.npz")
    np.testing.assert_array_equal(chosen.values, samples)
    assert "array x; 1 other ignored" in chosen.assumptions
    np.testing.assert_array_equal(read_signals(f"{tmp_path / 'two.npz'}:y").values, -samples)
    np.testing.assert_array_equal(read_signals(tmp_path / "two.npz", name="y").values, -samples)


@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f4", "f8"])
def test_wav_of_every_sample_type(tmp_path: Path, rng: np.random.Generator, kind: str) -> None:
    sound = (rng.normal(size=(50, 2)) * 20 + 100).astype(kind)
    wavfile.write(tmp_path / "a.wav", 16000, sound)
    result = read_signals(tmp_path / "a.wav")
    np.testing.assert_array_equal(result.values[0], sound)
    assert result.sample_rate == 16000
    assert "50 samples, 2 channels" in result.assumptions[0]


def test_wav_of_24_bits(tmp_path: Path, rng: np.random.Generator) -> None:
    sound = rng.integers(-(2**23), 2**23, size=64)
    data = b"".join(int(value).to_bytes(3, "little", signed=True) for value in sound)
    header = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 24000, 3, 24)
    (tmp_path / "a.wav").write_bytes(header + b"data" + struct.pack("<I", len(data)) + data)
    np.testing.assert_array_equal(read_signals(tmp_path / "a.wav").values[0, :, 0] // 256, sound)


@pytest.mark.parametrize(
    ("name", "sign", "header"),
    [("a.csv", ",", ""), ("a.csv", ",", '"left","right"\n'), ("a.csv", ";", "left;right\n"), ("a.tsv", "\t", ""), ("a.txt", " ", "")],
)
def test_tables_have_channels_in_columns(tmp_path: Path, rng: np.random.Generator, name: str, sign: str, header: str) -> None:
    values = rng.normal(size=(30, 2)).round(6)
    rows = "\n".join(sign.join(f"{cell:.6f}" for cell in row) for row in values)
    (tmp_path / name).write_text("\ufeff" + header + rows + "\n", encoding="utf-8")
    result = read_signals(tmp_path / name)
    np.testing.assert_allclose(result.values[0], values, atol=1e-9)
    assert ("first line read as column names" in result.assumptions) == bool(header)


def test_a_column_is_chosen_by_name_and_a_time_axis_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "a.csv"
    values = rng.normal(size=30)
    path.write_text("time,speed\n" + "\n".join(f"{0.1 * row:.3f},{value:.6f}" for row, value in enumerate(values)))
    with pytest.raises(SsmspecError, match=r"column 'time' rises evenly like a time axis.*a\.csv:speed"):
        read_signals(path)
    np.testing.assert_allclose(read_signals(f"{path}:speed").values[0, :, 0], values, atol=1e-6)
    with pytest.raises(SsmspecError, match="no column 'sped'; it has time, speed"):
        read_signals(path, name="sped")


def test_an_input_and_its_target_keep_the_same_part_of_too_many_samples(monkeypatch: pytest.MonkeyPatch, samples: np.ndarray) -> None:
    monkeypatch.setattr(signals, "MOST_SAMPLES", 100)
    result, target = as_signals(samples), as_signals(samples[:, :, :1])
    np.testing.assert_array_equal(result.values, samples[::2])
    np.testing.assert_array_equal(target.values, samples[::2, :, :1])
    assert "3 of 5 sequences used, evenly spaced" in result.assumptions
    monkeypatch.setattr(signals, "MOST_SAMPLES", 30)
    assert as_signals(samples).values.shape == (1, 30, 3)


def test_integers_are_named_as_a_risk_and_bytes_are_not(tmp_path: Path, rng: np.random.Generator) -> None:
    for kind, warned in (("u1", False), ("i8", True)):
        np.save(tmp_path / "a.npy", rng.integers(0, 200, size=(4, 40)).astype(kind))
        assert any("tokens" in said for said in read_signals(tmp_path / "a.npy").assumptions) == warned


BAD_VALUES: list[tuple[Callable[[], object], str]] = [
    (lambda: np.full(40, 2.0), "all values are 2, and a constant has no spectrum"),
    (lambda: np.where(np.arange(40) == 7, np.nan, np.arange(40.0)), "1 NaN or infinite values, starting from sequence 0, sample 0"),
    (lambda: np.exp(1j * np.arange(40)), "values of type complex128; expected real numbers"),
    (lambda: np.array(["a"] * 40), "values of type <U1; expected real numbers"),
    (lambda: np.arange(3.0), r"sequences of 3 samples in shape \(3,\); expected at least 16 samples"),
    (lambda: np.random.default_rng(0).normal(size=(400, 2)), "if 400 is the number of samples, give a layout other than 'BL'"),
    (lambda: np.zeros((0, 40)), "has no values"),
    (lambda: np.float64(3), r"an array of shape \(\); expected \(L,\)"),
    (lambda: np.zeros((8, 3, 28, 28)), r"flatten images first, x.reshape\(len\(x\), -1\)"),
    (lambda: np.linspace(-1e200, 1e200, 40), "so their squares overflow"),
]


@pytest.mark.parametrize(("make", "message"), BAD_VALUES)
def test_bad_values_are_one_line(tmp_path: Path, make: Callable[[], np.ndarray], message: str) -> None:
    np.save(tmp_path / "a.npy", make())
    with pytest.raises(SsmspecError, match=message) as caught:
        read_signals(tmp_path / "a.npy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", ["XL", "BC", "LL", ""])
def test_layouts_that_mean_nothing_are_refused(samples: np.ndarray, layout: str) -> None:
    with pytest.raises(SsmspecError, match="is unknown; expected the letters") if layout else pytest.raises(SsmspecError, match="flatten"):
        as_signals(samples if layout else samples[None], layout=layout)


def test_layout_of_another_number_of_axes_is_refused(samples: np.ndarray) -> None:
    with pytest.raises(SsmspecError, match=r"shape \(5, 40, 3\) has 3 axes, but layout 'BL' has 2"):
        as_signals(samples, layout="BL")


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    values = np.random.default_rng(0).normal(size=(4, 400))
    np.save(folder / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    np.save(folder / "whole.npy", values)
    (folder / "cut.npy").write_bytes((folder / "whole.npy").read_bytes()[:-100])
    (folder / "text.npy").write_text("1 2 3")
    np.savez(folder / "many.npz", a=values, b=values)
    np.savez(folder / "none.npz")
    np.savez(folder / "whole.npz", x=values)
    (folder / "cut.npz").write_bytes((folder / "whole.npz").read_bytes()[:3000])
    wavfile.write(folder / "whole.wav", 8000, np.arange(1000, dtype=np.int16))
    (folder / "cut.wav").write_bytes((folder / "whole.wav").read_bytes()[:500])
    (folder / "noise.wav").write_bytes(bytes(range(256)) * 4)
    (folder / "ragged.csv").write_text("1,2\n3,4\n5\n" * 10)
    (folder / "words.csv").write_text("a,b\n" + "1,x\n" * 20)
    (folder / "empty.csv").write_text("\n")
    (folder / "header.csv").write_text("a,b,c\n" + "1,2\n" * 20)
    (folder / "latin.csv").write_bytes(b"\xff\xfe1,2\n" * 20)
    (folder / "folder.npy").mkdir()
    (folder / "data.mat").write_bytes(b"x")
    (folder / "bare").write_bytes(b"x")
    names = {
        "objects.npy": "Python objects",
        "cut.npy": "cannot be read as .npy",
        "text.npy": "not a .npy file",
        "many.npz": r"2 arrays \(a, b\); choose one: many.npz:a",
        "none.npz": "no arrays",
        "cut.npz": "cannot be read as .npz",
        "cut.wav": "truncated|cannot be read as .wav",
        "noise.wav": "cannot be read as .wav",
        "ragged.csv": "cannot be read as .csv",
        "words.csv": "cannot be read as .csv",
        "empty.csv": "no lines",
        "header.csv": "3 names in the header, but 2 columns",
        "latin.csv": "cannot be read as .csv",
        "folder.npy": "not a regular file",
        "absent.npy": "no such file",
        "data.mat": "format '.mat' is unknown; choose one of .npy, .npz",
        "bare": "format 'without suffix' is unknown",
    }
    return {name: (folder / name, message) for name, message in names.items()}


def test_files_that_cannot_be_read_are_one_line_each(tmp_path: Path) -> None:
    for path, message in bad_files(tmp_path).values():
        with pytest.raises(SsmspecError, match=message) as caught:
            read_signals(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_names_where_there_is_nothing_to_name_are_refused(tmp_path: Path, samples: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", samples)
    np.savez(tmp_path / "a.npz", x=samples)
    with pytest.raises(SsmspecError, match="has only one array, but 'x' was requested"):
        read_signals(f"{tmp_path / 'a.npy'}:x")
    with pytest.raises(SsmspecError, match="no array 'z'; it has x"):
        read_signals(f"{tmp_path / 'a.npz'}:z")


def test_what_would_not_fit_in_memory_is_refused_before_it_is_read(
    tmp_path: Path, samples: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((1000, 100)))
    (tmp_path / "a.csv").write_text("1\n2\n" * 500)
    monkeypatch.setattr(signal_files, "MOST_BYTES", 1000)
    for name in ("a.npz", "a.csv"):
        with pytest.raises(SsmspecError, match=r"expected at most .* GiB; save it as \.npy, which is memory-mapped"):
            read_signals(tmp_path / name)
