"""Half-lives of decay gates in tables: their column, the context that they are compared with, and the copies that never forget."""

import json
from pathlib import Path

import numpy as np
import pytest
from decaying import decaying, half_lives
from factories import make
from program import Type
from safetensors.numpy import save_file

from ssmspec.families.configuration import context_length


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return decaying(tmp_path)


def test_table_of_decay_gates_has_half_lives_and_no_bias(typed: Type, model: Path) -> None:
    done = typed("analyze", str(model))
    assert "half_life" in done.out
    assert "bias_slope" not in done.out


def test_half_lives_are_compared_with_the_context(typed: Type, model: Path) -> None:
    lives = half_lives()
    done = typed("analyze", str(model))
    text = f"half-lives of 12 heads or channels in 2 layers: {lives.min():.3g}..{lives.max():.3g} tokens, median {np.median(lives):.3g}"
    share = 100 * (lives > 4096).mean()
    assert f"{text}; longer than the context of 4096 tokens (context_length of the configuration) in {share:.3g} %" in done.out


def test_copies_that_keep_more_than_half_over_the_context_are_named(typed: Type, model: Path) -> None:
    copies = [", ".join(str(copy) for copy in np.flatnonzero(lives > 4096)) for lives in half_lives().reshape(2, 6)]
    assert copies == ["4, 5", "3, 4, 5"]
    done = typed("analyze", str(model))
    assert "5 copies never forget: they keep more than half over 4096 tokens, the context" in done.out
    assert f"(blocks.0.att: {copies[0]}; blocks.1.att: {copies[1]})" in done.out


def test_without_a_configuration_a_million_tokens_count_as_never(typed: Type, model: Path) -> None:
    (model / "config.json").unlink()
    done = typed("analyze", str(model))
    assert "the context length is not known" in done.out
    assert "2 copies never forget: they keep more than half over 1000000 tokens (blocks.0.att: 5; blocks.1.att: 5)" in done.out


def test_the_lines_are_in_json(typed: Type, model: Path) -> None:
    notes = json.loads(typed("analyze", str(model), "--json").out)["notes"]
    assert any(note.startswith("half-lives of 12 heads or channels") for note in notes)


def test_file_with_other_layers_has_both_columns(typed: Type, tmp_path: Path) -> None:
    save_file(make("rwkv-7").under("layers.0") | make("s4d").under("layers.1"), tmp_path / "both.safetensors")
    done = typed("analyze", str(tmp_path / "both.safetensors"))
    assert "half_life" in done.out
    assert "bias_slope" in done.out
    (row,) = [line for line in done.out.splitlines() if "layers.0" in line and " x 1 " in line]
    assert row.split()[6] == "-"  # the bias; the step before it is a dash, too


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, None),
        ({"ctx_len": 1024}, (1024, "ctx_len of the configuration")),
        ({"text_config": {"max_position_embeddings": 8192}}, (8192, "text_config.max_position_embeddings of the configuration")),
        ({"context_length": "long", "n_ctx": -1}, None),
    ],
)
def test_context_comes_from_the_configuration(config: dict[str, object], expected: tuple[int, str] | None) -> None:
    assert context_length(config) == expected


def test_half_lives_are_drawn_over_depth(typed: Type, model: Path, tmp_path: Path) -> None:
    typed("analyze", str(model), "--plot", str(tmp_path / "pictures"))
    assert [path.name for path in (tmp_path / "pictures").glob("*.memory.png")] == [f"{model.name}.memory.png"]


def test_picture_has_a_dot_per_copy_a_median_per_layer_and_the_context(model: Path) -> None:
    from ssmspec.commands.analyze import analyze
    from ssmspec.report.figures.half_lives import memory_figure

    analysis = analyze(model)
    (axes,) = memory_figure(analysis.layers, "model", analysis.context_length).axes
    lines = [np.asarray(line.get_xdata(), float) for line in axes.lines]
    dots, medians, context = [x for x in lines if x.size == 6], [x[0] for x in lines if x.size == 2 and x[0] != 4096], lines[-1]
    np.testing.assert_allclose(np.concatenate(dots), np.sort(half_lives().reshape(2, 6), axis=1).reshape(-1), rtol=1e-6)
    np.testing.assert_allclose(medians, np.median(half_lives().reshape(2, 6), axis=1), rtol=1e-6)
    assert list(context) == [4096, 4096]
