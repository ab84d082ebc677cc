"""A planned reduction written to its target, with a sidecar that holds the certificate, and configurations with the new state size."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ssmspec.checkpoint import open_checkpoint
from ssmspec.checkpoint.write.write_reshaped import find_reshaped, reshapes, write_reshaped
from ssmspec.commands.reduce import LayerReduction, ReducePlan
from ssmspec.commands.retune_writing import Beside, check_suffix, sidecar_content
from ssmspec.families.layers import find_layers, layer_digest, read_layers
from ssmspec.families.provenance import KEY, TRAINED, input_digests, metadata_entry, sidecar_path, weight_entry
from ssmspec.files.writing import Kind, refuse_precious
from ssmspec.systems.statespace import FloatArray, StateSpace
from ssmspec.version import __version__


def check_target(plan: ReducePlan, target: Path, *, replace_target: bool = False, in_place: bool = False) -> None:
    """Refuse a target that `write_reduced` would refuse, before any work is done. Arguments and errors are the same."""
    if reshapes(plan.checkpoint):
        check_suffix(plan.checkpoint, target)
    refuse_precious(sidecar_path(target), Kind.provenance)
    find_reshaped(plan.checkpoint, target, replace=replace_target, in_place=in_place)


def write_reduced(
    plan: ReducePlan, target: Path, *, command: str, replace_target: bool = False, in_place: bool = False
) -> tuple[list[StateSpace], tuple[str, ...]]:
    """Write the reduced checkpoint in the container of its input, and its sidecar.

    Args:
        command: what the user typed, for the sidecar.
        replace_target: whether another file at the target may be replaced. in_place: whether the target is the input.
    Returns:
        The changed layers as read back from the file, and notes on what else was changed or kept by writing.
    Raises:
        SsmspecError: the target exists, cannot be written, or has the suffix of another container; or the input changed meanwhile.
            The target is then unchanged.
    """
    plan = plan.to(target)
    check_target(plan, target, replace_target=replace_target, in_place=in_place)
    document = provenance(plan, command) | {"input": {"name": plan.checkpoint.path.name, "sha256": input_digests(plan.checkpoint)}}
    settings = plan.settings
    weights = {name: weight_entry(weight) for name, weight in plan.weights.items()}
    entry = {"version": __version__, "sobolev": weights} | ({TRAINED: settings.trained} if plan.trained is not None else {})
    metadata = {KEY: json.dumps(entry)} if weights or plan.trained or metadata_entry(plan.checkpoint) else {}
    beside = Beside(sidecar_path(target), sidecar_content(document, weights, _new_digests(plan)))
    with beside.written_first():
        written = write_reshaped(
            plan.checkpoint,
            target,
            plan.changes,
            metadata=metadata,
            texts=settings.texts,
            line=settings.line,
            new_setting=None if plan.change is None else plan.change.new,
            replace=replace_target,
            in_place=in_place,
        )
    settings.write_beside()
    found = open_checkpoint(target)
    layers, _ = read_layers(found, find_layers(found, plan.options.family, plan.options.read), plan.options.read)
    names = {layer.after.name for layer in plan.layers}
    systems = [system.state_space() for layer in layers for system in layer.systems if system.name in names]
    return systems, written


def _new_digests(plan: ReducePlan) -> dict[str, str]:
    """Digests of the tensors of layers as they will be read back, by the names of their systems."""
    checkpoint, options = plan.checkpoint, plan.options
    layers, _ = read_layers(checkpoint, find_layers(checkpoint, options.family, options.read), options.read)
    found: dict[str, str] = {}
    for layer in layers:
        names = layer.tensors.tensor_names
        new = {role: plan.changes[name] for role, name in names.items() if name in plan.changes}
        digest = layer_digest(layer.tensors.with_values(new))
        found |= {system.name: digest for system in layer.systems}
    return found


def provenance(plan: ReducePlan, command: str) -> dict[str, Any]:
    """What the sidecar records: the command, the request, and for every layer its notes, figures and the certificate of every copy."""
    return {
        "schema": "ssmspec.provenance/1",
        "version": __version__,
        "command": command,
        "recipe": {"reduction": plan.request.document()},
        "settings": [setting.document() for setting in plan.settings.found],
        "layers": [
            {"name": layer.after.name, "notes": list(layer.notes), "figures": figures(layer), "certificate": dict(copies(layer))}
            for layer in plan.layers
        ],
    }


def figures(layer: LayerReduction) -> dict[str, float]:
    """The numbers of one layer by name: modes, parameters, and the largest errors of its copies."""
    certificate = layer.certificate
    found = {
        "modes_before": float(layer.stored[0]),
        "modes_after": float(layer.stored[1]),
        "parameters_before": float(layer.parameters[0]),
        "parameters_after": float(layer.parameters[1]),
        "hinf_norm": certificate.norm,
        "hinf_error": float(certificate.error.peak.max()),
        "hinf_relative": float(certificate.relative.max()),
        "h2_error": float(certificate.error.energy.max()),
        "rounding": float(certificate.rounding.max()),
    }
    if certificate.unweighted is not None:
        found["hinf_error_unweighted"] = float(certificate.unweighted.peak.max())
    if certificate.bound is not None:
        found |= {"bound": float(certificate.bound.max()), "bound_holds": float(bool(certificate.holds))}
    return found


def copies(layer: LayerReduction) -> Iterator[tuple[str, list[float | None]]]:
    """The certificate of every copy, by name."""
    certificate = layer.certificate
    yield "hinf_norm", _numbers(certificate.before.peak)
    yield "hinf_error", _numbers(certificate.error.peak)
    yield "theta", _numbers(certificate.error.theta)
    yield "h2_norm", _numbers(certificate.before.energy)
    yield "h2_error", _numbers(certificate.error.energy)
    yield "states", _numbers(certificate.orders)
    yield "rounding", _numbers(certificate.rounding)
    if certificate.unweighted is not None:
        yield "hinf_error_unweighted", _numbers(certificate.unweighted.peak)
    if certificate.bound is not None:
        yield "bound", _numbers(certificate.bound)


def _numbers(values: FloatArray) -> list[float | None]:
    """JSON numbers; null for what is not known."""
    return [float(value) if value == value else None for value in values.tolist()]
