"""From a checkpoint file to the findings of the rules; the counterpart of `analyze`."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from ssmspec.backends import choose_backend, load_backend
from ssmspec.checking.facts import LayerFacts
from ssmspec.checking.findings import CheckedLayer, CheckpointCheck, Finding
from ssmspec.checking.rules_file import RuleSet
from ssmspec.checking.thresholds import Threshold, apply
from ssmspec.checkpoint import Checkpoint, open_checkpoint
from ssmspec.commands.analyze import AnalysisOptions, Progress, analyze_layer, pairs_of
from ssmspec.errors import LayerError
from ssmspec.families import Detection, LayerTensors
from ssmspec.families.layers import find_layers, read_systems, select_layers
from ssmspec.statistics import LayerAnalysis, Skipped
from ssmspec.systems.grid import FrequencyGrid
from ssmspec.systems.statespace import StateSpace
from ssmspec.systems.trust import assess


def check(
    path: Path | str, rules: RuleSet | None = None, options: AnalysisOptions | None = None, *, progress: Progress | None = None
) -> CheckpointCheck:
    """Apply rules to every SSM layer of a checkpoint.

    Args:
        path: a checkpoint file or folder.
        rules: built-in rules and thresholds; all built-in rules and no threshold by default.
        options: as for `analyze`. Statistics are computed only for layers that a threshold names.
        progress: called with (layer name, layers done, total number of layers).
    Returns:
        CheckpointCheck. A layer whose numbers cannot be trusted is a finding, even if there is no other layer.
    Raises:
        CheckpointError: the file cannot be read. NoLayerError: it holds no SSM layer.
        LayerError: no layer can be read, or none is selected. BackendError: the named engine cannot run.
    """
    rules, options = rules or RuleSet(), options or AnalysisOptions()
    checkpoint = open_checkpoint(path)
    detection = find_layers(checkpoint, options.family, options.read)
    everything, skipped = read_systems(checkpoint, detection, options.read)
    systems = select_layers(everything, options.layers, checkpoint)
    thresholds, unmatched = _thresholds_by_layer(rules.thresholds, everything, checkpoint)
    analyses = _analyses([system for system in systems if thresholds[system.name]], options, progress)
    layers, findings = [], []
    for system in systems:
        facts = LayerFacts(
            system=system,
            tensors=_tensors_of(system, detection),
            trust=assess(system),
            analysis=analyses.get(system.name),
        )
        layer, found = _check_layer(facts, rules, thresholds[system.name])
        layers.append(layer)
        findings += found
    return CheckpointCheck(
        path=str(checkpoint.path),
        container=checkpoint.container,
        size=checkpoint.size,
        tensors=len(checkpoint.tensors),
        layers=tuple(layers),
        findings=(*findings, *_findings_about_skipped(skipped, rules, options.layers), *unmatched),
        notes=checkpoint.notes,
    )


def _thresholds_by_layer(
    thresholds: Iterable[Threshold], systems: Sequence[StateSpace], checkpoint: Checkpoint
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


def _analyses(systems: Sequence[StateSpace], options: AnalysisOptions, progress: Progress | None) -> dict[str, LayerAnalysis]:
    """Statistics of the layers, by layer name."""
    if not systems:
        return {}
    backend = options.backend or choose_backend(sum(pairs_of(system, options.points) for system in systems))
    engine, grid = load_backend(backend), FrequencyGrid.default(options.points)
    found = {}
    for done, system in enumerate(systems):
        if progress:
            progress(system.name, done, len(systems))
        found[system.name] = analyze_layer(system, grid, engine, with_skip=options.with_skip)
    return found


def _tensors_of(system: StateSpace, detection: Detection) -> LayerTensors:
    """The stored tensors of a layer. The directions of one block (name:direction) share them."""
    by_name: Mapping[str, LayerTensors] = {layer.name: layer for layer in detection.layers}
    return by_name[system.name] if system.name in by_name else by_name[system.name.rsplit(":", 1)[0]]


def _check_layer(facts: LayerFacts, rules: RuleSet, thresholds: Iterable[Threshold]) -> tuple[CheckedLayer, list[Finding]]:
    name, problem, applied, left_out, findings = facts.system.name, facts.trust.problem, [], [], []
    for rule in rules.rules:
        if rule.function is None:
            continue
        if rule.needs_trust and problem:
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
    """Findings for near misses and for layers that contradict their family. A module that occurs twice is neither."""
    found = []
    for item in skipped:
        rule = rules.find("near-miss" if item.kind == "near miss" else "unread-layer")
        selected = not wanted or any(item.name == pattern or fnmatchcase(item.name, pattern) for pattern in wanted)
        if rule is not None and selected and item.kind != "shared":
            found.append(Finding(rule.id, rule.severity, item.name, item.reason))
    return found
