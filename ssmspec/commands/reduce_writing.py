"""A planned reduction written to its target, with a sidecar that holds the certificate, and configurations with the new state size."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ssmspec.checkpoint import open_checkpoint
from ssmspec.checkpoint.formats.folders import is_index, load_json
from ssmspec.checkpoint.write.write_reshaped import find_reshaped, reshapes, write_reshaped
from ssmspec.commands.reduce import LayerReduction, ReducePlan
from ssmspec.commands.retune_writing import Beside, check_suffix, sidecar_content
from ssmspec.errors import CheckpointError
from ssmspec.families.layers import find_layers, layer_digest, read_layers
from ssmspec.families.provenance import KEY, TRAINED, input_digests, metadata_entry, sidecar_path, weight_entry
from ssmspec.families.state_size import with_state_size
from ssmspec.files.writing import Kind, refuse_precious
from ssmspec.systems.statespace import FloatArray, StateSpace
from ssmspec.version import __version__

CONFIG = "config.json"
RUN_CONFIG = "config.toml"  # of a run of `ssmspec train`


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
    check_target(plan, target, replace_target=replace_target, in_place=in_place)
    document = provenance(plan, command) | {"input": {"name": plan.checkpoint.path.name, "sha256": input_digests(plan.checkpoint)}}
    trained, notes = _resized(plan, plan.trained or {}, "metadata: ")
    texts, said = _configs(plan)
    line, more = _line(plan)
    weights = {name: weight_entry(weight) for name, weight in plan.weights.items()}
    entry = {"version": __version__, "sobolev": weights} | ({TRAINED: trained} if plan.trained is not None else {})
    metadata = {KEY: json.dumps(entry)} if weights or plan.trained or metadata_entry(plan.checkpoint) else {}
    beside = Beside(sidecar_path(target), sidecar_content(document, weights, _new_digests(plan)))
    with beside.written_first():
        written = write_reshaped(
            plan.checkpoint,
            target,
            plan.changes,
            metadata=metadata,
            texts=texts,
            line=line,
            replace=replace_target,
            in_place=in_place,
        )
    found = open_checkpoint(target)
    layers, _ = read_layers(found, find_layers(found, plan.options.family, plan.options.read), plan.options.read)
    names = {layer.after.name for layer in plan.layers}
    systems = [system.state_space() for layer in layers for system in layer.systems if system.name in names]
    return systems, (*written, *notes, *said, *more, *_of_run(plan))


def _of_run(plan: ReducePlan) -> list[str]:
    """What is said of the config of a run, which describes its other checkpoints, too."""
    if plan.trained is None or not (plan.checkpoint.path.parent / RUN_CONFIG).is_file():
        return []
    return [f"{RUN_CONFIG} beside the input describes the run, whose other checkpoints keep their size, and stays as it is"]


def _resized(plan: ReducePlan, config: Mapping[str, Any], place: str) -> tuple[dict[str, Any], list[str]]:
    """A configuration with the sizes of the plan, and a line for every value that changed."""
    found, lines = dict(config), []
    for change in plan.sizes if len(plan.sizes) == 1 else ():
        found, more = with_state_size(found, change, place)
        lines += more
    return found, lines


def _configs(plan: ReducePlan) -> tuple[dict[Path, bytes], list[str]]:
    """config.json of a folder, by its path, with the new size; and what is said of one that stays as it is."""
    path = plan.checkpoint.path
    folder = path if path.is_dir() else path.parent
    if not isinstance(folder, Path) or not (folder / CONFIG).is_file():
        return {}, []
    try:
        config = load_json(folder / CONFIG)
    except (OSError, CheckpointError):
        return {}, [f"{CONFIG} cannot be read, and stays as it is"]
    if not isinstance(config, dict):
        return {}, []
    if len(plan.sizes) > 1:
        return {}, [f"{CONFIG} stays as it is: layers have different sizes now"]
    found, lines = _resized(plan, config, f"{CONFIG}: ")
    if not lines:
        return {}, [f"{CONFIG} names no state size of {plan.sizes[0].before} or {2 * plan.sizes[0].before}, and stays as it is"]
    if path.is_dir() or is_index(path):
        return {folder / CONFIG: (json.dumps(found, indent=2) + "\n").encode("ascii")}, lines
    return {}, [f"the {CONFIG} beside the input is not copied; the model of the result needs {', '.join(lines)}"]


def _line(plan: ReducePlan) -> tuple[bytes | None, list[str]]:
    """The line of JSON of an Equinox file with the new size, None elsewhere; and what is said of settings inside the file."""
    if plan.checkpoint.path.is_dir() or is_index(plan.checkpoint.path):
        return None, []
    config = {key: value for key, value in plan.checkpoint.config.items() if key != "__metadata__"}
    equinox = plan.checkpoint.container == "equinox"
    found, lines = _resized(plan, config, "hyperparameters: " if equinox else "")
    if equinox and lines:
        return json.dumps(found).encode() + b"\n", lines
    return None, [f"the settings inside the file stay as they are; the model of the result needs {', '.join(lines)}"] if lines else []


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
