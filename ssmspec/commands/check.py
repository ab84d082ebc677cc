"""From a checkpoint file to the findings of the rules; the counterpart of `analyze`."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from ssmspec.backends import load_backend
from ssmspec.checking.facts import LayerFacts
from ssmspec.checking.findings import CheckedLayer, CheckpointCheck, Finding
from ssmspec.checking.finite import Account, Key, Reads, account_for, key_of, owned_tensors
from ssmspec.checking.rules import NOT_FINITE, spoiled_quantities, spoiled_values
from ssmspec.checking.rules_file import RuleSet
from ssmspec.checking.thresholds import Threshold, apply
from ssmspec.checkpoint import Checkpoint
from ssmspec.commands.analyze import AnalysisOptions, Progress, Work, analyze_layer, each, pairs_of
from ssmspec.errors import LayerError
from ssmspec.families import Tensor
from ssmspec.families.layers import ReadLayer, find_layers, is_remote, open_for_layers, read_layers, select_layers
from ssmspec.statistics import LayerAnalysis, Skipped
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.system import System
from ssmspec.systems.trust import assess

REMOTE = "a remote checkpoint: only the tensors that analysis needs were looked at; --download looks at all of them"


def check(
    path: Path | str | Checkpoint,
    rules: RuleSet | None = None,
    options: AnalysisOptions | None = None,
    *,
    shallow: bool = False,
    progress: Progress | None = None,
) -> CheckpointCheck:
    """Apply rules to every SSM layer of a checkpoint.

    Args:
        path: a checkpoint file or folder, or an open checkpoint.
        rules: built-in rules and thresholds; all built-in rules and no threshold by default.
        options: as for `analyze`. Only the statistics that a threshold names are computed, for the layers that it names.
        shallow: read only what analysis needs. Otherwise every tensor under the name of a layer is read and must be finite. Of a remote
            checkpoint only what analysis needs is read in any case, and a note says so.
        progress: called with (layer name, work done, total work), in layers or bytes.
    Returns:
        CheckpointCheck. A layer whose numbers cannot be trusted is a finding, even if there is no other layer.
    Raises:
        CheckpointError: the file cannot be read. NoLayerError: it holds no SSM layer.
        LayerError: no layer can be read, or none is selected. BackendError: the named engine cannot run.
    """
    rules, options = rules or RuleSet(), options or AnalysisOptions()
    checkpoint = open_for_layers(path, options.read)
    asked, shallow = shallow, shallow or is_remote(checkpoint)
    detection, reads = find_layers(checkpoint, options.family, options.read), Reads()
    blocks, skipped = read_layers(checkpoint, reads.watch(detection) if shallow else detection, options.read)
    everything = [system for block in blocks for system in block.systems]
    systems = select_layers(everything, options.layers, checkpoint, skipped)
    thresholds, unmatched = _thresholds_by_layer(rules.thresholds, everything, checkpoint)
    limited = {name: {each.statistic for each in wanted} for name, wanted in thresholds.items() if wanted}
    analyses = _analyses([system for system in systems if system.name in limited], limited, options, progress)
    owned = owned_tensors(detection.layers)
    layers, findings = [], []
    chosen = _chosen(blocks, systems, skipped, options.layers)
    account = account_for(owned, {key: _to_look_at(owned[key], reads if shallow else None) for key in chosen}, progress)
    for facts in _facts(blocks, systems, account, owned, analyses):
        layer, found = _check_layer(facts, rules, thresholds[facts.system.name])
        layers.append(layer)
        findings += found
    return CheckpointCheck(
        path=str(checkpoint.path),
        container=checkpoint.container,
        size=checkpoint.size,
        tensors=len(checkpoint.tensors),
        looked_at=len(account.looked_at),
        unread=account.unread,
        shallow=shallow,
        layers=tuple(layers),
        findings=(
            *findings,
            *_findings_elsewhere(account, owned, chosen, blocks, rules),
            *_findings_about_skipped(skipped, rules, options.layers),
            *unmatched,
        ),
        notes=(*checkpoint.notes, *((REMOTE,) if shallow and not asked else ())),
        transfer=checkpoint.transfer,
    )


def _facts(
    blocks: Sequence[ReadLayer],
    systems: Sequence[System],
    account: Account,
    owned: Mapping[Key, Mapping[str, Tensor]],
    analyses: Mapping[str, LayerAnalysis],
) -> Iterator[LayerFacts]:
    """What the rules look at, for every chosen system in model order."""
    identities = {id(system) for system in systems}
    for block in blocks:
        spoiled = _by_system([system for system in block.systems if id(system) in identities], _part(account, owned[key_of(block.tensors)]))
        for system, tensors in spoiled:
            analysis = analyses.get(system.name)
            yield LayerFacts(system=system, tensors=block.tensors, trust=assess(system), spoiled=tensors, analysis=analysis)


def _chosen(blocks: Sequence[ReadLayer], systems: Sequence[System], skipped: Iterable[Skipped], wanted: Sequence[str]) -> list[Key]:
    """The layers whose tensors are looked at: the chosen ones, their twins, and those that cannot be read."""
    found, identities = [], {id(system) for system in systems}
    for block in blocks:
        if any(id(system) in identities for system in block.systems):
            found += [key_of(layer) for layer in (block.tensors, *block.twins)]
    return found + [(item.name, item.family or "") for item in skipped if item.kind == "unread" and _matches(item.name, wanted)]


def _matches(name: str, wanted: Sequence[str]) -> bool:
    return not wanted or any(name == pattern or fnmatchcase(name, pattern) for pattern in wanted)


def _to_look_at(owned: Mapping[str, Tensor], reads: Reads | None) -> list[str]:
    complete = None if reads is None else reads.complete()
    return [name for name in owned if complete is None or name in complete]


def _part(account: Account, owned: Mapping[str, Tensor]) -> dict[str, str]:
    """The spoiled tensors of one layer."""
    return {name: account.spoiled[name] for name in owned if name in account.spoiled}


def _by_system(systems: Sequence[System], spoiled: Mapping[str, str]) -> list[tuple[System, Mapping[str, str]]]:
    """The directions of a block, each with the spoiled tensors that it must tell: those that show them do, or else the first."""
    showing = [system for system in systems if spoiled_quantities(system)] or systems[:1]
    return [(system, spoiled if any(system is each for each in showing) else {}) for system in systems]


def _findings_elsewhere(
    account: Account, owned: Mapping[Key, Mapping[str, Tensor]], chosen: Sequence[Key], blocks: Sequence[ReadLayer], rules: RuleSet
) -> list[Finding]:
    """Spoiled tensors of layers that cannot be read; of twins those that their original does not have."""
    rule = rules.find(NOT_FINITE)
    twins = {key_of(twin): set(twin.tensor_names.values()) for block in blocks for twin in block.twins}
    read = {key_of(block.tensors) for block in blocks}
    found = []
    for key in chosen if rule is not None else ():
        spoiled = {tensor: count for tensor, count in _part(account, owned[key]).items() if tensor not in twins.get(key, ())}
        message = None if key in read else spoiled_values({}, spoiled)
        if rule is not None and message:
            found.append(Finding(rule.id, rule.severity, key[0], message))
    return found


def _thresholds_by_layer(
    thresholds: Iterable[Threshold], systems: Sequence[System], checkpoint: Checkpoint
) -> tuple[dict[str, list[Threshold]], list[Finding]]:
    """The thresholds that apply to each layer, by layer name, and a finding for each threshold that matches no layer of the file."""
    by_layer: dict[str, list[Threshold]] = {system.name: [] for system in systems}
    unmatched = []
    for threshold in thresholds:
        try:
            chosen = select_layers(systems, [threshold.layer], checkpoint)
        except LayerError:
            names = ", ".join(system.name for system in systems[:8]) + (", ..." if len(systems) > 8 else "")
            text = f"layer {threshold.layer!r} matches none of {len(systems)} layers ({names}), so nothing was compared"
            unmatched.append(Finding(threshold.id, "error", threshold.layer, text))
            continue
        for system in chosen:
            by_layer[system.name].append(threshold)
    return by_layer, unmatched


def _analyses(
    systems: Sequence[System], wanted: Mapping[str, Collection[str]], options: AnalysisOptions, progress: Progress | None
) -> dict[str, LayerAnalysis]:
    """The wanted statistics of the layers, by layer name."""
    if not systems:
        return {}
    pairs = sum(pairs_of(system, options.points, wanted[system.name]) for system in systems)
    backend = options.backend_for(pairs)
    engine, grid = load_backend(backend), FrequencyGrid.default(options.points)

    def layer(system: System) -> LayerAnalysis:
        return analyze_layer(system, grid, engine, with_skip=options.with_skip, chosen=wanted[system.name])

    found = each(layer, systems, Work(engine, backend, pairs, options.threads), progress)
    return {system.name: analysis for system, analysis in zip(systems, found, strict=True)}


def _check_layer(facts: LayerFacts, rules: RuleSet, thresholds: Iterable[Threshold]) -> tuple[CheckedLayer, list[Finding]]:
    name, problem, applied, left_out, findings = facts.system.name, facts.trust.problem, [], [], []
    for rule in rules.rules:
        if rule.function is None:
            continue
        if (rule.needs_trust and problem) or (rule.needs_poles and facts.system.no_poles):
            left_out.append(rule.id)
            continue
        applied.append(rule.id)
        with np.errstate(all="ignore"):  # as in `analyze_layer`
            message = rule.function(facts)
        if message:
            findings.append(Finding(rule.id, rule.severity, name, message))
    for threshold in thresholds:
        assert facts.analysis is not None
        applied.append(threshold.id)
        found = apply(threshold, facts.analysis)
        if found:
            findings.append(found)
    return CheckedLayer(name, facts.system.family, problem, tuple(applied), tuple(left_out)), findings


def _findings_about_skipped(skipped: Iterable[Skipped], rules: RuleSet, wanted: Sequence[str]) -> list[Finding]:
    """Findings for near misses and for layers that contradict their family. A module that occurs twice is neither.

    All layers of a mixer that is recognized only are one finding.
    """
    found: list[Finding] = []
    for item in skipped:
        rule = rules.find({"near miss": "near-miss", "named": "recognized-only"}.get(item.kind, "unread-layer"))
        told = item.kind == "shared" or (item.kind == "named" and any(each.message == item.reason for each in found))
        if rule is not None and _matches(item.name, wanted) and not told:
            found.append(Finding(rule.id, rule.severity, item.name, item.reason))
    return found
