"""Suggestions as a table."""

from rich.console import Group, RenderableType
from rich.text import Text

from ssmspec.report.tables.parts import plain, plain_table
from ssmspec.tuning.spectra.suggest import Suggested, Suggestion


def suggestion_text(suggestion: Suggestion, source: str) -> RenderableType:
    """One row per suggested number, then the source of each number and the assumptions."""
    rows = [(item.name, _value(item), item.unit or "-", item.note) for item in suggestion.items]
    sources = [plain(f"{item.name}: {item.source}") for item in suggestion.items]
    assumed = [plain(f"assumed: {text}") for text in suggestion.assumptions]
    used = plain(_command(suggestion), style="bold")
    aims = [plain(text) for text in suggestion.aims]
    return Group(plain_table(source, ("quantity", "value", "unit", "note"), rows), Text(), *sources, *assumed, *aims, used)


def _command(suggestion: Suggestion) -> str:
    """The command that applies the suggested beta, in the convention of the suggestion, which is not the default of `retune`."""
    if suggestion.layer.selective:
        return "no beta is suggested; 'ssmspec retune CKPT --step-scale FACTOR' changes the time scale of a selective layer"
    if not suggestion.has_beta:
        return "no beta is suggested; 'ssmspec retune CKPT --match-spectrum DATA' fits a layer to the spectrum itself"
    settings = suggestion.settings
    command = f"ssmspec retune CKPT --beta {suggestion['beta'].value:g} --beta-convention {settings.convention}"
    knee = "" if settings.theta_ref is None else f" --theta-ref {settings.theta_ref!r}"
    return command + knee + ("" if settings.length is None else f" --sequence-length {settings.length}")


def _value(item: Suggested) -> str:
    if item.value is None:
        return "none"
    return f"{item.value:g}" if item.uncertainty is None else f"{item.value:g} +- {item.uncertainty:g}"
