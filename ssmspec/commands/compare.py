"""From two checkpoints to what changed between them, and from many to a history: twin of `analysis`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ssmspec.backends import CauchySum, choose_backend, load_backend
from ssmspec.checkpoint import common_name, natural_key, open_checkpoint, plain_name
from ssmspec.commands.analyze import AnalysisOptions, Progress, analyze, analyze_layer, pairs_of
from ssmspec.errors import LayerError, SsmspecError, about
from ssmspec.families.layers import find_layers, read_systems, select_layers
from ssmspec.statistics import CheckpointAnalysis, LayerSpectrum
from ssmspec.statistics.changes import CheckpointComparison, LayerComparison, differences, distances_between
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.statespace import StateSpace, untrustworthy

ENDS = {"initial": 0, "final": 2}  # names of a training run that stand before and after its steps
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
        before, after: checkpoints, as for `analyze`; options hold for both.
        by_order: pair layers by their order instead of their names.
        progress: called with (layer name, pairs done, pairs in all).
    Raises:
        SsmspecError: as `analyze` for either file; LayerError when no layer of one has a partner in the other.
    """
    options = options or AnalysisOptions()
    left, right = _systems(before, options), _systems(after, options)
    return compare_systems((before, left), (after, right), options, by_order=by_order, progress=progress)


def compare_systems(
    before: tuple[Path | str, Sequence[StateSpace]],
    after: tuple[Path | str, Sequence[StateSpace]],
    options: AnalysisOptions,
    *,
    by_order: bool = False,
    progress: Progress | None = None,
) -> CheckpointComparison:
    """What changed between two versions of some layers, each with the name of where they come from; otherwise as `compare`."""
    (before_path, left), (after_path, right) = before, after
    pairs = list(zip(left, right, strict=False)) if by_order else _pairs_by_name(left, right)
    if not pairs:
        names = [", ".join(system.name for system in systems[:3]) for systems in (left, right)]
        raise LayerError(
            f"{before_path} and {after_path} share no layer name ({names[0]}; {names[1]}); --by-order pairs layers by their order"
        )
    backend = options.backend or choose_backend(sum(pairs_of(system, options.points) for pair in pairs for system in pair))
    engine, grid = load_backend(backend), FrequencyGrid.default(options.points)
    layers = []
    with about(f"{before_path} and {after_path}"):
        for done, (a, b) in enumerate(pairs):
            if progress:
                progress(a.name, done, len(pairs))
            layers.append(_compare_layers(a, b, grid, engine, with_skip=options.with_skip))
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
        notes=tuple(_differences_in_kind(pairs)),
    )


def _systems(path: Path | str, options: AnalysisOptions) -> list[StateSpace]:
    checkpoint = open_checkpoint(path)
    systems, _ = read_systems(checkpoint, find_layers(checkpoint, options.family, options.read), options.read)
    return select_layers(systems, options.layers, checkpoint)


def _pairs_by_name(left: Sequence[StateSpace], right: Sequence[StateSpace]) -> list[tuple[StateSpace, StateSpace]]:
    """Layers whose names agree; of the others those that agree without what wrappers put into them, then without `model.` and the like.

    An averaged copy of the weights is compared with another one only.
    """
    partners: dict[str, StateSpace] = {}
    for name_of in (str, plain_name, common_name):
        taken = {system.name for system in partners.values()}
        free = Counter(name_of(system.name) for system in left if system.name not in partners)
        by_name: dict[object, list[StateSpace]] = {}
        for system in right:
            if system.name not in taken:
                by_name.setdefault(name_of(system.name), []).append(system)
        for system in left:
            found = by_name.get(name_of(system.name), ())
            if system.name not in partners and len(found) == 1 and free[name_of(system.name)] == 1:
                partners[system.name] = found[0]
    return [(system, partners[system.name]) for system in left if system.name in partners]


def _differences_in_kind(pairs: Sequence[tuple[StateSpace, StateSpace]]) -> list[str]:
    notes = []
    for a, b in pairs:
        if a.family != b.family:
            notes.append(f"{a.name} is {a.family} before and {b.family} after")
        if (a.copies, a.modes) != (b.copies, b.modes):
            notes.append(f"{a.name} has {a.copies} x {a.modes} before and {b.copies} x {b.modes} after")
    assumed: dict[str, list[str]] = {}
    for a, b in pairs:
        for text in dict.fromkeys((*a.assumptions, *b.assumptions)):
            assumed.setdefault(text, []).append(a.name)
    return notes + [f"assumed for {_all_or_some(names, len(pairs))}: {text}" for text, names in assumed.items()]


def _all_or_some(names: Sequence[str], everything: int) -> str:
    return f"all {everything} layers" if len(names) == everything > 1 else ", ".join(names)


def _compare_layers(a: StateSpace, b: StateSpace, grid: FrequencyGrid, engine: CauchySum, *, with_skip: bool) -> LayerComparison:
    problems = [f"{when}: {problem}" for when, system in (("before", a), ("after", b)) if (problem := untrustworthy(system))]
    spectra = [None if untrustworthy(s) else LayerSpectrum(s, grid, engine, with_skip=with_skip) for s in (a, b)]
    before, after = (
        analyze_layer(s, grid, engine, with_skip=with_skip, spectrum=spectrum) for s, spectrum in zip((a, b), spectra, strict=True)
    )
    return LayerComparison(before, after, differences(before, after), distances_between(spectra[0], spectra[1], "; ".join(problems)))


def history(paths: Sequence[Path | str], options: AnalysisOptions | None = None) -> list[CheckpointAnalysis]:
    """Analyses of the checkpoints of a run, in the order given.

    Raises:
        SsmspecError: a checkpoint that cannot be analyzed, or one whose layers are not those of the first.
    """
    analyses = [analyze(path, options) for path in paths]
    names = [[plain_name(layer.name) for layer in analysis.layers] for analysis in analyses]
    for path, found in zip(paths, names, strict=True):
        if found != names[0]:
            raise SsmspecError(
                f"{path} has other layers than {paths[0]} ({len(found)} and {len(names[0])}); a history needs the same model"
            )
    return analyses


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoint files of a folder in natural order of their names, `initial` first and `final` last; the folder itself where it is one
    checkpoint of several shards.

    Raises:
        SsmspecError: none.
    """
    if any((folder / name).exists() for name in ("config.json", "model.safetensors.index.json", "pytorch_model.bin.index.json")):
        return [folder]
    found = [path for path in folder.iterdir() if path.name.endswith(SUFFIXES) and path.is_file()]
    if not found:
        raise SsmspecError(f"{folder}: a folder without checkpoints; expected files ending in {', '.join(SUFFIXES)}")
    return sorted(found, key=lambda path: (ENDS.get(path.stem, 1), natural_key(path.name)))
