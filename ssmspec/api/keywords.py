"""Keywords of the public functions, which become the options of the commands."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from inspect import signature
from pathlib import Path
from typing import Any

from ssmspec.commands.analyze import AnalysisOptions
from ssmspec.errors import SsmspecError
from ssmspec.families import OperatingPoint, ReadOptions
from ssmspec.statistics import STATISTICS


def read_options(
    *,
    assume: Mapping[str, str | float | bool] | None = None,
    length: int | None = None,
    operating_point: OperatingPoint | str | None = None,
    residues: str = "unit",
    calibration: Path | str | None = None,
    mapping: Path | str | None = None,
) -> ReadOptions:
    """What the user states about facts that tensors may not tell.

    Args:
        assume: values by name, as after --assume. length: the kernel length for which S4 layers store C [samples].
        operating_point: of selective layers, as after --operating-point ("delta=0.01,B=1,C=1"). residues: "unit" or "rms".
        calibration: .npz of recorded delta, B and C. mapping: a TOML file that describes a layout, as after --map.
    Raises:
        SsmspecError: a value that cannot be read.
    """
    from ssmspec.families.mapping.mapping_file import load_mapping
    from ssmspec.families.selective.calibration import open_calibration
    from ssmspec.families.selective.operating_point import parse_operating_point

    if residues not in ("unit", "rms"):
        raise SsmspecError(f"residues={residues!r} is unknown; choose 'unit' or 'rms'")
    return ReadOptions(
        assume=dict(assume or {}),
        length=length,
        length_option="length=",
        operating_point=parse_operating_point(operating_point) if isinstance(operating_point, str) else operating_point,
        residues="rms" if residues == "rms" else "unit",
        calibration=None if calibration is None else open_calibration(Path(calibration)),
        mapping=() if mapping is None else load_mapping(Path(mapping)),
    )


READING = frozenset(signature(read_options).parameters)
OPTIONS = frozenset(field.name for field in fields(AnalysisOptions)) - {"read", "layers", "threads", "details"}


def analysis_options(layers: str | int | Sequence[str | int] | None, keywords: Mapping[str, Any]) -> AnalysisOptions:
    """The options of an analysis from keywords.

    Args:
        layers: exact names, globs or indices; None selects all.
        keywords: those of `read_options`; config, entries of the model's configuration, which go before its own; and family, backend,
            points, with_skip, statistics, horizon of `AnalysisOptions`.
    Raises:
        SsmspecError: a keyword that there is not, a statistic that there is not, or a value that cannot be read.
    """
    known = READING | OPTIONS | {"config"}
    unknown = sorted(set(keywords) - known)
    if unknown:
        raise SsmspecError(f"there is no option {', '.join(unknown)}; choose from {', '.join(sorted(known))}")
    own = {name: value for name, value in keywords.items() if name in OPTIONS}
    if own.get("statistics") is not None:
        own["statistics"] = statistics_of(own["statistics"])
    read = read_options(**{name: value for name, value in keywords.items() if name in READING})
    return AnalysisOptions(layers=selection(layers), read=replace(read, config=dict(keywords.get("config") or {})), **own)


def selection(layers: str | int | Sequence[str | int] | None) -> tuple[str, ...]:
    """Layers as they are named on the command line."""
    if layers is None:
        return ()
    return tuple(str(each) for each in ([layers] if isinstance(layers, str | int) else layers))


def statistics_of(names: str | Sequence[str]) -> tuple[str, ...]:
    """Names of statistics, checked.

    Raises:
        SsmspecError: a name that no statistic has.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name not in STATISTICS:
            raise SsmspecError(f"{name!r} is not a statistic; choose from {', '.join(STATISTICS)}")
    return names
