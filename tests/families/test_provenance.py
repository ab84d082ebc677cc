"""Sidecars and metadata: what they hold, when they are trusted, and the effect of a damaged one."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from program import s4d_tensors
from safetensors import safe_open
from safetensors.numpy import save_file

from ssmspec.backends import CauchySum
from ssmspec.checkpoint import open_checkpoint
from ssmspec.commands.analyze import analyze
from ssmspec.commands.retune import ChangeOptions, plan_retune
from ssmspec.commands.retune_writing import write_retuned
from ssmspec.errors import LayerError, SsmspecError
from ssmspec.families import ReadOptions
from ssmspec.families.layers import find_layers as find
from ssmspec.families.layers import layer_digest, load_system, read_layers
from ssmspec.families.provenance import Attached, attached, sidecar_path, weight_entry, written_by_ssmspec
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.response import frequency_response
from ssmspec.systems.sobolev import Sobolev
from ssmspec.systems.statespace import StateSpace
from ssmspec.tuning.poles.scaling import Scaling
from ssmspec.tuning.recipe import Recipe, Weighting

GRID = FrequencyGrid(np.linspace(0.001, np.pi, 200), "theta")
BETA = Recipe(weighting=Weighting(beta=-1.0))


def saved(path: Path, layers: int = 2) -> Path:
    tensors = s4d_tensors(layers=layers, H=4, N=5)
    if path.suffix == ".npz":
        np.savez(path, **tensors)
    else:
        save_file(tensors, path, metadata={"format": "pt"})
    return path


def retuned(source: Path, recipe: Recipe = BETA, *, layers: tuple[str, ...] = (), name: str | None = None) -> Path:
    target = source.with_name(name or f"{source.stem}.new{source.suffix}")
    write_retuned(plan_retune(source, recipe, ChangeOptions(layers=layers)), target, command="ssmspec retune", replace_target=True)
    return target


def systems(path: Path) -> list[StateSpace]:
    checkpoint = open_checkpoint(path)
    return [system for layer in read_layers(checkpoint, find(checkpoint), ReadOptions())[0] for system in layer.systems]


@pytest.fixture(params=[".safetensors", ".npz"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return saved(tmp_path / f"model{request.param}")


def test_beta_of_a_family_without_a_place_for_it_is_honored_by_analysis(source: Path, engine: CauchySum) -> None:
    target = retuned(source)
    for before, after in zip(systems(source), systems(target), strict=True):
        weight = (1 + GRID.values / before.step) ** -1.0
        H = [frequency_response(system, GRID, engine).dynamic[:, 0, 0] for system in (before, after)]
        np.testing.assert_allclose(H[1], H[0] * weight, rtol=1e-12)
        assert any("the model's own code does not apply it" in text for text in after.assumptions)
    tensors = [open_checkpoint(path).tensors for path in (source, target)]
    for name, tensor in tensors[0].items():
        assert tensors[1][name].read().tobytes() == tensor.read().tobytes()


@pytest.mark.parametrize("beta", [-1.0, 1.0])
def test_bias_slope_moves_by_about_093_per_unit_of_beta(tmp_path: Path, beta: float) -> None:
    """The knee of the paper's convention lies below the grid where steps are small."""
    tensors = s4d_tensors(H=8, N=16)
    tensors["layers.0.kernel.log_dt"][:] = np.log(0.003)
    save_file(tensors, tmp_path / "model.safetensors")
    target = retuned(tmp_path / "model.safetensors", Recipe(weighting=Weighting(beta=beta)))
    slopes = [analyze(path).layers[0].statistics["bias_slope"].median for path in (tmp_path / "model.safetensors", target)]
    assert slopes[1] - slopes[0] == pytest.approx(0.93 * beta, abs=0.07)


def test_metadata_of_safetensors_says_it_without_a_sidecar(tmp_path: Path) -> None:
    target = retuned(saved(tmp_path / "model.safetensors"))
    sidecar_path(target).unlink()
    assert all(system.sobolev is not None for system in systems(target))
    with safe_open(target, "np") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert json.loads(metadata["ssmspec"])["sobolev"]["layers.0"] == {"beta": -1.0, "convention": "paper"}


def test_metadata_of_shards_says_it_without_a_sidecar_after_every_change(tmp_path: Path) -> None:
    tensors = s4d_tensors(layers=2, H=4, N=5)
    names = {name: f"model-0000{1 + ('layers.1' in name)}-of-00002.safetensors" for name in tensors}
    (tmp_path / "model").mkdir()
    for shard in set(names.values()):
        save_file({name: values for name, values in tensors.items() if names[name] == shard}, tmp_path / "model" / shard, {"format": "pt"})
    (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    # the first change touches the second shard only, the second one none
    both = Recipe(weighting=Weighting(beta=-1.0), scaling=Scaling(alpha=2))
    for number, (recipe, layers) in enumerate([(both, ("layers.1",)), (Recipe(weighting=Weighting(beta=0.5)), ())]):
        target = retuned(tmp_path / ("model" if not number else "new0"), recipe, layers=layers, name=f"new{number}")
        sidecar_path(target).unlink()
        wanted = [None, -1.0] if not number else [0.5, 0.5]
        assert [None if system.sobolev is None else system.sobolev.beta[0] for system in systems(target)] == wanted


def test_sidecar_says_what_was_done_to_what(source: Path) -> None:
    import hashlib

    document = json.loads(sidecar_path(retuned(source, Recipe(scaling=Scaling(alpha=2), weighting=Weighting(beta=0.5)))).read_text())
    assert document["schema"] == "ssmspec.provenance/1"
    assert document["input"] == {"name": source.name, "sha256": {source.name: hashlib.sha256(source.read_bytes()).hexdigest()}}
    assert document["recipe"]["scaling"]["alpha"] == 2
    assert document["command"] == "ssmspec retune"
    assert [layer["name"] for layer in document["layers"]] == ["layers.0", "layers.1"]
    assert document["sobolev"]["layers.1"]["beta"] == 0.5


def test_sidecar_of_a_file_that_was_trained_further_is_not_believed(tmp_path: Path) -> None:
    target = retuned(saved(tmp_path / "model.npz"))
    tensors = dict(np.load(target))
    tensors["layers.1.kernel.C"][0, 0, 0] += 1
    np.savez(target, **tensors)
    first, second = systems(target)
    assert first.sobolev is not None
    assert second.sobolev is None
    assert any("another version of this layer" in text for text in second.assumptions)


def test_sidecar_that_cannot_be_read_is_ignored_with_a_note(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.npz")
    for content in (b"{", b"[1]", b"\xff\xfe", b"[" * 100_000):
        sidecar_path(path).write_bytes(content)
        for system in systems(path):
            assert system.sobolev is None
            assert any("model.npz.ssmspec.json cannot be read and was ignored" in text for text in system.assumptions)


@pytest.mark.parametrize(
    "entry",
    [
        {"beta": "much", "convention": "lra"},
        {"beta": 1.0},
        {"beta": [1.0, 2.0], "convention": "lra"},
        {"beta": 1.0, "convention": "other"},
        {"beta": 1.0, "convention": ["lra"]},
        {"beta": 1.0, "convention": "causal", "theta_ref": "x"},
        {"beta": None, "convention": "lra"},
    ],
)
def test_a_weight_that_is_none_is_one_clear_error(entry: dict[str, object]) -> None:
    with pytest.raises(LayerError, match="layer a: the beta weight in the place cannot be used"):
        Attached({"a": entry}, "the place").weight("a", 3)


def test_a_weight_returns_from_its_entry() -> None:
    for weight in (Sobolev(np.array([0.5, 0.5]), "causal", 0.1), Sobolev(np.array([0.5, -1]), "waves", length=64)):
        found = Attached({"a": json.loads(json.dumps(weight_entry(weight)))}, "").weight("a", 2)
        np.testing.assert_array_equal(found.beta, weight.beta)
        assert (found.convention, found.theta_ref, found.length) == (weight.convention, weight.theta_ref, weight.length)


def test_weights_of_layers_that_are_not_chosen_survive(source: Path) -> None:
    once = retuned(source)
    twice = retuned(once, Recipe(scaling=Scaling(alpha=2)), layers=("layers.0",), name=f"twice{source.suffix}")
    for system in systems(twice):
        np.testing.assert_array_equal(system.sobolev.beta, -1.0)
    other = retuned(twice, Recipe(weighting=Weighting(beta=0.5, convention="lra")), layers=("layers.1",), name=f"other{source.suffix}")
    assert [(s.sobolev.beta[0], s.sobolev.convention) for s in systems(other)] == [(-1.0, "paper"), (0.5, "lra")]


def test_a_beta_of_zero_takes_the_weight_away(source: Path) -> None:
    gone = retuned(retuned(source), Recipe(weighting=Weighting(beta=0)), name=f"gone{source.suffix}")
    assert all(system.sobolev is None for system in systems(gone))
    assert attached(open_checkpoint(gone)).weights == {}


def test_a_baked_weight_is_no_metadata(source: Path) -> None:
    recipe = Recipe(weighting=Weighting(beta=-0.3, convention="lra", bake=True))
    assert all(system.sobolev is None for system in systems(retuned(retuned(source), recipe, name=f"baked{source.suffix}")))


def test_retuning_in_place_renews_the_digests(source: Path) -> None:
    for recipe in (BETA, Recipe(scaling=Scaling(alpha=2))):
        write_retuned(plan_retune(source, recipe), source, command="ssmspec retune", in_place=True)
    for system in systems(source):
        assert system.sobolev is not None
        assert system.poles.imag.max() == pytest.approx(2 * np.pi * 4, rel=1e-6)


def test_own_beta_goes_before_one_beside_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    block = {"b.kernel.A_real": np.zeros((2, 3), np.float32), "b.kernel.A_imag": np.ones((2, 3), np.float32)}
    block |= {"b.kernel.inv_dt": np.full((2, 1), -3, np.float32), "b.kernel.C": rng.normal(size=(1, 2, 3, 2)).astype(np.float32)}
    block |= {"b.D": np.zeros((1, 2), np.float32), "b.s": np.full((1, 2), 0.25, np.float32)}
    path = tmp_path / "block.npz"
    np.savez(path, **block)
    sidecar_path(path).write_text(json.dumps({"sobolev": {"b": {"beta": 9.0, "convention": "lra"}}}))
    system = load_system(path, "b", ReadOptions())
    np.testing.assert_array_equal(system.sobolev.beta, 0.25)
    assert any("beta is the layer's own" in text for text in system.assumptions)


def test_only_what_ssmspec_wrote_counts_as_its_own(source: Path) -> None:
    target = retuned(source)
    assert written_by_ssmspec(target)
    assert not written_by_ssmspec(source, open_checkpoint(source))


def test_sidecars_of_folders_stand_beside_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path / "model")
    for name in (Path(), Path("../model"), tmp_path / "model"):
        assert sidecar_path(name).resolve() == tmp_path.resolve() / "model.ssmspec.json"
    assert sidecar_path(Path("..")).name == f"{tmp_path.name}.ssmspec.json"


def test_digests_differ_where_any_value_does(tmp_path: Path) -> None:
    digests: set[str] = set()
    make: Callable[[], dict[str, np.ndarray]] = s4d_tensors
    for change in (None, "layers.0.kernel.C", "layers.0.D", "layers.0.kernel.log_dt"):
        tensors = make()
        if change:
            tensors[change].reshape(-1)[-1] += 1
        save_file(tensors, tmp_path / "model.safetensors")
        digests.add(layer_digest(find(open_checkpoint(tmp_path / "model.safetensors")).layers[0]))
    assert len(digests) == 4


def killed_before_the_checkpoint_is_written(path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a kill between the sidecar and the checkpoint: what is there at that moment stays."""

    class Killed(BaseException):
        pass

    found = []

    def kill(*arguments: object, **options: object) -> None:
        found.append(sidecar_path(path).read_bytes())
        raise Killed

    plan = plan_retune(path, recipe)
    with monkeypatch.context() as patched:
        patched.setattr("ssmspec.commands.retune_writing.write_changed", kill)
        with pytest.raises(Killed):
            write_retuned(plan, path, command="", in_place=True)
    sidecar_path(path).write_bytes(found[0])


def test_after_a_kill_between_sidecar_and_checkpoint_the_reader_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = retuned(saved(tmp_path / "model.npz"))  # it has beta in its sidecar
    weights = target.read_bytes()
    for recipe in (Recipe(scaling=Scaling(alpha=2), weighting=Weighting(beta=0.5)), Recipe(scaling=Scaling(alpha=3))):
        killed_before_the_checkpoint_is_written(target, recipe, monkeypatch)
        assert target.read_bytes() == weights
        for system in systems(target):
            assert system.sobolev is None
            assert any("another version of this layer" in text for text in system.assumptions)


def test_a_checkpoint_that_cannot_be_written_keeps_its_sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> tuple[str, ...]:
        raise SsmspecError("the disk is full")

    target = retuned(saved(tmp_path / "model.npz"))
    before = sidecar_path(target).read_bytes()
    bare = saved(tmp_path / "bare.npz")
    monkeypatch.setattr("ssmspec.commands.retune_writing.write_changed", full)
    for path in (target, bare):
        with pytest.raises(SsmspecError, match="disk is full"):
            write_retuned(plan_retune(path, Recipe(scaling=Scaling(alpha=2))), path, command="", in_place=True)
    assert sidecar_path(target).read_bytes() == before
    assert not sidecar_path(bare).exists()


def test_the_digests_of_a_sidecar_are_those_of_what_was_written(tmp_path: Path) -> None:
    for name in ("model.npz", "model.safetensors"):
        target = retuned(saved(tmp_path / name), Recipe(scaling=Scaling(alpha=2, step_scale=3), weighting=Weighting(beta=0.5)))
        checkpoint = open_checkpoint(target)
        options = ReadOptions()
        layers, _ = read_layers(checkpoint, find(checkpoint), options)
        written = {layer.tensors.name: layer_digest(layer.tensors) for layer in layers}
        document = json.loads(sidecar_path(target).read_text())
        assert {layer["name"]: layer["digest"] for layer in document["layers"]} == written
        assert {name: entry["digest"] for name, entry in document["sobolev"].items()} == written


def test_a_pipe_in_the_place_of_a_sidecar_is_refused_at_once(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.npz")
    os.mkfifo(sidecar_path(path))
    plan = plan_retune(path, Recipe(scaling=Scaling(alpha=2)))
    with pytest.raises(SsmspecError, match=r"model\.npz\.ssmspec\.json: it is a device or a pipe; remove it first"):
        write_retuned(plan, path, command="", in_place=True)
    assert systems(path)[0].sobolev is None


def test_the_sidecar_of_a_link_lies_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path = saved(tmp_path / "real" / "model.npz")
    (tmp_path / "link.npz").symlink_to(path)
    link = tmp_path / "link.npz"
    write_retuned(plan_retune(link, Recipe(weighting=Weighting(beta=0.5))), link, command="", in_place=True)
    assert (tmp_path / "link.npz").is_symlink()
    assert sorted(found.name for found in (tmp_path / "real").iterdir()) == ["model.npz", "model.npz.ssmspec.json"]
    for name in ("link.npz", "real/model.npz"):
        assert systems(tmp_path / name)[0].sobolev is not None
