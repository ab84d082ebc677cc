"""Which step of a run each of its checkpoints belongs to, by the names of their files."""

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from ssmspec.checkpoint.remote.path import stem_in

MEASURES = "measures.jsonl"  # of a run folder: one line per checkpoint, in order, with its step
NUMBER = re.compile(r"\d+")


def steps_of(paths: Sequence[Path | str]) -> tuple[int, ...] | None:
    """The steps of the checkpoints of a run, rising; None unless all names say them.

    The step is the last number in the name of a file. `initial` stands for 0, and `final` for the last step that the folder of the run
    records.
    """
    found = [_step_of(path) for path in paths]
    steps = tuple(step for step in found if step is not None)
    rising = all(a < b for a, b in pairwise(steps))
    return steps if len(steps) == len(found) and rising else None


def _step_of(path: Path | str) -> int | None:
    stem = stem_in(str(path))
    if stem in ("initial", "final"):
        return 0 if stem == "initial" else _last_step(Path(path).parent / MEASURES)
    numbers = NUMBER.findall(stem)
    return int(numbers[-1]) if numbers else None


def _last_step(measures: Path) -> int | None:
    try:
        lines = measures.read_text(encoding="utf-8").splitlines()
        step = json.loads(lines[-1])["step"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return step if isinstance(step, int) else None
