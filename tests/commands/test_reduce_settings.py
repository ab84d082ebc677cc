"""Values that state the size of the state: config.toml of a run as text, and integers inside the pickle of a torch file."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from program import Type, s4d_tensors

from ssmspec.commands.reduce_settings import with_toml_size
from ssmspec.errors import SsmspecError
from ssmspec.families.state_size import Change

CHANGE = Change(32, 12, (2, 8))
RUN = """\
# by hand
schema = "ssmspec.run/1"
command = "train --set d_state=64"
steps = 64

[settings]   # of the task
d_state = 64   # both poles of a pair
d_model = 64
n_ssm = 2
label = "d_state = 64"

[start]
checkpoint = "before.safetensors"
sha256 = "00"

[ environment ]
ssmspec = "0.1.0"
processes = 1
"""


def test_a_run_keeps_its_text_but_for_the_size_and_its_start() -> None:
    content, stated = with_toml_size(RUN, CHANGE, "config.toml")
    text, config = content.decode(), tomllib.loads(content.decode())
    assert [(value.key, value.before, value.after) for value in stated] == [("settings.d_state", 64, 24), ("settings.n_ssm", 2, 8)]
    before = tomllib.loads(RUN)
    del before["start"]
    before["settings"] |= {"d_state": 24, "n_ssm": 8}
    assert config == before
    assert "d_state = 24   # both poles of a pair\n" in text
    assert "# by hand\n" in text
    assert text.startswith("# By ssmspec reduce, settings.d_state 64 -> 24, settings.n_ssm 2 -> 8; ")


def test_other_sizes_and_other_keys_stay() -> None:
    content, stated = with_toml_size("d_state = 63\nwidth = 64\n", CHANGE, "config.toml")
    assert stated == []
    assert tomllib.loads(content.decode()) == {"d_state": 63, "width": 64}


def test_a_size_inside_a_line_is_not_rewritten() -> None:
    assert with_toml_size("layer = {d_state = 64}\n", CHANGE, "config.toml") is None


def test_what_is_no_toml_is_refused() -> None:
    with pytest.raises(SsmspecError, match=r"config\.toml"):
        with_toml_size("d_state 64", CHANGE, "config.toml")


def saved(path: Path, make: object) -> dict[str, torch.Tensor]:
    tensors = {name: torch.from_numpy(np.array(values)) for name, values in s4d_tensors(layers=1, H=4, N=6).items()}
    torch.save(make(tensors), path)
    return tensors


def test_a_configuration_that_two_entries_share_is_rewritten_once(typed: Type, tmp_path: Path) -> None:
    shared = {"d_state": 12}
    saved(tmp_path / "a.pt", lambda tensors: {"model": tensors, "config": shared, "hparams": {"layer": shared, "n": 12}})
    assert typed("reduce", str(tmp_path / "a.pt"), "--modes", "2", "--no-timing", "-o", str(tmp_path / "b.pt")).code == 0
    found = torch.load(tmp_path / "b.pt", weights_only=False)
    assert found["config"] == {"d_state": 4}
    assert found["hparams"] == {"layer": {"d_state": 4}, "n": 12}
    assert found["config"] is found["hparams"]["layer"]


def test_a_dict_that_is_also_something_else_is_named_and_stays(typed: Type, tmp_path: Path) -> None:
    shared = {"d_state": 12}
    saved(tmp_path / "a.pt", lambda tensors: {"model": tensors, "config": shared, "cache": shared})
    result = typed("reduce", str(tmp_path / "a.pt"), "--modes", "2", "--no-timing", "-o", str(tmp_path / "b.pt"))
    assert "the settings inside the file stay as they are; the model of the result needs d_state 12 -> 4" in result.out
    assert torch.load(tmp_path / "b.pt", weights_only=False)["config"] == {"d_state": 12}


def test_settings_beside_the_tensors_of_a_tuple_are_named(typed: Type, tmp_path: Path) -> None:
    saved(tmp_path / "a.pt", lambda tensors: (tensors, {"d_state": 12}))
    result = typed("reduce", str(tmp_path / "a.pt"), "--modes", "2", "--no-timing", "-o", str(tmp_path / "b.pt"))
    assert result.code == 0, result
    assert "the model of the result needs d_state 12 -> 4" in result.out
