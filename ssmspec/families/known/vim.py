"""Mamba-1 in several directions: Vim, VideoMamba, SegMamba, mamba.py's vim, LocalMamba. Every direction is a layer of its own.

Each direction runs the recurrence of Mamba-1 over the tokens in its order: `forward` as they come, `backward` from the last one on
(A_b_log or A_log_b, and x_proj_b, dt_proj_b, D_b), `slices` one token of every slice after the other (SegMamba, A_s_log). Other letters are
orders of their own. The outputs are added, in some code also halved, which no tensor tells. Vim v1 has a second A alone, and shares the
rest. LocalMamba numbers its directions, A_log_0 and so on; which path over the image each one takes is in no tensor.
"""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from ssmspec.families.directions import part, together
from ssmspec.families.known import mamba1
from ssmspec.families.template import Family, LayerTensors, ReadOptions, Slot, Template
from ssmspec.systems.statespace import StateSpace

LETTERS = {"b": "backward", "s": "slices", "c": "c", "d": "d"}
OWN = ("A_log", "dt_bias", "x_proj", "x_proj_bias", "dt_proj", "D")
NORMS = tuple(mamba1.NORM_SLOTS)
MOST_NUMBERED = 8  # LocalMamba searches among as many


def _directions(layer: LayerTensors) -> list[tuple[str, dict[str, str]]]:
    """Name ends and roles of the directions; one with an A alone shares the rest with the first."""
    found = []
    for label in (role.removeprefix("A_log") for role in layer.tensors if role.startswith("A_log")):  # "", ".backward"; or ".0", ".1"
        own = OWN if f"dt_bias{label}" in layer else ("A_log",)
        roles = {role: role + label if role in own else role for role in OWN}
        found.append((":" + (label.removeprefix(".") or "forward"), roles | {role: role for role in NORMS}))
    return found


def read(layer: LayerTensors, options: ReadOptions) -> list[StateSpace]:
    """One system per direction, each as Mamba-1."""
    return [system for label, roles in _directions(layer) for system in mamba1.read(part(layer, label, roles), options)]


def write(layer: LayerTensors, systems: Sequence[StateSpace], options: ReadOptions) -> dict[str, npt.NDArray[Any]]:
    """The inverse of `read`: A_log, the bias of Delta and D of every direction."""
    pairs = zip(_directions(layer), systems, strict=True)
    return together(layer, [(roles, mamba1.write(part(layer, label, roles), [system], options)) for (label, roles), system in pairs])


def _slots(letter: str, label: str, group: str | None) -> Template:
    """The tensors of one direction, whose names end with a letter or a number."""
    shapes = {"A_log": "d N", "dt_bias": "d", "x_proj": "rows d", "x_proj_bias": "rows", "dt_proj": "d r", "D": "d"}
    names = mamba1.names_of_direction(letter)
    return {f"{role}.{label}": Slot(names[role], shape, role in ("x_proj_bias", "D"), group) for role, shape in shapes.items()}


_FIRST: dict[str, Slot] = dict(mamba1.MAMBA1.templates[0])
_SECOND_A = {f"A_log.{label}": Slot(f"A_{letter}_log|A_log_{letter}", "d N", letter != "b") for letter, label in LETTERS.items()}

VIM = Family(
    name="vim",
    title="Mamba-1 in several directions: Vim v2, VideoMamba, SegMamba, mamba.py's vim",
    source="hustvl/Vim, mamba-1p1p1/mamba_ssm/modules/mamba_simple.py; ge-xing/SegMamba, mamba/mamba_ssm/modules/mamba_simple.py; "
    "OpenGVLab/VideoMamba; mamba.py, mambapy/vim.py; arXiv 2401.09417",
    templates=(
        _FIRST
        | {
            role: slot
            for letter, label in LETTERS.items()
            for role, slot in _slots(letter, label, None if letter == "b" else f"direction {label}").items()
        },
    ),
    read=read,
    write=write,
    selective=True,
    initial_steps=(1e-3, 1e-1),
    initial_decays=(1.0, 16.0),
)

VIM_V1 = Family(
    name="vim-v1",
    title="Vim v1: Mamba-1 with a second A for the backward direction",
    source="hustvl/Vim, mamba-1p1p1/mamba_ssm/modules/mamba_simple.py (bimamba_type v1); arXiv 2401.09417",
    templates=(_FIRST | _SECOND_A,),
    read=read,
    write=write,
    absent=tuple(name for letter in LETTERS for role, name in mamba1.names_of_direction(letter).items() if role != "A_log"),
    selective=True,
    initial_steps=(1e-3, 1e-1),
    initial_decays=(1.0, 16.0),
)

LOCAL_MAMBA = Family(
    name="local-mamba",
    title="LocalMamba: Mamba-1 in numbered directions",
    source="hunto/LocalMamba, classification/lib/models/mamba/multi_mamba.py; arXiv 2403.09338",
    templates=(
        {
            role: slot
            for number in range(MOST_NUMBERED)
            for role, slot in _slots(str(number), str(number), None if number == 0 else f"direction {number}").items()
        },
    ),
    read=read,
    write=write,
    selective=True,
    initial_steps=(1e-3, 1e-1),
    initial_decays=(1.0, 16.0),
)
