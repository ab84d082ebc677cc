"""Folders of Megatron, NeMo and DeepSpeed with a part of the model for every tensor-parallel rank, and for every pipeline stage.

Sources: Megatron-LM, training/checkpointing.py (iter_0000010/mp_rank_00_000/model_optim_rng.pt, latest_checkpointed_iteration.txt); NeMo,
utils/app_state (mp_rank_00, tp_rank_00_pp_rank_000); DeepSpeed, runtime/engine.py (mp_rank_00_model_states.pt, the file "latest").
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ssmspec.checkpoint.derived import AnyTensor
from ssmspec.checkpoint.formats.folders import ReadFile, choose
from ssmspec.checkpoint.remote.path import Location, entries
from ssmspec.checkpoint.tensor_parallel import join_ranks
from ssmspec.checkpoint.tensors import Contents, problem, short

RANK = re.compile(r"mp_rank_(?P<tensor>\d{2,})(?:_(?P<stage>\d{3}))?(?:_(?P<expert>\d{3}))?(?P<file>_model_states\.pt)?")
RANK_2 = re.compile(r"tp_rank_(?P<tensor>\d+)_pp_rank_(?P<stage>\d+)(?:_ep_rank_(?P<expert>\d+))?(?P<file>\.(?:pt|ckpt))?")
STEP = re.compile(r"(iter_\d+|global_step\d+|release)")
LATEST = ("latest_checkpointed_iteration.txt", "latest")
WEIGHTS = ("model_optim_rng.pt", "model_weights.ckpt", "model_rng.pt")
PARALLEL = ("tensor_model_parallel_size", "model_parallel_size", "tensor_parallel_size")
MAX_RANKS = 4096
SHOWN = 4


@dataclass(frozen=True, slots=True)
class Rank:
    """A file or folder of one rank: of the tensors, of the pipeline's layers, of the experts."""

    path: Location
    tensor: int
    stage: int
    expert: int


def rank_of(path: Location) -> Rank | None:
    """What the name of a file or folder says."""
    match = RANK.fullmatch(path.name) or RANK_2.fullmatch(path.name)
    if match is None or (match["file"] is not None) != path.is_file():
        return None
    return Rank(path, int(match["tensor"]), int(match["stage"] or 0), int(match["expert"] or 0))


def ranks_in(folder: Location) -> list[Rank]:
    """The ranks of a folder, in order."""
    found = [rank for entry in folder.iterdir() if (rank := rank_of(entry)) is not None]
    return sorted(found, key=lambda rank: (rank.stage, rank.tensor, rank.expert, rank.path.name))


def latest_step(folder: Location) -> Location | None:
    """The folder of the step that a run's folder calls the latest, or of its only one.

    Raises:
        CheckpointError: several steps, and nothing that says which.
    """
    steps = [entry for entry in entries(folder) if entry.is_dir() and STEP.fullmatch(entry.name)]
    if not steps:
        return None
    for name in LATEST:
        place = folder / name
        if place.is_file() and place.stat().st_size < 200:
            text = place.read_text("utf-8", "replace").strip()
            wanted = (text, f"iter_{text:0>7}" if text.isdigit() else text)
            found = next((step for step in steps if step.name in wanted), None)
            if found is not None:
                return found
    if len(steps) > 1:
        names = ", ".join(step.name for step in steps[:SHOWN]) + (", ..." if len(steps) > SHOWN else "")
        raise problem(folder, f"a folder with {len(steps)} steps of a run ({names}); name one of them")
    return steps[0]


def read_ranks(folder: Location, ranks: list[Rank], read_file: ReadFile) -> tuple[Contents, int]:
    """All ranks of a folder as one model.

    Raises:
        CheckpointError: a rank is missing, or ranks do not fit together.
    """
    if len(ranks) > MAX_RANKS:
        raise problem(folder, f"{len(ranks)} ranks in one folder; expected at most {MAX_RANKS}")
    first = min(rank.expert for rank in ranks)
    experts = len({rank.expert for rank in ranks})
    stages: dict[int, dict[int, Rank]] = {}
    for rank in ranks:
        if rank.expert == first:
            stages.setdefault(rank.stage, {})[rank.tensor] = rank
    count = max(max(stage) for stage in stages.values()) + 1
    for stage, found in stages.items():
        missing = next((number for number in range(count) if number not in found), None)
        if missing is not None:
            raise problem(folder, f"tensor-parallel rank {missing} of {count} is missing (stage {stage}); fetch all ranks of this step")
    if set(stages) != set(range(len(stages))):
        raise problem(folder, f"pipeline stages {', '.join(map(str, sorted(stages)))}: some are missing; fetch all ranks of this step")
    return _joined(folder, stages, (count, experts), read_file)


def _joined(
    folder: Location, stages: Mapping[int, Mapping[int, Rank]], counts: tuple[int, int], read_file: ReadFile
) -> tuple[Contents, int]:
    count, experts = counts
    tensors: dict[str, AnyTensor] = {}
    left: list[str] = []
    opened: list[Contents] = []
    size = 0
    for stage in sorted(stages):
        contents = []
        for number in range(count):
            found, nbytes = read_file(weights_of(stages[stage][number].path))
            contents.append(found)
            size += nbytes
        told = told_ranks(contents[0].config)
        if told > count:
            raise problem(folder, f"{count} of the {told} tensor-parallel ranks that its args tell; fetch all ranks of this step")
        joined, unknown = join_ranks([part.tensors for part in contents], contents[0].config, folder)
        start = f"stage{stage}." if len(stages) > 1 else ""
        tensors |= {start + name: tensor for name, tensor in joined.items()}
        left += [start + name for name in unknown]
        opened += contents
    notes = [*dict.fromkeys(note for part in opened for note in part.notes)]
    if count > 1 or len(stages) > 1:
        notes.insert(0, f"joined from {count} tensor-parallel rank{'s' if count > 1 else ''}{_of_stages(len(stages))}")
    if left:
        notes.append(f"{_some(left)}: skipped, as no rule says how their ranks are joined")
    if experts > 1:
        notes.append(f"experts of {experts - 1} other expert-parallel rank{'s' if experts > 2 else ''} skipped")
    files = {path: stamp for part in opened for path, stamp in part.files.items()}
    container = f"{opened[0].container} (tensor-parallel ranks)"
    return Contents(container, tensors, opened[0].config, tuple(notes), files, unjoined=tuple(left)), size


def _of_stages(count: int) -> str:
    return f" in each of {count} pipeline stages, whose layers are numbered anew in each" if count > 1 else ""


def _some(names: list[str]) -> str:
    return ", ".join(short(name, 80) for name in names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def weights_of(place: Location) -> Location:
    """The file with the weights of a rank.

    Raises:
        CheckpointError: none, or several.
    """
    if not place.is_dir():
        return place
    return next((place / name for name in WEIGHTS if (place / name).is_file()), None) or choose(place)[0]


def told_ranks(config: Mapping[str, object]) -> int:
    """How many tensor-parallel ranks a configuration tells; 1 where it tells nothing."""
    return max((n for key in PARALLEL if isinstance(n := config.get(key), int) and n > 0), default=1)


def alone(given: Location, file: Location, config: Mapping[str, object]) -> str:
    """What part of a model a single rank is, in words; "" where it is not known to be one."""
    places = [place for place in (given, file, file.parent) if rank_of(place) is not None]
    told = told_ranks(config)
    if not places:
        return f"one tensor-parallel rank of {told} (its args say so)" if told > 1 else ""
    rank = rank_of(places[0])
    assert rank is not None
    try:
        siblings = ranks_in(rank.path.absolute().parent)
    except OSError:
        siblings = []
    count = max(told, *(other.tensor + 1 for other in siblings), rank.tensor + 1)
    stages = max((other.stage + 1 for other in siblings), default=1)
    if count == 1 and stages == 1:
        return ""
    text = f"tensor-parallel rank {rank.tensor} of {count}"
    return text if stages == 1 else f"{text}, pipeline stage {rank.stage} of {stages}"
