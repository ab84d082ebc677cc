"""Pictures of layers that were matched to a spectrum."""

from pathlib import Path

from ssmspec.commands.retune import RetunePlan
from ssmspec.files.writing import made_folder
from ssmspec.report.figures.spectrum_match import matching_figure
from ssmspec.report.figures.style import safe_name, save, styled


def plot_matches(plan: RetunePlan, folder: Path) -> list[Path]:
    """Write one PNG per layer that was fitted, or left unchanged because it already matches. Returns their paths. Raises as `save`."""
    target, paths = made_folder(folder), []
    source = "" if plan.recipe.matching is None else plan.recipe.matching.source
    for layer in plan.layers:
        if layer.match is not None and layer.match.system.name == layer.before.name:
            with styled():
                figure = matching_figure(layer.match, source)
                paths.append(save(figure, target / f"{safe_name(plan.checkpoint.path.stem)}.{safe_name(layer.before.name)}.match.png"))
    return paths
