"""From two checkpoints to what changed between them, and from many to a history; the counterpart of `analyze`."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from ssmspec.backends import CauchySum, load_backend
from ssmspec.checkpoint import common_name, is_folder_checkpoint, natural_key, plain_name
from ssmspec.checkpoint.remote.path import is_address, title_of
from ssmspec.commands.analyze import AnalysisOptions, Progress, Work, analyze, analyze_layer, each, pairs_of
from ssmspec.commands.chosen_layers import ChosenLayers, choose_layers
from ssmspec.errors import LayerError, SsmspecError, about
from ssmspec.families.tensor_changes import tensor_changes
from ssmspec.statistics import CheckpointAnalysis, Spectrum, spectrum_of
from ssmspec.statistics.changes import (
    CheckpointComparison,
    LayerComparison,
    differences,
    distances_between,
    no_distances,
    shapes_differ,
)
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.system import System
from ssmspec.systems.trust import Trust, assess

ENDS = {"initial": 0, "final": 2}  # names in a training run that sort before and after its numbered steps
STEP = re.compile(r"(?:step|iter|iteration|checkpoint|ckpt)[-_=]*(\d+)", re.IGNORECASE)
SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".npz", ".msgpack", ".eqx")


def compare(
    before: Path | str,
    after: Path | str,
    options: AnalysisOptions | None = None,
    *,
    by_order: bool = False,
    progress: Progress | None = None,
) -> CheckpointComparison:
    """What changed from one checkpoint to another.

    Args:
        before, after: checkpoints, as for `analyze`. The options apply to both; their statistics must include bias_slope, for the verdict.
        by_order: pair layers by their order instead of their names.
        progress: called with (layer name, pairs done, total number of pairs).
    Raises:
        SsmspecError: as `analyze` for either file. LayerError: no layer of one file has a partner in the other.
    """
    options = options or AnalysisOptions()
    start, end = (choose_layers(path, options.layers, options.family, options.read, needed=True) for path in (before, after))
    return compare_chosen(start, end, options, by_order=by_order, progress=progress)


def compare_chosen(
    before: ChosenLayers, after: ChosenLayers, options: AnalysisOptions, *, by_order: bool = False, progress: Progress | None = None
) -> CheckpointComparison:
    """What changed between layers that were read, and between their stored tensors; otherwise as `compare`."""
    start, end = ((str(side.checkpoint.path), side.systems) for side in (before, after))
    found = compare_systems(start, end, options, by_order=by_order, progress=progress)
    pairs = [(before.tensors[layer.name], after.tensors[layer.after.name]) for layer in found.layers]
    return replace(found, tensors=tensor_changes(pairs))


def compare_systems(
    before: tuple[Path | str, Sequence[System]],
    after: tuple[Path | str, Sequence[System]],
    options: AnalysisOptions,
    *,
    by_order: bool = False,
    progress: Progress | None = None,
) -> CheckpointComparison:
    """What changed between two versions of some layers. Each version comes with the name of its source; otherwise as `compare`."""
    (before_path, left), (after_path, right) = before, after
    pairs = list(zip(left, right, strict=False)) if by_order else _pairs_by_name(left, right)
    if not pairs:
        names = [", ".join(system.name for system in systems[:3]) for systems in (left, right)]
        raise LayerError(
            f"{before_path} and {after_path} share no layer name ({names[0]}; {names[1]}); use --by-order to pair layers by their order"
        )
    amount = sum(pairs_of(system, options.points, options.chosen) for pair in pairs for system in pair)
    backend = options.backend_for(amount)
    engine, grid = load_backend(backend), FrequencyGrid.default(options.points)

    def layer(pair: tuple[System, System]) -> LayerComparison:
        return _compare_layers(*pair, grid, engine, options)

    with about(f"{before_path} and {after_path}"):
        layers = each(layer, pairs, Work(engine, backend, amount, options.threads), progress, lambda pair: pair[0].name)
    matched = ({a.name for a, _ in pairs}, {b.name for _, b in pairs})
    return CheckpointComparison(
        before=str(before_path),
        after=str(after_path),
        backend=backend,
        grid=grid,
        matched_by="order" if by_order else "name",
        layers=tuple(layers),
        only_before=tuple(system.name for system in left if system.name not in matched[0]),
        only_after=tuple(system.name for system in right if system.name not in matched[1]),
        notes=(*_differences_in_kind(pairs), *_faults(layers)),
    )


def _pairs_by_name(left: Sequence[System], right: Sequence[System]) -> list[tuple[System, System]]:
    """Layers whose names agree; of the others those that agree without what wrappers put into them, then without `model.` and the like.

    An averaged copy of the weights is compared with another one only.
    """
    partners: dict[str, System] = {}
    for name_of in (str, plain_name, common_name):
        taken = {system.name for system in partners.values()}
        free = Counter(name_of(system.name) for system in left if system.name not in partners)
        by_name: dict[object, list[System]] = {}
        for system in right:
            if system.name not in taken:
                by_name.setdefault(name_of(system.name), []).append(system)
        for system in left:
            found = by_name.get(name_of(system.name), ())
            if system.name not in partners and len(found) == 1 and free[name_of(system.name)] == 1:
                partners[system.name] = found[0]
    return [(system, partners[system.name]) for system in left if system.name in partners]


def _differences_in_kind(pairs: Sequence[tuple[System, System]]) -> list[str]:
    notes = []
    for a, b in pairs:
        if a.family != b.family:
            notes.append(f"{a.name} is {a.family} before and {b.family} after")
        if a.shape_text != b.shape_text:
            notes.append(f"{a.name} has {a.shape_text} (copies x {a.sized_in}) before and {b.shape_text} after")
    assumed: dict[str, list[str]] = {}
    for a, b in pairs:
        for text in dict.fromkeys((*a.assumptions, *b.assumptions)):
            assumed.setdefault(text, []).append(a.name)
    return notes + [f"assumed for {_all_or_some(names, len(pairs))}: {text}" for text, names in assumed.items()]


def _all_or_some(names: Sequence[str], everything: int) -> str:
    return f"all {everything} layers" if len(names) == everything > 1 else ", ".join(names)


def _compare_layers(a: System, b: System, grid: FrequencyGrid, engine: CauchySum, options: AnalysisOptions) -> LayerComparison:
    """Each version with its own sound copies, and the distances of the copies that are sound in both."""
    systems, trusts = (a, b), (assess(a), assess(b))

    def spectrum(system: System) -> Spectrum:
        return spectrum_of(system, grid, engine, with_skip=options.with_skip)

    spectra = [None if t.problem else spectrum(t.pick(s)) for s, t in zip(systems, trusts, strict=True)]
    before, after = (
        analyze_layer(s, grid, engine, with_skip=options.with_skip, spectrum=own, trust=t, chosen=options.chosen)
        for s, own, t in zip(systems, spectra, trusts, strict=True)
    )
    common = np.intersect1d(trusts[0].sound, trusts[1].sound)
    problem = shapes_differ(a, b) or _no_common_copy(trusts, common)
    if problem:
        distances = no_distances(problem)
    else:
        pair = [
            own if own is not None and len(t.sound) == len(common) else spectrum(s.pick(common))
            for s, own, t in zip(systems, spectra, trusts, strict=True)
        ]
        distances = distances_between(pair[0], pair[1])
    return LayerComparison(before, after, differences(before, after), distances)


def _no_common_copy(trusts: tuple[Trust, Trust], common: np.ndarray) -> str | None:
    if common.size:
        return None
    found = {when: trust.problem or "; ".join(trust.gaps) for when, trust in zip(("before", "after"), trusts, strict=True)}
    return "; ".join(f"{when}: {text}" for when, text in found.items() if text)


def _faults(layers: Sequence[LayerComparison]) -> list[str]:
    """What is wrong with some copies of a layer, in either version."""
    return [
        f"{version.name} {when}: {fault.text}"
        for layer in layers
        for when, version in (("before", layer.before), ("after", layer.after))
        for fault in version.faults
        if not version.problem
    ]


def history(paths: Sequence[Path | str], options: AnalysisOptions | None = None) -> list[CheckpointAnalysis]:
    """Analyses of the checkpoints of a run, in the order given.

    Raises:
        SsmspecError: a checkpoint cannot be analyzed, or its layers differ from those of the first.
    """
    return as_history(paths, [analyze(path, options) for path in paths])


def as_history(paths: Sequence[Path | str], analyses: list[CheckpointAnalysis]) -> list[CheckpointAnalysis]:
    """The analyses of these checkpoints, if they are those of one model. Raises as `history`, for layers."""
    for analysis in analyses:
        if not analysis.layers:
            raise LayerError(f"{analysis.path}: {analysis.problem}")
    names = [[plain_name(layer.name) for layer in analysis.layers] for analysis in analyses]
    for path, found in zip(paths, names, strict=True):
        if found != names[0]:
            raise SsmspecError(
                f"{path} and {paths[0]} have different layers ({len(found)} and {len(names[0])}); a history needs the same model"
            )
    return analyses


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoint files of a folder in natural order of their names, with `initial` first and `final` last.

    If the folder is one checkpoint of several files, the folder itself is returned. If it has no file but folders that are checkpoints (the
    steps of a run), they are returned.

    Raises:
        SsmspecError: the folder has no checkpoint.
    """
    if any((folder / name).exists() for name in ("config.json", "model.safetensors.index.json", "pytorch_model.bin.index.json")):
        return [folder]
    if is_folder_checkpoint(folder):
        return [folder]
    found = [path for path in folder.iterdir() if path.name.endswith(SUFFIXES) and path.is_file()]
    found = found or [path for path in folder.iterdir() if path.is_dir() and is_folder_checkpoint(path)]
    if not found:
        raise SsmspecError(f"{folder} is a folder without checkpoints; expected files ending in {', '.join(SUFFIXES)}")
    return sorted(found, key=lambda path: (ENDS.get(path.stem, 1), natural_key(path.name)))


def steps_of_run(paths: Sequence[Path | str]) -> list[int] | None:
    """The training step of every checkpoint, from its name or that of its folder; None if one is not known, or if they do not rise.

    It is the number after `step`, `iter`, `checkpoint` or `ckpt`, or the only number where names differ in nothing else. `initial` is step
    0, and `final` the last one that the `config.toml` of a training run beside it states.
    """
    names = [_run_name(path) for path in paths]
    bare = {re.sub(r"\d+", "#", name) for name in names if name not in ENDS}
    numbered = len(bare) == 1 and bare.pop().count("#") == 1 and not any("epoch" in name.lower() for name in names)
    steps = [_step_of(path, name, numbered=numbered) for path, name in zip(paths, names, strict=True)]
    known = [step for step in steps if step is not None]
    return known if len(known) == len(steps) and all(a < b for a, b in pairwise(known)) else None


def _run_name(path: Path | str) -> str:
    """The part of a path that tells a checkpoint from others of its run: the name of the file, or else its folder."""
    title = title_of(path)
    stem = title.removesuffix(next((suffix for suffix in SUFFIXES if title.endswith(suffix)), ""))
    if is_address(path) or stem in ENDS or re.search(r"\d", stem):
        return stem
    return Path(path).resolve().parent.name


def _step_of(path: Path | str, name: str, *, numbered: bool) -> int | None:
    if name == "initial":
        return 0
    if name == "final":
        return None if is_address(path) else _last_step(Path(path).parent / "config.toml")
    found = STEP.findall(name) or (re.findall(r"\d+", name) if numbered else [])
    return int(found[-1]) if found else None


def _last_step(config: Path) -> int | None:
    import tomllib  # rarely needed

    try:
        steps = tomllib.loads(config.read_text(encoding="utf-8"))["settings"]["steps"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return steps if isinstance(steps, int) else None
