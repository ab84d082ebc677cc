"""Everything that `ssmspec probe` measures of one model: S, spectra of features, and robustness by band."""

from dataclasses import dataclass, replace
from typing import Any

from ssmspec.errors import SsmspecError
from ssmspec.probing.entry import find_entry
from ssmspec.probing.passes import Progress
from ssmspec.probing.probe import probe
from ssmspec.probing.robustness import Disturbance, Robust
from ssmspec.probing.subjects import Subject
from ssmspec.statistics.frequency_sensitivity import Probed


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked for besides S.

    Args:
        options: of `ssmspec.probe`. noise, attack: disturbances; None for none.
    """

    options: dict[str, Any]
    noise: Disturbance | None = None
    attack: Disturbance | None = None


def probe_subject(subject: Subject, asked: Asked, progress: Progress = lambda name, done, whole: None) -> Probed:
    """Probe a model.

    Raises:
        SsmspecError: as `ssmspec.probe`; or robustness is asked for where there is no metric.
    """
    robust = None
    if asked.noise is not None or asked.attack is not None:
        if subject.task is None:
            raise SsmspecError(f"{subject.path}: --noise and --attack need a metric: {subject.no_task}")
        entry = find_entry(subject.model, subject.inputs, subject.at)
        robust = Robust(subject.model, entry, subject.task, seed=asked.options.get("seed", 0))
    options = {"at": subject.at} | {key: value for key, value in asked.options.items() if value is not None}
    found = probe(subject.model, subject.inputs, progress=progress, **options).found
    effects = []
    if robust is not None:
        effects += [robust.noise(asked.noise, progress)] if asked.noise is not None else []
        effects += [robust.attack(asked.attack, progress)] if asked.attack is not None else []
    return replace(found, path=subject.path, notes=(*subject.notes, *found.notes), robustness=tuple(effects))
