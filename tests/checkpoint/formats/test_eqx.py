"""Equinox files, written leaf by leaf with numpy.save as equinox's default_serialise_filter_spec does."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from ssmspec.checkpoint import open_checkpoint
from ssmspec.commands.analyze import AnalysisOptions, analyze

H, P = 3, 4


def write(path: Path, leaves: list, hyperparameters: object = None) -> Path:
    """Arrays and plain Python numbers in order, after a line of JSON unless there are no hyperparameters."""
    with path.open("wb") as file:
        if hyperparameters is not None:
            file.write((json.dumps(hyperparameters) + "\n").encode())
        for leaf in leaves:
            np.save(file, leaf)
    return path


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def single(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def s5(rng: np.random.Generator) -> list:
    """S5Layer of tk-rusch/linoss, models/S5.py: its fields in order; `discretisation` is a string and not stored."""
    arrays = [-np.exp(single(rng, P)), np.abs(single(rng, P)), single(rng, P, H, 2), single(rng, H, P, 2), single(rng, H)]
    return [*arrays, single(rng, P, 1) - 3, H, P, True, False, 1.0]


def linoss(rng: np.random.Generator, size: int = P) -> list:
    A_diag, steps = (rng.uniform(0.1, 1, size).astype(np.float32) for _ in range(2))
    return [A_diag, single(rng, size, H, 2), single(rng, H, size, 2), single(rng, H), steps]


def lru(rng: np.random.Generator) -> list:
    logarithms = [np.log(rng.uniform(0.05, 1, P)).astype(np.float32) for _ in range(3)]
    matrices = [single(rng, *shape) for shape in ((P, H), (P, H), (H, P), (H, P))]
    return [*logarithms[:2], *matrices, single(rng, H), logarithms[2]]


LAYERS = {"s5": s5, "linoss": linoss, "lru": lru}
FIELDS = {
    "s5": ["Lambda_re", "Lambda_im", "B", "C", "D", "log_step", "H", "P", "conj_sym", "clip_eigs", "step_rescale"],
    "linoss": ["A_diag", "B", "C", "D", "steps"],
    "lru": ["nu_log", "theta_log", "B_re", "B_im", "C_re", "C_im", "D", "gamma_log"],
}


def model(rng: np.random.Generator, layer: str, blocks: int = 2) -> list:
    """An encoder, blocks of BatchNorm (without affine; state and `inference`), the layer, GLU and Dropout, a decoder, plain fields."""
    leaves: list = [single(rng, H, 5), single(rng, H)]
    for _ in range(blocks):
        leaves += [True, single(rng, H), single(rng, H), False]
        leaves += LAYERS[layer](rng)
        leaves += [single(rng, H, H), single(rng, H), single(rng, H, H), single(rng, H), 0.05, False]
    return [*leaves, single(rng, 2, H), single(rng, 2), True, 1, True, True, False]


@pytest.mark.parametrize("hyperparameters", [None, {"num_blocks": 2}])
@pytest.mark.parametrize("layer", LAYERS)
def test_layers_are_named_by_the_order_and_shapes_of_their_leaves(tmp_path, rng, arrays, layer, hyperparameters):
    leaves = model(rng, layer)
    found = arrays(write(tmp_path / "model.eqx", leaves, hyperparameters))
    assert len(found) == len(leaves)
    start = 6
    for number in range(2):
        for offset, field in enumerate(FIELDS[layer]):
            assert np.array_equal(found[f"{layer}.{number}.{field}"], leaves[start + offset])
            assert str(start + offset) not in found
        start += len(FIELDS[layer]) + 10
    assert np.array_equal(found["0"], leaves[0])
    assert np.array_equal(found[str(len(leaves) - 7)], leaves[-7])


@pytest.mark.parametrize("layer", LAYERS)
def test_equinox_model_is_analyzed_layer_by_layer(tmp_path, rng, layer):
    layers = analyze(write(tmp_path / "model.eqx", model(rng, layer), {}), AnalysisOptions(points=16)).layers
    assert [(one.name, one.family, one.problem) for one in layers] == [(f"{layer}.{number}", layer, None) for number in range(2)]


def test_hyperparameters_are_the_configuration(tmp_path, rng):
    checkpoint = open_checkpoint(write(tmp_path / "x.eqx", linoss(rng), {"ssm_dim": 4, "discretization": "IM"}))
    assert checkpoint.container == "equinox"
    assert checkpoint.config == {"ssm_dim": 4, "discretization": "IM"}


@pytest.mark.parametrize("name", ["model.eqx", "model"])
def test_file_without_hyperparameters_is_known_by_its_second_array(tmp_path, rng, name):
    assert set(open_checkpoint(write(tmp_path / name, linoss(rng))).tensors) == {f"linoss.0.{field}" for field in FIELDS["linoss"]}


def test_notes_say_which_arrays_were_named_and_that_none_had_a_name(tmp_path, rng):
    (note,) = open_checkpoint(write(tmp_path / "x.eqx", [single(rng, 2, 2), *lru(rng)])).notes
    assert "does not store names" in note
    assert "1..8 (LRU)" in note


def test_arrays_of_no_known_layer_keep_their_positions(tmp_path, rng, arrays):
    leaves = [single(rng, 4, 4), single(rng, 4), np.arange(3), 0.5]
    path = write(tmp_path / "mlp.eqx", leaves, {"depth": 1})
    assert list(arrays(path)) == ["0", "1", "2", "3"]
    assert "none of them match" in open_checkpoint(path).notes[0]


def test_every_dtype_and_order_is_read_as_it_was_written(tmp_path, rng, arrays):
    """jax saves bfloat16 as two bytes without a type, V2; equinox views them back."""
    coarse = single(rng, 3, 2).astype(ml_dtypes.bfloat16)
    leaves = [np.asfortranarray(single(rng, 3, 2)), single(rng, 2).astype(">f4"), coarse, np.complex64(1 + 2j), np.zeros((0, 3))]
    found = arrays(write(tmp_path / "x.eqx", leaves, {}))
    for position, leaf in enumerate(leaves):
        assert np.array_equal(found[str(position)], leaf)
    assert found["2"].dtype == ml_dtypes.bfloat16


def test_flat_log_step_after_two_vectors_is_refused_as_ambiguous(tmp_path, rng, refusal):
    """(P), (P), (P,H,2), (H,P,2), (H), (P): S5, damped LinOSS, or LinOSS behind a vector."""
    line = refusal(write(tmp_path / "x.eqx", [single(rng, 2), single(rng, P), *linoss(rng)], {}))
    assert "arrays 1..6 could be S5 with a flat log_step or damped LinOSS or LinOSS" in line
    assert "numpy.savez" in line


@pytest.mark.parametrize(
    ("hyperparameters", "names"),
    [
        ({"model_name": "S5"}, ("s5.0.Lambda_re", "s5.0.Lambda_im")),
        ({"layer_name": "IM"}, ("0", "linoss.0.A_diag")),
        ({"layer_name": "DampedIMEX2"}, ("linoss.0.A_diag", "linoss.0.G_diag")),
    ],
)
def test_hyperparameters_that_say_the_model_decide(tmp_path, rng, hyperparameters, names):
    checkpoint = open_checkpoint(write(tmp_path / "x.eqx", [single(rng, P), *linoss(rng)], hyperparameters))
    assert set(names) <= set(checkpoint.tensors)


def test_state_dim_behind_the_run_is_a_damped_linoss_which_is_not_read(tmp_path, rng):
    path = write(tmp_path / "x.eqx", [single(rng, P), *linoss(rng), P], {})
    assert "linoss.0.G_diag" in open_checkpoint(path).tensors
    assert "damped LinOSS" in (analyze(path).problem or "")


@pytest.mark.parametrize("cut", [1, 40, 100])
def test_cut_file_is_one_clear_line_that_names_the_array(tmp_path, rng, refusal, cut):
    path = write(tmp_path / "x.eqx", linoss(rng), {})
    path.write_bytes(path.read_bytes()[:-cut])
    assert "array 4" in refusal(path)


@pytest.mark.parametrize(
    ("tail", "words"),
    [(b"garbage", "array 5"), (b"\x93NUMPY\x01", "array 5")],
)
def test_bytes_after_the_last_array_are_damage(tmp_path, rng, refusal, tail, words):
    path = write(tmp_path / "x.eqx", linoss(rng), {})
    path.write_bytes(path.read_bytes() + tail)
    assert words in refusal(path)


def test_pickled_objects_are_refused_unread(tmp_path, refusal):
    path = tmp_path / "x.eqx"
    with path.open("wb") as file:
        file.write(b"{}\n")
        np.save(file, np.array([object], dtype=object), allow_pickle=True)
    assert "pickled" in refusal(path)


def test_eqx_file_without_json_is_one_clear_line(tmp_path, refusal):
    (tmp_path / "x.eqx").write_bytes(b"not json\n" + bytes(50))
    assert "expected one line of JSON" in refusal(tmp_path / "x.eqx")


def test_only_headers_are_read_until_a_tensor_is_asked_for(tmp_path, bytes_read):
    path = write(tmp_path / "x.eqx", [np.zeros((1000, 1000), np.float32)] * 2, {})
    before = bytes_read()
    open_checkpoint(path)
    assert bytes_read() - before < 1_000_000
