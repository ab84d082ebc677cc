"""What ssmspec records about a file that it wrote: a sidecar `<file>.ssmspec.json` and, for safetensors, an entry in the file's metadata.

Both may hold beta weights for layers whose family cannot store one. The analysis and the layers of `ssmspec.nn` apply them; the code that
the checkpoint comes from does not know them. A sidecar stores a digest of every layer that it describes, so that it is not applied to a
file that was trained further under the same name.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ssmspec.checkpoint import Checkpoint, Described
from ssmspec.checkpoint.formats.json_text import parse_json
from ssmspec.checkpoint.remote.path import Location, RemotePath
from ssmspec.errors import LayerError
from ssmspec.systems.sobolev import Sobolev

KEY = "ssmspec"  # in the metadata of safetensors
TRAINED = "trained"  # key inside that entry: what `ssmspec train` records about the model
SUFFIX = ".ssmspec.json"
MOST_BYTES = 1 << 24  # of a sidecar


@dataclass(frozen=True, slots=True)
class Attached:
    """Beta weights that a checkpoint stores beside its tensors, by layer name, and where they were found.

    Args:
        weights: layer name -> beta, convention, theta_ref, length and, from a sidecar, the digest of the layer's tensors.
        place: where they were found, in words; empty if there are no weights.
        problem: why an existing sidecar was not used, or None.
        digests: layer name -> digest of the layer's tensors that a sidecar was written for.
    """

    weights: Mapping[str, Mapping[str, Any]]
    place: str = ""
    problem: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)

    def weight(self, layer: str, copies: int) -> Sobolev:
        """The weight of a layer; the layer must have one.

        Raises:
            LayerError: the entry is not a valid weight.
        """
        entry = self.weights[layer]
        try:
            beta = np.broadcast_to(np.asarray(entry["beta"], dtype=float), (copies,))
            if not np.isfinite(beta).all():
                raise ValueError("beta is not finite")
            return Sobolev(beta, entry["convention"], entry.get("theta_ref"), entry.get("length"))
        except (KeyError, TypeError, ValueError, OverflowError, LayerError) as error:
            raise LayerError(
                f"layer {layer}: the beta weight in {self.place} cannot be used ({error}); remove it or write it again"
            ) from error


def weight_entry(weight: Sobolev) -> dict[str, Any]:
    """A weight in the form that sidecars and metadata store; beta is one number if all copies have the same beta."""
    beta = weight.beta
    entry: dict[str, Any] = {"beta": float(beta[0]) if (beta == beta[0]).all() else beta.tolist(), "convention": weight.convention}
    if weight.theta_ref is not None:
        entry["theta_ref"] = weight.theta_ref
    if weight.length is not None:
        entry["length"] = weight.length
    return entry


def _sidecar(checkpoint: Location) -> Location:
    return checkpoint.with_name(checkpoint.name + SUFFIX) if isinstance(checkpoint, RemotePath) else sidecar_path(checkpoint)


def sidecar_path(checkpoint: Path) -> Path:
    """Where the sidecar of a checkpoint is: beside the file or folder itself, not beside a symbolic link to it."""
    real = type(checkpoint)(os.path.realpath(checkpoint))  # a watched path stays one
    return real.with_name(real.name + SUFFIX)


def read_sidecar(checkpoint: Location) -> dict[str, Any] | None:
    """The content of the sidecar, or None if there is no readable one."""
    path = _sidecar(checkpoint)
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            return None
        found = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def attached(checkpoint: Described) -> Attached:
    """The beta weights of a checkpoint: those in the file's own metadata, or else those in its sidecar."""
    own = metadata_entry(checkpoint)
    if own is not None:
        return Attached(_weights(own), "the file's metadata")
    path = Path(checkpoint.path) if isinstance(checkpoint.path, str) else checkpoint.path
    beside = _sidecar(path)
    if beside.exists():
        found = read_sidecar(path)
        if found is None:
            return Attached({}, problem=f"{beside.name} cannot be read and was ignored")
        return Attached(_weights(found), beside.name, digests=_digests(found))
    return Attached({})


def written_by_ssmspec(checkpoint: Path, opened: Checkpoint | None = None) -> bool:
    """Whether ssmspec itself wrote the file, according to its sidecar or metadata."""
    return sidecar_path(checkpoint).exists() or (opened is not None and metadata_entry(opened) is not None)


def metadata_entry(checkpoint: Described) -> dict[str, Any] | None:
    """What ssmspec wrote into the metadata of a safetensors file, or None."""
    metadata = checkpoint.config.get("__metadata__")
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    try:
        found = parse_json(text.encode()) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def trained_entry(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """What `ssmspec train` wrote about the model into the metadata, or None."""
    found = (metadata_entry(checkpoint) or {}).get(TRAINED)
    return found if isinstance(found, dict) else None


def _weights(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    weights = document.get("sobolev")
    return {name: entry for name, entry in weights.items() if isinstance(entry, dict)} if isinstance(weights, dict) else {}


def _digests(document: Mapping[str, Any]) -> dict[str, str]:
    layers = document.get("layers")
    entries = [entry for entry in layers if isinstance(entry, dict)] if isinstance(layers, list) else []
    found = {entry.get("name"): entry.get("digest") for entry in entries}
    return {name: digest for name, digest in found.items() if isinstance(name, str) and isinstance(digest, str)}


def input_digests(checkpoint: Checkpoint) -> dict[str, str]:
    """SHA-256 of the files of a checkpoint, by name."""
    digests = {}
    for path in checkpoint.files:
        inside = checkpoint.path in path.parents  # files of several ranks have one name
        with path.open("rb") as file:
            name = str(path.relative_to(str(checkpoint.path))) if inside and isinstance(path, Path) else path.name
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
