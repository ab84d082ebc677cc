"""The pictures of `ssmspec probe --plot`, as files."""

from collections.abc import Sequence
from pathlib import Path

from ssmspec.api.analyze import analyze
from ssmspec.errors import SsmspecError
from ssmspec.files.writing import made_folder
from ssmspec.probing.pictures import ProbePlots
from ssmspec.probing.subjects import Subject
from ssmspec.report.figures.style import safe_names, save
from ssmspec.statistics.frequency_sensitivity import Probed


def draw_probes(folder: Path, subjects: Sequence[Subject], found: Sequence[Probed]) -> tuple[list[Path], list[str]]:
    """Write S of all models on one axis, and for each its blocks, features, robustness, and S above |H| of its layers.

    Returns:
        The files, and notes on what is not drawn.
    Raises:
        SsmspecError: the folder cannot be written.
    """
    target = made_folder(folder)
    names = safe_names(Path(each.path).name or each.path for each in found)
    written, notes = [], []
    if len(found) > 1:
        written.append(save(ProbePlots(found).sensitivity(), target / "sensitivity.png"))
    for each, subject, name in zip(found, subjects, names, strict=True):
        plots, start = ProbePlots((each,)), f"{name}." if len(found) > 1 else ""
        written.append(save(plots.sensitivity(), target / f"{start}{'blocks' if start else 'sensitivity'}.png"))
        if each.features:
            written += [save(plots.features(), target / f"{start}features.png"), save(plots.depth(), target / f"{start}depth.png")]
        written += [save(plots.robustness(effect.kind), target / f"{start}{effect.kind}.png") for effect in each.robustness]
        try:
            if subject.layers is None:
                continue
            analysis = analyze(str(subject.layers))
            written.append(save(plots.layers(analysis), target / f"{start}layers.png"))
        except SsmspecError as error:
            notes.append(f"not drawn: S above the responses of layers ({error})")
    return written, notes
