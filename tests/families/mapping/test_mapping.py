"""Layouts that a mapping file describes: read as the built-in readers do, written back bit for bit, with every mistake in one line."""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from locations import SAMPLES
from program import ssmspec
from safetensors.numpy import save_file

from ssmspec.checkpoint import open_checkpoint
from ssmspec.errors import LayerError, SsmspecError
from ssmspec.families import FAMILIES, LayerTensors, ReadOptions, detect, known_families
from ssmspec.families.assumption import check_assumptions
from ssmspec.families.layers import load_system
from ssmspec.families.mapping.draft import draft_mapping
from ssmspec.families.mapping.mapping_file import load_mapping, parse_mapping
from ssmspec.families.mapping.transform import FUNCTIONS, parse_transform
from ssmspec.families.template import Family
from ssmspec.systems.response import impulse_response
from ssmspec.systems.statespace import StateSpace

Tensors = dict[str, np.ndarray]
ARRAYS = ("poles", "B", "C", "D", "step")
S4D = SAMPLES / "s4d_trained.safetensors"


@dataclass(frozen=True)
class Stored:
    values: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def dtype(self) -> str:
        return str(self.values.dtype)

    def read(self, rows: slice | None = None) -> np.ndarray:
        return self.values if rows is None else self.values[rows]


def stored(tensors: Mapping[str, np.ndarray]) -> dict[str, Stored]:
    return {name: Stored(values) for name, values in tensors.items()}


def layers_of(tensors: Tensors, families: tuple[Family, ...] = ()) -> tuple[LayerTensors, ...]:
    return detect(stored(tensors), known_families(ReadOptions(mapping=families)).values()).layers


def read(tensors: Tensors, families: tuple[Family, ...] = ()) -> list[StateSpace]:
    known = known_families(ReadOptions(mapping=families))
    return [system for layer in layers_of(tensors, families) for system in known[layer.family].read(layer, ReadOptions())]


def written(tensors: Tensors, families: tuple[Family, ...], systems: list[StateSpace]) -> Tensors:
    result = dict(tensors)
    for layer, system in zip(layers_of(tensors, families), systems, strict=True):
        values = known_families(ReadOptions(mapping=families))[layer.family].write(layer, [system], ReadOptions())
        assert set(values) == set(layer.tensor_names)
        for role, array in values.items():
            name = layer.tensor_names[role]
            assert array.shape == tensors[name].shape, name
            result[name] = array.astype(tensors[name].dtype)
    return result


def assert_same(left: StateSpace, right: StateSpace) -> None:
    for name in ARRAYS:
        assert np.array_equal(getattr(left, name), getattr(right, name)), name
    assert (left.discretization, left.delay) == (right.discretization, right.delay)
    assert np.array_equal(impulse_response(left, 200), impulse_response(right, 200))


def single(values: np.ndarray) -> np.ndarray:
    return values.astype(np.complex64 if np.iscomplexobj(values) else np.float32)


def pairs(values: np.ndarray) -> np.ndarray:
    return single(np.stack([values.real, values.imag], axis=-1))


def noise(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


# --- layouts: tensors with their own names, the mapping that describes them, and the same layer with the names of a built-in family ---


@dataclass(frozen=True)
class Layout:
    mapping: str
    tensors: Tensors
    known: Tensors | None = None

    @property
    def families(self) -> tuple[Family, ...]:
        return parse_mapping(self.mapping, "mapping.toml")


S4D_MAP = """
[[layer]]
match = "blocks.*.ssm"
kind = "siso"
discretization = "zoh"
output = "2Re"
[layer.pole_real]
tensor = "lambda_re"
transform = "-exp"
axes = "N H"
[layer.pole_imag]
tensor = "lambda_im"
axes = "1 H N"
[layer.step]
tensor = "log_delta"
transform = "exp"
axes = "H 1"
[layer.C]
real = "c.real"
imag = "c.imag"
axes = "N H"
[layer.D]
tensor = "skip"
"""


def renamed_s4d() -> Layout:
    """The trained sample with 16 channels, of which 12 of the 16 modes are kept so that no axis can be confused."""
    known: Tensors = {}
    own: Tensors = {"norm.weight": np.ones(16, np.float32)}
    for name, tensor in open_checkpoint(S4D).tensors.items():
        if not name.startswith("s4_layers") or "output_linear" in name:
            continue
        values = tensor.read()
        kernel = name.split(".")[-1]
        if kernel in ("C", "A_imag", "log_A_real"):
            values = np.ascontiguousarray(values[:, :12])
        known[name] = values
        prefix = f"blocks.{name.split('.')[1]}.ssm."
        own |= {
            "log_A_real": lambda v, p=prefix: {p + "lambda_re": np.ascontiguousarray(v.T)},
            "A_imag": lambda v, p=prefix: {p + "lambda_im": v[None]},
            "log_dt": lambda v, p=prefix: {p + "log_delta": v[:, None]},
            "C": lambda v, p=prefix: {p + "c.real": v[..., 0].T.copy(), p + "c.imag": v[..., 1].T.copy()},
            "D": lambda v, p=prefix: {p + "skip": v},
        }[kernel](values)
    return Layout(S4D_MAP, own, known)


def own_s5(output: str = "2Re") -> Layout:
    rng = np.random.default_rng(1)
    H, P = 3, 5
    imag = np.pi * (np.arange(P) * rng.uniform(0.7, 1.3, P) + 0.2)
    real, B, C = -rng.uniform(0.4, 1.2, P), noise(rng, P, H), noise(rng, H, P)
    imag[0] *= -0.5
    if output == "Re":
        real, imag, B, C = np.tile(real, 2), np.concatenate([imag, -imag]), np.tile(B, (2, 1)), np.tile(C, 2)
        B += 0.1 * noise(rng, *B.shape)
    D, step = rng.standard_normal(H), np.log(rng.uniform(0.05, 0.3, len(real)))
    known = {"Lambda_re": real, "Lambda_im": imag, "log_step": step[:, None], "D": D}
    known = {f"seq.{name}": single(values) for name, values in known.items()} | {"seq.B": pairs(B), "seq.C": pairs(C)}
    stored_poles = single(real) + 1j * single(imag)
    own = {"m.eig": pairs(stored_poles), "m.b": single(B.T), "m.c": pairs(C), "m.ts": single(step)[:, None], "m.d": single(D)}
    mapping = f"""
        [[layer]]
        match = "m"
        kind = "mimo"
        discretization = "zoh"
        output = "{output}"
        pole = {{tensor = "eig"}}
        step = {{tensor = "ts", transform = "exp", axes = "N 1"}}
        B = {{tensor = "b", axes = "I N"}}
        C = {{tensor = "c"}}
        D = {{tensor = "d"}}
    """
    return Layout(mapping, {name: np.ascontiguousarray(values) for name, values in own.items()}, known)


def own_lru() -> Layout:
    rng = np.random.default_rng(2)
    N, I, O = 5, 2, 3
    radius, phase = rng.uniform(0.3, 0.98, N), rng.uniform(0.1, 3.0, N)
    phase[:2] = np.pi + 0.4, 2 * np.pi + 1.1
    values = {
        "nu_log": np.log(-np.log(radius)),
        "theta_log": np.log(phase),
        "gamma_log": np.log(np.sqrt(1 - radius**2)),
        "B": noise(rng, N, I),
        "C": noise(rng, O, N),
        "D": rng.standard_normal((O, I)),
    }
    known = {f"cell.{name}": single(array) for name, array in values.items()}
    names = {"nu_log": "decay", "theta_log": "angle", "gamma_log": "norm", "B": "win", "C": "wout", "D": "direct"}
    own = {f"rnn.{names[name]}": single(array) for name, array in values.items()}
    own["rnn.direct"] = np.ascontiguousarray(own["rnn.direct"].T)
    own["rnn.wout"] = own["rnn.wout"].conj()
    mapping = """
        [[layer]]
        match = "*"
        kind = "mimo"
        discretization = "direct"
        output = "Re"
        pole_abs = {tensor = "decay", transform = "exp(-exp)"}
        pole_phase = {tensor = "angle", transform = "exp"}
        B_scale = {tensor = "norm", transform = "exp"}
        B = {tensor = "win"}
        C = {tensor = "wout", transform = "conj"}
        D = {tensor = "direct", axes = "I O"}
    """
    return Layout(mapping, own, known)


def own_euler() -> Layout:
    """Real poles, one step and one pole row for all channels; pre-update; at the root of the file."""
    rng = np.random.default_rng(3)
    own = {
        "a": single(rng.uniform(-1, 1, 4)),
        "dt": np.float32(-2.5).reshape(()),
        "c": single(rng.standard_normal((4, 3))),
        "b": single(rng.standard_normal((1, 3, 4))),
    }
    mapping = """
        [[layer]]
        match = ""
        kind = "siso"
        discretization = "euler"
        output = "Re"
        delay = 1
        pole_real = {tensor = "a", transform = "-softplus", axes = "N", scale = 2}
        step = {tensor = "dt", transform = "exp", axes = ""}
        B = {tensor = "b", axes = "1 H N"}
        C = {tensor = "c", axes = "N H"}
    """
    return Layout(mapping, own)


LAYOUTS = {"s4d": renamed_s4d, "s5": own_s5, "s5-full": lambda: own_s5("Re"), "lru": own_lru, "euler": own_euler}


# --- reading ---


@pytest.mark.parametrize("name", ["s4d", "s5", "s5-full", "lru"])
def test_renamed_layer_is_read_as_the_built_in_reader_reads_it(name: str) -> None:
    layout = LAYOUTS[name]()
    for system, known in zip(read(layout.tensors, layout.families), read(layout.known), strict=True):
        assert_same(system, known)
        assert system.family == "mapped"


def test_euler_layer_is_its_recurrence() -> None:
    layout = own_euler()
    (system,) = read(layout.tensors, layout.families)
    tensors = {name: values.astype(float) for name, values in layout.tensors.items()}
    delta = np.exp(tensors["dt"])
    decay = np.exp(-2 * np.log1p(np.exp(tensors["a"])) * delta)
    state, samples = np.zeros((3, 4)), []
    for time in range(50):
        samples.append((tensors["c"].T * state).sum(axis=1))  # before the state is updated
        state = decay * state + delta * tensors["b"][0] * (time == 0)
    assert np.allclose(impulse_response(system, 50)[:, 0, 0], np.stack(samples, axis=-1), rtol=1e-12, atol=1e-15)
    assert not system.D.any()


def test_polar_poles_without_an_outer_exponential_are_modulus_times_phase() -> None:
    text = 'layer = [{match="", kind="mimo", discretization="direct", output="2Re", B={tensor="b"}, C={tensor="c"}, '
    text += 'pole_abs={tensor="r", transform="sigmoid"}, pole_phase={tensor="p", scale=3.0}}]'
    r, p = np.array([0.3, -1.0]), np.array([-0.2, 0.9])
    tensors = {"r": r, "p": p, "b": np.ones((2, 1)), "c": np.ones((1, 2))}
    (system,) = read(tensors, parse_mapping(text, "m"))
    assert np.allclose(system.poles[0], np.exp(3j * np.abs(p)) / (1 + np.exp(-r)), rtol=1e-15)


@pytest.mark.parametrize("form", ["pair", "complex dtype", "two tensors"])
def test_complex_numbers_are_read_in_every_form(form: str) -> None:
    values = single(noise(np.random.default_rng(4), 3, 2))
    tensors = {"a": -np.ones((3, 2), np.float32), "w": np.ones((3, 2), np.float32), "dt": np.ones(3, np.float32)}
    named = 'tensor = "c"'
    if form == "two tensors":
        tensors |= {"cr": values.real.copy(), "ci": values.imag.copy()}
        named = 'real = "cr", imag = "ci"'
    else:
        tensors["c"] = values if form == "complex dtype" else pairs(values)
    text = 'layer = [{match="", kind="siso", discretization="bilinear", output="2Re", pole_real={tensor="a"}, pole_imag={tensor="w"}, '
    (system,) = read(tensors, parse_mapping(text + f'step={{tensor="dt"}}, C={{{named}}}}}]', "m"))
    assert np.array_equal(system.C[:, 0], values.astype(complex))
    assert "B = 1" in system.assumptions[0]


def test_constant_step_is_that_of_every_copy() -> None:
    (family,) = parse_mapping(
        S4D_MAP.replace('[layer.step]\ntensor = "log_delta"\ntransform = "exp"\naxes = "H 1"', "").replace(
            'output = "2Re"', 'output = "2Re"\nstep = 0.25'
        ),
        "m",
    )
    (first, _) = read(renamed_s4d().tensors, (family,))
    assert np.array_equal(first.step, np.full((16, 1), 0.25))


def test_discretization_of_the_mapping_cannot_be_overruled() -> None:
    layout = own_s5()
    (layer,) = layers_of(layout.tensors, layout.families)
    with pytest.raises(LayerError, match="no layer of this file depends on it"):
        check_assumptions([layer], {"mapped": layout.families[0]} | FAMILIES, ReadOptions(assume={"discretization": "bilinear"}))


# --- detection ---


@pytest.mark.parametrize("name", FAMILIES)
def test_built_in_families_match_everywhere(name: str) -> None:
    assert FAMILIES[name].match is None


def test_mapping_claims_only_what_it_names_and_goes_first() -> None:
    layout = renamed_s4d()
    mapping = S4D_MAP.replace("blocks.*.ssm", "s4_layers.0").replace('"lambda_re"', '"kernel.log_A_real"').replace('"N H"', '"H N"')
    mapping = mapping.replace('"lambda_im"', '"kernel.A_imag"').replace('"1 H N"', '"H N"').replace('"log_delta"', '"kernel.log_dt"')
    mapping = mapping.replace('"H 1"', '"H"').replace('real = "c.real"\nimag = "c.imag"', 'tensor = "kernel.C"').replace("skip", "D")
    layers = layers_of(layout.known, parse_mapping(mapping, "m"))
    assert [(layer.name, layer.family) for layer in layers] == [("s4_layers.0", "mapped"), ("s4_layers.1", "s4d")]
    for system, known in zip(read(layout.known, parse_mapping(mapping, "m")), read(layout.known), strict=True):
        assert_same(system, known)


def test_several_tables_are_several_families() -> None:
    s5, lru = own_s5(), own_lru()
    families = parse_mapping(s5.mapping + lru.mapping, "m")
    assert [family.name for family in families] == ["mapped-1", "mapped-2"]
    systems = read(s5.tensors | lru.tensors, families)
    assert [(system.name, system.family) for system in systems] == [("m", "mapped-1"), ("rnn", "mapped-2")]


def test_incomplete_layer_beside_a_whole_one_is_a_near_miss() -> None:
    layout = renamed_s4d()
    tensors = layout.tensors
    del tensors["blocks.1.ssm.log_delta"]
    detection = detect(stored(tensors), known_families(ReadOptions(mapping=layout.families)).values())
    assert [layer.name for layer in detection.layers] == ["blocks.0.ssm"]
    assert [(miss.prefix, miss.family, miss.missing) for miss in detection.near_misses] == [("blocks.1.ssm", "mapped", ("log_delta",))]


# --- writing ---


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16], ids=["float32", "float64", "float16"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_writing_what_was_read_gives_the_stored_bits(name: str, dtype: type) -> None:
    layout = LAYOUTS[name]()
    pair = {np.float32: np.complex64, np.float64: np.complex128, np.float16: np.complex64}[dtype]
    tensors = {key: values.astype(pair if np.iscomplexobj(values) else dtype) for key, values in layout.tensors.items()}
    result = written(tensors, layout.families, read(tensors, layout.families))
    assert {key: values.tobytes() for key, values in result.items()} == {key: values.tobytes() for key, values in tensors.items()}


@pytest.mark.parametrize("name", LAYOUTS)
def test_reading_a_written_system_gives_that_system(name: str) -> None:
    """To rounding of float32: a few eps of it in the largest part."""
    layout, rng = LAYOUTS[name](), np.random.default_rng(5)
    wanted = []
    for system in read(layout.tensors, layout.families):
        if system.discretization == "direct":
            poles = np.abs(system.poles) ** 0.9 * np.exp(0.9j * np.angle(system.poles))
        else:
            poles = 0.9 * system.poles.real + 1.3j * system.poles.imag
        factor = rng.uniform(0.5, 2, system.C.shape) + (0 if name == "euler" else 1j * rng.normal(size=system.C.shape))
        step = system.step if system.discretization == "direct" else 1.1 * system.step
        wanted.append(replace(system, poles=poles, step=step, C=system.C * factor, D=0.7 * system.D))
    for system, expected in zip(read(written(layout.tensors, layout.families, wanted), layout.families), wanted, strict=True):
        for part in ARRAYS:
            actual, value = getattr(system, part), getattr(expected, part)
            assert np.abs(actual - value).max() <= 32 * np.finfo(np.float32).eps * np.abs(value).max(), part


def change(system: StateSpace, what: str) -> StateSpace:
    ramp = np.linspace(1, 2, system.copies)
    return {
        "uneven poles": lambda: replace(system, poles=system.poles * ramp[:, None]),
        "uneven step": lambda: replace(system, step=system.step * ramp[:, None]),
        "complex poles": lambda: replace(system, poles=system.poles + 0.1j),
        "growing poles": lambda: replace(system, poles=-system.poles),
        "complex C": lambda: replace(system, C=system.C * 1j),
        "skip": lambda: replace(system, D=system.D + 1),
    }[what]()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("uneven poles", "pole_real has one value for all H"),
        ("uneven step", "step has one value for all H"),
        ("complex poles", "pole_imag was changed"),
        ("growing poles", "a cannot hold the new values of pole_real"),
        ("complex C", "c holds real numbers"),
        ("skip", "D was changed"),
    ],
)
def test_change_that_the_tensors_cannot_hold_is_refused(what: str, words: str) -> None:
    layout = own_euler()
    (layer,) = layers_of(layout.tensors, layout.families)
    (system,) = read(layout.tensors, layout.families)
    with pytest.raises(LayerError, match=words):
        layout.families[0].write(layer, [change(system, what)], ReadOptions())


@pytest.mark.parametrize("text", [*(f"{sign}{name}" for name in FUNCTIONS for sign in ("", "-")), "exp(-exp)", "-softplus(-none)"])
def test_transform_is_inverted(text: str) -> None:
    transform = parse_transform(text, 0.5)
    x = np.linspace(0.1, 0.9, 9)
    assert np.allclose(transform.invert(transform.apply(x)), x, rtol=1e-13, atol=0)


def test_transforms_nest_as_written() -> None:
    x = np.linspace(-1, 1, 5)
    assert np.array_equal(parse_transform(" exp( -exp ) ").apply(x), np.exp(-np.exp(x)))
    assert np.array_equal(parse_transform("-none", 2.0).apply(x), -2 * x)


# --- mistakes ---

GOOD = """[[layer]]
match = "blocks.*.ssm"
kind = "siso"
discretization = "zoh"
output = "2Re"
pole_real = {tensor = "lambda_re", transform = "-exp", axes = "N H"}
pole_imag = {tensor = "lambda_im", axes = "1 H N"}
step = {tensor = "log_delta", transform = "exp", axes = "H 1"}
"""

MISTAKES = {
    "syntax": (GOOD.replace('"siso"', "siso"), "not valid TOML: Invalid value (at line 3, column 8)"),
    "twice": (GOOD + GOOD.split("\n")[1], "not valid TOML: Cannot overwrite a value (at end of document)"),
    "empty": ("", "has no [[layer]] table"),
    "one bracket": (GOOD.replace("[[layer]]", "[layer]"), "has no [[layer]] table"),
    "top-level key": ("version = 1\n" + GOOD, "key 'version' is unknown"),
    "key": (GOOD + "A = 1", "[[layer]] 1: key 'A' is unknown; choose one of match, kind"),
    "key of a tensor": (GOOD.replace("tensor =", "tesnor =", 1), "pole_real: key 'tesnor' is unknown; choose one of tensor, axes"),
    "missing key": (GOOD.replace('kind = "siso"\n', ""), "[[layer]] 1: kind missing"),
    "match": (GOOD.replace('"blocks.*.ssm"', "3"), "match is 3"),
    "kind": (GOOD.replace("siso", "miso"), "kind 'miso' is unknown; choose one of siso, mimo"),
    "discretization": (GOOD.replace("zoh", "tustin"), "discretization 'tustin' is unknown; choose one of zoh, bilinear, euler, direct"),
    "output": (GOOD.replace("2Re", "Im"), "output 'Im' is unknown; choose one of 2Re, Re"),
    "delay": (GOOD + "delay = 2", "delay is 2, expected 0"),
    "true delay": (GOOD + "delay = true", "delay is True, expected 0"),
    "transform": (GOOD.replace("-exp", "-expp"), "pole_real: transform '-expp' is unknown; expected one of none, exp, log"),
    "open transform": (GOOD.replace("-exp", "exp("), "transform 'exp(' is unknown"),
    "transform type": (GOOD.replace('"-exp"', "1"), "pole_real: transform is 1"),
    "complex transform": (GOOD + 'C = {tensor = "c", transform = "exp"}', "C: transform 'exp' is unknown for complex numbers"),
    "scale": (GOOD.replace('"-exp"', '"-exp", scale = -1'), "pole_real: scale is -1, expected a positive number"),
    "axes": (GOOD.replace('"N H"', '"N G"'), "pole_real: axes are 'N G', expected a list such as 'H N'"),
    "directions without a count": (GOOD.replace('"N H"', '"K N H"'), "an axis K counts directions, and directions is missing"),
    "count without directions": (GOOD.replace("kind =", "directions = 2\nkind ="), "no tensor has an axis K"),
    "directions": (GOOD.replace("kind =", "directions = 0\nkind ="), "directions is 0, expected a number from 1 to 64"),
    "directions twice": (
        GOOD.replace("kind =", 'directions = ["a", "a"]\nkind ='),
        "expected a number from 1 to 64, or a list of different",
    ),
    "names of directions": (GOOD.replace("kind =", 'directions = ["a:b", 3]\nkind ='), "a list of different names"),
    "axes of directions twice": (GOOD.replace('"N H"', '"K K*H"'), "axes are 'K K*H'"),
    "half an axis": (GOOD.replace('"N H"', '"K* N"'), "axes are 'K* N'"),
    "low rank by zoh": (GOOD + 'P = {tensor = "p"}', "P needs discretization 'bilinear'"),
    "length by zoh": (GOOD + "kernel_length = 64", "kernel_length needs discretization 'bilinear'"),
    "length": (GOOD.replace("zoh", "bilinear") + "kernel_length = -1", "kernel_length is -1, expected a number of samples"),
    "Q alone": (GOOD.replace("zoh", "bilinear") + 'Q = {tensor = "q"}', "Q needs a P"),
    "axes twice": (GOOD.replace('"N H"', '"H H"'), "pole_real: axes are 'H H'"),
    "axes of the kind": (GOOD + 'B = {tensor = "b", axes = "N I"}', "B: axes are 'N I', expected a list such as 'H N'"),
    "tensor type": (GOOD.replace('"lambda_re"', "[1]"), "pole_real: tensor is [1], expected the name of a tensor"),
    "no table": (GOOD + 'D = "skip"', "D is 'skip', expected a table [layer.D] with tensor = ..."),
    "no tensor": (GOOD + "D = {}", "D: names too few tensors; expected tensor = ..."),
    "half": (GOOD + 'C = {real = "c"}', "C: names too few tensors; expected tensor = ..., or both real = ... and imag = ..."),
    "both": (GOOD + 'C = {tensor = "c", real = "d", imag = "e"}', "C: names too many tensors"),
    "same tensor": (GOOD.replace("lambda_im", "lambda_re"), "tensor 'lambda_re' is named twice, by pole_real and by pole_imag"),
    "no poles": (GOOD.replace("pole_real", "pole_abs"), "poles are given by pole_abs, pole_imag; with 'zoh' expected pole; pole_real"),
    "no step": (GOOD[: GOOD.index("step")], "step is missing, and 'zoh' needs it"),
    "step with direct": (GOOD.replace("zoh", "direct"), "step has no meaning with 'direct'"),
    "negative step": (GOOD[: GOOD.index("step")] + "step = -0.1", "step is -0.1, expected a positive number"),
    "mimo without C": (GOOD.replace("siso", "mimo").replace("H", "1").replace("1 1 N", "N"), "kind 'mimo' needs both B and C"),
    "scale without B": (GOOD + 'B_scale = {tensor = "g"}', "B_scale is given without B"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_in_a_mapping_is_one_line_with_the_name_of_the_file(name: str) -> None:
    text, words = MISTAKES[name]
    with pytest.raises(SsmspecError) as caught:
        parse_mapping(text, "own.toml")
    line = str(caught.value)
    assert line.startswith("own.toml: ")
    assert words in line
    assert "\n" not in line


UNMATCHED = {
    "match": (GOOD.replace("blocks", "layers"), "match 'layers.*.ssm' matches no layer; its tensors are under 'blocks.0.ssm'"),
    "tensor": (GOOD.replace("log_delta", "log_dt"), "the nearest is blocks.0.ssm: missing log_dt; unexpected"),
    "shape": (GOOD.replace('"H 1"', '"H"'), "blocks.0.ssm.log_delta has shape (16, 1), expected (H) with N=12, H=16"),
    "transposed": (GOOD.replace('"N H"', '"H N"'), "blocks.0.ssm.lambda_im has shape (1, 16, 12), expected (1 H N) with H=12, N=16"),
    "every name": (GOOD.replace("lambda_", "l_").replace("log_", "l_"), "no tensor is named l_re or l_im or l_delta"),
    "claimed": (GOOD + GOOD, "the tensors of blocks.0.ssm belong to an earlier [[layer]]"),
}


@pytest.mark.parametrize("name", UNMATCHED)
def test_mapping_that_fits_no_layer_says_what_is_nearest(name: str) -> None:
    text, words = UNMATCHED[name]
    with pytest.raises(LayerError) as caught:
        layers_of(renamed_s4d().tensors, parse_mapping(text, "own.toml"))
    assert str(caught.value).startswith("own.toml: match ")
    assert words in str(caught.value)


def test_vector_skip_between_different_inputs_and_outputs_is_an_error() -> None:
    layout = own_lru()
    tensors = layout.tensors | {"rnn.direct": np.ones(2, np.float32)}
    with pytest.raises(LayerError, match="is a vector, but there are 2 inputs and 3 outputs"):
        read(tensors, parse_mapping(layout.mapping.replace('"I O"', '"I"'), "m"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b"a = " + b"[" * 20000, "not valid TOML"),
        (b"#" * 2000000, "more than 1048576 bytes"),
    ],
)
def test_file_that_is_no_toml_is_one_line(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "own.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SsmspecError, match=words) as caught:
        load_mapping(path)
    assert str(caught.value).startswith(str(path))


def as_toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return repr(value) if isinstance(value, float) else json.dumps(value)


WORD = st.sampled_from(["a", "w", "dt", "b", "c", "d", "exp", "-exp", "conj", "none", "H N", "N H", "H", "N", "1 N", "N I", "O N", "", "x"])
SCALAR = st.one_of(WORD, st.integers(-2, 10**400), st.floats(), st.booleans())
PART = st.dictionaries(st.sampled_from(["tensor", "real", "imag", "transform", "axes", "scale"]), st.one_of(WORD, SCALAR), max_size=4)
VALID_PART = st.fixed_dictionaries({"tensor": st.sampled_from(["a", "w", "dt", "b", "c", "d"])}, optional={"axes": WORD})
LAYER = st.fixed_dictionaries(
    {
        "match": st.sampled_from(["", "*", "p", "["]),
        "kind": st.sampled_from(["siso", "mimo"]),
        "discretization": st.sampled_from(["zoh", "direct", "euler"]),
        "output": st.sampled_from(["2Re", "Re"]),
    },
    optional={
        **{quantity: st.one_of(VALID_PART, VALID_PART, PART, SCALAR) for quantity in ("pole_real", "pole_imag", "step", "B", "C", "D")},
        **{key: st.one_of(PART, SCALAR) for key in ("pole", "B_scale", "delay")},
    },
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(st.one_of(LAYER, SCALAR), max_size=2).map(lambda layers: "layer = " + as_toml(layers))))
def test_nothing_but_an_ssmspec_error_comes_of_any_text(text: str) -> None:
    rng = np.random.default_rng(6)
    shapes = {"a": (4,), "w": (4,), "dt": (4,), "b": (4, 2), "c": (2, 4), "d": (2,)}
    tensors = {f"p.{name}": single(rng.standard_normal(shape)) for name, shape in shapes.items()}
    try:
        families = parse_mapping(text, "own.toml")
        systems = read(tensors, families)
        written(tensors, families, systems)
        line = ""
    except SsmspecError as error:
        line = str(error)
    assert "\n" not in line


# --- drafts ---


def test_draft_of_a_renamed_s4d_is_its_layout() -> None:
    layout = renamed_s4d()
    draft = draft_mapping(stored(layout.tensors))
    assert draft is not None
    table = tomllib.loads(draft)["layer"][0]
    assert table["pole_real"] == {"tensor": "lambda_re", "transform": "-exp", "axes": "N H"}
    for system, known in zip(read(layout.tensors, parse_mapping(draft, "draft")), read(layout.known), strict=True):
        assert_same(system, known)


def test_draft_of_a_renamed_s5_is_its_layout() -> None:
    layout = own_s5()
    tensors = {name.replace("m.ts", "m.log_step"): values for name, values in layout.tensors.items()}
    draft = draft_mapping(stored(tensors))
    assert draft is not None
    (system,), (known,) = read(tensors, parse_mapping(draft, "draft")), read(layout.known)
    assert_same(system, known)


def test_draft_of_a_renamed_lru_is_its_layout() -> None:
    layout = own_lru()
    names = {"decay": "log_nu", "angle": "log_theta", "norm": "log_gamma", "win": "b.weight", "wout": "c.weight", "direct": "D"}
    tensors = {f"net.3.{names[name.split('.')[1]]}": values for name, values in layout.tensors.items()}
    tensors["net.3.c.weight"] = tensors["net.3.c.weight"].conj()
    draft = draft_mapping(stored(tensors))
    assert draft is not None
    (system,), (known,) = read(tensors, parse_mapping(draft, "draft")), read(layout.known)
    assert_same(system, known)


@pytest.mark.parametrize(
    "names",
    [
        ["attn.c_attn.weight", "attn.c_proj.weight", "ln_1.weight", "ln_1.bias", "mlp.c_fc.weight"],
        ["q_proj.lora_A.weight", "q_proj.lora_B.weight", "v_proj.lora_A.weight", "v_proj.lora_B.weight"],
        ["sublayer.0.norm.a_2", "sublayer.0.norm.b_2", "self_attn.linears.0.weight"],
        ["bn.gamma", "bn.beta", "conv.weight", "alpha", "step"],
    ],
)
def test_nothing_is_drafted_for_other_networks(names: list[str]) -> None:
    assert draft_mapping(stored({f"layers.{n}.{name}": np.ones((4, 4), np.float32) for n in range(2) for name in names})) is None


WORDS = ["a", "b", "C", "D", "D_im", "lambda_re", "Lambda_im", "nu_log", "theta", "dt", "log_step", "gamma", "C_re", "C_im", "é?"]
WORDS += ["0", "1", "ssm", "weight", "*"]


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.lists(
            st.sampled_from(WORDS),
            min_size=1,
            max_size=4,
        ).map(".".join),
        st.lists(st.integers(0, 4), max_size=3),
        max_size=14,
    )
)
def test_every_table_of_every_draft_names_layers_that_can_be_read(shapes: dict[str, list[int]]) -> None:
    rng = np.random.default_rng(7)
    tensors = {name: single(np.asarray(rng.standard_normal(shape))) for name, shape in shapes.items()}
    draft = draft_mapping(stored(tensors))
    if draft is not None:
        families = parse_mapping(draft, "draft")
        layers = detect(stored(tensors), families).layers
        assert {layer.family for layer in layers} == {family.name for family in families}
        for layer in layers:
            next(family for family in families if family.name == layer.family).read(layer, ReadOptions())


# --- the commands ---


@pytest.fixture
def own(tmp_path: Path) -> Path:
    layout = renamed_s4d()
    save_file(layout.tensors, tmp_path / "own.safetensors")
    (tmp_path / "own.toml").write_text(layout.mapping)
    return tmp_path


def test_analyze_reads_mapped_layers_and_says_so(own: Path) -> None:
    done = ssmspec("analyze", "own.safetensors", "--map", "own.toml", "--json", cwd=own)
    assert (done.code, done.err) == (0, "")
    layers = json.loads(done.out)["layers"]
    assert [(layer["name"], layer["family"]) for layer in layers] == [("blocks.0.ssm", "mapped"), ("blocks.1.ssm", "mapped")]
    assert layers[0]["assumptions"] == ["as own.toml says: zoh, output 2 Re, B = 1"]


def test_impulse_and_response_read_mapped_layers(own: Path) -> None:
    choice = ("own.safetensors", "--map", "own.toml", "--layer", "1")
    assert ssmspec("impulse", *choice, "--length", "64", "-o", "k.npz", cwd=own).code == 0
    assert ssmspec("response", *choice, "--family", "mapped", "-o", "H.npz", cwd=own).code == 0
    options = ReadOptions(mapping=load_mapping(own / "own.toml"))
    system = load_system(own / "own.safetensors", "1", options)
    with np.load(own / "k.npz") as impulse, np.load(own / "H.npz") as response:
        assert np.array_equal(impulse["kernel"], impulse_response(system, 64))
        assert math.prod(response["H"].shape[:3]) == 16


def test_inspect_shows_the_tensors_of_mapped_layers(own: Path) -> None:
    done = ssmspec("inspect", "own.safetensors", "--map", "own.toml", "--json", cwd=own)
    assert done.code == 0
    layer = json.loads(done.out)["layers"][0]
    assert layer["tensors"]["blocks.0.ssm.c.imag"]["role"] == "C.imag"


@pytest.mark.parametrize("command", ["analyze", "inspect"])
def test_mapping_that_names_no_layer_is_one_line(own: Path, command: str) -> None:
    done = ssmspec(command, S4D, "--map", "own.toml", cwd=own)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "own.toml: match 'blocks.*.ssm' matches no layer" in done.err


def test_suggested_map_is_printed_alone_and_can_be_used(own: Path) -> None:
    done = ssmspec("inspect", "own.safetensors", "--suggest-map", cwd=own)
    assert (done.code, done.err) == (0, "")
    (own / "draft.toml").write_text(done.out)
    done = ssmspec("analyze", "own.safetensors", "--map", "draft.toml", "--json", cwd=own)
    assert done.code == 0
    assert [layer["name"] for layer in json.loads(done.out)["layers"]] == ["blocks.0.ssm", "blocks.1.ssm"]


def test_suggested_map_without_anything_to_suggest_exits_3(tmp_path: Path) -> None:
    save_file({f"h.{n}.attn.c_attn.weight": np.ones((4, 12), np.float32) for n in range(3)}, tmp_path / "gpt.safetensors")
    for path in (tmp_path / "gpt.safetensors", S4D):
        done = ssmspec("inspect", path, "--suggest-map")
        assert (done.code, done.out, done.err.count("\n")) == (3, "", 1)
        assert "no tensors resemble an SSM layer" in done.err
