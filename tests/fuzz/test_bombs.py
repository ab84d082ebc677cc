"""Small files that expand to something huge, and valid but absurd containers: refused in one line, quickly, with little memory."""

import io
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring_ascii as encode_basestring
from pathlib import Path

import msgpack
import numpy as np
import pytest
from contents import safetensors
from guard import assert_clean, command
from locations import SAMPLES

S4D = SAMPLES / "s4d_trained.safetensors"


def header(text: bytes, data: bytes = b"") -> bytes:
    """A safetensors file with any header."""
    return struct.pack("<Q", len(text)) + text + data


def entries(names: list[str], shape: str = "[1]", dtype: str = "F32") -> bytes:
    """A safetensors file of single numbers."""
    fields = (
        f'{encode_basestring(name)}:{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{4 * i},{4 * i + 4}]}}'
        for i, name in enumerate(names)
    )
    return header(("{" + ",".join(fields) + "}").encode(), bytes(4 * len(names)))


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def zipped(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def directory(count: int) -> bytes:
    """A zip file of one member that is `count` times in the directory, under different names."""
    data = zipped({"0000000.npy": npy(np.zeros(1, np.float32))})
    start = data.index(b"PK\x01\x02")
    entry, end = data[start : data.index(b"PK\x05\x06")], data.index(b"PK\x05\x06")
    entries = b"".join(entry.replace(b"0000000", b"%07d" % i) for i in range(count))
    record = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(entries), start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, start + len(entries), 1)
    return data[:start] + entries + record + locator + data[end : end + 8] + b"\xff" * 12 + data[end + 20 :]


def expanded(H: int, N: int) -> bytes:
    """An S4D layer of H copies that all are one stored number: torch's expand."""
    import torch

    shapes = {"kernel.log_dt": (H,), "kernel.C": (H, N, 2), "kernel.log_A_real": (H, N), "kernel.A_imag": (H, N), "D": (H,)}
    buffer = io.BytesIO()
    torch.save({f"l.{name}": torch.ones((1,) * len(shape)).expand(shape) for name, shape in shapes.items()}, buffer)
    return buffer.getvalue()


def laughs(levels: int, leaf: object) -> object:
    for _ in range(levels):
        leaf = [leaf] * 10
    return leaf


def cyclic() -> object:
    content: dict[str, object] = {"x": np.ones(2)}
    content["self"], content["list"] = content, [content, [content]]
    return content


def tuple_of_shared_settings(count: int) -> bytes:
    """({}, d, d, ...): the plain dicts of a tuple are its settings."""
    settings = {str(number): [number] * 10 for number in range(1000)}
    return pickle.dumps(({"x": np.ones(2)}, *[settings] * count), 4)


def many(count: int, *names: str) -> bytes:
    return entries([f"l{number // len(names)}.{names[number % len(names)]}" for number in range(count)])


def opened_up(pieces: int, piece: bytes, start: bytes = b"\x80\x02(", end: bytes = b"t.") -> bytes:
    return start + piece * pieces + end


Make = Callable[[], bytes]
REFUSED: Mapping[str, tuple[str, Make, str]] = {
    "nested header": ("x.safetensors", lambda: header(b"[" * 3_000_000), "nested too deeply"),
    "header of lists": ("x.safetensors", lambda: header(b'{"a":[' + b"[]," * 3_000_000 + b"[]]}"), "values, expected at most"),
    "header of a long text": ("x.safetensors", lambda: header(b'{"a":"' + b"a" * 90_000_000 + "𝕊".encode() + b'"}'), "needs dtype"),
    "long name": ("x.safetensors", lambda: entries(["a" * 1_000_000]), "a name has 1000000 characters"),
    "deep name": ("x.safetensors", lambda: entries(["a." * 900 + "D"]), "a name has 900 dots"),
    "name twice": (
        "x.safetensors",
        lambda: header(b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{}}'),
        "a name occurs twice",
    ),
    "name not in UTF-8": ("x.safetensors", lambda: header(b'{"\xff":{}}'), "not valid JSON"),
    "shape that overflows": ("x.safetensors", lambda: entries(["a"], "[4294967296,4294967296]"), "need 73786976294838206464"),
    "shape of many digits": ("x.safetensors", lambda: entries(["a"], f"[{'9' * 4000}]"), "x.safetensors"),
    "shape of too many digits": ("x.safetensors", lambda: entries(["a"], f"[{'9' * 5000}]"), "not valid JSON"),
    "shape that is negative": ("x.safetensors", lambda: entries(["a"], "[-1,-1]"), "expected at most 32 non-negative integers"),
    "shape of booleans": ("x.safetensors", lambda: entries(["a"], "[true]"), "non-negative integers"),
    "shape of floats": ("x.safetensors", lambda: entries(["a"], "[1.0]"), "non-negative integers"),
    "dtype that lies": ("x.safetensors", lambda: entries(["a"], dtype="F64"), "has 4 bytes, but shape [1] and dtype F64 need 8"),
    "100 001 tensors": ("x.safetensors", lambda: many(100_001, "w"), "100001 tensors in one file"),
    "10^6 tensors": ("x.safetensors", lambda: many(1_000_000, "w"), "values, expected at most"),
    "50 001 arrays": ("x.npz", lambda: directory(50_001), "50001 members in one file"),
    "10^6 members": ("x.npz", lambda: directory(1_000_000), "a directory of"),
    "deflated bomb": ("x.npz", lambda: zipped({"a.npy": npy(np.zeros(70 << 18))}, zipfile.ZIP_DEFLATED), "zip bomb"),
    "deflated pickle": ("x.pt", lambda: zipped({"a/data.pkl": b"\x80\x02" + b"]0" * (33 << 20)}, zipfile.ZIP_DEFLATED), "zip bomb"),
    "npy header without end": ("x.npz", lambda: zipped({"a.npy": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"}), "no valid .npy header"),
    "leaf without end": ("x.eqx", lambda: b"{}\n" + npy(np.zeros((1, 1)))[:-8], "cannot be read"),
    "text in a pickle": (
        "x.pkl",
        lambda: b"\x80\x02X" + struct.pack("<I", 70 << 20) + b"a" * (70 << 20) + b".",
        "a text of 73400320 bytes",
    ),
    "lists that share parts": ("x.pkl", lambda: pickle.dumps({"a": laughs(12, np.ones(2))}, 4), "more than"),
    "settings without end": ("x.pkl", lambda: tuple_of_shared_settings(100_000), ""),
    "nested pickle": (
        "x.pkl",
        lambda: b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        "containers are nested more than 200 levels deep",
    ),
    "nested msgpack": ("x.msgpack", lambda: b"\x81\xa1a" + b"\x91" * 100_000 + b"\x01", "more than 200 nesting levels"),
    "map without end": ("x.msgpack", lambda: b"\xdf\xff\xff\xff\xff" + b"\x01\x01" * 100, "truncated"),
    "array of 2^64": (
        "x.msgpack",
        lambda: msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(([2**63, 2], "float32", b"1234")))}),
        "an array of shape",
    ),
    "expanded copies": ("x.pt", lambda: expanded(8_000_000, 1), "8000000 copies of 1 modes; expected at most"),
    "expanded modes": ("x.pt", lambda: expanded(1, 8_000_000), "1 copies of 8000000 modes; expected at most"),
    "expanded beyond a tensor": ("x.pt", lambda: expanded(1, 1 << 40), "stored bytes"),
}
MODULUS = sys.hash_info.modulus


def keys(write: Callable[[int], bytes], count: int = 30_000) -> bytes:
    """A pickle of a dict with an array and many keys that all have one hash."""
    array = pickle.dumps(np.ones(2), 4)[2:-1]
    return b"\x80\x04}(X\x01\x00\x00\x00a" + array + b"".join(write(number) + b"K\x01" for number in range(1, count)) + b"u."


def large(number: int) -> bytes:
    """LONG1."""
    data = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def colliding(real: int, imag: int) -> bytes:
    """complex(real, imag): its hash is that of the real part plus 1000003 times that of the other."""
    numbers = b"".join(b"G" + struct.pack(">d", float(part)) for part in (real, imag))
    return b"c__builtin__\ncomplex\n(" + numbers + b"tR"


COLLIDING: Mapping[str, Make] = {
    "integers": lambda: keys(lambda number: large(number * MODULUS)),
    "integers in a tuple": lambda: keys(lambda number: large(number * MODULUS) + b"\x85"),
    "complex numbers": lambda: keys(lambda number: colliding(-sys.hash_info.imag * number, number)),
    "memo": lambda: b"(" + b"".join(b"I1\np%d\n0" % (number * MODULUS) for number in range(30_000)) + b"l.",
}


@pytest.mark.parametrize("kind", COLLIDING)
def test_keys_that_collide_take_no_longer_than_others(kind: str, tmp_path: Path) -> None:
    """Work is counted, not timed: comparisons of keys, of which 30 000 that collide make 450 million."""
    from ssmspec.checkpoint import open_checkpoint
    from ssmspec.errors import CheckpointError

    path = tmp_path / "x.pkl"
    path.write_bytes(COLLIDING[kind]())
    assert_clean(command(tmp_path, "inspect", path), path.name)  # within the limits that hold for every file
    try:
        found = open_checkpoint(path)
    except CheckpointError:
        assert kind == "memo"
    else:
        assert list(found.tensors) == ["a"]


QUIETLY = ("settings without end",)  # it is read: what it unfolds to is never made
HEAVY = ("header of a long text", "100 001 tensors", "expanded copies", "expanded modes")  # a second or two each


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.nightly) if kind in HEAVY else kind for kind in REFUSED])
def test_bombs_are_one_line(kind: str, tmp_path: Path) -> None:
    name, make, words = REFUSED[kind]
    path = tmp_path / name
    path.write_bytes(make())
    for line in (("check",), ("analyze", "--points", "16"), ("retune", "--step-scale", "2", "-o", tmp_path / f"y{path.suffix}")):
        outcome = command(tmp_path, line[0], path, *line[1:])
        assert_clean(outcome, name)
        assert outcome.code == (3 if kind in QUIETLY else 2), outcome
        assert words in outcome.err
        assert len(outcome.err) < 1500
    assert_clean(command(tmp_path, "inspect", path), name)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    path.unlink()


# --- what takes seconds to make or to refuse ---

SLOW: Mapping[str, tuple[str, Make, str]] = {
    "operations without end": ("x.pkl", lambda: opened_up(20_000_000, b"]0"), "builds too many objects"),
    "marks without end": ("x.pkl", lambda: opened_up(20_000_000, b"(1"), "builds too many objects"),
    "memo without end": ("x.pkl", lambda: opened_up(20_000_000, b"\x94", b"\x80\x04]", b"."), "builds too many objects"),
    "stack without end": ("x.pkl", lambda: opened_up(20_000_000, b"}"), "builds too many objects"),
    "calls without end": ("x.pkl", lambda: opened_up(5_000_000, b"h\x00)R", b"\x80\x02(cx\ny\nq\x00"), "builds too many objects"),
    "values without end": ("x.msgpack", lambda: b"\x81\xa1a\xdd" + struct.pack(">I", 5_000_000) + b"\x80" * 5_000_000, "2000000 values"),
    "texts without end": ("x.msgpack", lambda: b"\x81\xa1a\xdc\xff\xff" + (b"\xda\x10\x00" + b"a" * 4096) * 65_535, "bytes of text"),
    "50 001 leaves": ("x.eqx", lambda: b"{}\n" + npy(np.zeros(1, np.float32)) * 50_001, "more than 50000 arrays"),
}
READ: Mapping[str, tuple[str, Make]] = {
    "many other tensors": ("x.safetensors", lambda: entries([f"l.{number}.x{number}" for number in range(99_000)])),
    "many halves of layers": ("x.safetensors", lambda: many(99_000, "A_log", "D", "dt_bias")),
    "many near misses": ("x.safetensors", lambda: many(99_000, "nu_log", "theta_log", "gamma_log")),
    "many kernels": ("x.safetensors", lambda: many(99_000, "kernel.log_dt", "kernel.C")),
    "many deep names": (
        "x.safetensors",
        lambda: entries(["k." * (i % 190) + f"l{i // 4}." + ("A_real", "C")[i % 2] for i in range(40_000)]),
    ),
    "many arrays": ("x.npz", lambda: directory(49_000)),
}


@pytest.mark.nightly
@pytest.mark.parametrize("kind", SLOW)
def test_long_bombs_are_one_line(kind: str, tmp_path: Path) -> None:
    name, make, words = SLOW[kind]
    (tmp_path / name).write_bytes(make())
    outcome = command(tmp_path, "inspect", tmp_path / name)
    assert_clean(outcome, name)
    assert outcome.code == 2
    assert words in outcome.err


@pytest.mark.nightly
@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize("line", [("inspect",), ("inspect", "--json"), ("check",)], ids=" ".join)
def test_the_most_tensors_are_read_in_seconds(kind: str, line: tuple[str, ...], tmp_path: Path) -> None:
    name, make = READ[kind]
    (tmp_path / name).write_bytes(make())
    outcome = command(tmp_path, line[0], tmp_path / name, *line[1:])
    assert_clean(outcome, name)
    assert outcome.code == (0 if line[0] == "inspect" else 3)


# --- the same for the small files ---


@pytest.mark.parametrize(
    "text",
    [
        "a." * 100_000 + "a = 1",
        "[" + ".".join("a" * 100_000) + "]",
        "a = " + "[" * 100_000,
        "a = " + "{a = " * 100_000,
        "a = " + "9" * 100_000,
        "#" * 2_000_000,
    ],
    ids=["dotted key", "dotted table", "nested lists", "nested tables", "long number", "long comment"],
)
def test_toml_that_would_take_minutes_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(text)
    for line in (("inspect", S4D, "--map"), ("check", S4D, "--rules")):
        outcome = command(tmp_path, *line, tmp_path / "x.toml")
        assert outcome.code == 2
        assert_clean(outcome, "x.toml")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "{" + '"a":[[]],' * 3_000_000 + '"b":1}', "9" * 10_000, "\xff" * 99])
def test_settings_and_sidecars_that_unfold_are_left_out_and_said(text: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(S4D.read_bytes())
    (folder / "config.json").write_text(text, "latin-1")
    (tmp_path / "model.ssmspec.json").write_text(text, "latin-1")
    outcome = command(tmp_path, "analyze", folder, "--points", "16")
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert "config.json ignored" in outcome.out
    assert "model.ssmspec.json cannot be read and was ignored" in outcome.out


def test_cycles_and_shared_parts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(cyclic(), 4))
    assert "x  " in command(tmp_path, "inspect", path).out
    path.write_bytes(pickle.dumps({"a": laughs(12, [1]), "x": np.ones(2)}, 4))
    assert "1 entry is not a tensor: a" in command(tmp_path, "inspect", path).out


@pytest.mark.parametrize("name", ["\ud800", "\x1b[2J\x07", "a\nssmspec: b", "\u202eabc", "[bold]x[/bold]", "é" * 99])
def test_names_of_any_characters_are_shown_as_text(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors({f"{name}.w": np.ones(3, np.float32), name: np.ones(2, np.float32)}))
    for line in (("inspect",), ("inspect", "--json"), ("check",)):
        outcome = command(tmp_path, line[0], path, *line[1:])
        assert_clean(outcome, path.name)
        assert not {"\x1b", "\x07"} & set(outcome.out)
        assert "--json" in line or "\u202e" not in outcome.out
